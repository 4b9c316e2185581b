-- Puts an id into its place in a conversation's recent list, so that the list stays without a gap.
--
-- KEYS[1]  msg:conv:{convId}, newest first
-- ARGV[1]  the id, decimal
-- ARGV[2]  the greatest length of the list
-- ARGV[3]  TTL from now on, ms
-- ARGV[4]  "create" to begin a list if there is none, "heal" to do nothing then
-- Answers  1 if the id was put in, 0 if it was there already or has no place. An id older than the whole list stays out:
--          ids between it and the list's end may be missing.
--
-- Example  list 90 70 50, id 60  ->  90 70 60 50
local newest_looked_at = 64

-- Compares ids as text, since Lua would round them as numbers. The longer text is the greater id; of two texts of the same
-- length the first different digit decides.
local function is_newer(a, b)
  if #a ~= #b then
    return #a > #b
  end
  return a > b
end

local id = ARGV[1]
local head = redis.call('LINDEX', KEYS[1], 0)
if head then
  -- PEXPIRE first, so that a full Redis runs the script too: see mark_persisted.lua.
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[4] ~= 'create' then
  return 0
end

-- The usual send: the id is newer than the whole list and becomes its head.
if not head or is_newer(id, head) then
  if redis.call('LPUSH', KEYS[1], id) > tonumber(ARGV[2]) then
    redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
  end
  if not head then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
  return 1
end

-- The usual heal: the id is there already.
if id == head or redis.call('LPOS', KEYS[1], id, 'MAXLEN', newest_looked_at) then
  return 0
end

-- The rare case: the id is missing among the newest 64. Find its place there or further down.
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
