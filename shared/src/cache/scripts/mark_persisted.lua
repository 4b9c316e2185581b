-- Marks a message as PERSISTED, because it is a row of MySQL: the last of the consumer's three checks.
--
-- KEYS[1]  msg:detail:{id}
-- ARGV[1]  TTL from now on, ms
-- ARGV[2]  the number of the change that made the row, or "" if it is not known
-- Answers  {"missing"}        there is no detail: Redis was away or emptied
--          {"recalled", "T"}  the message was recalled at T: the row must be undone
--          {"done"}           the detail says PERSISTED and expires after the TTL
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
-- PERSIST before SET: a full Redis refuses a SET that is a script's first write, but lets a script go on whose first write
-- needs no memory. So pending messages can be finished, and their memory freed, while Redis is full.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1], '{"status":1,"persistStatus":"PERSISTED","recallTime":null,' .. rest, 'PX', ARGV[1])
return {'done'}
