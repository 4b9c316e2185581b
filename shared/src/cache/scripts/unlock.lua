-- Gives a lock back, if it is still this holder's.
--
-- KEYS[1]  the lock
-- ARGV[1]  the holder
-- ARGV[2]  how long nobody else may have it yet, ms; 0: at once
-- Answers  1 if it was given back, 0 if it was not the holder's
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
