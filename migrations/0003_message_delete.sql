-- "Delete for me": this user does not see this message any more; the other one still does.
--
-- PRIMARY KEY (user_id, message_id)  deleting twice is one row; a user's newest deletions are one range, which fills
--                                    msg:deleted:{userId} when Redis has lost it.
CREATE TABLE message_delete (
    user_id    BIGINT NOT NULL,
    message_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
