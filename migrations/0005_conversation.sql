-- One row a conversation puts its changes in order (docs/decisions/0031-changes-in-order.md). Every transaction that changes
-- the conversation locks this row first, takes its numbers under the lock, and holds the lock until it commits. So the order
-- of the numbers is the order of the commits: a reader of number n can read every number below n, for ever.
--
-- conv_id                  as in `message`.
-- user_low, user_high      the two users; the lower id first.
-- last_seq                 the highest number given so far. Numbers may be skipped.
-- newest_id                the highest message id that is a row; 0 without one.
-- changed_at               when the row last changed, ms since 1970 UTC. For people and for lists of conversations.
-- read_low, read_high      how far each user has read: all up to this id is read; 0 at first. It only grows.
-- read_low_seq, read_high_seq   the number of the change that moved the position there; NULL before the first.
-- unread_low, unread_high  how many rows each user has not read. Kept under the lock, so that a user's total is a sum over
--                          conversations and not a count of messages.
-- early_deletions          how many messages were hidden by a user before they became rows: while it is 0, persistence need
--                          not ask `message_delete`.
--
-- idx_unread_low, idx_unread_high   a user's conversations with something unread: one range each.
CREATE TABLE conversation (
    conv_id         VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    user_low        BIGINT NOT NULL,
    user_high       BIGINT NOT NULL,
    last_seq        BIGINT NOT NULL DEFAULT 0,
    newest_id       BIGINT NOT NULL DEFAULT 0,
    changed_at      BIGINT NOT NULL DEFAULT 0,
    read_low        BIGINT NOT NULL DEFAULT 0,
    read_high       BIGINT NOT NULL DEFAULT 0,
    read_low_seq    BIGINT NULL,
    read_high_seq   BIGINT NULL,
    unread_low      BIGINT NOT NULL DEFAULT 0,
    unread_high     BIGINT NOT NULL DEFAULT 0,
    early_deletions BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (conv_id),
    KEY idx_unread_low (user_low, unread_low),
    KEY idx_unread_high (user_high, unread_high)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
