-- MySQL has the recall: the detail may expire now.
--
-- KEYS[1]  msg:detail:{id}
-- ARGV[1]  TTL from now on, ms
-- Answers  1 if there is a recalled detail, 0 if there is none or it is not recalled (then nothing is changed)
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
-- Also in a Redis that is full: see mark_persisted.lua.
redis.call('PERSIST', KEYS[1])
redis.call('SET', KEYS[1],
  '{"status":0,"persistStatus":"PERSISTED","recallTime":' .. recalled_at .. ',' .. rest, 'PX', ARGV[1])
return 1
