-- A row for each conversation that has messages. Its messages are numbered next, 1 to COUNT(*).
INSERT INTO conversation (conv_id, user_low, user_high, last_seq, newest_id)
SELECT conv_id, MIN(LEAST(from_user_id, to_id)), MIN(GREATEST(from_user_id, to_id)), COUNT(*), MAX(id)
FROM message
GROUP BY conv_id
