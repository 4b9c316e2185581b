-- Says that something is whole, if nobody else has put that in doubt since the caller did.
--
-- KEYS[1]  what says so: '1', or while in doubt whose doubt it is
-- ARGV[1]  the caller's doubt
-- Answers  1 if it is said now, 0 if the key has gone or holds another's doubt
-- Example  SET msg:unread-complete:2 a1b2, then this with a1b2: the key holds '1', the answer is 1
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], '1')
return 1
