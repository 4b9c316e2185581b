//! All Lua scripts: one a file, each with what it takes, what it answers and a worked example at its head. They are
//! tested on a real Redis, after SCRIPT FLUSH too.

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
    /// Takes a message back, or says that it was before, or leaves a stub where there was none.
    MARK_RECALLED = "mark_recalled.lua";
    /// Notes that a message is in MySQL, or says that it was recalled.
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
    /// Takes a lock for a named holder, or again for the same one.
    LOCK = "lock.lua";
    /// Gives a lock back, if it is still this holder's.
    UNLOCK = "unlock.lua";
    /// Reads which data set of Redis this is.
    EPOCH = "epoch.lua";
    /// Replaces a conversation's recent list that is not believed.
    CONVERSATION_REPLACE = "conversation_replace.lua";
    /// Takes a lease for a named holder, or again for the same one.
    LEASE = "lease.lua";
    /// Gives a lease back, if it is still this holder's.
    RELEASE = "release.lua";
    /// Notes what must neither be evicted nor be refused by a Redis that is full.
    NOTE_RESENT = "note_resent.lua";
    /// Exchanges a value for another, if it is still what was read.
    EXCHANGE = "exchange.lua";
    /// Removes a key of the wrong type.
    REMOVE_ODD = "remove_odd.lua";
}
