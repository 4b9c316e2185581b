-- A tombstone whose message is a row names that row's conversation.
INSERT INTO message_recall_by_conversation (message_id, conv_id, recall_time)
SELECT r.message_id, COALESCE(m.conv_id, ''), r.recall_time
FROM message_recall AS r
    LEFT JOIN message AS m ON m.id = r.message_id
