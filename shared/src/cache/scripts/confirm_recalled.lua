-- Lets a recalled detail expire, because MySQL has the recall now.
--
-- KEYS[1]  msg:detail:{id}
-- ARGV[1]  TTL from now on, ms
-- Answers  1 if the detail is recalled, 0 if there is none or it is not recalled (then nothing changes)
--
-- Example  {"status":0,"persistStatus":"PENDING","recallTime":99,"id":7,...,"content":""}
--     ->   {"status":0,"persistStatus":"PERSISTED","recallTime":99,"id":7,...,"content":""} with a TTL
local detail = redis.call('GET', KEYS[1])
if not detail then
  return 0
end
local recalled_at, rest = string.match(detail, '^{"status":0,"persistStatus":"%u+","recallTime":(%w+),(.*)$')
if not recalled_at then
  return 0
end
-- PERSIST first, so that a full Redis runs the script too: see mark_persisted.lua.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1],
  '{"status":0,"persistStatus":"PERSISTED","recallTime":' .. recalled_at .. ',' .. rest, 'PX', ARGV[1])
return 1
