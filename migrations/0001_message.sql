-- Every message, once it has passed Kafka.
--
-- id             made by the sender's function, 64 bits, ordered by time.
-- conv_id        'lower_higher' of the two users, so that both directions of a conversation are one range. ASCII digits
--                and '_', compared byte by byte.
-- content        TEXT, 65,535 bytes of UTF-8: IM_MAX_CONTENT_BYTES cannot be set higher. Compared byte by byte.
-- send_time      ms since 1970 UTC, as in the API: no time zone can change it.
-- status         1 to be seen, 0 recalled; a recalled row has an empty content and a recall_time (ms since 1970 UTC).
-- persist_status PENDING or PERSISTED. Rows of this service say PERSISTED; PENDING is the default for a writer that does not.
-- client_msg_id  the client's own name for the message, NULL when none was given. Bytes, since a CHAR comparison would take
--                'a' and 'a ' for one; 64 characters of UTF-8 are at most 256 bytes.
-- created_at     when the row was written, UTC: created_at - send_time is the delay of persistence. For people; not read here.
--
-- PRIMARY KEY (conv_id, id)     InnoDB stores rows in this order: a page of history is one range of neighbouring rows.
-- uk_message_id                 one row an id, whatever its conversation; look-ups by id; the recall's row locks.
-- uk_client_msg                 a retry cannot become a second row ("Retrying is always safe"). NULLs are not compared.
-- idx_persist_status            what is not PERSISTED and older than a time: for people and for other writers.
-- idx_inbox                     what a user received, a conversation at a time, above their read position: unread messages
--                               without touching the rows (status is in it for that). Costs about 50 bytes a row and one more
--                               random page write a message, the price of not scanning a user's history for the unread count.
CREATE TABLE message (
    id             BIGINT           NOT NULL,
    conv_id        VARCHAR(41)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    from_user_id   BIGINT           NOT NULL,
    to_id          BIGINT           NOT NULL,
    content        TEXT             NOT NULL,
    msg_type       TINYINT UNSIGNED NOT NULL,
    chat_type      TINYINT UNSIGNED NOT NULL DEFAULT 1,
    send_time      BIGINT           NOT NULL,
    status         TINYINT UNSIGNED NOT NULL DEFAULT 1,
    recall_time    BIGINT           NULL,
    persist_status VARCHAR(20)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'PENDING',
    client_msg_id  VARBINARY(256)   NULL,
    created_at     DATETIME(3)      NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    PRIMARY KEY (conv_id, id),
    UNIQUE KEY uk_message_id (id),
    UNIQUE KEY uk_client_msg (from_user_id, client_msg_id),
    KEY idx_persist_status (persist_status, send_time),
    KEY idx_inbox (to_id, conv_id, id, status)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
