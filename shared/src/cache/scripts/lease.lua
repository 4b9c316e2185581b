-- Takes a lease whose value says who holds it and until when. The key has no TTL: Redis may evict what has one, and then
-- two would hold the same. An old lease is taken over by whoever asks next.
--
-- KEYS[1]  msg:worker:{n} or msg:compensator
-- ARGV[1]  the holder
-- ARGV[2]  how long from now on, ms
-- Answers  1 if the holder has it now (or had it already: then the time begins anew), 0 if somebody else has it. A value
--          without a time is somebody else's, for as long as it is there.
--
-- Example  missing, holder a, 50 at 1000 -> 1, the key holds "a 1050";  then b -> 0;  b at 1051 -> 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('GET', KEYS[1])
if held then
  local holder, ends = string.match(held, '^(%S+) (%d+)$')
  if not holder or (holder ~= ARGV[1] and tonumber(ends) > now) then
    return 0
  end
end
-- Also in a Redis that is full: see mark_persisted.lua.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%d', now + tonumber(ARGV[2])))
return 1
