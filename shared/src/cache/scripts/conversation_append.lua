-- Appends older ids, read from MySQL, to a conversation's recent list. The ids that are there stay as they are.
--
-- KEYS[1]  msg:conv:{convId}, newest first
-- ARGV[1]  the list's last id when MySQL was asked, or "" if there was no list
-- ARGV[2]  the greatest length of the list
-- ARGV[3]  TTL from now on, ms
-- ARGV[4…] the ids, newest first, all older than ARGV[1]
-- Answers  1 if the ids were appended, 0 if the list's end has changed since MySQL was asked (then nothing changes)
--
-- Example  list 90 70, ARGV[1] = 70, ids 50 30  ->  90 70 50 30
local last = redis.call('LINDEX', KEYS[1], -1) or ''
if last ~= ARGV[1] then
  return 0
end
for i = 4, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
