-- Recalls a message: the one place where Redis decides a recall.
--
-- KEYS[1]  msg:detail:{id}
-- ARGV[1]  recall time, ms since 1970
-- ARGV[2]  a stub to leave if there is no detail, so that no refill can bring the content back
-- Answers  {"missing"}             there was no detail; the stub is there now
--          {"already", "T"}        the message was recalled before, at T
--          {"recalled", "PENDING"} the message is recalled now, and was PENDING (or PERSISTED)
-- The detail loses its TTL until confirm_recalled.lua: MySQL does not have the recall yet.
--
-- Example  {"status":1,"persistStatus":"PENDING","recallTime":null,"id":7,...,"content":"hi"}
--     ->   {"status":0,"persistStatus":"PENDING","recallTime":99,"id":7,...,"content":""}
-- The script never decodes the JSON, since Lua would round 64-bit ids: it replaces the head and cuts the tail off.
-- `,"content":"` cannot occur inside a JSON string, where its quotes would be escaped.
local detail = redis.call('GET', KEYS[1])
if not detail then
  -- PERSIST first, here and below, so that a full Redis runs the script too: see mark_persisted.lua.
  redis.call('PERSIST', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[2])
  return {'missing'}
end
local status, persisted, recalled_at, rest =
  string.match(detail, '^{"status":(%d),"persistStatus":"(%u+)","recallTime":(%w+),(.*)$')
if not status then
  return redis.error_reply('MALFORMED ' .. KEYS[1])
end
if status == '0' then
  return {'already', recalled_at}
end
local content = string.find(rest, ',"content":"', 1, true)
if not content then
  return redis.error_reply('MALFORMED ' .. KEYS[1])
end
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1],
  '{"status":0,"persistStatus":"' .. persisted .. '","recallTime":' .. ARGV[1] .. ','
  .. string.sub(rest, 1, content - 1) .. ',"content":""}')
return {'recalled', persisted}
