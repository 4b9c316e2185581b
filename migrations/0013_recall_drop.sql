-- Its content is in message_recall_by_conversation.
DROP TABLE message_recall
