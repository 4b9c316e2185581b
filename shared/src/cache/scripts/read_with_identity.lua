-- Reads a key, and says which memory that is from.
--
-- KEYS[1]  what is read; without it only the memory is told
-- ARGV     the command, and its arguments after the key
-- Answers  {identity, what the command answers}. The identity is another one after a restart (run_id) and after a failover
--          (master_replid, which a promoted replica makes anew): writes that were not on the disk or not yet copied may be
--          missing then.
--
-- Example  msg:conv:1_2, LRANGE 0 1  ->  {'3f0c…/91ab…', {'90', '70'}}
local function field(section, name)
  return string.match(redis.call('INFO', section), name .. ':(%w+)') or ''
end

local identity = field('server', 'run_id') .. '/' .. field('replication', 'master_replid')
if not KEYS[1] then
  return {identity, false}
end
return {identity, redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))}
