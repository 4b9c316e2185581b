-- Read positions move into the conversation's row, where the lock is.
UPDATE conversation AS c
    LEFT JOIN read_position AS low ON low.user_id = c.user_low AND low.conv_id = c.conv_id
    LEFT JOIN read_position AS high ON high.user_id = c.user_high AND high.conv_id = c.conv_id
SET c.read_low = COALESCE(low.up_to, 0), c.read_high = COALESCE(high.up_to, 0)
