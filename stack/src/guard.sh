# Ends the servers when the process that started them is gone, however it went (kill -9 too): its end closes the pipe on
# our standard input. Arguments: the stack's folder, and `stop` (by SIGTERM first) or `remove` (SIGKILL, then the folder).
# Lines on standard input: `pids P…` replaces the list, `compose ARGS` names a Docker project, `done` means nothing is left.
trap '' INT HUP TERM
folder=$1 how=$2 pids= compose=
while read -r word rest; do
  case $word in
    pids) pids=$rest ;;
    compose) compose=$rest ;;
    done) exit 0 ;;
  esac
done

# A pid may have been given to a stranger meanwhile: only a process that names our folder on its command line is ours.
ours() {
  if [ -r "/proc/$1/cmdline" ]; then tr '\0' ' ' <"/proc/$1/cmdline"; else ps -ww -o args= -p "$1"; fi 2>/dev/null |
    grep -qF -- "$folder/"
}

for pid in $pids; do
  ours "$pid" || continue
  if [ "$how" = remove ]; then kill -KILL "$pid"; else kill -TERM "$pid" && kill -CONT "$pid"; fi
done
tries=100
for pid in $pids; do
  while ours "$pid"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || kill -KILL "$pid"
    sleep 0.2
  done
done
if [ -n "$compose" ]; then
  # shellcheck disable=SC2086 # a project name has no spaces
  if [ "$how" = remove ]; then docker compose -p $compose down -v; else docker compose -p $compose stop; fi
fi >/dev/null 2>&1
if [ "$how" = remove ] && [ -f "$folder/state.json" ]; then rm -rf -- "$folder"; fi
