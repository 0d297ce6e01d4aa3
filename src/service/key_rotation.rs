//! Replaces the encryption key: everything that is sealed is sealed anew, while others read and write. Many short
//! transactions, each of which may be the last one: run again, it goes on. Called by cli.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::crash_point;
use crate::error::{Error, Kind, Result};
use crate::slots::BEAT_IS_LATE;
use crate::store::database::outage;
use crate::store::queue::process;
use crate::store::sealed::{self, Page, Place};
use crate::store::{Store, installation};

/// A page meets a deadlock or a restarted database now and then; after so many tries the command gives up.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Longer than [`BEAT_IS_LATE`]: a process that stood still for so long is dead, or takes a new owner id before it leases
/// again, which it does not get without the new key.
const STANDS_STILL: Duration = BEAT_IS_LATE.saturating_add(Duration::from_secs(1));
/// Rows that are named of those that neither key opens.
const NAMED: usize = 5;

/// What a rotation has done.
#[derive(Debug)]
pub struct Rotated {
    /// False: there was nothing to do.
    pub changed: bool,
    pub endpoints: Tally,
    pub replies: Tally,
}

/// What was done to the rows of one table.
#[derive(Debug, Default)]
pub struct Tally {
    pub resealed: u64,
    /// Rows with something that neither key opens: that is left as it is.
    pub unreadable: u64,
    /// The first few of them, by both columns of their primary key.
    pub named: Vec<Place>,
}

/// Seals everything with the newest key of this process that is sealed with the former one.
///
/// # Errors
/// `Config` when it holds one key alone, or the same one twice, another process that lives lacks the newest, or the former
/// one has been replaced by yet another meanwhile.
pub async fn rotate(store: &Store) -> Result<Rotated> {
    let keys = store.keys()?;
    let (newest, former) = match (keys.newest(), keys.former()) {
        (newest, Some(former)) if newest.check_value() != former.check_value() => (newest, former),
        _ => {
            return Err(Error::config(
                "POSTRIDER_ENCRYPTION_KEY must hold two keys, one a line, to be rotated: the new one, and below it the present one",
            ));
        }
    };
    let check = newest.check_value();
    let dead = list_dead(store, &check).await?;
    let tx = store.begin().await?;
    let begun = installation::begin_key_rotation(&tx, newest, former).await?;
    // Nobody starts without the new key from here on. Who did before is seen.
    refuse_others(&dead, &process::beats_without_key(&tx, &check).await?)?;
    tx.commit().await?;
    let endpoints = walk(store, Sealed::Endpoints).await?;
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

/// The processes without the newest key, all of which stand still, and their beats. One that lives could sign no delivery
/// any more, and each would count as failed.
async fn list_dead(store: &Store, check: &str) -> Result<HashMap<String, i64>> {
    let before = process::beats_without_key(store, check).await?;
    let deadline = Instant::now() + STANDS_STILL;
    while !before.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        refuse_others(&before, &process::beats_without_key(store, check).await?)?;
    }
    Ok(before)
}

/// Who is not among the dead, or has moved on since, lives.
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

#[derive(Clone, Copy)]
enum Sealed {
    Endpoints,
    Replies,
}

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

async fn page(store: &Store, which: Sealed, after: &Place) -> Result<Page> {
    let mut tries = 1;
    loop {
        match try_page(store, which, after).await {
            Err(err) if err.kind == Kind::Database && tries < TRIES => {
                outage::note_failure(&err, "a page was not re-encrypted; it is tried again");
                tries += 1;
                store.clock().sleep(PAUSE).await;
            }
            settled => return settled,
        }
    }
}

async fn try_page(store: &Store, which: Sealed, after: &Place) -> Result<Page> {
    let tx = store.begin().await?;
    let page = match which {
        Sealed::Endpoints => sealed::reseal_endpoints(&tx, after).await?,
        Sealed::Replies => sealed::reseal_replies(&tx, after).await?,
    };
    tx.commit().await?;
    crash_point::pass("resealed_page");
    Ok(page)
}
