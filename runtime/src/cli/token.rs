//! `token`: prints a JWT for a user, signed with the secret of the running stack.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hongyan::auth::Auth;
use hongyan::clock::Clock;
use hongyan::id::UserId;

use super::settings;

pub(super) fn print(folder: &Path, user: UserId, minutes: u32) -> anyhow::Result<ExitCode> {
    let config = settings::of_running_stack(folder)?;
    let clock = Clock::system();
    let now = clock.now_ms();
    let lifetime = Duration::from_mins(u64::from(minutes));
    println!("{}", Auth::new(&config.auth, clock).issue(user, now, lifetime)?);
    Ok(ExitCode::SUCCESS)
}
