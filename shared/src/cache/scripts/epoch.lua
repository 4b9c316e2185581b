-- Reads the epoch. Begins a new epoch if the data set is not the one that the last reader saw, or if MySQL's generation says
-- that this data set may not be believed any more.
--
-- KEYS[1]  msg:epoch
-- ARGV[1]  MySQL's generation, as the caller knows it
-- ARGV[2]  now, ms since 1970
-- ARGV[3]  a random word for the name of a new epoch
-- ARGV[4]  the identity of the cluster's data, or "" to take that of this server
-- ARGV[5]  the latest tick that the caller has seen
-- Answers  {"generation-word-ms", tick}. The first is the epoch's name and ends with the time at which the epoch was first
--          seen. The tick is the last second in which anybody read the epoch: a data set whose tick is earlier than one
--          that was seen is an older data set, even with the same identity.
--
-- Example  first use, generation 3, at 1000, word a1b2  ->  {"3-a1b2-1000", "1"};  again at 2500  ->  {"3-a1b2-1000", "2"}
--          after a restart at 3000, word c3d4           ->  {"3-c3d4-3000", "3"}

-- A field of INFO. Looked for as plain text: a pattern would be tried at every character, and this script runs once a page.
local function info(section, field)
  local text = redis.call('INFO', section)
  local _, colon = string.find(text, field .. ':', 1, true)
  return colon and string.match(text, '^%w+', colon + 1) or ''
end

local identity = ARGV[4]
if identity == '' then
  -- A start and a failover give the server a new master_replid. Loading a data set while the server runs (DEBUG RELOAD)
  -- does not, but changes the number of loaded keys (since Redis 7; empty before).
  identity = info('replication', 'master_replid') .. '/' .. info('persistence', 'rdb_last_load_keys_loaded')
end

-- An odd key is overwritten: pcall answers a table with the error.
local held = redis.pcall('GET', KEYS[1])
local name, of, tick, generation
if type(held) == 'string' then
  name, of, tick = string.match(held, '^(%S+) (%S+) (%d+)$')
  generation = name and string.match(name, '^(%d+)-%w+-%d+$')
end
local second = math.max(math.floor(tonumber(ARGV[2]) / 1000), tonumber(ARGV[5]))
if generation and of == identity and tonumber(generation) >= tonumber(ARGV[1])
  and tonumber(tick) >= tonumber(ARGV[5]) then
  if tonumber(tick) < second then
    tick = string.format('%d', second)
    redis.call('SET', KEYS[1], name .. ' ' .. identity .. ' ' .. tick)
  end
  return {name, tick}
end

-- The generation never decreases, even if an older data set has returned.
if not generation or tonumber(generation) < tonumber(ARGV[1]) then
  generation = ARGV[1]
end
name = generation .. '-' .. ARGV[3] .. '-' .. ARGV[2]
tick = string.format('%d', second)
redis.call('SET', KEYS[1], name .. ' ' .. identity .. ' ' .. tick)
return {name, tick}
