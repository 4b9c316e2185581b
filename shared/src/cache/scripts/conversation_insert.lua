-- Puts an id into its place in a conversation's recent list, which is a gapless newest part of it or nothing.
--
-- KEYS[1]  msg:conv:{convId}, newest first
-- ARGV[1]  the id, decimal
-- ARGV[2]  the most ids the list keeps
-- ARGV[3]  TTL from now on, ms
-- ARGV[4]  "create" to begin a list where there is none, "heal" to leave it so
-- Answers  1 if the id was put in, 0 if it was there or has no place: an id older than the whole list stays out, since
--          between it and the list's end there may be ids that are missing.
--
-- Example  list 90 70 50, id 60  ->  90 70 60 50
local newest_looked_at = 64

-- Ids are compared as text, since Lua would round them: the longer is the greater, else the first differing digit says.
local function is_newer(a, b)
  if #a ~= #b then
    return #a > #b
  end
  return a > b
end

local id = ARGV[1]
local head = redis.call('LINDEX', KEYS[1], 0)
if head then
  -- Before the list grows, so that the consumer's heal is also done in a Redis that is full: see mark_persisted.lua.
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[4] ~= 'create' then
  return 0
end

-- Newer than all, as a send is: to the head.
if not head or is_newer(id, head) then
  if redis.call('LPUSH', KEYS[1], id) > tonumber(ARGV[2]) then
    redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
  end
  if not head then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
  return 1
end

-- There already, as the consumer finds it.
if id == head or redis.call('LPOS', KEYS[1], id, 'MAXLEN', newest_looked_at) then
  return 0
end

-- Missing among the newest few dozen, which is rare: find its place, there or further down.
local from = 0
local window = redis.call('LRANGE', KEYS[1], 0, newest_looked_at - 1)
repeat
  for _, other in ipairs(window) do
    if other == id then
      return 0
    end
    if is_newer(id, other) then
      redis.call('LINSERT', KEYS[1], 'BEFORE', other, id)
      redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
      return 1
    end
  end
  from = from + #window
  window = redis.call('LRANGE', KEYS[1], from, -1)
until #window == 0
return 0
