-- How far a user has read a conversation: what they received above it is unread ("Unread is derived"). It only grows.
--
-- up_to  the id of a message, or any id between two: all up to it are read.
--
-- PRIMARY KEY (user_id, conv_id)  one position; all positions of a user are one range, which the unread count needs.
CREATE TABLE read_position (
    user_id BIGINT      NOT NULL,
    conv_id VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    up_to   BIGINT      NOT NULL,
    PRIMARY KEY (user_id, conv_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
