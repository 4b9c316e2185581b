//! What the three servers and everybody who talks to them hold at one moment.

/// The longest log an exploration can hold; an append beyond it is a property of its own (`bounded log`).
pub const LOG: usize = 10;

/// `msg:detail:{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// No such key.
    Missing,
    /// PENDING, no TTL.
    Pending,
    /// PERSISTED, with a TTL.
    Persisted,
    /// Recalled, emptied, no TTL until the recall is confirmed.
    Recalled,
    /// Recalled, and the tombstone is known to be in MySQL: with a TTL.
    Confirmed,
}

impl Detail {
    /// The content can be read from it.
    #[must_use]
    pub fn live(self) -> bool {
        matches!(self, Self::Pending | Self::Persisted)
    }
    /// It says that the message was recalled.
    #[must_use]
    pub fn recalled(self) -> bool {
        matches!(self, Self::Recalled | Self::Confirmed)
    }
}

/// The entry in the sorted set of what is unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unconfirmed {
    /// No entry.
    No,
    /// The entry a send left.
    Send,
    /// The entry a recall left.
    Recall,
}

/// The row of table `message`, as committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// None.
    Absent,
    /// Status 1.
    Live,
    /// Status 0, emptied.
    Recalled,
    /// Two rows of one id.
    Twice,
}

/// A sender, by the last step it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Nothing done.
    New,
    /// Redis was asked; whether it answered.
    Wrote(bool),
    /// Answered 2xx.
    Accepted,
    /// Answered 503.
    Refused,
}

/// A recaller, by the last step it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recaller {
    /// Nothing done.
    Idle,
    /// Cancel flag set, entry in the sorted set.
    Flagged,
    /// *Mark recalled* done (or Redis did not answer).
    Marked,
    /// RECALL produced or refused, and MySQL has to be written.
    MySqlNext,
    /// Its MySQL transaction is open; whether it touched a row.
    Open(bool),
    /// Its tombstone is committed; Redis is to be marked (again).
    MarkNext,
    /// Answered 200.
    Ok,
    /// Answered 503.
    Unavailable,
    /// Died on the way.
    Dead,
}

/// A record of the conversation's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// Nothing.
    None,
    /// PERSIST by the sender.
    Persist(u8),
    /// PERSIST by the compensator.
    Resent(u8),
    /// RECALL.
    Recall(u8),
}

impl Record {
    /// The message of a PERSIST record.
    #[must_use]
    pub fn persists(self) -> Option<usize> {
        match self {
            Self::Persist(m) | Self::Resent(m) => Some(usize::from(m)),
            Self::None | Self::Recall(_) => None,
        }
    }
    /// The message of the record.
    #[must_use]
    pub fn message(self) -> usize {
        match self {
            Self::Persist(m) | Self::Resent(m) | Self::Recall(m) => usize::from(m),
            Self::None => 0,
        }
    }
}

/// Who may see a recalled message without breaking the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blind {
    /// Nobody.
    No,
    /// Redis did not keep the recall: anybody until the recall is confirmed (the stated exception).
    UntilConfirmed,
    /// Redis lost all while somebody held an older row (an assumption, see `docs/model.md`).
    Always,
}

/// All that concerns one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts about a message, independent of each other")]
pub struct Message {
    /// Redis: detail.
    pub detail: Detail,
    /// Redis: `msg:cancel:{id}`.
    pub flag: bool,
    /// Redis: `msg:lock:{id}`, the offset of the record that holds it.
    pub lock: Option<u8>,
    /// Redis: entry in the sorted set.
    pub unconfirmed: Unconfirmed,
    /// Redis: the list has the id.
    pub listed: bool,
    /// MySQL: the row.
    pub row: Row,
    /// MySQL: `message_recall` has the id.
    pub tombstone: bool,
    /// Its sender.
    pub sender: Sender,
    /// A refused produce that may still arrive.
    pub late: bool,
    /// Only Redis was ever known to hold it.
    pub only_redis: bool,
    /// Redis lost all while only Redis held it: two faults at once.
    pub lost_by_redis: bool,
    /// How often the compensator re-sent it.
    pub resent: u8,
    /// Its recaller.
    pub recaller: Recaller,
    /// Recaller: Redis took *mark recalled*.
    pub marked: bool,
    /// Recaller: the detail was missing.
    pub was_missing: bool,
    /// Recaller: Kafka acknowledged RECALL.
    pub event: bool,
    /// Recaller: answered 200 while only Redis held the recall.
    pub deferred: bool,
    /// The exception to "no later query shows it".
    pub blind: Blind,
}

/// What one record of a batch has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// No record.
    None,
    /// PERSIST, still to be written.
    Go,
    /// PERSIST met the flag only: finish the recall.
    Forward,
    /// RECALL, to be written.
    Recall,
    /// PERSIST wrote a status 1 row.
    Written,
    /// PERSIST found a tombstone and undid its row.
    Undone,
    /// The third check found the recall: undo.
    Undo,
    /// Written, but the detail was missing.
    WrittenMissing,
    /// Finished.
    Done,
    /// Not finished: the lock is taken or a store is away.
    Failed,
}

/// A consumer instance, by the last step it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No batch.
    Idle,
    /// Batch read, first check done.
    Checked,
    /// Lock taken, second check done: MySQL next.
    ToPersist,
    /// PERSIST transaction open.
    Inserted,
    /// RECALL transaction next.
    ToRecall,
    /// RECALL transaction open.
    RecallOpen,
    /// *Mark* next.
    ToMark,
    /// Undo transaction next (third check).
    ToUndo,
    /// Undo transaction open.
    UndoOpen,
    /// Heal next.
    ToHeal,
    /// Commit of the offset next.
    ToCommit,
}

/// A consumer instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// Where it is.
    pub phase: Phase,
    /// Offset of its batch.
    pub start: u8,
    /// Records of its batch.
    pub work: [Work; 2],
    /// Records whose open transaction touched a row.
    pub hit: [bool; 2],
    /// Its partition was given to the other instance.
    pub zombie: bool,
}

/// An instance with nothing to do.
pub const IDLE: Instance = Instance {
    phase: Phase::Idle,
    start: 0,
    work: [Work::None, Work::None],
    hit: [false, false],
    zombie: false,
};

/// The compensator, by the last step it finished; the number is the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compensator {
    /// Nothing in hand.
    Idle,
    /// Detail read: PENDING. MySQL is looked up next.
    Pending(u8),
    /// Not in MySQL. The lost check is next.
    NotStored(u8),
    /// Lost. Produce next.
    Lost(u8),
    /// In MySQL with status 1. *Mark persisted* next.
    Stored(u8),
    /// Recalled, unconfirmed. The MySQL transaction is next.
    Recalled(u8),
    /// Its transaction is open; whether it touched a row.
    Open(u8, bool),
    /// Tombstone is in MySQL. *Mark recalled* and confirm next.
    Confirm(u8),
    /// Entry is to be removed, if it is still this one.
    Drop(u8, Unconfirmed),
}

/// A query, by the last step it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// None running.
    Idle,
    /// List read.
    Listed,
    /// Rows read from MySQL.
    Rows,
    /// Details of the rows read, answer given: refill next.
    Answered,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in Bounds")]
pub struct Budget {
    pub crashes: u8,
    pub zombies: u8,
    pub redis_losses: u8,
    pub redis_refusals: u8,
    pub kafka_refusals: u8,
    pub mysql_refusals: u8,
    pub recaller_deaths: u8,
    pub queries: u8,
    pub list_evictions: u8,
}

/// The whole world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The messages, by rising id.
    pub msgs: [Message; 2],
    /// Kafka: the log.
    pub log: [Record; LOG],
    /// Kafka: its length.
    pub len: u8,
    /// Kafka: the group's committed offset.
    pub committed: u8,
    /// The consumer instances.
    pub inst: [Instance; 2],
    /// Which of them owns the partition.
    pub owner: u8,
    /// The compensator.
    pub comp: Compensator,
    /// The query.
    pub query: Query,
    /// Query: recall was answered 200 before it began.
    pub after_recall: [bool; 2],
    /// Query: rows it holds.
    pub rows: [bool; 2],
    /// Redis: the refill lease is still the query's.
    pub lease: bool,
    /// Redis: the highest id healed, plus one.
    pub floor: u8,
    /// A query showed what it must not.
    pub shown: bool,
    /// An append did not fit the log.
    pub overflow: bool,
    /// What may still go wrong.
    pub budget: Budget,
}

impl State {
    /// There is a list.
    #[must_use]
    pub fn list(&self) -> bool {
        self.msgs.iter().any(|m| m.listed)
    }
    /// The oldest id of the list.
    #[must_use]
    pub fn tail(&self) -> Option<usize> {
        self.msgs.iter().position(|m| m.listed)
    }
    /// Appends a record to the log.
    pub fn append(&mut self, r: Record) {
        if usize::from(self.len) < LOG {
            self.log[usize::from(self.len)] = r;
            self.len += 1;
        } else {
            self.overflow = true;
        }
    }
    /// The record at position `k` of an instance's batch.
    #[must_use]
    pub fn record(&self, i: usize, k: usize) -> Record {
        self.log.get(usize::from(self.inst[i].start) + k).copied().unwrap_or(Record::None)
    }
    /// A PERSIST of `m` waits behind the committed offset.
    #[must_use]
    pub fn queued(&self, m: usize) -> bool {
        (self.committed..self.len).any(|o| self.log[usize::from(o)].persists() == Some(m))
    }
    /// Somebody read the row of `m` and may still write Redis from it.
    #[must_use]
    pub fn held(&self, m: usize) -> bool {
        (matches!(self.query, Query::Rows | Query::Answered) && self.rows[m])
            || (0..2).any(|i| {
                (0..2).any(|k| {
                    matches!(self.inst[i].work[k], Work::Written | Work::WrittenMissing)
                        && self.record(i, k).message() == m
                })
            })
    }
}
