//! Rotates the encryption key: seals everything that is sealed in the database with the new key, while other processes
//! read and write.
//!
//! The work is split into many short transactions, unlike in the other files of this folder. It may be interrupted
//! after each of them: the next run seals the rest.
//!
//! Must not end the rotation while a text that the former key has sealed is left.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::crash_point;
use crate::domain::audit::{ObjectKind, Origin};
use crate::error::{Error, Kind, Result};
use crate::slots::BEAT_IS_LATE;
use crate::store::database::outage;
use crate::store::queue::process;
use crate::store::sealed::{self, Page, Place};
use crate::store::{Store, audit, installation};

/// Tries of a page, which may meet a deadlock or a database that restarts. Then the command gives up.
const TRIES: u32 = 5;
/// The pause between two tries of a page, and between two looks at the beats of processes without the new key.
const PAUSE: Duration = Duration::from_millis(500);

/// The id of the encryption key in audit entries: a database has one.
const KEY: &str = "encryption-key";
/// The time without a beat after which a process counts as dead. It is longer than [`BEAT_IS_LATE`]: a process whose
/// beat is that late takes a new owner id before it leases again, and it gets none without the new key.
const STANDS_STILL: Duration = BEAT_IS_LATE.saturating_add(Duration::from_secs(1));
/// The most rows of a table that are named if neither key opens them.
const NAMED: usize = 5;

/// The result of a rotation.
#[derive(Debug)]
pub struct Rotated {
    /// Whether there was anything to do.
    pub changed: bool,
    /// Endpoints and pollers, with their secrets and custom headers.
    pub endpoints: Tally,
    /// Replies to idempotency keys.
    pub replies: Tally,
}

/// The result of a rotation for the rows of one table.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rows that were sealed with the new key.
    pub resealed: u64,
    /// Rows with a text that neither key opens; it is left as it is.
    pub unreadable: u64,
    /// The first few of the unreadable rows, by both columns of their primary key.
    pub named: Vec<Place>,
}

impl Tally {
    /// Adds the result for another table.
    fn add(&mut self, other: Self) {
        self.resealed += other.resealed;
        self.unreadable += other.unreadable;
        let free = NAMED.saturating_sub(self.named.len());
        self.named.extend(other.named.into_iter().take(free));
    }
}

/// Seals everything that is sealed with the former key of this process with its newest key.
///
/// # Errors
/// `Config` if this process has only one key, or the same key twice; if another living process lacks the newest key; or
/// if a third key has replaced the former key in the meantime.
pub async fn rotate(store: &Store, origin: &Origin<'_>) -> Result<Rotated> {
    let keys = store.keys()?;
    let (newest, former) = match (keys.newest(), keys.former()) {
        (newest, Some(former)) if newest.check_value() != former.check_value() => (newest, former),
        _ => {
            return Err(Error::config(
                "POSTRIDER_ENCRYPTION_KEY must hold two keys, one a line, to be rotated: the new one, and below it the \
                 present one",
            ));
        }
    };
    let check = newest.check_value();
    let dead = list_dead(store, &check).await?;
    let tx = store.begin().await?;
    let begun = installation::begin_key_rotation(&tx, newest, former).await?;
    // A process that starts takes a shared lock on the row that says which key seals. Either it committed before that
    // row changed, and the next statement sees it, or it waits for this commit and is then refused without the new key.
    refuse_others(&dead, &process::beats_without_key(&tx, &check).await?)?;
    if begun {
        audit::record_for_all(&tx, origin, ObjectKind::EncryptionKey, KEY).await?;
    }
    tx.commit().await?;
    let mut endpoints = walk(store, Sealed::Endpoints).await?;
    endpoints.add(walk(store, Sealed::Pollers).await?);
    let replies = walk(store, Sealed::Replies).await?;
    let tx = store.begin().await?;
    let ended = installation::end_key_rotation(&tx, newest).await?;
    tx.commit().await?;
    Ok(Rotated {
        changed: begun || ended || endpoints.resealed + replies.resealed > 0,
        endpoints,
        replies,
    })
}

/// Returns the processes without the newest key, with their beats. Waits until they are proven dead, and refuses the
/// rotation if a process among them lives: it could no longer sign deliveries, and each would count as failed.
async fn list_dead(store: &Store, check: &str) -> Result<HashMap<String, i64>> {
    let before = process::beats_without_key(store, check).await?;
    let deadline = Instant::now() + STANDS_STILL;
    while !before.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        refuse_others(&before, &process::beats_without_key(store, check).await?)?;
    }
    Ok(before)
}

/// Refuses the rotation if a process of `now` lives: it is not among the dead, or its beat has risen since.
fn refuse_others(dead: &HashMap<String, i64>, now: &HashMap<String, i64>) -> Result<()> {
    let lives = |(owner, beat): &(&String, &i64)| dead.get(*owner) != Some(*beat);
    match now.iter().filter(lives).count() {
        0 => Ok(()),
        living => Err(Error::config(format!(
            "{living} serving processes do not hold the new POSTRIDER_ENCRYPTION_KEY: start each again with both keys, \
             one a line, the new one first. Nothing was changed"
        ))),
    }
}

/// The tables that hold sealed texts.
#[derive(Clone, Copy)]
enum Sealed {
    Endpoints,
    Pollers,
    Replies,
}

/// Seals all rows of a table, page by page.
async fn walk(store: &Store, which: Sealed) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut next = Some(Place::default());
    while let Some(after) = next {
        let page = page(store, which, &after).await?;
        tally.resealed += page.resealed;
        tally.unreadable += page.unreadable.len() as u64;
        let free = NAMED.saturating_sub(tally.named.len());
        tally.named.extend(page.unreadable.into_iter().take(free));
        next = page.next;
    }
    Ok(tally)
}

/// Seals the page of rows behind `after`. Tries again if the database fails.
async fn page(store: &Store, which: Sealed, after: &Place) -> Result<Page> {
    let mut tries = 1;
    loop {
        match try_page(store, which, after).await {
            Err(err) if err.kind == Kind::Database && tries < TRIES => {
                outage::note_failure(&err, "a page was not re-encrypted; trying again");
                tries += 1;
                store.clock().sleep(PAUSE).await;
            }
            settled => return settled,
        }
    }
}

/// Seals a page of rows in one transaction.
async fn try_page(store: &Store, which: Sealed, after: &Place) -> Result<Page> {
    let tx = store.begin().await?;
    let page = match which {
        Sealed::Endpoints => sealed::reseal_endpoints(&tx, after).await?,
        Sealed::Pollers => sealed::reseal_pollers(&tx, after).await?,
        Sealed::Replies => sealed::reseal_replies(&tx, after).await?,
    };
    tx.commit().await?;
    crash_point::pass("resealed_page");
    Ok(page)
}
