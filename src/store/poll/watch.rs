//! Watches the database for all polls of this process that wait, and wakes those that have something to read.
//!
//! A hint makes it look at once, or a moment after its last look, at the hinted pollers alone. If a poller has messages
//! that an older open transaction still holds back, it looks again soon, after pauses that grow. Once a second it looks at
//! all pollers that polls wait for, whatever was hinted: correctness rests on that alone. Without polls that wait it does
//! nothing.
//!
//! Must not read messages: the polls do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::probe::{Behind, probe};
use crate::error::Result;
use crate::store::Store;
use crate::store::database::outage;

/// How often all pollers are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The first pause before another look at messages that are held back; each further one is twice as long. Most
/// transactions end within a few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The time between a look and the next one for a hint, so that a busy process takes several commits at once: three
/// hundred looks a second at most.
const APART: Duration = Duration::from_millis(3);

/// Watches until `ended`.
pub async fn run(store: Store, ended: CancellationToken) {
    ended.run_until_cancelled(watch(&store)).await;
}

async fn watch(store: &Store) {
    let (waits, clock) = (store.waits(), store.clock());
    let mut looked_at = clock.monotonic();
    let (mut ended_at, mut pause) = (looked_at, None);
    loop {
        let next = pause.map_or(looked_at + EVERY, |pause| {
            (looked_at + EVERY).min(clock.monotonic() + pause)
        });
        let is_hinted = if waits.count() == 0 {
            waits.hinted().await;
            true
        } else {
            tokio::select! {
                () = waits.hinted() => true,
                () = clock.sleep_until(next) => false,
            }
        };
        if is_hinted {
            clock.sleep_until(ended_at + APART).await;
        }
        let all = clock.monotonic() >= looked_at + EVERY;
        if all {
            looked_at = clock.monotonic();
        }
        match look(store, all).await {
            Ok(true) => {
                pause = Some(match pause {
                    Some(expired) if !is_hinted => EVERY.min(expired * 2),
                    _ => FIRST_PAUSE,
                });
            }
            Ok(false) => pause = None,
            Err(err) => {
                outage::note_failure(
                    &err,
                    "polls that wait could not be looked after; trying again in a second",
                );
                pause = None;
            }
        }
        ended_at = clock.monotonic();
    }
}

/// Looks at the hinted pollers, or at all, and wakes the polls of those with messages. Returns whether some are held
/// back.
pub async fn look(store: &Store, all: bool) -> Result<bool> {
    let wanted = store.waits().take(all);
    if wanted.is_empty() {
        return Ok(false);
    }
    let found = probe(store, &wanted).await?;
    let of = |which| {
        found
            .iter()
            .filter(move |(_, behind)| *behind == which)
            .map(|(poller, _)| *poller)
    };
    store.waits().wake(of(Behind::Readable));
    store.waits().hold(of(Behind::HeldBack));
    Ok(found.iter().any(|(_, behind)| *behind == Behind::HeldBack))
}
