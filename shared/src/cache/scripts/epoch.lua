-- Reads the epoch: which data set this is. Begins a new one where the data set is another than the last reader saw, or
-- where MySQL says that this one may not be believed any more.
--
-- KEYS[1]  msg:epoch
-- ARGV[1]  the generation that the caller has from MySQL
-- ARGV[2]  now, ms since 1970
-- ARGV[3]  a random word, for the name of a new epoch
-- ARGV[4]  the identity of the servers, or "" to ask this one
-- ARGV[5]  the latest tick that the caller has seen
-- Answers  {generation-word-ms, tick}: the name of the epoch with the time at which it was first seen, and the time of
--          the last second in which anybody read it. A data set whose tick is behind one that was seen is an older one,
--          whatever its identity.
--
-- Example  first use, generation 3, at 1000, word a1b2  ->  {"3-a1b2-1000", "1"};  again at 2500  ->  {"3-a1b2-1000", "2"}
--          after a restart at 3000, word c3d4           ->  {"3-c3d4-3000", "3"}
local identity = ARGV[4]
if identity == '' then
  -- A start and a failover make master_replid anew. A data set that is loaded while the server runs (DEBUG RELOAD)
  -- leaves it, and changes how many keys were loaded (Redis 7; empty before).
  identity = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
    .. '/' .. (string.match(redis.call('INFO', 'persistence'), 'rdb_last_load_keys_loaded:(%d+)') or '')
end

-- A key of another type is overwritten.
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

-- A generation never goes back, also where an older data set has come back.
if not generation or tonumber(generation) < tonumber(ARGV[1]) then
  generation = ARGV[1]
end
name = generation .. '-' .. ARGV[3] .. '-' .. ARGV[2]
tick = string.format('%d', second)
redis.call('SET', KEYS[1], name .. ' ' .. identity .. ' ' .. tick)
return {name, tick}
