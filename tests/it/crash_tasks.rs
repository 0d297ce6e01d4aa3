//! The real binary under `kill -9` while it works on a background task: each message is queued once, and only
//! deliveries that were in flight at a kill arrive twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postrider::clock::Clock;
use sea_orm::DatabaseConnection;
use serde_json::json;
use tokio::task::JoinSet;

use crate::crash::{TOKEN, count, message, program, subscribe};
use crate::harness::{
    Answer, Caller, DEADLINE, Patience, Program, Receiver, Serving, TestDatabase, random, rows, within,
};

const MESSAGES: usize = 1_000;
const SENDERS: usize = 16;
/// The points at which the process dies, one after the other: before and after a step is durable, and with sent
/// messages that are not settled.
const POINTS: [&str; 4] = [
    "task.before_commit:3",
    "task.after_commit:2",
    "sent.before_settle:5",
    "settle.before_commit:7",
];

/// Sends a thousand messages, both attempts of which fail.
async fn a_thousand_failed(db: &TestDatabase, program: &Program, receiver: &Receiver) {
    receiver.answer(Answer::status(500));
    let mut serving = program.serve().await;
    subscribe(&serving.url(), receiver, 1).await;
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (caller, server) = (Caller::new(TOKEN), serving.url());
        senders.spawn(async move {
            for number in (sender..MESSAGES).step_by(SENDERS) {
                caller.make(&server, "/app/shop/msg", message(number)).await;
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended.expect("no sender panics");
    }
    let connection = db.connect().await;
    // The failing endpoint gets one attempt at a time. The deadline begins again whenever a delivery ends.
    let (mut left, mut patience) = (i64::MAX, Patience::of(DEADLINE));
    while left > 0 {
        assert!(!patience.is_over().await, "all attempts fail");
        let now = count(&connection, "delivery").await;
        if now < left {
            (left, patience) = (now, Patience::of(DEADLINE));
        }
    }
    let failed = count(&connection, "delivery_result where state = 2").await;
    assert_eq!((failed, receiver.count()), (MESSAGES as i64, MESSAGES * 2));
    connection.close().await.expect("the connection closes");
    assert_eq!(serving.stop().await, Some(0), "{}", serving.stderr());
}

/// Returns the messages that a dead process has left leased.
async fn in_flight(db: &TestDatabase) -> HashSet<String> {
    let connection = db.connect().await;
    let held = rows(&connection, "select message_id from delivery where owner is not null").await;
    let ids = held.iter().map(|row| row.try_get("", "message_id").expect("a text"));
    let ids = ids.collect();
    connection.close().await.expect("the connection closes");
    ids
}

/// Starts a recover of all messages that failed at the only endpoint.
async fn recover(server: &Serving, connection: &DatabaseConnection) {
    let found = rows(connection, "select id from endpoint").await;
    let endpoint: String = found[0].try_get("", "id").expect("a text");
    let since = Clock::system().now().minus(Duration::from_secs(3600));
    let window = json!({"since": since.to_rfc3339()});
    let path = format!("/app/shop/endpoint/{endpoint}/recover");
    Caller::new(TOKEN).make(&server.url(), &path, window).await;
}

/// Returns the number of arrivals of each message after the first `before` requests.
fn arrivals(receiver: &Receiver, before: usize) -> HashMap<String, usize> {
    let mut by_message = HashMap::new();
    for arrival in receiver.arrivals().iter().skip(before) {
        *by_message.entry(arrival.message_id().to_owned()).or_default() += 1;
    }
    by_message
}

both!(
    recover_of_1000_failed_messages_queues_each_once_although_the_process_is_killed,
    async |db| {
        let receiver = Receiver::start().await;
        let program = program(db).env("POSTRIDER_RETRY_SCHEDULE", "1");
        a_thousand_failed(db, &program, &receiver).await;
        let before = receiver.count();
        receiver.answer(Answer::ok().after(Duration::from_millis(3)));

        let mut held: HashSet<String> = HashSet::new();
        for (turn, point) in POINTS.into_iter().enumerate() {
            let mut serving = program.clone().env("POSTRIDER_CRASH_POINT", point).serve().await;
            if turn == 0 {
                let connection = db.connect().await;
                recover(&serving, &connection).await;
                connection.close().await.expect("the connection closes");
            }
            assert_eq!(
                serving.end().await,
                None,
                "the process died at {point}: {}",
                serving.stderr()
            );
            held.extend(in_flight(db).await);
        }
        let mut serving = program.serve().await;
        receiver.wait_for(receiver.count() + random(100) as usize).await;
        serving.signal("KILL");
        serving.end().await;
        held.extend(in_flight(db).await);

        let mut serving = program.serve().await;
        let connection = db.connect().await;
        within(DEADLINE, "the task is finished and everything is sent", async || {
            let running = count(&connection, "background_task where status = 0").await;
            (running == 0 && count(&connection, "delivery").await == 0).then_some(())
        })
        .await;
        let arrived = arrivals(&receiver, before);
        let twice = arrived.values().filter(|times| **times > 1).count();
        println!(
            "{} messages arrived, {twice} of them more than once, {} in flight at kills",
            arrived.len(),
            held.len()
        );
        assert_eq!(arrived.len(), MESSAGES, "every message arrived");
        for (id, times) in &arrived {
            assert!(
                *times == 1 || held.contains(id),
                "{id} arrived {times} times and was not in flight at a kill"
            );
        }
        let queued = "background_task where status = 1 and queued = 1000 and looked = 2000";
        assert_eq!(count(&connection, queued).await, 1, "each message was queued once");
        let delivered = count(&connection, "delivery_result where state = 0").await;
        assert_eq!(delivered, MESSAGES as i64);
        assert_eq!(serving.stop().await, Some(0), "{}", serving.stderr());
    }
);
