//! Waits until a server has done something.

use std::time::{Duration, Instant};

/// The pause between two looks.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// Repeats `ask` every [`POLL`] until it answers `Ok(Ok(value))`.
///
/// `Ok(Err(reason))` means "not yet": once `limit` has passed, the last reason is returned. `Err` ends the wait at once.
pub(super) async fn until<T, E, F: Future<Output = Result<Result<T, String>, E>>>(
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<Result<T, String>, E> {
    let start = Instant::now();
    loop {
        let answer = ask().await?;
        if answer.is_ok() || start.elapsed() > limit {
            return Ok(answer);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn the_answer_an_error_or_the_last_reason_ends_the_wait() {
        let mut tries = 0;
        let answer = until(Duration::from_mins(1), || {
            tries += 1;
            ready(Ok::<_, ()>(if tries == 3 { Ok(tries) } else { Err("not yet".to_owned()) }))
        });
        assert_eq!(answer.await, Ok(Ok(3)));

        let error = until(Duration::from_mins(1), || ready(Err::<Result<(), _>, _>("never")));
        assert_eq!(error.await, Err("never"));

        let late = until(Duration::ZERO, || ready(Ok::<Result<(), _>, ()>(Err("not yet".to_owned()))));
        assert_eq!(late.await, Ok(Err("not yet".to_owned())));
    }
}
