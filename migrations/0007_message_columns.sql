-- seq          the number of the change that made this row (`conversation`).
-- hidden_for   who hid the message from their own history: bit 1 the lower user, bit 2 the higher. `message_delete` says the
--              same; here an index can skip what is hidden.
-- fingerprint  SHA-256 of receiver, type and content, 16 bytes of it, where the sender gave a client_msg_id. It outlives the
--              content, so that a retry of a recalled message is told from another message under the same name.
ALTER TABLE message
    ADD COLUMN seq         BIGINT           NULL,
    ADD COLUMN hidden_for  TINYINT UNSIGNED NOT NULL DEFAULT 0,
    ADD COLUMN fingerprint BINARY(16)       NULL
