-- The tombstones anew, by message and conversation: a record that names a conversation which the message is not in recalls
-- nothing. The next files fill this table and give it the name `message_recall`.
--
-- conv_id        the conversation that the recall names; '' in tombstones from before this table, which count for any.
-- seq            the number of the recall among the changes of the conversation; NULL in tombstones from before.
-- from_user_id, msg_type, client_msg_id, fingerprint   of the send, as in `message`, where they are known. A send that was
--                recalled before it became a row has its memory here: a retry is answered with it, and its sender may recall it
--                again.
--
-- idx_recalled_name  the send of a sender's clientMsgId.
-- idx_changes        the changes of a conversation above a number.
CREATE TABLE message_recall_by_conversation (
    message_id    BIGINT           NOT NULL,
    conv_id       VARCHAR(41)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    recall_time   BIGINT           NOT NULL,
    seq           BIGINT           NULL,
    from_user_id  BIGINT           NULL,
    msg_type      TINYINT UNSIGNED NULL,
    client_msg_id VARBINARY(256)   NULL,
    fingerprint   BINARY(16)       NULL,
    PRIMARY KEY (message_id, conv_id),
    KEY idx_recalled_name (from_user_id, client_msg_id),
    KEY idx_changes (conv_id, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
