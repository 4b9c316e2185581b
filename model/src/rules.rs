//! The switches: the rules of the protocol that are in force, and the number of faults that may happen.

/// One switch a rule of the protocol. [`Rules::default`] is the protocol; a mutant turns one switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each rule is on or off by itself")]
pub struct Rules {
    /// *Mark persisted* answers "recalled" and leaves the detail alone; the consumer then undoes its write.
    pub third_check: bool,
    /// A recall leaves a tombstone in `message_recall`, and PERSIST looks for it.
    pub tombstone: bool,
    /// Every transaction that changes the conversation locks the conversation's row first, until its commit.
    pub conversation_locked: bool,
    /// A transaction takes its numbers under that lock; off: the consumer takes them one step before it locks.
    pub number_under_lock: bool,
    /// A row or a tombstone that is there already keeps its number; off: a redelivery gives it another one.
    pub number_kept: bool,
    /// A client of changes gets nothing above the `last_seq` that was read first; off: whatever is visible by then.
    pub changes_bounded: bool,
    /// MESSAGE_RECALLED is pushed once a store has the recall; off: as soon as the recaller begins.
    pub push_when_kept: bool,
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
    /// A recall writes its tombstone to MySQL itself, beside its event.
    pub recall_writes_tombstone: bool,
    /// The consumer and the compensator remove a pending entry only if it is still the send's; off: any entry.
    pub guarded_pending_removal: bool,
    /// When Kafka refuses the event and the recaller cannot mark Redis after its tombstone, the answer is 503; off: 200.
    pub away_needs_event: bool,
    /// The recaller whose event Kafka refused, and the consumer that undoes a row, mark Redis after their tombstone.
    pub mark_after_tombstone: bool,
    /// A recall enters the sorted set in the round trip of *mark recalled*; off: with the flag, one step earlier.
    pub enqueue_with_mark: bool,
    /// A query carries one write in its round trip, so a Redis that refuses writes counts as away.
    pub query_writes: bool,
    /// A recall answered past Redis raises the generation in MySQL, before its 200.
    pub generation_raised: bool,
    /// That 200 waits until no process believes the previous generation any more.
    pub generation_waited: bool,
    /// A live detail of a message that was sent in an older generation is checked against MySQL; off: it is believed.
    pub old_epoch_checked: bool,
    /// A detail belongs to the epoch in which its message was sent; off: to that in which it was put back.
    pub epoch_of_the_send: bool,
    /// The ids of a conversation that are not rows yet are indexed, and a page reads that index.
    pub pending_index: bool,
    /// A page reads the index before the list; off: after it.
    pub index_before_list: bool,
    /// A refill of the list is compared with MySQL afterwards, and the list is dropped if a row is missing from it.
    pub refill_checked: bool,
    /// Only a message younger than 2 s may begin a list.
    pub young_begins_list: bool,
    /// The messages that count as unread although the read position has passed their ids.
    pub late_unread: LateUnread,
}

/// The messages that get an unread entry of their own when they become rows behind the read position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateUnread {
    /// One that Redis does not know, or that is still in the receiver's pending unread set.
    UnknownOrPendingUnread,
    /// One that Redis does not know.
    Unknown,
    /// None: the position alone decides.
    Position,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            third_check: true,
            tombstone: true,
            conversation_locked: true,
            number_under_lock: true,
            number_kept: true,
            changes_bounded: true,
            push_when_kept: true,
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
            away_needs_event: true,
            mark_after_tombstone: true,
            enqueue_with_mark: true,
            query_writes: true,
            generation_raised: true,
            generation_waited: true,
            old_epoch_checked: true,
            epoch_of_the_send: true,
            pending_index: true,
            index_before_list: true,
            refill_checked: true,
            young_begins_list: true,
            late_unread: LateUnread::UnknownOrPendingUnread,
        }
    }
}

/// The bounds of one exploration. Each number is a budget for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Times in which Redis answers reads and refuses every write.
    pub redis_refusing: u8,
    /// Failovers of Redis that leave the second query process at the demoted server, which takes no writes.
    pub failovers: u8,
    /// Kafka not acknowledging a produce; the record may still arrive later.
    pub kafka_refusals: u8,
    /// MySQL not answering a consumer or a recaller.
    pub mysql_refusals: u8,
    /// Recallers that die between two steps.
    pub recaller_deaths: u8,
    /// Queries with their refill.
    pub queries: u8,
    /// Times the conversation's list is evicted, or loses its oldest id.
    pub list_evictions: u8,
    /// Times the receiver reads up to the newest visible message.
    pub reads: u8,
    /// A client catches up by changes.
    pub client: bool,
    /// That client gets pushes too: in any order, repeatedly, or not at all.
    pub pushes: bool,
    /// Details with a TTL may go.
    pub expiry: bool,
    /// The second sender may overtake the first, whose id is older.
    pub slow_sender: bool,
    /// The compensator starts a run only when the consumer has read all there is; off: at any moment.
    pub patient_compensator: bool,
    /// A TTL may run out, Redis lose all, and the wait of a recall past Redis end, even while somebody still holds a row
    /// read before the recall.
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
            redis_refusing: 0,
            failovers: 0,
            kafka_refusals: 0,
            mysql_refusals: 0,
            recaller_deaths: 0,
            queries: 0,
            list_evictions: 0,
            reads: 0,
            client: false,
            pushes: false,
            expiry: false,
            slow_sender: false,
            patient_compensator: false,
            holders_outlive_stubs: false,
        }
    }
}
