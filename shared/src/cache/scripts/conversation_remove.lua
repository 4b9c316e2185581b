-- Takes an id off a conversation's recent list, unless it is the list's oldest id. A list is recognised by its oldest id, so
-- that one stays; its detail says that the message is not shown.
--
-- KEYS[1]  msg:conv:{convId}, newest first
-- ARGV[1]  the id, decimal
-- Answers  1 if the id was taken off, 0 if it was not there or is the oldest
--
-- Example  list 90 70 50, id 70  ->  90 50;  then id 50  ->  90 50
if redis.call('LINDEX', KEYS[1], -1) == ARGV[1] then
  return 0
end
return redis.call('LREM', KEYS[1], 1, ARGV[1])
