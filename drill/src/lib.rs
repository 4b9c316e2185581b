//! The drill: users write, recall, delete and read while servers are killed, frozen, emptied and cut off. Afterwards what
//! the users were told is compared with what the system holds (`docs/reliability.md`).
//!
//! [`drill`] is all of it: it starts a [site](site) of its own, and for each [fault](fault) lets [users](workload) work, does
//! the fault, undoes it, waits until everything is [settled](settle), and [checks](check) the [ledger](ledger). What is
//! done depends on the seed alone; when it happens depends on the machine.

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
