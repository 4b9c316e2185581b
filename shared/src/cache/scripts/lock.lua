-- Takes a lock, or renews it for the same holder. The value says who holds the lock. The key has a TTL and may be evicted: the
-- lock only saves work.
--
-- KEYS[1]  msg:lock:{id}
-- ARGV[1]  the holder
-- ARGV[2]  TTL from now on, ms
-- Answers  1 if the holder has the lock now, 0 if somebody else has it
--
-- Example  missing, holder a -> 1;  again a -> 1;  then b -> 0
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
-- PERSIST first, so that a full Redis runs the script too: see mark_persisted.lua.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
