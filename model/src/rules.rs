//! The switches: which rules of the protocol are in force, and how much trouble the world may make.

/// One switch a rule of the protocol. [`Rules::default`] is the protocol; a mutant turns one switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each rule is on or off by itself")]
pub struct Rules {
    /// *Mark persisted* answers "recalled" and leaves the detail alone; the consumer then undoes its write.
    pub third_check: bool,
    /// A recall leaves a row in `message_recall`, and PERSIST looks for it.
    pub tombstone: bool,
    /// How PERSIST looks for tombstones.
    pub tombstone_read: TombstoneRead,
    /// The lock's value names the record, and a taken lock means "not done yet".
    pub lock_names_record: bool,
    /// A PENDING detail has no TTL, so neither time nor eviction drops it.
    pub pending_never_expires: bool,
    /// The conversation's list holds ids; off: copies of the messages.
    pub list_of_ids: bool,
    /// A recall produces its RECALL event also while the message is PENDING.
    pub recall_event_when_pending: bool,
    /// Only the unbroken run of finished records is committed.
    pub offset_stops_at_failure: bool,
    /// The compensator re-sends only what the consumer group has already passed.
    pub lost_check: bool,
    /// *Mark recalled* on a missing detail writes a recalled stub.
    pub recall_stub: bool,
    /// A detail is put back by SET NX; off: by SET.
    pub put_back_nx: bool,
    /// The consumer puts a persisted id into the list it is missing from.
    pub heal: bool,
    /// The message id is unique in MySQL.
    pub unique_id: bool,
    /// A recall that no event carries writes its tombstone to MySQL itself.
    pub recall_writes_tombstone: bool,
    /// The consumer and the compensator remove a pending entry only if it is still the send's; off: whatever it is.
    pub guarded_pending_removal: bool,
    /// A refill of the list needs a lease, taken before MySQL is read, that every push and every heal takes away.
    pub refill_lease: bool,
    /// A push never creates a list whose only id is older than one that was healed already.
    pub push_floor: bool,
    /// When the recaller cannot mark Redis after its tombstone, only an acknowledged RECALL event makes it a 200.
    pub away_needs_event: bool,
    /// Whoever commits a tombstone marks the detail recalled in Redis afterwards.
    pub mark_after_tombstone: bool,
    /// A recall enters the sorted set in the round trip of *mark recalled*; off: with the flag, one step earlier.
    pub enqueue_with_mark: bool,
}

/// When and how the PERSIST transaction reads the tombstones of its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TombstoneRead {
    /// After the insert, by a locking read: it waits for a recall that is not committed yet.
    LockingAfterInsert,
    /// After the insert, by a plain read: it sees only what is committed.
    PlainAfterInsert,
    /// Before the insert.
    BeforeInsert,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            third_check: true,
            tombstone: true,
            tombstone_read: TombstoneRead::LockingAfterInsert,
            lock_names_record: true,
            pending_never_expires: true,
            list_of_ids: true,
            recall_event_when_pending: true,
            offset_stops_at_failure: true,
            lost_check: true,
            recall_stub: true,
            put_back_nx: true,
            heal: true,
            unique_id: true,
            recall_writes_tombstone: true,
            guarded_pending_removal: true,
            refill_lease: true,
            push_floor: true,
            away_needs_event: true,
            mark_after_tombstone: true,
            enqueue_with_mark: true,
        }
    }
}

/// How much may happen in one exploration. Each number is a budget for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of trouble is on or off by itself")]
pub struct Bounds {
    /// Messages of the one conversation, 1 or 2.
    pub messages: usize,
    /// How many of them, from the first on, may be recalled.
    pub recalls: usize,
    /// Records the consumer may take at once, 1 or 2.
    pub batch: u8,
    /// Consumer crashes (another instance starts at the committed offset).
    pub crashes: u8,
    /// Rebalances that leave the old instance running as a zombie.
    pub zombies: u8,
    /// Redis losing everything.
    pub redis_losses: u8,
    /// Redis not answering a sender or a recaller.
    pub redis_refusals: u8,
    /// Kafka not acknowledging a produce; the record may still arrive later.
    pub kafka_refusals: u8,
    /// MySQL not answering a consumer or a recaller.
    pub mysql_refusals: u8,
    /// Recallers that die between two steps.
    pub recaller_deaths: u8,
    /// Queries with their refill.
    pub queries: u8,
    /// Evictions of the conversation's list.
    pub list_evictions: u8,
    /// Details with a TTL may go.
    pub expiry: bool,
    /// The second sender may take its id late, write early: its list entry precedes the first one's.
    pub slow_sender: bool,
    /// The compensator starts a run only when the consumer has read all there is; off: at any moment.
    pub patient_compensator: bool,
    /// A recall answered while Redis was away counts as kept by Redis: the exception of the page is not granted.
    pub no_exception_for_redis_away: bool,
    /// A TTL may run out, and Redis lose all, even while somebody still holds a row read before a recall.
    pub holders_outlive_stubs: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            messages: 1,
            recalls: 1,
            batch: 1,
            crashes: 0,
            zombies: 0,
            redis_losses: 0,
            redis_refusals: 0,
            kafka_refusals: 0,
            mysql_refusals: 0,
            recaller_deaths: 0,
            queries: 0,
            list_evictions: 0,
            expiry: false,
            slow_sender: false,
            patient_compensator: false,
            no_exception_for_redis_away: false,
            holders_outlive_stubs: false,
        }
    }
}
