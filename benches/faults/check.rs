//! Checks a run once its load has ended: all that was accepted must have arrived, and every view must agree.
//!
//! Waits are bounded; what has not happened by then is a disagreement. Must not change anything but stop the processes.

use super::consumer::Consumer;
use super::ground::Ground;
use super::history;
use super::ledger::{Entry, Given, Ledger, lock};
use super::record::Verdict;
use super::run::Window;
use super::traffic::{ENDPOINTS, is_polled, is_wanted_by};
use crate::Failure;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Longer than any lease and than any pause of a process.
const LAST_ARRIVALS: Duration = Duration::from_secs(60);
const LAST_POLLS: Duration = Duration::from_secs(20);
/// The longest time until a receiver has read what was sent before a fault.
const JUST_AFTER: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(100);

/// What the harness knows, without a lock. It does not change any more.
pub struct Facts<'a> {
    pub entries: Vec<Entry>,
    pub windows: &'a [Window],
    /// The numbers of the accepted messages by their ids.
    pub numbers: HashMap<String, u32>,
}

impl Facts<'_> {
    /// Returns the injection that an instant belongs to: the last one that had begun, or the first one.
    fn injection_at(&self, at: Instant) -> usize {
        let begun = self.windows.iter().take_while(|window| window.began <= at).count();
        begun.saturating_sub(1)
    }

    /// Returns the injection that made a message arrive again: the first one that was not over when the receiver answered
    /// for the first time. What a killed process has sent comes again seconds later, when the next fault is there already.
    fn injection_between(&self, first: Instant, again: Instant) -> usize {
        let is_between = |window: &Window| first <= window.ended + JUST_AFTER && window.began <= again;
        let found = self.windows.iter().position(is_between);
        found.unwrap_or_else(|| self.injection_at(again))
    }

    pub fn accepted(&self) -> impl Iterator<Item = (u32, &Entry, Instant, &str)> {
        self.entries.iter().enumerate().filter_map(|(number, entry)| {
            let (at, id) = entry.accepted.as_ref()?;
            Some((number as u32, entry, *at, id.as_str()))
        })
    }
}

impl Verdict {
    /// Returns whether nothing is lost and all views agree.
    pub fn is_good(&self) -> bool {
        self.disagreements.is_empty() && self.lost.iter().all(|lost| *lost == 0)
    }
}

pub async fn check(ground: &mut Ground, windows: &[Window], consumer: Consumer) -> Result<Verdict, Failure> {
    until(LAST_ARRIVALS, ground, |ledger| ledger.missing_of(Instant::now()) == 0).await;
    let wanted = |ledger: &Ledger| {
        let numbers = 0..ledger.entries.len();
        let accepted = numbers.filter(|number| ledger.entries[*number].accepted.is_some());
        accepted.filter(|number| is_polled(*number as u32)).count()
    };
    until(LAST_POLLS, ground, |ledger| ledger.polled.len() >= wanted(ledger)).await;
    drop(consumer);
    let mut verdict = Verdict {
        database: ground.site.database.name().to_owned(),
        accepted: vec![0; windows.len()],
        lost: vec![0; windows.len()],
        late: vec![0; windows.len()],
        twice: vec![0; windows.len()],
        ..Verdict::default()
    };
    let facts = facts_of(ground, windows);
    judge_polls(&facts, ground, &mut verdict);
    history::judge(&facts, ground, &mut verdict).await?;
    ground.site.stop_processes().await?;
    judge_tables(&facts, ground).await?;
    let queued = ground.site.texts("select message_id from delivery").await?;
    judge_arrivals(&facts, ground, &queued, &mut verdict);
    verdict.disagreements = lock(&ground.ledger).take_complaints();
    Ok(verdict)
}

fn facts_of<'a>(ground: &Ground, windows: &'a [Window]) -> Facts<'a> {
    let entries = lock(&ground.ledger).entries.clone();
    let mut numbers = HashMap::new();
    for (number, entry) in entries.iter().enumerate() {
        if let Some((_, id)) = &entry.accepted {
            numbers.insert(id.clone(), number as u32);
        }
    }
    Facts {
        entries,
        windows,
        numbers,
    }
}

/// Waits until a condition holds, at most for `limit`.
async fn until(limit: Duration, ground: &Ground, holds: impl Fn(&Ledger) -> bool) {
    let deadline = Instant::now() + limit;
    while !holds(&lock(&ground.ledger)) && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// Counts what was accepted, what was lost and what came twice, and looks at the ids. `queued` are the ids of messages
/// that still wait in the queue: those are late, and not lost.
fn judge_arrivals(facts: &Facts, ground: &Ground, queued: &[String], verdict: &mut Verdict) {
    let mut ledger = lock(&ground.ledger);
    for (number, entry, at, id) in facts.accepted() {
        let injection = facts.injection_at(at);
        verdict.accepted[injection] += 1;
        verdict.arrivals += entry.arrivals.len();
        let mut missing = Vec::new();
        for endpoint in 0..ENDPOINTS {
            let wanted = is_wanted_by(number, endpoint);
            if wanted && entry.count(endpoint, Given::is_taken) == 0 {
                missing.push(endpoint);
            }
            if !wanted && entry.count(endpoint, |_| true) > 0 {
                ledger.complain("not wanted", format!("message {number}, {id}, at endpoint {endpoint}"));
            }
            let here = entry.arrivals.iter().filter(|arrival| arrival.endpoint == endpoint);
            let mut successes = here.filter(|arrival| arrival.given == Given::Success);
            if let Some(first) = successes.next() {
                for again in successes {
                    verdict.twice[facts.injection_between(first.at, again.at)] += 1;
                }
            }
        }
        if !missing.is_empty() {
            let is_queued = queued.iter().any(|message| message == id);
            let (count, what) = match is_queued {
                true => (&mut verdict.late[injection], "late"),
                false => (&mut verdict.lost[injection], "lost"),
            };
            *count += 1;
            ledger.complain(
                what,
                format!("message {number}, {id}, did not arrive at endpoints {missing:?}"),
            );
        }
        if let Some(other) = entry.arrivals.iter().find(|arrival| arrival.id != id) {
            ledger.complain(
                "other id",
                format!("message {number} was answered as {id} and arrived as {}", other.id),
            );
        }
    }
}

/// Compares what the polling consumer got with what was accepted: each message exactly once.
fn judge_polls(facts: &Facts, ground: &Ground, verdict: &mut Verdict) {
    let mut ledger = lock(&ground.ledger);
    let mut times: HashMap<u32, usize> = HashMap::new();
    for number in std::mem::take(&mut ledger.polled) {
        *times.entry(number).or_default() += 1;
        verdict.polled += 1;
    }
    for (number, _, _, id) in facts.accepted() {
        let (wanted, got) = (usize::from(is_polled(number)), times.remove(&number).unwrap_or(0));
        if wanted != got {
            ledger.complain(
                "polled",
                format!("message {number}, {id}, {got} times instead of {wanted}"),
            );
        }
    }
    for number in times.keys() {
        ledger.complain("polled", format!("message {number}, whose POST was never accepted"));
    }
}

/// Counts rows once no process runs: nothing is left in the queue, and each message is stored once.
async fn judge_tables(facts: &Facts<'_>, ground: &Ground) -> Result<(), Failure> {
    let accepted = facts.accepted();
    let (mut messages, mut pairs) = (0, 0);
    for (number, ..) in accepted {
        messages += 1;
        pairs += (0..ENDPOINTS)
            .filter(|endpoint| is_wanted_by(number, *endpoint))
            .count() as i64;
    }
    let expectations = [
        ("delivery", 0),
        ("delivery where owner is not null", 0),
        ("message", messages),
        ("delivery_result", pairs),
        ("delivery_result where state = 0", pairs),
    ];
    for (rows, expected) in expectations {
        let found = ground.site.number(&format!("select count(*) from {rows}")).await?;
        if found != expected {
            lock(&ground.ledger).complain("tables", format!("{found} rows of {rows}, and not {expected}"));
        }
    }
    Ok(())
}
