-- Takes one from an allowance that fills up evenly: the generic cell rate algorithm, a token bucket in one number. The value is
-- the time at which the allowance is full again, µs since 1970. A missing key is a full allowance.
--
-- KEYS[1]  msg:rate:{userId}
-- ARGV[1]  the time in which the allowance gains one, µs
-- ARGV[2]  how many it holds when it is full
-- Answers  0 if one was taken; else how long until there is one, ms, and nothing changes
--
-- Example  missing, 1000000 2 -> 0, full in 1 s;  again -> 0, full in 2 s;  again -> 1000;  after 1 s -> 0
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each = tonumber(ARGV[1])
-- A value of another form, and a time far ahead, as after a clock was set, count as a full allowance.
local full = tonumber(redis.call('GET', KEYS[1]) or now) or now
if full < now or full > now + each * ARGV[2] then
  full = now
end
local wait = full + each - each * ARGV[2] - now
if wait > 0 then
  return math.ceil(wait / 1000)
end
full = full + each
redis.call('SET', KEYS[1], string.format('%d', full), 'PX', math.ceil((full - now) / 1000))
return 0
