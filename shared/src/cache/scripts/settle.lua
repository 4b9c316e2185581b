-- Takes messages off a shard of the pending set. An entry goes only if it still has the score that is settled: a recall has
-- another score, and waits for its own confirmation.
--
-- KEYS[1]  msg:pending:{partition}
-- ARGV     id, score, id, score, …
-- Answers  how many messages were taken off
--
-- Example  set 7 -> 1000, 8 -> 2000.5; ARGV 7 1000 8 1500  ->  1, and 8 stays
local settled = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    settled = settled + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return settled
