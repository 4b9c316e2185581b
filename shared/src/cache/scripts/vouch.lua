-- Says that something is whole, if nobody else has put that in doubt since the caller did.
--
-- KEYS[1]  what says so: '1:' and the epoch, or while in doubt whose doubt it is
-- ARGV[1]  the caller's doubt
-- ARGV[2]  what says so now
-- Answers  1 if it is said now, 0 if the key has gone or holds another's doubt
-- Example  SET msg:unread-complete:2 a1b2, then this with a1b2 and 1:e: the key holds '1:e', the answer is 1
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
