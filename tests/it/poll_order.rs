//! Nothing is skipped: writers whose commits end in another order than they began, on several processes that may die, and
//! consumers of which each gets every message exactly once, in one order.
//!
//! `POSTRIDER_CRASH_ROUNDS=N` sends N times as many messages and kills N times as often as CI does.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postrider::api::ApiState;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::crash::{TOKEN, program};
use crate::harness::{Caller, DEADLINE, Kind, Patience, Proxy, Serving, Shape, TestDatabase, random, rows, within};

const WRITERS: usize = 8;

fn rounds() -> usize {
    std::env::var("POSTRIDER_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

/// How long what a process writes to Postgres is held back at most, in microseconds: as long as a commit may take.
const HELD: u64 = 30_000;

/// Lets each transaction that stores a message last up to 30 ms longer, at random, after it got its number.
async fn delay_commits(db: &TestDatabase) {
    let connection = db.connect().await;
    for sql in [
        "create function delay() returns trigger language plpgsql as \
         $$ begin perform pg_sleep(random() * 0.03); return null; end $$",
        "create trigger delay after insert on message for each statement execute function delay()",
    ] {
        connection.execute_unprepared(sql).await.expect(sql);
    }
    connection.close().await.expect("it closes");
}

/// Returns the ids of a page's messages.
fn ids(page: &Value) -> Vec<String> {
    let rows = page["data"].as_array().into_iter().flatten();
    rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

/// Asserts that each reader has read all messages once, and all readers in the same order.
fn assert_complete(read: &[Vec<String>], sent: &HashSet<String>) {
    for ids in read {
        let different: HashSet<_> = ids.iter().cloned().collect();
        assert_eq!(different.len(), ids.len(), "nothing twice");
        let missing: Vec<_> = sent.difference(&different).collect();
        assert!(
            missing.is_empty(),
            "{} of {} were skipped: {missing:?}",
            missing.len(),
            sent.len()
        );
        assert_eq!(ids, &read[0], "one order");
    }
}

/// Sends messages by eight writers through these processes, while `consumers` read. Returns what was sent, what each
/// consumer has read, and what a reader has read that goes on after the greatest id that it has seen.
async fn write_and_read(apis: &[Arc<Api>], each: usize) -> (HashSet<String>, Vec<Vec<String>>, HashSet<String>) {
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for name in ["one", "two", "three"] {
        let (api, over) = (apis[readers.len() % apis.len()].clone(), over.clone());
        readers.spawn(async move {
            let (mut read, mut iterator) = (Vec::new(), String::new());
            loop {
                let was_over = over.load(Ordering::SeqCst);
                let path = format!("/app/a/poller/p/consumer/{name}?limit={}{iterator}", 1 + random(40));
                let page = api.get(&path).await;
                let page = page.expect(200);
                read.extend(ids(page));
                iterator = format!("&iterator={}", page["iterator"].as_str().expect("an iterator"));
                if was_over && page["done"] == true && page["data"] == json!([]) {
                    return read;
                }
            }
        });
    }
    let (api, ended) = (apis[0].clone(), over.clone());
    let by_id = tokio::spawn(async move {
        let (mut read, mut last) = (HashSet::new(), String::new());
        loop {
            let was_over = ended.load(Ordering::SeqCst);
            let sql = format!("select id from message where id > '{last}' order by id limit 40");
            let found = rows(&api.rig.db, &sql).await;
            let found: Vec<String> = found.iter().map(|row| row.try_get("", "id").expect("an id")).collect();
            match found.last() {
                Some(newest) => last.clone_from(newest),
                None if was_over => return read,
                None => {}
            }
            read.extend(found);
        }
    });
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api = apis[writer % apis.len()].clone();
        writers.spawn(async move {
            let mut sent = Vec::new();
            for n in 0..each {
                let mut message = json!({"eventType": "t", "payload": {"n": n}});
                if random(3) == 0 {
                    message["eventId"] = json!(format!("{writer}-{n}"));
                }
                sent.push(api.post("/app/a/msg", message).await.field("id"));
            }
            sent
        });
    }
    let sent: HashSet<String> = writers.join_all().await.into_iter().flatten().collect();
    // Transactions of other tests on the same server hold polls back, but not for ever.
    within(DEADLINE, "all can be read", async || {
        let mut path = "/app/a/poller/p?limit=250".to_owned();
        let mut found = 0;
        loop {
            let page = apis[0].get(&path).await;
            found += ids(page.expect(200)).len();
            if page.json["done"] == true {
                return (found == sent.len()).then_some(());
            }
            path = format!("/app/a/poller/p?limit=250&iterator={}", page.field("iterator"));
        }
    })
    .await;
    over.store(true, Ordering::SeqCst);
    let read = readers.join_all().await;
    (sent, read, by_id.await.expect("no panic"))
}

both!(
    each_consumer_gets_every_message_once_in_one_order_however_commits_overtake_each_other,
    async |db| {
        let mut apis = vec![Arc::new(Api::on(db).await)];
        let mut proxies = Vec::new();
        apis[0].post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
        apis[0].post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
        if db.kind() == Kind::Postgres {
            delay_commits(db).await;
            let proxy = Proxy::to(db.url()).await;
            proxy.delay(HELD);
            let shape = Shape {
                url: Some(proxy.url(db.url())),
                ..Shape::default()
            };
            apis.push(Arc::new(Api::shaped(db, shape, ApiState::BODY_DEADLINE).await));
            proxies.push(proxy);
        }
        let each = 40 * rounds();
        let (sent, read, by_id) = write_and_read(&apis, each).await;
        assert_eq!(sent.len(), WRITERS * each);
        assert_complete(&read, &sent);
        let skipped = sent.difference(&by_id).count();
        println!("{} messages; a cursor over ids has skipped {skipped}", sent.len());
        if db.kind() == Kind::Postgres {
            assert!(
                skipped > 0,
                "the commits overtake each other, so that a cursor over ids skips messages"
            );
        }
    }
);

/// Returns one of the processes that serve now.
fn any(servers: &watch::Receiver<Vec<String>>) -> Option<String> {
    let all = servers.borrow();
    let number = usize::try_from(random(all.len().max(1) as u64)).expect("few servers");
    all.get(number).cloned()
}

/// Repeats a request until a process answers with 2xx, and returns the body.
async fn insist(caller: &Caller, servers: &watch::Receiver<Vec<String>>, path: &str, key: &str, body: &Value) -> Value {
    let mut patience = Patience::of(DEADLINE);
    loop {
        if let Some(server) = any(servers)
            && let Ok((200..300, body)) = caller.post(&server, path, key, body).await
        {
            return body;
        }
        assert!(!patience.is_over().await, "a process accepts a message");
    }
}

both!(
    nothing_is_skipped_or_read_twice_while_processes_are_killed_and_started_again,
    async |db| {
        let mut programs = vec![program(db)];
        let mut proxies = Vec::new();
        let mut serving = vec![programs[0].serve().await];
        let caller = Caller::new(TOKEN);
        caller
            .make(&serving[0].url(), "/app", json!({"name": "a", "uid": "a"}))
            .await;
        caller
            .make(&serving[0].url(), "/app/a/poller", json!({"uid": "p"}))
            .await;
        if db.kind() == Kind::Postgres {
            delay_commits(db).await;
            let proxy = Proxy::to(db.url()).await;
            proxy.delay(HELD);
            programs.push(program(db).env("DATABASE_URL", &proxy.url(db.url())));
            serving.push(programs[1].serve().await);
            proxies.push(proxy);
        }
        let servers = watch::Sender::new(serving.iter().map(Serving::url).collect::<Vec<_>>());
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (servers, over, sent, caller) = (servers.subscribe(), over.clone(), sent.clone(), caller.clone());
            writers.spawn(async move {
                let mut all = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let name = format!("{writer}-{}", all.len());
                    let message = json!({"eventType": "t", "payload": {"name": name}});
                    let accepted = insist(&caller, &servers, "/app/a/msg", &name, &message).await;
                    all.push(accepted["id"].as_str().expect("an id").to_owned());
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                all
            });
        }
        let complete = Arc::new(AtomicBool::new(false));
        let mut readers = JoinSet::new();
        for name in ["one", "two", "three"] {
            let (servers, complete, caller) = (servers.subscribe(), complete.clone(), caller.clone());
            readers.spawn(async move {
                let (mut read, mut iterator) = (Vec::new(), String::new());
                let mut patience = Patience::of(DEADLINE);
                loop {
                    let was_complete = complete.load(Ordering::SeqCst);
                    let path = format!("/app/a/poller/p/consumer/{name}?limit=50&wait=1{iterator}");
                    let page = match any(&servers) {
                        Some(server) => caller.try_get(&server, &path).await,
                        None => None,
                    };
                    let Some(page) = page else {
                        assert!(!patience.is_over().await, "a process answers");
                        continue;
                    };
                    patience = Patience::of(DEADLINE);
                    read.extend(ids(&page));
                    iterator = format!("&iterator={}", page["iterator"].as_str().expect("an iterator"));
                    if was_complete && page["done"] == true && page["data"] == json!([]) {
                        return read;
                    }
                }
            });
        }
        for _ in 0..3 * rounds() {
            let reached = sent.load(Ordering::SeqCst) + 60 + usize::try_from(random(60)).expect("few");
            within(DEADLINE, "messages are accepted", async || {
                (sent.load(Ordering::SeqCst) >= reached).then_some(())
            })
            .await;
            let victim = usize::try_from(random(serving.len() as u64)).expect("few");
            let mut killed = serving.remove(victim);
            servers.send_replace(serving.iter().map(Serving::url).collect());
            killed.signal("KILL");
            killed.end().await;
            drop(killed);
            let successor = programs.remove(victim);
            serving.push(successor.serve().await);
            programs.push(successor);
            servers.send_replace(serving.iter().map(Serving::url).collect());
        }
        over.store(true, Ordering::SeqCst);
        let accepted: HashSet<String> = writers.join_all().await.into_iter().flatten().collect();
        let connection = db.connect().await;
        let stored = rows(&connection, "select id from message").await;
        let stored: HashSet<String> = stored.iter().map(|row| row.try_get("", "id").expect("an id")).collect();
        assert!(accepted.is_subset(&stored));
        within(DEADLINE, "all can be read", async || {
            let sql = "select count(*) as n from poll_item";
            let kept: i64 = rows(&connection, sql).await[0].try_get("", "n").expect("a number");
            let page = caller.get(&serving[0].url(), "/app/a/poller/p/consumer").await;
            let waiting = page["data"].as_array()?.iter().all(|row| row["waiting"] == 0);
            (usize::try_from(kept) == Ok(stored.len()) && waiting).then_some(())
        })
        .await;
        complete.store(true, Ordering::SeqCst);
        let read = tokio::time::timeout(Duration::from_secs(60), readers.join_all())
            .await
            .expect("the readers end");
        println!("{} messages accepted, {} stored", accepted.len(), stored.len());
        assert_complete(&read, &stored);
    }
);
