-- conv_id  the message's conversation; '' in deletions from before, which no list of changes shows.
-- seq      the number of the deletion among the changes of the conversation; NULL in deletions from before.
ALTER TABLE message_delete
    ADD COLUMN conv_id VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    ADD COLUMN seq     BIGINT NULL,
    ADD KEY idx_changes (user_id, conv_id, seq)
