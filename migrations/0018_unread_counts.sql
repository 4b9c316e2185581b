-- Counts what each user has not read: received above the position, neither recalled nor hidden by the receiver.
UPDATE conversation AS c
    JOIN (SELECT m.conv_id,
              SUM(m.to_id = p.user_low AND m.id > p.read_low AND m.hidden_for & 1 = 0) AS low,
              SUM(m.to_id = p.user_high AND m.id > p.read_high AND m.hidden_for & 2 = 0) AS high
          FROM message AS m JOIN conversation AS p ON p.conv_id = m.conv_id
          WHERE m.status = 1
          GROUP BY m.conv_id) AS n ON n.conv_id = c.conv_id
SET c.unread_low = n.low, c.unread_high = n.high
