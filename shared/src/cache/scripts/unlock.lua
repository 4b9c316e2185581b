-- Gives a lock back if the holder still has it.
--
-- KEYS[1]  msg:lock:{id}
-- ARGV[1]  the holder
-- Answers  1 if the lock was given back, 0 if the holder did not have it
--
-- Example  holds a, holder a -> 1, missing;  holder b -> 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
return 1
