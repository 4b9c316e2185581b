//! The state of the three servers and of all actors at one moment.

/// The longest log an exploration can hold; an append beyond it breaks `NO_BACKLOG`.
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
    /// The detail says that the message was recalled.
    #[must_use]
    pub fn recalled(self) -> bool {
        matches!(self, Self::Recalled | Self::Confirmed)
    }
}

/// The entry in the sorted set of unconfirmed messages.
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
    /// Cancel flag set.
    Flagged,
    /// *Mark recalled* done, or Redis did not take it.
    Marked,
    /// RECALL produced or refused. Its MySQL transaction is next.
    MySqlNext,
    /// Its MySQL transaction is open: whether it touches a row, and the `last_seq` that it read.
    Open(bool, u8),
    /// Its tombstone is committed and Kafka refused the event: Redis is to be marked now.
    MarkNext,
    /// Its tombstone is committed, Redis did not take the recall: the generation is to be raised.
    RaiseNext,
    /// The generation is raised: it waits until no process believes the previous one.
    WaitNext,
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

/// An exception to "no later query shows a recalled message".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blind {
    /// None.
    No,
    /// Redis lost the recall, or Redis refuses while MySQL has no tombstone yet: until MySQL or Redis has it again.
    UntilConfirmed,
    /// Redis lost all while somebody held an older row (an assumption, see `docs/model.md`).
    Always,
}

/// A message as a client of changes sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// Never heard of.
    Unknown,
    /// Visible.
    Live,
    /// Recalled. It stays so, whatever a late push says.
    Recalled,
}

/// The state of one message.
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
    /// Redis: the index of what is pending in the conversation has the id.
    pub indexed: bool,
    /// Redis: the receiver's set of unread messages that are not rows yet has the id.
    pub pending_unread: bool,
    /// MySQL: the row.
    pub row: Row,
    /// MySQL: the row's number; 0 without one.
    pub seq: u8,
    /// MySQL: `message_recall` has the id.
    pub tombstone: bool,
    /// MySQL: the tombstone's number; 0 without one.
    pub recall_seq: u8,
    /// MySQL: an unread entry of its own, whatever the read position says.
    pub unshown: bool,
    /// The generation in which it was sent: its id tells, so no write to Redis can make it younger.
    pub sent_in: u8,
    /// Its sender.
    pub sender: Sender,
    /// Its sender is older than 2 s: a younger message has become a row meanwhile.
    pub old: bool,
    /// Redis acknowledged the send, and has not lost all since.
    pub by_redis: bool,
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
    /// Recaller: Kafka acknowledged RECALL.
    pub event: bool,
    /// Recaller: answered 200 while only Redis held the recall.
    pub deferred: bool,
    /// The exception to "no later query shows it".
    pub blind: Blind,
    /// The receiver has read up to it or further at a moment at which it was visible.
    pub read_seen: bool,
    /// The client of changes sees it so.
    pub view: View,
}

impl Message {
    /// A reader at this moment finds its content in Redis or in MySQL.
    #[must_use]
    pub fn visible(&self) -> bool {
        self.detail.live() || self.row == Row::Live
    }
}

/// The fate of one record of a batch.
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
    /// MySQL has the recall: Redis is to be told.
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
    /// Records whose open transaction found a row to empty (recall), or a tombstone (PERSIST).
    pub hit: [bool; 2],
    /// PERSIST records whose message Redis did not know, or that the receiver has not read while it was pending.
    pub late: [bool; 2],
    /// The `last_seq` that its open transaction read.
    pub base: u8,
    /// `base` was read before the conversation was locked (a mutant).
    pub numbered: bool,
    /// Its partition was given to the other instance.
    pub zombie: bool,
}

/// An instance with nothing to do.
pub const IDLE: Instance = Instance {
    phase: Phase::Idle,
    start: 0,
    work: [Work::None, Work::None],
    hit: [false, false],
    late: [false, false],
    base: 0,
    numbered: false,
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
    /// Its transaction is open: whether it touches a row, and the `last_seq` that it read.
    Open(u8, bool, u8),
    /// Tombstone is in MySQL. *Mark recalled* and confirm next.
    Confirm(u8),
    /// Entry is to be removed, if it is still this one.
    Drop(u8, Unconfirmed),
}

/// A query, by the last step it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryPhase {
    /// None running.
    Idle,
    /// Generation known, index of pending ids read. List and details are next.
    Begun,
    /// Redis read, or found away. MySQL is next.
    ReadRedis,
    /// Rows and tombstones read. The details of the rows are next.
    ReadRows,
    /// Answered. Details are to be put back, and the list to be refilled.
    Answered,
    /// The list is refilled. MySQL is read again to check the refill.
    Refilled,
}

/// The detail of one message as a query found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// No detail.
    Nothing,
    /// Recalled.
    Recalled,
    /// A live detail of a message that was sent in the generation that the query knows.
    Believed,
    /// A live detail of a message that was sent in another generation.
    Doubted,
}

/// Why a page must have a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Must {
    /// It need not.
    No,
    /// Redis had it when the query began.
    InRedis,
    /// MySQL had it when the query began.
    InMySql,
}

/// A query with what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// How far it is.
    pub phase: QueryPhase,
    /// The process that works on it, 0 or 1.
    pub process: u8,
    /// The generation it believes to be the present one.
    pub generation: u8,
    /// Redis is away for it: MySQL alone answers.
    pub away: bool,
    /// The conversation was compared with MySQL in the present epoch.
    pub believed: bool,
    /// The recall was answered 200 before it began, and no exception was in force.
    pub after_recall: [bool; 2],
    /// Why the page must have the message.
    pub must: [Must; 2],
    /// Details found.
    pub seen: [Seen; 2],
    /// Ids found in the index of what is pending.
    pub indexed: [bool; 2],
    /// Ids found in the list.
    pub listed: [bool; 2],
    /// Status 1 rows found.
    pub rows: [bool; 2],
    /// Messages that MySQL says are recalled.
    pub gone: [bool; 2],
    /// Ids it put into the list.
    pub appended: [bool; 2],
}

/// No query.
pub const NO_QUERY: Query = Query {
    phase: QueryPhase::Idle,
    process: 0,
    generation: 0,
    away: false,
    believed: false,
    after_recall: [false; 2],
    must: [Must::No; 2],
    seen: [Seen::Nothing; 2],
    indexed: [false; 2],
    listed: [false; 2],
    rows: [false; 2],
    gone: [false; 2],
    appended: [false; 2],
};

impl Query {
    /// The oldest id of the list that it read.
    #[must_use]
    pub fn tail(&self) -> Option<usize> {
        self.listed.iter().position(|listed| *listed)
    }
}

/// The request of a client of changes, by the last step that was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asking {
    /// Nothing.
    Idle,
    /// `last_seq` read. The numbered rows are next.
    LastSeq(u8),
    /// The numbered rows read as well. The numbered tombstones are next.
    Rows(u8),
}

/// A client of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// There is one.
    pub exists: bool,
    /// The number up to which it has all changes.
    pub cursor: u8,
    /// How far its request is.
    pub asking: Asking,
    /// The rows of its page.
    pub page: [View; 2],
    /// The highest number of its page.
    pub highest: u8,
}

/// The faults that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in Bounds")]
pub struct Budget {
    pub crashes: u8,
    pub zombies: u8,
    pub redis_losses: u8,
    pub redis_refusals: u8,
    pub redis_refusing: u8,
    pub failovers: u8,
    pub kafka_refusals: u8,
    pub mysql_refusals: u8,
    pub recaller_deaths: u8,
    pub queries: u8,
    pub list_evictions: u8,
    pub reads: u8,
}

/// The state of the whole world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts about the world, independent of each other")]
pub struct State {
    /// The messages, by rising id.
    pub msgs: [Message; 2],
    /// Kafka: the log.
    pub log: [Record; LOG],
    /// Kafka: its length.
    pub len: u8,
    /// Kafka: the group's committed offset.
    pub committed: u8,
    /// MySQL: the conversation's `last_seq`.
    pub last_seq: u8,
    /// MySQL: the receiver's read position; ids below it are read.
    pub position: u8,
    /// MySQL: the generation.
    pub generation: u8,
    /// The generation that each process believes to be the present one; `None`: its knowledge has expired.
    pub known: [Option<u8>; 2],
    /// Redis: the epoch in which the list was compared with MySQL; pages believe the conversation only in that epoch.
    pub believed_in: Option<u8>,
    /// Redis answers reads and refuses writes.
    pub refuses: bool,
    /// The details that the demoted server has; the second process reads from it.
    pub demoted: Option<[Detail; 2]>,
    /// The consumer instances.
    pub inst: [Instance; 2],
    /// The instance that owns the partition.
    pub owner: u8,
    /// The compensator.
    pub comp: Compensator,
    /// The query.
    pub query: Query,
    /// The client of changes.
    pub client: Client,
    /// A query showed a message whose recall had been answered before it began.
    pub shown: bool,
    /// A page lacked a message that it must have.
    pub left_out: bool,
    /// A change appeared at or below a number that a client had been answered.
    pub appeared_behind: bool,
    /// A change got a second number.
    pub renumbered: bool,
    /// An append did not fit the log.
    pub overflow: bool,
    /// The faults that may still happen.
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
    /// A consumer instance has committed the row of `m` and may still write Redis from it.
    #[must_use]
    pub fn held_by_consumer(&self, m: usize) -> bool {
        (0..2).any(|i| {
            (0..2).any(|k| {
                matches!(self.inst[i].work[k], Work::Written | Work::WrittenMissing)
                    && self.record(i, k).message() == m
            })
        })
    }
    /// True if an actor has read the row of `m` and may still write to Redis from it.
    #[must_use]
    pub fn held(&self, m: usize) -> bool {
        (matches!(self.query.phase, QueryPhase::ReadRows | QueryPhase::Answered) && self.query.rows[m])
            || self.held_by_consumer(m)
    }
    /// True if a query process cannot write to the Redis it reads from.
    #[must_use]
    pub fn redis_refuses_somebody(&self) -> bool {
        self.refuses || self.demoted.is_some()
    }
}

/// A message's or an instance's index as the small number that the state stores.
#[must_use]
pub fn small(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}
