//! Compares the history with what arrived: attempts, the states of deliveries and statistics, as the API shows them.

use super::api;
use super::check::Facts;
use super::ground::Ground;
use super::ledger::{Entry, Given, lock};
use super::record::Verdict;
use super::traffic::{APP, ENDPOINTS, is_wanted_by};
use crate::Failure;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The longest time from an arrival until its outcome is stored, on a machine under load.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// The longest time until a receiver has read a request that was sent before a kill.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// What a killed process has not written of its statistics: those of ten seconds, and of the write under way.
const UNWRITTEN: Duration = Duration::from_secs(15);
/// Statistics are at most ten seconds late.
const STATISTICS_LATE: Duration = Duration::from_secs(15);
const QUEUE_EMPTY: Duration = Duration::from_secs(20);

/// Attempts of one message at one endpoint in the history.
#[derive(Clone, Copy, Default)]
struct Attempts {
    delivered: usize,
    failed: usize,
}

/// A message's number and an endpoint's.
type Pair = (u32, usize);

pub async fn judge(facts: &Facts<'_>, ground: &Ground, verdict: &mut Verdict) -> Result<(), Failure> {
    let address = ground.site.processes[0].address;
    judge_queue(address, ground).await?;
    judge_states(facts, address, ground).await?;
    let mut by_endpoint = Vec::new();
    let mut by_pair = HashMap::new();
    for (endpoint, id) in ground.site.endpoints.iter().enumerate() {
        let mut all = Attempts::default();
        let path = format!("/api/v1/app/{APP}/attempt/endpoint/{id}?limit=250&with_content=false");
        let take = |attempt: &Value| {
            let Some(number) = attempt["msgId"].as_str().and_then(|id| facts.numbers.get(id)) else {
                return lock(&ground.ledger).complain("unknown message", attempt.to_string());
            };
            let pair: &mut Attempts = by_pair.entry((*number, endpoint)).or_default();
            for sum in [pair, &mut all] {
                match attempt["status"].as_u64() {
                    Some(0) => sum.delivered += 1,
                    _ => sum.failed += 1,
                }
            }
        };
        api::read_all(address, &path, take).await?;
        verdict.attempts += all.delivered + all.failed;
        by_endpoint.push(all);
    }
    judge_attempts(facts, ground, &by_pair, verdict);
    judge_statistics(facts, ground, &by_endpoint, verdict).await
}

/// Waits until the API shows an empty queue.
async fn judge_queue(address: SocketAddr, ground: &Ground) -> Result<(), Failure> {
    let deadline = Instant::now() + QUEUE_EMPTY;
    loop {
        let queue = api::insist(address, "GET", "/api/v1/queue", &Value::Null).await?;
        let numbers = ["waiting", "due", "parked", "sending"].map(|name| queue[name].as_u64());
        if numbers == [Some(0); 4] {
            return Ok(());
        }
        if Instant::now() >= deadline {
            lock(&ground.ledger).complain("queue not empty", queue.to_string());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Reads the state of every delivery: each wanted one is there once, and delivered.
async fn judge_states(facts: &Facts<'_>, address: SocketAddr, ground: &Ground) -> Result<(), Failure> {
    let mut delivered: HashMap<Pair, usize> = HashMap::new();
    let take = |delivery: &Value| {
        let number = delivery["msgId"].as_str().and_then(|id| facts.numbers.get(id));
        let endpoint = ground
            .site
            .endpoints
            .iter()
            .position(|id| delivery["endpointId"] == id.as_str());
        match (number, endpoint, delivery["state"].as_str()) {
            (Some(number), Some(endpoint), Some("delivered")) => {
                *delivered.entry((*number, endpoint)).or_default() += 1;
            }
            _ => lock(&ground.ledger).complain("state", format!("not delivered, or not accepted: {delivery}")),
        }
    };
    api::read_all(address, &format!("/api/v1/app/{APP}/delivery?limit=250"), take).await?;
    for (number, _, _, id) in facts.accepted() {
        for endpoint in 0..ENDPOINTS {
            let (wanted, found) = (is_wanted_by(number, endpoint), delivered.get(&(number, endpoint)));
            if usize::from(wanted) != found.copied().unwrap_or(0) {
                let found = found.copied().unwrap_or(0);
                let complaint = format!("message {number}, {id}, is delivered {found} times at endpoint {endpoint}");
                lock(&ground.ledger).complain("state", complaint);
            }
        }
    }
    Ok(())
}

/// Compares attempts with arrivals. An arrival may lack its attempt if a process was killed before it could store it, an
/// attempt may have failed without a reason of the receiver's while a fault was under way, and nothing else.
fn judge_attempts(facts: &Facts, ground: &Ground, attempts: &HashMap<Pair, Attempts>, verdict: &mut Verdict) {
    let mut ledger = lock(&ground.ledger);
    for (number, entry, _, id) in facts.accepted() {
        for endpoint in (0..ENDPOINTS).filter(|endpoint| is_wanted_by(number, *endpoint)) {
            let Attempts { delivered, failed } = attempts.get(&(number, endpoint)).copied().unwrap_or_default();
            let arrived = entry.count(endpoint, |_| true);
            let taken = entry.count(endpoint, Given::is_taken);
            let refused = entry.count(endpoint, |given| given != Given::Success);
            let what = format!(
                "message {number}, {id}, at endpoint {endpoint}: {delivered} successes and {failed} failures in the \
                 history, {arrived} arrivals, {taken} of them taken"
            );
            if delivered == 0 || delivered > taken {
                ledger.complain("no true success", what.clone());
            }
            let missing = arrived.saturating_sub(delivered + failed);
            if missing > forgettable(facts, entry, endpoint) {
                ledger.complain("attempts missing", what.clone());
            }
            verdict.forgotten += missing;
            if failed > refused && !is_within_a_fault(facts, entry, endpoint) {
                ledger.complain("failed without a reason", what);
            }
        }
    }
}

/// Counts the arrivals just before a kill.
fn forgettable(facts: &Facts, entry: &Entry, endpoint: usize) -> usize {
    let kills = || facts.windows.iter().filter_map(|window| window.killed);
    let here = entry.arrivals.iter().filter(|arrival| arrival.endpoint == endpoint);
    here.filter(|arrival| kills().any(|kill| arrival.at <= kill + READ_WITHIN && kill <= arrival.at + SETTLED_WITHIN))
        .count()
}

/// Returns whether one of the arrivals was so close to a fault that the fault may have delayed its answer.
fn is_within_a_fault(facts: &Facts, entry: &Entry, endpoint: usize) -> bool {
    let mut here = entry.arrivals.iter().filter(|arrival| arrival.endpoint == endpoint);
    here.any(|arrival| {
        let until = arrival.at + SETTLED_WITHIN;
        facts
            .windows
            .iter()
            .any(|window| window.began <= until && arrival.at <= window.recovered)
    })
}

/// Compares the statistics with the attempts. They may lack what a killed process had not written, and never have more.
async fn judge_statistics(
    facts: &Facts<'_>,
    ground: &Ground,
    attempts: &[Attempts],
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let deadline = Instant::now() + STATISTICS_LATE;
    for (endpoint, id) in ground.site.endpoints.iter().enumerate() {
        let path = format!("/api/v1/stats/delivery?by=endpoint&app_id={APP}&endpoint_id={id}");
        let Attempts { delivered, failed } = attempts[endpoint];
        let lost = unwritten(facts, endpoint);
        loop {
            let page = ground.site.processes[0].get(&path).await?;
            let sums = ["delivered", "failed"].map(|name| page["data"][0][name].as_u64().unwrap_or(0) as usize);
            let counted = sums[0] + sums[1];
            let agrees = sums[0] <= delivered && sums[1] <= failed && counted + lost >= delivered + failed;
            if agrees || Instant::now() >= deadline {
                verdict.uncounted += (delivered + failed).saturating_sub(counted);
                if !agrees {
                    lock(&ground.ledger).complain(
                        "statistics",
                        format!(
                            "{sums:?} for endpoint {endpoint}; the history has {delivered} successes and {failed} \
                             failures, kills explain {lost}"
                        ),
                    );
                }
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

/// Counts the arrivals at the endpoint of which a killed process may not have written the statistics.
fn unwritten(facts: &Facts, endpoint: usize) -> usize {
    let kills: Vec<Instant> = facts.windows.iter().filter_map(|window| window.killed).collect();
    let arrivals = facts.entries.iter().flat_map(|entry| &entry.arrivals);
    let here = arrivals.filter(|arrival| arrival.endpoint == endpoint);
    here.filter(|arrival| {
        kills
            .iter()
            .any(|kill| arrival.at <= *kill + READ_WITHIN && *kill <= arrival.at + UNWRITTEN)
    })
    .count()
}
