-- Whom a user has blocked (docs/decisions/0053-blocks.md).
--
-- user_id     the user who blocks.
-- blocked_id  the user whose sends are refused.
-- created_at  when the block was made, ms since 1970 UTC. For people.
CREATE TABLE user_block (
    user_id    BIGINT NOT NULL,
    blocked_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, blocked_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
