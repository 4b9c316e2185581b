-- idx_changes   the changes of a conversation above a number.
-- idx_visible   what one user may see of a conversation, and what that user has not read: a few ranges that hold nothing else, so
--               that recalled and hidden stretches cost nothing. It takes the place of idx_inbox.
ALTER TABLE message
    ADD KEY idx_changes (conv_id, seq),
    ADD KEY idx_visible (conv_id, to_id, status, hidden_for, id),
    DROP KEY idx_inbox
