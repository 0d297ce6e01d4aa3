//! Reads the poller as a consumer whose place the server keeps, and notes the order of what it gets.
//!
//! It goes on from the iterator of its last page, also after a call that failed, and asks the processes in turn. So each
//! message must come exactly once.

use super::api;
use super::ledger::{Shared, lock};
use super::site::POLLER;
use super::traffic::{APP, number_in};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

const PAUSE: Duration = Duration::from_millis(200);

/// The consumer, which ends when this is dropped.
pub struct Consumer(#[expect(dead_code, reason = "holds the task")] JoinSet<()>);

impl Consumer {
    pub fn start(ledger: &Shared, processes: Vec<SocketAddr>) -> Self {
        let mut task = JoinSet::new();
        let ledger = Shared::clone(ledger);
        task.spawn(async move {
            let mut iterator: Option<String> = None;
            for process in processes.iter().cycle() {
                let from = iterator
                    .as_ref()
                    .map_or(String::new(), |place| format!("&iterator={place}"));
                let path = format!("/api/v1/app/{APP}/poller/{POLLER}/consumer/importer?limit=250&wait=1{from}");
                match api::call(*process, "GET", &path, "").await {
                    Ok((200, page)) => iterator = take(&ledger, &page).or(iterator),
                    Ok((503 | 429, _)) | Err(_) => tokio::time::sleep(PAUSE).await,
                    Ok((status, answer)) => {
                        lock(&ledger).complain("unexpected answer", format!("a poll: {status} {answer}"));
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        Self(task)
    }
}

/// Notes the messages of a page, and returns the iterator that follows it.
fn take(ledger: &Shared, page: &Value) -> Option<String> {
    let mut ledger = lock(ledger);
    for message in page["data"].as_array().into_iter().flatten() {
        match number_in(message["payload"].to_string().as_bytes()) {
            Some(number) => ledger.polled.push(number),
            None => ledger.complain("no number", format!("a polled message: {message}")),
        }
    }
    if page["restarted"] == Value::Bool(true) {
        ledger.complain("place lost", "a poll was restarted".to_owned());
    }
    page["iterator"].as_str().map(str::to_owned)
}
