-- How far each user has cleared the conversation (docs/decisions/0048-clearing.md). One position hides any number of messages.
--
-- clear_low, clear_high          every message up to this id is hidden from the lower or the higher user; 0 at first. It only grows.
-- clear_low_seq, clear_high_seq  the number of the change that set the position; NULL before the first.
ALTER TABLE conversation
    ADD COLUMN clear_low      BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN clear_high     BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN clear_low_seq  BIGINT NULL,
    ADD COLUMN clear_high_seq BIGINT NULL
