-- Numbers the messages that were there before, in the order of their ids.
UPDATE message AS m
    JOIN (SELECT conv_id, id, ROW_NUMBER() OVER (PARTITION BY conv_id ORDER BY id) AS number FROM message) AS n
        ON n.conv_id = m.conv_id AND n.id = m.id
SET m.seq = n.number
