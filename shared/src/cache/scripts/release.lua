-- Gives a lease back if the holder still has it.
--
-- KEYS[1]  the lease
-- ARGV[1]  the holder
-- ARGV[2]  the grace in which nobody else may take the lease, ms; 0 for none
-- Answers  1 if the lease was given back, 0 if the holder did not have it
--
-- Example  "a 1050", holder a, 0 -> 1, missing;  holder b -> 0
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^(%S+) %d+$') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%d', now + tonumber(ARGV[2])))
end
return 1
