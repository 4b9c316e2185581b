-- Removes a key if it has another type than it must have.
--
-- KEYS[1]  the key
-- ARGV[1]  the type that it must have, as TYPE prints it
-- Answers  1 if the key was removed, 0 if it has the right type or is missing by now
--
-- Example  msg:conv:1_2 is a string, ARGV[1] = list  ->  1
local found = redis.call('TYPE', KEYS[1])['ok']
if found == 'none' or found == ARGV[1] then
  return 0
end
return redis.call('UNLINK', KEYS[1])
