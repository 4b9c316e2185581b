-- Notes when a message was sent again, without a TTL. A full Redis runs the script too: see mark_persisted.lua.
--
-- KEYS[1]  msg:resent:{id}
-- ARGV[1]  the time, ms since 1970
-- Answers  1
--
-- Example  missing, ARGV[1] = 1000  ->  1, the key holds 1000
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
