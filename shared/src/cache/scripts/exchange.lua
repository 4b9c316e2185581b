-- Exchanges a value, if nobody else has changed it meanwhile. Its TTL stays.
--
-- KEYS[1]  a string
-- ARGV[1]  what it held
-- ARGV[2]  what it is to hold; "" removes it
-- Answers  1 if that was done, 0 if it holds something else by now
--
-- Example  holds a, ARGV a b -> 1, holds b;  again -> 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  return 1
end
local ttl = redis.call('PTTL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2])
if ttl > 0 then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return 1
