-- Notes that a message is a row of MySQL: the last of the consumer's three checks.
--
-- KEYS[1]  msg:detail:{id}
-- ARGV[1]  TTL from now on, ms
-- ARGV[2]  the number of the change that made the row, or "" where it is not known
-- Answers  {"missing"}        there is no detail: Redis was away or emptied
--          {"recalled", "T"}  it was recalled at T: the row must be undone
--          {"done"}           PERSISTED, and expires after the TTL
--
-- Example  {"status":1,"persistStatus":"PENDING","recallTime":null,"id":7,...}
--     ->   {"status":1,"persistStatus":"PERSISTED","recallTime":null,"seq":12,"id":7,...}
local detail = redis.call('GET', KEYS[1])
if not detail then
  return {'missing'}
end
local status, recalled_at, rest =
  string.match(detail, '^{"status":(%d),"persistStatus":"%u+","recallTime":(%w+),(.*)$')
if not status then
  return redis.error_reply('MALFORMED ' .. KEYS[1])
end
if status == '0' then
  return {'recalled', recalled_at}
end
if ARGV[2] ~= '' and not string.find(rest, '^"seq":') then
  rest = '"seq":' .. ARGV[2] .. ',' .. rest
end
-- A script that has begun to write goes on in a Redis that is full, where its first write is one that takes no memory:
-- PERSIST comes before SET, so that what waits for MySQL can be finished and freed.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], '{"status":1,"persistStatus":"PERSISTED","recallTime":null,' .. rest, 'PX', ARGV[1])
return {'done'}
