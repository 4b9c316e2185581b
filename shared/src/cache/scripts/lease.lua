-- Takes a lease, or renews it for the same holder. The value says who holds the lease and until when. The key has no TTL:
-- Redis may evict a key with a TTL, and two holders would then have the same right. A lease that has ended is taken over by
-- the next who asks.
--
-- KEYS[1]  msg:worker:{n} or msg:compensator
-- ARGV[1]  the holder
-- ARGV[2]  the length of the lease from now on, ms
-- Answers  1 if the holder has the lease now, 0 if somebody else has it. A value without a time counts as somebody else's
--          lease without an end.
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
-- PERSIST first, so that a full Redis runs the script too: see mark_persisted.lua.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%d', now + tonumber(ARGV[2])))
return 1
