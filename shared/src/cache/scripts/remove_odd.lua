-- Removes a key that is of another type than it must be.
--
-- KEYS[1]  the key
-- ARGV[1]  the type it must be of, as TYPE says it
-- Answers  1 if it was removed, 0 if it is of that type or missing by now
--
-- Example  msg:conv:1_2 is a string, ARGV[1] = list  ->  1
local found = redis.call('TYPE', KEYS[1])['ok']
if found == 'none' or found == ARGV[1] then
  return 0
end
return redis.call('UNLINK', KEYS[1])
