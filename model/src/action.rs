//! The atomic steps of senders, recallers, the consumer, the compensator, queries, clients and the servers.

use crate::state::{Asking, Compensator, Phase, QueryPhase};

/// How Redis answers a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisAnswer {
    /// Everything was written.
    Ok,
    /// An error, and nothing was written.
    Refused,
    /// An error, but detail, sorted set and unread entry were written; the list and the index were not.
    HalfWritten,
}

/// How Kafka answers a produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaAnswer {
    /// The record was acknowledged.
    Ok,
    /// An error, and the record is gone.
    Refused,
    /// An error, but the record may still arrive.
    Late,
}

/// One atomic step. The number is the message, the consumer instance or the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each names the step it is")]
pub enum Action {
    SendToRedis(usize, RedisAnswer),
    SendToKafka(usize, KafkaAnswer),
    LateRecordArrives(usize),
    RecallSetsFlag(usize),
    RecallMarks(usize),
    RecallFindsRedisAway(usize),
    RecallProduces(usize, KafkaAnswer),
    RecallOpensTransaction(usize),
    RecallCommits(usize),
    RecallMarksAgain(usize),
    RecallRaisesGeneration(usize),
    RecallHasWaited(usize),
    RecallFindsMySqlAway(usize),
    RecallerDies(usize),
    ConsumerReads(usize, u8),
    ConsumerStep(usize, Phase),
    ConsumerFindsMySqlAway(usize),
    ConsumerCrashes(usize),
    Rebalance(usize),
    LockExpires(usize),
    CompensatorPicks(usize),
    CompensatorStep(Compensator),
    QueryBegins(usize),
    QueryStep(QueryPhase),
    KnowledgeExpires(usize),
    ClientStep(Asking),
    PushArrives(usize),
    RecallPushArrives(usize),
    ReceiverReads,
    RedisLosesAll,
    RedisBeginsToRefuse,
    RedisTakesWritesAgain,
    RedisFailsOver,
    ProcessFindsPrimary,
    DetailExpires(usize),
    FlagExpires(usize),
    ListEvicted,
    ListTrimmed,
}
