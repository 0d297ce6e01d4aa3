//! Acceptance under trouble: a message that was accepted is durable and stored once, whatever else was in its batch and
//! whatever becomes of the connection, the caller or the database.

use std::time::Duration;

use futures_util::future::join_all;
use postrider::error::{Kind as ErrorKind, Result};
use postrider::slots::Caps;
use postrider::store::idempotency::Key;
use postrider::store::intake::{Accepted, NewMessage};
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};

use crate::harness::{DEADLINE, Kind, Proxy, Receiver, Rig, Shape, TestDatabase, recorded, within};

fn key(name: &str) -> Option<Key> {
    Some(Key {
        scope: "tok_1".to_owned(),
        key: name.to_owned(),
        body_hash: None,
    })
}

/// Keeps the intake's workers busy, so that all messages that come meanwhile form one batch. Other writes wait too.
pub enum Gate {
    Turn(Box<postrider::store::Tx>),
    Lock(DatabaseTransaction),
}

impl Gate {
    pub async fn close(db: &TestDatabase, rig: &Rig) -> Self {
        match db.kind() {
            Kind::Sqlite => Self::Turn(Box::new(rig.store.begin().await.expect("the turn is free"))),
            Kind::Postgres => Self::Lock(lock(db, "application").await),
        }
    }

    pub async fn open(self) {
        match self {
            Self::Turn(turn) => drop(turn),
            Self::Lock(lock) => lock.commit().await.expect("the lock ends"),
        }
    }
}

/// Locks `table` against all reads and writes until the returned transaction ends.
pub async fn lock(db: &TestDatabase, table: &str) -> DatabaseTransaction {
    let transaction = db.connect().await.begin().await.expect("a transaction");
    let sql = format!("lock table {table} in access exclusive mode");
    transaction.execute_unprepared(&sql).await.expect("the lock");
    transaction
}

/// Waits until at least `count` connections wait for a lock.
pub async fn wait_for_blocked(rig: &Rig, count: i64) {
    within(DEADLINE, "statements wait for the lock", async || {
        let waiting = rig
            .count("pg_locks where not granted and database = (select oid from pg_database where datname = current_database())")
            .await;
        (waiting >= count).then_some(())
    })
    .await;
}

/// Waits until so many writes are under way that a [`Gate`] holds up. What is accepted from then on is not in the batches
/// among them.
pub async fn wait_for_busy(db: &TestDatabase, rig: &Rig, writes: i64) {
    match db.kind() {
        Kind::Postgres => wait_for_blocked(rig, writes).await,
        Kind::Sqlite => {
            within(DEADLINE, "a write waits for its turn", async || {
                (rig.store.metrics().database_waiting.get() >= writes).then_some(())
            })
            .await;
        }
    }
}

/// Polls a future once and asserts that it is pending.
macro_rules! poll_once {
    ($future:expr) => {
        assert!(
            tokio::time::timeout(Duration::ZERO, &mut $future).await.is_err(),
            "the future is pending"
        )
    };
}

/// Returns how many batches the intake has in flight at most.
fn workers(db: &TestDatabase) -> i64 {
    match db.kind() {
        Kind::Postgres => 2,
        Kind::Sqlite => 1,
    }
}

/// Accepts `messages` in one batch.
async fn in_one_batch(db: &TestDatabase, rig: &Rig, messages: Vec<NewMessage>) -> Vec<Result<Accepted>> {
    let gate = Gate::close(db, rig).await;
    // One message for each worker to be busy with, for an application that does not exist.
    let mut busy = Vec::new();
    for worker in 1..=workers(db) {
        let mut accepting = Box::pin(rig.intake.accept(rig.message("app_none", "{}")));
        poll_once!(accepting);
        busy.push(accepting);
        wait_for_busy(db, rig, worker).await;
    }
    let mut answers = Box::pin(join_all(messages.into_iter().map(|message| rig.intake.accept(message))));
    poll_once!(answers);
    gate.open().await;
    answers.await
}

postgres_only!(
    a_commit_whose_answer_is_lost_is_replayed_with_the_same_ids,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            url: Some(proxy.url(db.url())),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let message = NewMessage {
            key: key("k"),
            event_id: Some("event-1".to_owned()),
            ..rig.message(&app, "{}")
        };
        proxy.lose_next_commit();
        let accepted = rig
            .intake
            .accept(message.clone())
            .await
            .expect("the message is accepted");
        proxy.commit_lost().await;
        assert!(!accepted.replayed, "the stored message is the caller's own");
        for table in ["message", "message_content", "delivery", "idempotency"] {
            assert_eq!(rig.count(table).await, 1, "{table}");
        }
        let again = rig.intake.accept(message).await.expect("a repeat is answered");
        assert_eq!((again.message_id, again.replayed), (accepted.message_id.clone(), true));
        assert_eq!(rig.drain().await, 1, "sent at once, not when the lost lease ends");
        assert_eq!(receiver.arrivals()[0].message_id(), accepted.message_id);
        assert_eq!(receiver.count(), 1);
    }
);

postgres_only!(
    a_batch_of_one_statement_whose_answer_is_lost_is_found_and_sent_once,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            url: Some(proxy.url(db.url())),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        proxy.lose_next_batch();
        let accepted = rig.accept(&app, "{}").await;
        proxy.batch_lost().await;
        for table in ["message", "message_content", "delivery"] {
            assert_eq!(rig.count(table).await, 1, "{table}");
        }
        assert_eq!(rig.drain().await, 1, "sent at once, not when the lost lease ends");
        assert_eq!(receiver.arrivals()[0].message_id(), accepted.message_id);
        assert_eq!(receiver.count(), 1);
    }
);

both!(a_replayed_key_among_new_ones_keeps_none_of_them_back, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let with = |name: &str| NewMessage {
        key: key(name),
        ..rig.message(&app, "{}")
    };
    let first = rig.intake.accept(with("old")).await.expect("accepted");
    let answers = in_one_batch(db, &rig, vec![with("new"), with("old"), with("newer")]).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("accepted")).collect();
    assert_eq!(
        answers.iter().map(|answer| answer.replayed).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(answers[1].message_id, first.message_id);
    assert_eq!(
        rig.drain().await,
        3,
        "each is sent once, and none only when a lease ends"
    );
    assert_eq!((rig.count("message").await, rig.count("idempotency").await), (3, 3));
    assert_eq!(receiver.count(), 3);
});

both!(the_same_key_twice_in_one_batch_is_one_message, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let with = |name: &str, body: &str| NewMessage {
        key: key(name),
        ..rig.message(&app, body)
    };
    let batch = vec![with("k", "{}"), with("other", "{}"), with("k", "{}"), with("k", "{}")];
    let answers: Vec<_> = in_one_batch(db, &rig, batch)
        .await
        .into_iter()
        .map(|answer| answer.expect("accepted"))
        .collect();
    let first = &answers[0];
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.message_id == first.message_id)
            .count(),
        3
    );
    let replayed: Vec<_> = answers.iter().map(|answer| answer.replayed).collect();
    assert_eq!(replayed, [false, false, true, true]);
    assert_eq!(rig.count("message").await, 2);
    assert_eq!(rig.count("idempotency").await, 2);
});

both!(a_key_with_another_message_is_refused_and_leaves_the_first, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let first = || NewMessage {
        key: key("k"),
        channels: vec!["c".to_owned()],
        ..rig.message(&app, r#"{"n":"ü"}"#)
    };
    let other_body = || NewMessage {
        body: r#"{"n":2}"#.to_owned(),
        ..first()
    };
    let batch = vec![first(), other_body(), rig.message(&app, "{}"), first()];
    let answers = in_one_batch(db, &rig, batch).await;
    let refused = answers.iter().map(|answer| answer.as_ref().err().map(|err| err.kind));
    let conflict = Some(ErrorKind::Conflict);
    assert_eq!(refused.collect::<Vec<_>>(), [None, conflict, None, None]);
    let others = [
        other_body(),
        NewMessage {
            event_type: "other".to_owned(),
            ..first()
        },
        NewMessage {
            event_id: Some("e".to_owned()),
            ..first()
        },
        NewMessage {
            channels: Vec::new(),
            ..first()
        },
        NewMessage {
            content_type: Some("text/plain".to_owned()),
            ..first()
        },
        NewMessage {
            retention: Duration::from_secs(86_400),
            ..first()
        },
    ];
    for other in others {
        let refused = rig.intake.accept(other).await.expect_err("this is another message");
        assert_eq!(refused.kind, ErrorKind::Conflict);
    }
    rig.sql("delete from message_content", []).await;
    let gone = rig.intake.accept(other_body()).await;
    assert!(
        gone.expect("a removed payload counts as equal to every payload")
            .replayed
    );
    assert_eq!((rig.count("message").await, rig.count("idempotency").await), (2, 1));
});

both!(a_replay_tells_when_the_message_was_stored, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let message = NewMessage {
        key: key("k"),
        ..rig.message(&app, "{}")
    };
    let first = rig.intake.accept(message.clone()).await.expect("accepted");
    rig.advance(3_600);
    let again = rig.intake.accept(message).await.expect("accepted");
    assert_eq!(again.created_at, first.created_at);
    assert_eq!(again.message_id, first.message_id);
});

both!(an_expired_key_counts_as_absent, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let message = NewMessage {
        key: key("k"),
        ..rig.message(&app, "{}")
    };
    let first = rig.intake.accept(message.clone()).await.expect("accepted");
    rig.advance(12 * 3_600);
    let second = rig.intake.accept(message.clone()).await.expect("accepted");
    assert_ne!(first.message_id, second.message_id);
    let third = rig.intake.accept(message).await.expect("accepted");
    assert_eq!((third.message_id, third.replayed), (second.message_id, true));
});

both!(a_taken_event_id_spoils_no_other_member_of_its_batch, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let event = |id: &str, name: &str| NewMessage {
        event_id: Some(id.to_owned()),
        key: key(name),
        ..rig.message(&app, "{}")
    };
    rig.intake.accept(event("taken", "k0")).await.expect("accepted");
    let batch = vec![
        event("free-1", "k1"),
        event("taken", "k2"),
        event("free-2", "k3"),
        event("free-2", "k4"),
        rig.message("app_unknown", "{}"),
    ];
    let answers = in_one_batch(db, &rig, batch).await;
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|err| err.kind))
        .collect();
    assert_eq!(kinds[..2], [None, Some(ErrorKind::Conflict)]);
    assert_eq!(
        kinds[2..4]
            .iter()
            .filter(|kind| **kind == Some(ErrorKind::Conflict))
            .count(),
        1,
        "one of two messages in a batch gets the event id"
    );
    assert_eq!(kinds[4], Some(ErrorKind::NotFound));
    assert_eq!(rig.count("message").await, 3);
    assert_eq!(rig.count("message_content").await, 3);
    assert_eq!(
        rig.count("idempotency").await,
        3,
        "a refused request leaves no key behind"
    );
    let repeated = rig.intake.accept(event("free-3", "k2")).await.expect("the key is free");
    assert!(!repeated.replayed);
});

both!(an_event_id_that_has_ended_is_taken_by_one_of_its_batch, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let event = |name: &str| NewMessage {
        event_id: Some("e".to_owned()),
        key: key(name),
        ..rig.message(&app, "{}")
    };
    rig.intake.accept(event("k0")).await.expect("accepted");
    rig.advance(7 * 86_400);
    let batch = vec![event("k1"), rig.message(&app, "{}"), event("k2")];
    let answers = in_one_batch(db, &rig, batch).await;
    assert!(answers[1].is_ok());
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "{answers:?}");
    let refused = answers
        .iter()
        .find_map(|answer| answer.as_ref().err())
        .expect("one is refused");
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert_eq!(rig.count("message").await, 3);
    assert_eq!(
        rig.count("idempotency").await,
        2,
        "a refused request leaves no key behind"
    );
    assert_eq!(rig.count("taken_event_id").await, 1);
});

postgres_only!(of_two_processes_that_take_an_event_id_one_wins, async |db| {
    let a = Rig::on(db).await;
    let b = Rig::on(db).await;
    let app = a.application("a").await;
    for round in 0..20 {
        let message = || NewMessage {
            event_id: Some(format!("e{round}")),
            ..a.message(&app, "{}")
        };
        let (first, second) = tokio::join!(a.intake.accept(message()), b.intake.accept(message()));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let refused = first.err().or(second.err()).expect("one is refused");
        assert_eq!(refused.kind, ErrorKind::Conflict);
    }
    assert_eq!(a.count("message").await, 20);
});

both!(a_batch_that_fails_is_stored_member_by_member, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    rig.refuse(db, "message", "event_type = 'bad'").await;
    let bad = NewMessage {
        event_type: "bad".to_owned(),
        ..rig.message(&app, "{}")
    };
    let batch = vec![rig.message(&app, "{}"), bad, rig.message(&app, "{}")];
    let answers = in_one_batch(db, &rig, batch).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(answers[1].as_ref().map_err(|err| err.kind), Err(ErrorKind::Internal));
    assert_eq!(rig.count("message").await, 2);
});

postgres_only!(batches_with_crossing_keys_and_event_ids_do_not_deadlock, async |db| {
    let a = Rig::on(db).await;
    let b = Rig::on(db).await;
    let app = a.application("a").await;
    for round in 0..5 {
        let message = |n: i32| NewMessage {
            key: key(&format!("{round}-{n}")),
            event_id: (n % 2 == 0).then(|| format!("{round}-{}", 60 - n)),
            ..a.message(&app, "{}")
        };
        let (first, second) = tokio::join!(
            join_all((0..60).map(|n| a.intake.accept(message(n)))),
            join_all((0..60).rev().map(|n| b.intake.accept(message(n)))),
        );
        for (ours, theirs) in first.into_iter().zip(second.into_iter().rev()) {
            let (ours, theirs) = (ours.expect("accepted"), theirs.expect("accepted"));
            assert_eq!(ours.message_id, theirs.message_id, "one key, one message");
            assert!(ours.replayed != theirs.replayed);
        }
    }
    assert_eq!(a.count("message").await, 300);
    assert_eq!(
        a.count("pg_stat_database where datname = current_database() and deadlocks > 0")
            .await,
        0
    );
});

both!(a_message_whose_caller_left_before_its_batch_is_not_stored, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let gate = Gate::close(db, &rig).await;
    let mut busy = Vec::new();
    for worker in 1..=workers(db) {
        let mut accepting = Box::pin(rig.intake.accept(rig.message("app_none", "{}")));
        poll_once!(accepting);
        busy.push(accepting);
        wait_for_busy(db, &rig, worker).await;
    }
    let mut left = Box::pin(rig.intake.accept(rig.message(&app, r#"{"left":1}"#)));
    poll_once!(left);
    drop(left);
    let mut stayed = Box::pin(rig.intake.accept(rig.message(&app, r#"{"stayed":1}"#)));
    poll_once!(stayed);
    gate.open().await;
    stayed.await.expect("accepted");
    assert_eq!(rig.count("message").await, 1);
    assert_eq!(rig.count("message_content where body like '%stayed%'").await, 1);
});

postgres_only!(a_batch_that_has_begun_is_stored_though_its_caller_left, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let blocked = lock(db, "message_content").await;
    let mut accepting = Box::pin(rig.intake.accept(rig.message(&app, "{}")));
    poll_once!(accepting);
    wait_for_blocked(&rig, 1).await;
    drop(accepting);
    blocked.commit().await.expect("the lock ends");
    within(DEADLINE, "the message is stored", async || {
        (rig.count("message").await == 1).then_some(())
    })
    .await;
    within(DEADLINE, "the message is sent", async || {
        (rig.step().await.sent == 1).then_some(())
    })
    .await;
    assert_eq!(receiver.count(), 1);
});

postgres_only!(
    a_lost_commit_is_made_good_though_the_caller_left_meanwhile,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            url: Some(proxy.url(db.url())),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let blocked = lock(db, "message_content").await;
        // With an event id the batch is a transaction of several statements.
        let message = NewMessage {
            event_id: Some("event-1".to_owned()),
            ..rig.message(&app, "{}")
        };
        let mut accepting = Box::pin(rig.intake.accept(message));
        poll_once!(accepting);
        wait_for_blocked(&rig, 1).await;
        drop(accepting);
        proxy.lose_next_commit();
        blocked.commit().await.expect("the lock ends");
        proxy.commit_lost().await;
        within(DEADLINE, "the message is sent before its lease ends", async || {
            (rig.step().await.sent == 1).then_some(())
        })
        .await;
        assert_eq!(receiver.count(), 1);
        assert_eq!(rig.count("message").await, 1);
    }
);

postgres_only!(a_server_that_is_read_only_for_a_while_is_waited_for, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    let mode = async |mode: &str| {
        let set = format!(
            "do $$ begin execute format('alter database %I {mode}', current_database()); \
             perform pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid(); end $$"
        );
        rig.sql(&set, []).await;
    };
    mode("set default_transaction_read_only = on").await;
    let mut accepting = Box::pin(rig.intake.accept(rig.message(&app, "{}")));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut accepting).await;
    assert!(early.is_err(), "the message is not refused: {early:?}");
    mode("reset default_transaction_read_only").await;
    accepting.await.expect("accepted");
    assert_eq!(rig.count("message").await, 1);
});

postgres_only!(
    an_absent_database_is_answered_unavailable_and_costs_nothing_later,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            url: Some(proxy.url(db.url())),
            ..Shape::default()
        };
        let rig = Rig::shaped(db, shape).await;
        let app = rig.application("a").await;
        rig.accept(&app, "{}").await;
        proxy.stall();
        let refused = rig
            .intake
            .accept(rig.message(&app, "{}"))
            .await
            .expect_err("there is no database");
        assert_eq!(refused.kind, ErrorKind::Unavailable);
        proxy.resume();
        proxy.cut();
        rig.accept(&app, "{}").await;
    }
);

both!(one_message_reaches_more_endpoints_than_a_batch_has_rows, async |db| {
    let rig = Rig::on(db).await;
    let app = rig.application("a").await;
    rig.endpoints(&app, 5_200, "http://127.0.0.1:1/").await;
    let batch = (0..3).map(|_| rig.message(&app, "{}")).collect();
    for answer in in_one_batch(db, &rig, batch).await {
        answer.expect("accepted");
    }
    assert_eq!(rig.count("delivery").await, 3 * 5_200);
    assert_eq!(
        rig.count("delivery where owner is not null").await,
        49,
        "as many as one application may have of 64 slots"
    );
    let pairs = "(select distinct message_id, endpoint_id from delivery) pairs";
    assert_eq!(rig.count(pairs).await, 3 * 5_200);
});

both!(a_large_body_arrives_byte_for_byte, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    for length in [64 * 1024 - 8, 64 * 1024 - 7, 300_000] {
        let body = format!(r#"{{"a":"{}é"}}"#, "x".repeat(length - 2));
        rig.accept(&app, &body).await;
        rig.drain().await;
        assert!(receiver.arrivals().last().is_some_and(|arrival| arrival.text() == body));
    }
    assert_eq!(receiver.count(), 3);
});

both!(a_new_message_is_leased_as_far_as_the_caps_allow, async |db| {
    let caps = Caps {
        process: 5,
        endpoint: 2,
    };
    let mut rig = Rig::shaped(
        db,
        Shape {
            caps,
            ..Shape::default()
        },
    )
    .await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e1", &receiver.url_of("/1")).await;
    for _ in 0..4 {
        rig.accept(&app, "{}").await;
    }
    assert_eq!(rig.count("delivery where owner is not null").await, 2);
    assert_eq!(rig.count("delivery where due_at is null").await, 2, "parked");
    let other = rig.application("b").await;
    rig.endpoint(&other, "e2", &receiver.url_of("/2")).await;
    rig.endpoint(&other, "e3", &receiver.url_of("/3")).await;
    rig.accept(&app, "{}").await;
    rig.accept(&app, "{}").await;
    rig.accept(&other, "{}").await;
    rig.accept(&other, "{}").await;
    assert_eq!(rig.count("delivery where owner is not null").await, 5);
    assert_eq!(rig.count("delivery where due_at is null").await, 4);
    assert_eq!(
        rig.count("delivery where owner is null and due_at is not null").await,
        1,
        "without a slot the delivery is due, for the first process that claims it"
    );
    rig.drain().await;
    assert_eq!(receiver.count(), 10);
    assert_eq!(rig.count("delivery").await, 0);
});

postgres_only!(a_usual_batch_with_keys_is_stored_by_one_statement, async |db| {
    let statements = recorded(async || {
        let rig = Rig::on(db).await;
        let app = rig.application("a").await;
        let message = NewMessage {
            key: key("k"),
            ..rig.message(&app, "{}")
        };
        rig.intake.accept(message).await.expect("accepted");
    });
    let inserts: Vec<_> = statements
        .1
        .iter()
        .filter(|sql| sql.contains("into message_content"))
        .collect();
    assert_eq!(inserts.len(), 1, "{inserts:#?}");
    assert!(inserts[0].contains("into idempotency"), "{inserts:#?}");
});

postgres_only!(
    an_application_that_has_changed_is_read_again_and_none_that_shares_its_batch,
    async |db| {
        let statements = recorded(async || {
            let rig = Rig::on(db).await;
            let changed = rig.application("a").await;
            rig.application("b").await;
            rig.accept(&changed, "{}").await;
            rig.accept("b-uid", "{}").await;
            rig.sql(
                "update application set name = 'other' where id = $1",
                [changed.as_str().into()],
            )
            .await;
            let batch = vec![rig.message(&changed, "{}"), rig.message("b-uid", "{}")];
            for answer in in_one_batch(db, &rig, batch).await {
                answer.expect("accepted");
            }
        });
        let reads = |by: &str| statements.1.iter().filter(|sql| sql.contains(by)).count();
        let refused = statements.1.iter().filter(|sql| sql.contains("with stale")).count();
        assert_eq!(refused, 4, "the batch of two was tried twice");
        assert_eq!(reads("a.uid = t.name and"), 1, "{:#?}", statements.1);
        assert!(reads("a.id = t.name and") >= 2);
    }
);

both!(whatever_changes_an_endpoint_is_known_to_the_next_message, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let first = rig.endpoint(&app, "first", &receiver.url()).await;
    rig.accept(&app, "{}").await;
    assert_eq!(rig.drain().await, 1);

    // Written directly, as another replica or an operator would do.
    rig.endpoint(&app, "second", &receiver.url()).await;
    rig.accept(&app, "{}").await;
    assert_eq!(rig.drain().await, 2, "a new endpoint gets the message");
    rig.sql(
        "update endpoint set event_types = '[\"other\"]' where id = $1",
        [first.as_str().into()],
    )
    .await;
    rig.accept(&app, "{}").await;
    assert_eq!(rig.drain().await, 1, "a changed filter applies to the next message");
    rig.sql(
        "update endpoint set disabled = true where id = $1",
        [first.as_str().into()],
    )
    .await;
    rig.sql("delete from endpoint where id <> $1", [first.into()]).await;
    rig.accept(&app, "{}").await;
    assert_eq!(rig.drain().await, 0, "no endpoint is left");
    rig.sql(
        "update application set deleted_at = 1 where id = $1",
        [app.as_str().into()],
    )
    .await;
    let refused = rig.intake.accept(rig.message(&app, "{}")).await.expect_err("deleted");
    assert_eq!(refused.kind, ErrorKind::NotFound);
});

both!(a_uid_that_went_to_another_application_leads_there, async |db| {
    let rig = Rig::on(db).await;
    let (before, after) = (rig.application("before").await, rig.application("after").await);
    let name = |app: &str| ("update application set uid = $1 where id = $2", app.to_owned());
    let (sql, app) = name(&before);
    rig.sql(sql, ["u".into(), app.into()]).await;
    assert_eq!(rig.accept("u", "{}").await.app_id, before);
    assert_eq!(rig.accept("u", "{}").await.app_id, before);
    rig.sql("update application set uid = null where id = $1", [before.into()])
        .await;
    let (sql, app) = name(&after);
    rig.sql(sql, ["u".into(), app.into()]).await;
    assert_eq!(rig.accept("u", "{}").await.app_id, after);
});
