//! The drill: users write, recall, delete and read while servers are killed, frozen, emptied and cut off. Afterwards
//! the answers that the users got are compared with the data of the system (`docs/reliability.md`).
//!
//! [`drill`] runs everything: it starts a [site](site), and for each [fault](fault) lets [users](workload) work,
//! causes the fault, undoes it, waits until everything is [settled](settle), and [checks](check) the
//! [ledger](ledger). The seed decides what happens, and the machine decides when.

// One round is a future of every request, fault and check in it, nested deeper than the compiler allows by default.
#![recursion_limit = "256"]

mod away;
mod catch_up;
mod check;
mod drill;
mod fault;
mod footprint;
mod kept;
mod ledger;
mod metadata_lock;
mod pace;
mod process;
mod refused;
mod report;
mod reshard;
mod serve;
mod settle;
mod shown;
mod site;
mod user;
mod workload;

pub use drill::{Drill, drill};
pub use fault::{Fault, Faults};
pub use pace::Pace;
pub use report::Report;
pub use serve::{Serve, serve};
