-- Replaces a value if it is still the one that was read. The TTL stays.
--
-- KEYS[1]  a string
-- ARGV[1]  the value that was read
-- ARGV[2]  the new value; "" removes the key
-- Answers  1 if the value was replaced or removed, 0 if it has changed since it was read (then nothing changes)
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
