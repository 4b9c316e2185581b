-- The process of MySQL that gave a conversation's numbers (docs/decisions/0051-numbers-after-a-crash.md).
--
-- server_start   when the process of MySQL started that gave `last_seq`, s since 1970 UTC. 0: not known.
-- resumed_after  `last_seq` before the newest gap, which another process of MySQL left; NULL before the first.
ALTER TABLE conversation
    ADD COLUMN server_start  BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN resumed_after BIGINT NULL
