-- What every process must know of Redis, and what Redis cannot say itself. One row.
--
-- generation: raised by whoever answered a recall that Redis could not take. What Redis holds of a lower generation may
--   show recalled words, so it is not believed any more.
-- unremembered_until: ms since 1970 UTC. Messages sent up to then may have been accepted by Kafka alone, so that Redis
--   cannot say that they do not exist.
CREATE TABLE cache_generation (
    one                TINYINT UNSIGNED NOT NULL DEFAULT 1,
    generation         BIGINT           NOT NULL DEFAULT 0,
    unremembered_until BIGINT           NOT NULL DEFAULT 0,
    PRIMARY KEY (one),
    CONSTRAINT ck_cache_generation_one CHECK (one = 1)
) ENGINE = InnoDB
