//! The Lua scripts. Each has a file, whose head says what the script takes and answers, with a worked example. The
//! tests run the scripts on a real Redis, after SCRIPT FLUSH too.

use super::step::Script;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $(
            $(#[$doc])*
            pub static $name: Script = Script::new(include_str!(concat!("scripts/", $file)));
        )*

        /// Every script with the name of its file.
        pub static ALL: &[(&str, &Script)] = &[$(($file, &$name)),*];
    };
}

scripts! {
    /// Recalls a message: says if it was recalled before, and leaves a stub if there is no detail.
    MARK_RECALLED = "mark_recalled.lua";
    /// Marks a message as PERSISTED, or says that it was recalled.
    MARK_PERSISTED = "mark_persisted.lua";
    /// Lets a recalled message expire, since MySQL has the recall.
    CONFIRM_RECALLED = "confirm_recalled.lua";
    /// Puts an id into its place in a conversation's recent list.
    CONVERSATION_INSERT = "conversation_insert.lua";
    /// Appends older ids behind a conversation's recent list.
    CONVERSATION_APPEND = "conversation_append.lua";
    /// Takes an id off a conversation's recent list.
    CONVERSATION_REMOVE = "conversation_remove.lua";
    /// Takes messages off the pending set, unless a recall has changed their entries.
    SETTLE = "settle.lua";
    /// Takes a lock for a holder, or renews it for the same holder.
    LOCK = "lock.lua";
    /// Gives a lock back if the holder still has it.
    UNLOCK = "unlock.lua";
    /// Reads the epoch, or begins a new one.
    EPOCH = "epoch.lua";
    /// Replaces a conversation's recent list that is not believed.
    CONVERSATION_REPLACE = "conversation_replace.lua";
    /// Takes a lease for a holder, or renews it for the same holder.
    LEASE = "lease.lua";
    /// Gives a lease back if the holder still has it.
    RELEASE = "release.lua";
    /// Notes when a message was sent again, without a TTL, and also in a full Redis.
    NOTE_RESENT = "note_resent.lua";
    /// Replaces a value if it is still the one that was read.
    EXCHANGE = "exchange.lua";
    /// Takes one from an allowance that fills up evenly.
    TAKE = "take.lua";
    /// Removes an odd key: one of the wrong type.
    REMOVE_ODD = "remove_odd.lua";
}
