-- Carries deletions that were there before over to the messages.
UPDATE message AS m
    JOIN (SELECT message_id, MIN(user_id) AS lower_of_them, MAX(user_id) AS higher_of_them FROM message_delete GROUP BY message_id) AS d
        ON d.message_id = m.id
SET m.hidden_for = IF(d.lower_of_them = LEAST(m.from_user_id, m.to_id), 1, 0)
                 | IF(d.higher_of_them = GREATEST(m.from_user_id, m.to_id), 2, 0)
