//! Polls that wait: what wakes them, what they hold meanwhile, and when they end.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postrider::clock::Clock;
use postrider::store::{is_prepared, poll};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::Api;
use crate::crash::{TOKEN, program};
use crate::harness::{Caller, DEADLINE, Proxy, Shape, TestDatabase, recorded, within};
use crate::metrics;

/// Creates the application `a` with the poller `p`, on the system's clock, with a watch as a process has it.
async fn watched(db: &TestDatabase) -> (Api, DropGuard) {
    let shape = Shape {
        clock: Clock::system(),
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, postrider::api::ApiState::BODY_DEADLINE).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
    let ended = CancellationToken::new();
    tokio::spawn(poll::watch(api.rig.store.for_queue(), ended.clone()));
    (api, ended.drop_guard())
}

/// Waits until so many polls wait.
async fn waiting(api: &Api, count: usize) {
    within(DEADLINE, "polls wait", async || {
        (api.rig.store.waits().count() == count).then_some(())
    })
    .await;
}

fn count(page: &Value) -> usize {
    page["data"].as_array().expect("a page").len()
}

both!(
    a_poll_that_waits_returns_as_soon_as_a_message_is_committed,
    async |db| {
        let (api, _watch) = watched(db).await;
        let mut took = Vec::new();
        let mut path = "/app/a/poller/p?wait=25".to_owned();
        for n in 0..20 {
            let (page, sent_at) = tokio::join!(
                async {
                    let page = api.get(&path).await;
                    (page.expect(200).clone(), Instant::now())
                },
                async {
                    waiting(&api, 1).await;
                    let message = json!({"eventType": "t", "payload": {"n": n}});
                    api.post("/app/a/msg", message).await.expect(202);
                    Instant::now()
                }
            );
            let (page, read_at) = page;
            assert_eq!(count(&page), 1, "{page}");
            assert_eq!(page["data"][0]["payload"]["n"], n);
            took.push(read_at.saturating_duration_since(sent_at));
            path = format!(
                "/app/a/poller/p?wait=25&iterator={}",
                page["iterator"].as_str().unwrap()
            );
        }
        took.sort();
        println!(
            "from the sender's response to the poll's: median {:?}, longest {:?}",
            took[10], took[19]
        );
        assert!(
            took[10] < Duration::from_millis(900),
            "woken, and not found by the look of every second: {took:?}"
        );
    }
);

both!(
    a_poll_that_waits_in_vain_returns_an_empty_page_when_its_time_is_over,
    async |db| {
        let (api, _watch) = watched(db).await;
        let began = Instant::now();
        let page = api.get("/app/a/poller/p?wait=1").await;
        assert_eq!(count(page.expect(200)), 0);
        assert_eq!(page.json["done"], true);
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(990) && took < Duration::from_secs(20),
            "{took:?}"
        );
        api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
            .await
            .expect(202);
        let next = format!("/app/a/poller/p?wait=25&iterator={}", page.field("iterator"));
        assert_eq!(count(api.get(&next).await.expect(200)), 1);
        waiting(&api, 0).await;
    }
);

both!(
    a_consumer_waits_too_and_polls_that_want_nothing_of_it_wait_on,
    async |db| {
        let (api, _watch) = watched(db).await;
        let (got, none) = tokio::join!(api.get("/app/a/poller/p/consumer/c?wait=25"), async {
            tokio::join!(api.get("/app/a/poller/p?wait=2&event_type=other"), async {
                waiting(&api, 2).await;
                api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
                    .await
                    .expect(202);
            })
            .0
        });
        assert_eq!(count(got.expect(200)), 1);
        assert_eq!(count(none.expect(200)), 0);
    }
);

both!(
    a_poll_that_waits_ends_with_its_client_its_token_and_its_poller,
    async |db| {
        let (api, _watch) = watched(db).await;
        let hung_up = tokio::time::timeout(Duration::from_millis(50), api.get("/app/a/poller/p?wait=25"));
        assert!(hung_up.await.is_err());
        waiting(&api, 0).await;
        let made = api.post("/app/a/poller/p/token", json!({"name": "n"})).await;
        let token = made.field("token");
        let revoked = async {
            waiting(&api, 1).await;
            api.delete(&format!("/app/a/poller/p/token/{}", made.field("id")))
                .await
                .expect(204);
            api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
                .await
                .expect(202);
        };
        let (answer, ()) = tokio::join!(api.call(&token, "GET", "/app/a/poller/p?wait=25", &[], ""), revoked);
        answer.refused(401, "authentication_failed");
        let page = api.get("/app/a/poller/p").await.field("iterator");
        let deleted = async {
            waiting(&api, 1).await;
            api.delete("/app/a/poller/p").await.expect(204);
        };
        let path = format!("/app/a/poller/p?wait=25&iterator={page}");
        let (answer, ()) = tokio::join!(api.get(&path), deleted);
        answer.refused(404, "not_found");
    }
);

both!(
    a_poll_that_waits_ends_with_the_right_of_its_token_to_move_consumers,
    async |db| {
        let (api, _watch) = watched(db).await;
        let made = api.post("/token", json!({"name": "n", "role": "operator"})).await;
        let (id, token) = (made.field("id"), made.field("token"));
        let lowered = async {
            waiting(&api, 1).await;
            api.patch(&format!("/token/{id}"), json!({"role": "viewer"}))
                .await
                .expect(200);
            api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
                .await
                .expect(202);
        };
        let path = "/app/a/poller/p/consumer/c?wait=25";
        let (answer, ()) = tokio::join!(api.call(&token, "GET", path, &[], ""), lowered);
        answer.expect(403);
        let path = "/app/a/poller/p?wait=25";
        assert_eq!(count(api.call(&token, "GET", path, &[], "").await.expect(200)), 1);
    }
);

both!(
    a_filtered_poll_on_a_busy_poller_looks_ten_times_a_second_at_most,
    async |db| {
        let (took, statements) = recorded(async || {
            let (api, _watch) = watched(db).await;
            let began = Instant::now();
            let poll = api.get("/app/a/poller/p?wait=2&event_type=other");
            tokio::join!(
                async {
                    assert_eq!(count(poll.await.expect(200)), 0);
                },
                async {
                    waiting(&api, 1).await;
                    while api.rig.store.waits().count() > 0 {
                        api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
                            .await
                            .expect(202);
                    }
                }
            );
            began.elapsed()
        });
        let looks = statements.iter().filter(|sql| sql.contains("as is_wanted")).count();
        assert!(looks >= 2, "it looks");
        assert!(
            looks as f64 <= 10.0 * took.as_secs_f64() + 5.0,
            "{looks} looks in {took:?}"
        );
    }
);

both!(a_stop_ends_all_waits_at_once_with_an_empty_page, async |db| {
    let (api, _watch) = watched(db).await;
    let began = Instant::now();
    let polls = join_all((0..50).map(|_| api.get("/app/a/poller/p?wait=25")));
    let (pages, ()) = tokio::join!(polls, async {
        waiting(&api, 50).await;
        api.rig.store.waits().close();
    });
    for page in pages {
        assert_eq!(count(page.expect(200)), 0);
        assert!(!page.field("iterator").is_empty());
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(
        count(api.get("/app/a/poller/p?wait=25").await.expect(200)),
        0,
        "no poll waits any more"
    );
});

both!(
    a_customer_with_as_many_polls_as_it_may_have_does_not_delay_another,
    async |db| {
        let (api, _watch) = watched(db).await;
        api.post("/app", json!({"name": "b", "uid": "b"})).await.expect(201);
        api.post("/app/b/poller", json!({"uid": "p"})).await.expect(201);
        let tokens = [api.token_of("a").await, api.token_of("b").await];
        let polls = join_all((0..200).map(|_| api.call(&tokens[0], "GET", "/app/a/poller/p?wait=25", &[], "")));
        let ((), pages) = tokio::join!(
            async {
                waiting(&api, 200).await;
                let one_more = api.call(&tokens[0], "GET", "/app/a/poller/p?wait=25", &[], "").await;
                one_more.refused(503, "unavailable");
                assert_eq!(one_more.headers["retry-after"], "1");
                let without = api.call(&tokens[0], "GET", "/app/a/poller/p", &[], "").await;
                without.expect(200);
                let other = async {
                    let page = api.call(&tokens[1], "GET", "/app/b/poller/p?wait=25", &[], "").await;
                    assert_eq!(count(page.expect(200)), 1);
                };
                tokio::join!(other, async {
                    waiting(&api, 201).await;
                    api.post("/app/b/msg", json!({"eventType": "t", "payload": {}}))
                        .await
                        .expect(202);
                });
                api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
                    .await
                    .expect(202);
            },
            polls
        );
        for page in pages {
            assert_eq!(count(page.expect(200)), 1, "all are woken at once, and none is refused");
        }
    }
);

postgres_only!(
    two_thousand_polls_that_wait_hold_no_connection_and_cost_a_statement_a_second,
    async |db| {
        let (took, statements) = recorded(async || two_thousand_wait(db).await);
        let marks: Vec<_> = (0..statements.len())
            .filter(|at| statements[*at].contains(MARK))
            .collect();
        let cost = marks[1] - marks[0] - 1;
        println!("{cost} statements in {took:?}");
        assert!(
            cost as f64 <= took.as_secs_f64() + 2.0,
            "{:?}",
            &statements[marks[0]..=marks[1]]
        );
    }
);

/// A part of the statement that marks the beginning and the end of a time in the record of statements.
const MARK: &str = "select 1 from installation";

/// Lets 2,000 polls wait, of 20 applications, and returns the time between the marks.
async fn two_thousand_wait(db: &TestDatabase) -> Duration {
    let (api, _watch) = watched(db).await;
    let mut paths = Vec::new();
    for number in 0..20 {
        let name = format!("app{number}");
        api.post("/app", json!({"name": name, "uid": name})).await.expect(201);
        api.post(&format!("/app/{name}/poller"), json!({"uid": "p"}))
            .await
            .expect(201);
        paths.push((api.token_of(&name).await, format!("/app/{name}/poller/p?wait=25")));
    }
    let api = std::sync::Arc::new(api);
    let before = memory();
    let mut polls = JoinSet::new();
    for number in 0..2_000 {
        let (own, (token, path)) = (api.clone(), paths[number % paths.len()].clone());
        polls.spawn(async move { own.call(&token, "GET", &path, &[], "").await });
        if number % 20 == 19 {
            waiting(&api, number + 1).await;
        }
    }
    let store = &api.rig.store;
    let used = |name: &str| {
        let pools = store.connections();
        pools.iter().find(|pool| pool.pool == name).map(|pool| pool.in_use)
    };
    within(DEADLINE, "no connection is held", async || {
        (used("api") == Some(0) && used("queue") == Some(0)).then_some(())
    })
    .await;
    let grown = memory().saturating_sub(before);
    println!("2,000 polls that wait take {grown} kB");
    // Without the record of statements, which holds a copy of each, it is about 28,000 kB.
    assert!(grown < 64_000, "{grown} kB");
    let began = Instant::now();
    is_prepared(store).await.expect("a mark");
    within(DEADLINE, "some seconds pass", async || {
        (began.elapsed() >= Duration::from_secs(4)).then_some(())
    })
    .await;
    is_prepared(store).await.expect("a mark");
    let took = began.elapsed();
    let page = metrics::page(&api.rig).await;
    assert_eq!(metrics::value(&page, "postrider_polls_waiting"), 2_000.0);
    assert!(metrics::value(&page, "postrider_poll_delay_seconds") >= 0.0);
    store.waits().close();
    while let Some(answer) = polls.join_next().await {
        assert_eq!(count(answer.expect("no panic").expect(200)), 0);
    }
    took
}

/// Returns the memory of this process that is in use, in kB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}

postgres_only!(a_poll_wakes_by_the_commit_of_another_process, async |db| {
    let program = program(db);
    let servers = [program.serve().await, program.serve().await];
    let caller = Caller::new(TOKEN);
    caller
        .make(&servers[0].url(), "/app", json!({"name": "a", "uid": "a"}))
        .await;
    caller
        .make(&servers[0].url(), "/app/a/poller", json!({"uid": "p"}))
        .await;
    let mut took = Vec::new();
    let mut iterator = String::new();
    for n in 0..20 {
        let path = format!("/app/a/poller/p?wait=8{iterator}");
        let (server, reader) = (servers[0].url(), caller.clone());
        let reads = tokio::spawn(async move {
            let page = reader.get(&server, &path).await;
            (page, Instant::now())
        });
        within(DEADLINE, "the poll waits", async || {
            let metrics = caller.get(&servers[0].url(), "/app/a/poller/p/settings").await;
            metrics["id"].is_string().then_some(())
        })
        .await;
        let message = json!({"eventType": "t", "payload": {"n": n}});
        caller.make(&servers[1].url(), "/app/a/msg", message).await;
        let sent_at = Instant::now();
        let (page, read_at) = reads.await.expect("no panic");
        assert_eq!(page["data"][0]["payload"]["n"], n, "{page}");
        took.push(read_at.saturating_duration_since(sent_at));
        iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
    }
    took.sort();
    println!(
        "from the sender's response to the poll's at another process: median {:?}, longest {:?}",
        took[10], took[19]
    );
    assert!(took[10] < Duration::from_millis(900), "{took:?}");
});

both!(sigterm_ends_a_poll_that_waits_with_an_empty_page, async |db| {
    let mut server = program(db).serve().await;
    let caller = Caller::new(TOKEN);
    caller
        .make(&server.url(), "/app", json!({"name": "a", "uid": "a"}))
        .await;
    caller.make(&server.url(), "/app/a/poller", json!({"uid": "p"})).await;
    let (url, reader) = (server.url(), caller.clone());
    let began = Instant::now();
    let poll = tokio::spawn(async move { reader.get(&url, "/app/a/poller/p/consumer/c?wait=9").await });
    within(DEADLINE, "the consumer is there", async || {
        let page = caller.get(&server.url(), "/app/a/poller/p/consumer").await;
        (count(&page) == 1).then_some(())
    })
    .await;
    assert_eq!(server.stop().await, Some(0));
    let page = poll.await.expect("no panic");
    assert_eq!(count(&page), 0, "{page}");
    assert!(page["iterator"].is_string());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
});

postgres_only!(a_poll_waits_no_longer_than_an_older_transaction_does, async |db| {
    let (api, _watch) = watched(db).await;
    let connection = db.connect().await;
    let open = connection.begin().await.expect("a transaction");
    open.execute_unprepared("select pg_current_xact_id()")
        .await
        .expect("a number");
    let (page, read_at, ended_at) = {
        let poll = async {
            let page = api.get("/app/a/poller/p?wait=25").await;
            (page, Instant::now())
        };
        let write = async {
            waiting(&api, 1).await;
            api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
                .await
                .expect(202);
            let now = api.get("/app/a/poller/p").await;
            assert_eq!(count(now.expect(200)), 0, "an older transaction is open");
            open.commit().await.expect("a commit");
            Instant::now()
        };
        let ((page, read_at), ended_at) = tokio::join!(poll, write);
        (page, read_at, ended_at)
    };
    assert_eq!(count(page.expect(200)), 1);
    assert!(read_at.saturating_duration_since(ended_at) < Duration::from_secs(20));
});

postgres_only!(polls_are_told_of_messages_whose_commit_was_found_later, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let shape = Shape {
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, postrider::api::ApiState::BODY_DEADLINE).await;
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    api.post("/app/a/poller", json!({"uid": "p"})).await.expect(201);
    let told = async || {
        let told = tokio::time::timeout(DEADLINE, api.rig.store.waits().announced()).await;
        told.expect("the poller is announced").len()
    };
    proxy.lose_next_batch();
    api.post("/app/a/msg", json!({"eventType": "t", "payload": {}}))
        .await
        .expect(202);
    proxy.batch_lost().await;
    assert_eq!(told().await, 1);
    proxy.lose_next_commit();
    api.post("/app/a/msg", json!({"eventType": "t", "eventId": "e", "payload": {}}))
        .await
        .expect(202);
    proxy.commit_lost().await;
    assert_eq!(told().await, 1);
    assert_eq!(api.rig.count("poll_item").await, 2);
});
