-- Messages that their receiver was never shown although the read position had passed their ids: Kafka alone had them while Redis was
-- away, and they became visible late. Each counts as unread until the receiver reads up to it once more.
--
-- PRIMARY KEY (user_id, conv_id, message_id)  a user's entries of one conversation up to an id are one range.
CREATE TABLE message_unshown (
    user_id    BIGINT      NOT NULL,
    conv_id    VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message_id BIGINT      NOT NULL,
    PRIMARY KEY (user_id, conv_id, message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
