-- Replaces a conversation's recent list that is not believed by ids read from MySQL.
--
-- KEYS[1]  msg:conv:{convId}, newest first
-- ARGV[1]  the list's first id when MySQL was asked, or "" if there was no list
-- ARGV[2]  the list's length at that time
-- ARGV[3]  TTL from now on, ms
-- ARGV[4…] the ids, newest first
-- Answers  1 if the list was replaced, 0 if it has changed since MySQL was asked (then nothing changes)
--
-- Example  list 90 70, ARGV[1] = 90, ARGV[2] = 2, ids 90 80 70  ->  90 80 70
if (redis.call('LINDEX', KEYS[1], 0) or '') ~= ARGV[1] or redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('DEL', KEYS[1])
for i = 4, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
