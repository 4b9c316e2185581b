-- Gives a lease back, if it is still this holder's.
--
-- KEYS[1]  the lease
-- ARGV[1]  the holder
-- ARGV[2]  how long nobody else may have it yet, ms; 0: at once
-- Answers  1 if it was given back, 0 if it was not the holder's
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
