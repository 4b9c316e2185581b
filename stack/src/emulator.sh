# Runs "$@" until it ends by itself, or until whoever started this shell lets go of our standard input or is gone, however
# it went (kill -9 too). `cargo lambda watch` hands SIGTERM on to the functions.
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
{ cat <&3; kill -TERM "$child"; } >/dev/null 2>&1 &
exec 3<&-
wait "$child"
