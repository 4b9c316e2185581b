-- Lists of a user's conversations. The user is the lower or the higher of the two, so each list is two ranges.
--
-- idx_newest_low, idx_newest_high    by the newest message, for GET /conversations.
-- idx_changed_low, idx_changed_high  by the last change, for GET /conversations?changedAfter=. The id of the newest message tells
--                                    conversations apart that changed in the same ms.
ALTER TABLE conversation
    ADD KEY idx_newest_low (user_low, newest_id),
    ADD KEY idx_newest_high (user_high, newest_id),
    ADD KEY idx_changed_low (user_low, changed_at, newest_id),
    ADD KEY idx_changed_high (user_high, changed_at, newest_id)
