-- The tombstone of a recalled message. It may be there before the message's row is, and then keeps it from being shown
-- ("Recall leaves a tombstone"); the first recall of a message decides its time.
--
-- recall_time  ms since 1970 UTC.
--
-- PRIMARY KEY (message_id)  one recall a message, and the row that persistence locks to learn of it.
CREATE TABLE message_recall (
    message_id  BIGINT NOT NULL,
    recall_time BIGINT NOT NULL,
    PRIMARY KEY (message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
