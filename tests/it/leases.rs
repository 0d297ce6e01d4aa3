//! Leases under trouble: which process may send, whose outcome counts, and what becomes of the deliveries of a process
//! that died, was suspended or lost its database.

use std::time::Duration;

use postrider::clock::Clock;

use crate::harness::{Answer, DEADLINE, Gate, Proxy, Receiver, Rig, START, Shape, TestDatabase, within};
use crate::intake::{lock, wait_for_blocked};

/// Starts two processes with the same test clock, and with an attempt deadline that no test reaches.
async fn two(db: &TestDatabase) -> (Rig, Rig) {
    let shape = Shape {
        attempt_timeout: DEADLINE,
        ..Shape::default()
    };
    (Rig::shaped(db, shape.clone()).await, Rig::shaped(db, shape).await)
}

async fn through(db: &TestDatabase, proxy: &Proxy, clock: &Clock) -> Rig {
    let shape = Shape {
        clock: clock.clone(),
        url: Some(proxy.url(db.url())),
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

/// Lets both processes live for `seconds`, with four heartbeats a second, and asserts that neither takes over from the
/// other.
async fn live(a: &mut Rig, b: &mut Rig, seconds: u64) {
    for _ in 0..seconds * 4 {
        a.clock.advance(Duration::from_millis(250));
        assert_eq!(a.step().await.taken_over, 0);
        assert_eq!(b.step().await.taken_over, 0);
    }
}

/// Lets `b` alone live until it takes over from the other process. Returns how long that took.
async fn outlive(b: &mut Rig) -> Duration {
    let begun = b.clock.monotonic();
    for _ in 0..40 {
        b.clock.advance(Duration::from_millis(250));
        let taken = b.step().await.taken_over;
        if taken > 0 {
            assert_eq!(
                b.store.metrics().taken_over.get(),
                taken,
                "the taken-over deliveries are counted"
            );
            return b.clock.monotonic() - begun;
        }
    }
    panic!("10 s after its death the process still counts as alive");
}

/// Returns a body that is too large for the fast path, so that the message is sent by a claim.
fn large() -> String {
    format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000))
}

postgres_only!(a_settle_whose_commit_is_lost_counts_once, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let mut rig = through(db, &proxy, &Clock::test(START)).await;
    let (good, bad, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
    good.answer(Answer::ok().behind(&gate));
    bad.answer(Answer::status(500).behind(&gate));
    let app = rig.application("a").await;
    rig.endpoint(&app, "good", &good.url()).await;
    rig.endpoint(&app, "bad", &bad.url()).await;
    rig.accept(&app, "{}").await;
    tokio::join!(rig.step(), async {
        good.wait_for(1).await;
        bad.wait_for(1).await;
        proxy.lose_next_commit();
        gate.open();
        proxy.commit_lost().await;
    });
    assert_eq!(rig.count("attempt").await, 2);
    assert_eq!(
        rig.count("attempt where delivered = (endpoint_id = 'ep_good')").await,
        2
    );
    assert_eq!(rig.count("attempt where next_at is not null").await, 1);
    assert_eq!(rig.count("delivery_result where state = 0").await, 1);
    assert_eq!(rig.count("delivery_result where state = 1").await, 1);
    assert_eq!(rig.count("delivery where attempts_made = 1 and owner is null").await, 1);
    assert_eq!(rig.count("delivery").await, 1);
});

postgres_only!(
    no_process_is_declared_dead_after_the_database_stalls_for_20_s,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let clock = Clock::test(START);
        let (mut a, mut b) = (through(db, &proxy, &clock).await, through(db, &proxy, &clock).await);
        let receiver = Receiver::start().await;
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        live(&mut a, &mut b, 2).await;
        a.accept(&app, "{}").await;
        b.accept(&app, "{}").await;
        proxy.stall();
        let (first, second, ()) = tokio::join!(a.step(), b.step(), async {
            for _ in 0..20 {
                clock.advance(Duration::from_secs(1));
            }
            proxy.resume();
        });
        assert_eq!(first.taken_over + second.taken_over, 0);
        live(&mut a, &mut b, 10).await;
        assert_eq!(receiver.count(), 2, "nothing was sent twice");
        assert_eq!(a.count("process").await, 2);
        assert_eq!(a.count("delivery").await, 0);
    }
);

postgres_only!(what_a_dead_process_had_in_flight_is_sent_again_within_5_s, async |db| {
    let (mut a, mut b) = two(db).await;
    let b_clock = b.clock.clone();
    let receiver = Receiver::start().await;
    let app = a.application("a").await;
    a.endpoint(&app, "e", &receiver.url()).await;
    for _ in 0..3 {
        a.step().await;
        b.step().await;
        a.advance(1);
        b_clock.advance(Duration::from_secs(1));
    }
    let ids = [
        a.accept(&app, "{}").await.message_id,
        a.accept(&app, "{}").await.message_id,
    ];
    a.kill().await;
    assert!(outlive(&mut b).await <= Duration::from_secs(5));
    assert_eq!(receiver.count(), 2);
    for id in ids {
        assert_eq!(b.state(&id).await, "delivered");
    }
    assert_eq!(b.count("process").await, 1);
    assert_eq!(b.count("attempt").await, 2);
});

postgres_only!(
    a_late_success_makes_the_result_delivered_and_removes_the_waiting_row,
    async |db| {
        let (mut a, mut b) = two(db).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer_next([Answer::ok().behind(&gate), Answer::status(500)]);
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        b.step().await;
        let id = a.accept(&app, "{}").await.message_id;
        tokio::join!(a.step(), async {
            receiver.wait_for(1).await;
            outlive(&mut b).await;
            assert_eq!(b.state(&id).await, "waiting");
            gate.open();
        });
        assert_eq!(b.state(&id).await, "delivered");
        assert_eq!(b.count("delivery").await, 0);
        assert_eq!(b.count("attempt where delivered").await, 1);
        assert_eq!(b.count("attempt").await, 2);
    }
);

postgres_only!(a_late_failure_is_recorded_and_overwrites_nothing, async |db| {
    for (theirs, state) in [(Answer::ok(), "delivered"), (Answer::status(500), "waiting")] {
        let (mut a, mut b) = two(db).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer_next([Answer::status(503).behind(&gate), theirs]);
        let app = a.application(state).await;
        a.endpoint(&app, state, &receiver.url()).await;
        b.step().await;
        let id = a.accept(&app, "{}").await.message_id;
        let row = format!("delivery where message_id = '{id}' and attempts_made = 1 and owner is null");
        let mut rows = 0;
        tokio::join!(a.step(), async {
            receiver.wait_for(1).await;
            outlive(&mut b).await;
            assert_eq!(b.state(&id).await, state);
            rows = b.count(&row).await;
            gate.open();
        });
        assert_eq!(b.state(&id).await, state);
        assert_eq!(b.count(&row).await, rows);
        let late = format!("attempt where message_id = '{id}' and response_status = 503 and next_at is null");
        assert_eq!(b.count(&late).await, 1);
        assert_eq!(b.count(&format!("attempt where message_id = '{id}'")).await, 2);
        a.kill().await;
        b.kill().await;
    }
});

postgres_only!(a_process_whose_beat_came_late_takes_a_new_owner_id, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let old = rig.slots.owner().expect("the process may lease");
    rig.accept(&app, "{}").await;
    rig.advance(3);
    assert!(rig.slots.owner().is_none(), "the process may have been declared dead");
    rig.accept(&app, "{}").await;
    assert_eq!(
        rig.count("delivery where owner is not null").await,
        1,
        "nothing is leased meanwhile"
    );
    rig.advance(1);
    assert_eq!(rig.step().await.sent, 2);
    let new = rig.slots.owner().expect("the process may lease again");
    assert_ne!(old, new);
    assert_eq!(rig.count(&format!("process where owner = '{old}'")).await, 0);
    assert_eq!(rig.count(&format!("process where owner = '{new}'")).await, 1);
    assert_eq!(receiver.count(), 2);
    assert_eq!(rig.count("delivery").await, 0);
});

postgres_only!(replicas_whose_clocks_are_60_s_apart_agree, async |db| {
    let skewed = |seconds: i64| Shape {
        clock: Clock::system_with_skew(seconds * 1_000_000),
        schedule: "600",
        ..Shape::default()
    };
    let mut a = Rig::shaped(db, skewed(0)).await;
    let mut b = Rig::shaped(db, skewed(60)).await;
    let mut c = Rig::shaped(db, skewed(-60)).await;
    let receiver = Receiver::start().await;
    let app = a.application("a").await;
    a.endpoint(&app, "e", &receiver.url()).await;
    receiver.answer(Answer::status(500));
    let second = 1_000_000;
    for rig in [&mut b, &mut c] {
        let accepted = rig.accept(&app, "{}").await;
        let now = a.clock.now().0;
        assert!((accepted.created_at.0 - now).abs() < 5 * second);
        let lease = format!(
            "delivery where owner is not null and due_at - {now} between {} and {}",
            30 * second,
            40 * second
        );
        assert_eq!(a.count(&lease).await, 1);
        assert_eq!(a.step().await.sent, 0, "the delivery is leased");
        rig.step().await;
        let retry = format!(
            "delivery where attempts_made = 1 and due_at - {now} between {} and {}",
            475 * second,
            725 * second
        );
        assert_eq!(a.count(&retry).await, 1);
        a.sql("delete from delivery", []).await;
    }
    let attempts = format!(
        "attempt where created_at - {} between {} and 0",
        a.clock.now().0,
        -30 * second
    );
    assert_eq!(a.count(&attempts).await, 2);
});

both!(
    a_lease_that_no_longer_covers_an_attempt_is_given_back_uncounted,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        rig.accept(&app, "{}").await;
        rig.advance(26);
        assert_eq!(rig.step().await.sent, 1);
        assert_eq!(
            receiver.count(),
            0,
            "9 s of lease do not cover an attempt of 5 s and the margin of 5 s"
        );
        assert_eq!(rig.count("delivery where owner is null and attempts_made = 0").await, 1);
        assert_eq!(rig.drain().await, 1);
        assert_eq!(receiver.count(), 1);
        assert_eq!(rig.count("attempt").await, 1);
    }
);

sqlite_only!(
    what_was_in_flight_when_the_process_died_is_due_at_the_next_start,
    async |db| {
        let rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let id = rig.accept(&app, "{}").await.message_id;
        assert_eq!(rig.count("delivery where owner is not null").await, 1);
        rig.kill().await;
        let mut rig = Rig::on(db).await;
        assert_eq!(rig.step().await.sent, 1);
        assert_eq!(rig.state(&id).await, "delivered");
    }
);

both!(an_orderly_stop_gives_unfinished_leases_back_uncounted, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(Answer::hang());
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let running = rig.run();
    rig.accept(&app, "{}").await;
    receiver.wait_for(1).await;
    running.stop(false).await;
    let given_back = "delivery where owner is null and attempts_made = 0 and due_at is not null";
    assert_eq!(rig.count(given_back).await, 1);
    assert_eq!(rig.count("attempt").await, 0);
    assert_eq!(rig.count("process").await, 0, "the process has signed off");
});

both!(an_orderly_stop_finishes_what_is_in_flight, async |db| {
    let mut rig = Rig::on(db).await;
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.answer(Answer::ok().behind(&gate));
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let running = rig.run();
    let id = rig.accept(&app, "{}").await.message_id;
    receiver.wait_for(1).await;
    tokio::join!(running.stop(true), async { gate.open() });
    assert_eq!(rig.state(&id).await, "delivered");
    assert_eq!(rig.count("delivery").await, 0);
});

postgres_only!(a_lease_counts_from_before_its_transaction, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    rig.accept(&app, &large()).await;
    let blocked = lock(db, "message_content").await;
    let clock = rig.clock.clone();
    let watcher = Rig::on(db).await;
    tokio::join!(rig.step(), async {
        wait_for_blocked(&watcher, 1).await;
        clock.advance(Duration::from_secs(60));
        blocked.commit().await.expect("the lock ends");
    });
    assert_eq!(receiver.count(), 0, "the lease ended before the claim did");
    assert_eq!(rig.count("delivery where attempts_made = 0").await, 1);
    rig.drain().await;
    assert_eq!(receiver.count(), 1);
});

postgres_only!(a_claim_whose_commit_is_lost_is_made_good_by_the_next, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let mut rig = through(db, &proxy, &Clock::test(START)).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let id = rig.accept(&app, &large()).await.message_id;
    proxy.lose_next_commit();
    rig.try_step().await.expect_err("the claim's answer is lost");
    proxy.commit_lost().await;
    assert_eq!(receiver.count(), 0, "nothing is sent on an uncertain claim");
    assert_eq!(
        rig.count("delivery where owner is not null").await,
        1,
        "the claim had committed"
    );
    assert_eq!(rig.drain().await, 1, "sent at once, not when the lost lease ends");
    assert_eq!(rig.state(&id).await, "delivered");
    assert_eq!(rig.count("attempt").await, 1);
    assert!(rig.slots.is_idle());
});

postgres_only!(
    a_message_accepted_while_the_dispatcher_stops_is_due_for_the_others,
    async |db| {
        let (mut a, mut b) = two(db).await;
        let receiver = Receiver::start().await;
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        let blocked = lock(db, "message_content").await;
        let running = a.run();
        let (_, ()) = tokio::join!(a.accept(&app, "{}"), async {
            wait_for_blocked(&b, 1).await;
            running.stop.cancel();
            within(DEADLINE, "the process has stopped leasing", async || {
                a.slots.owner().is_none().then_some(())
            })
            .await;
            blocked.commit().await.expect("the lock ends");
        });
        running.stop(true).await;
        assert_eq!(b.step().await.sent, 1, "sent at once, not when a lease ends");
        assert_eq!(receiver.count(), 1);
    }
);

postgres_only!(an_orderly_stop_ends_though_the_database_is_absent, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let mut rig = through(db, &proxy, &Clock::system()).await;
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.answer(Answer::ok().behind(&gate));
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let running = rig.run();
    rig.accept(&app, "{}").await;
    receiver.wait_for(1).await;
    proxy.stall();
    gate.open();
    running.stop(false).await;
});

both!(
    what_is_still_being_sent_is_not_sent_beside_itself_when_its_lease_ends,
    async |db| {
        for (answer, state, left) in [(Answer::ok(), "delivered", 0), (Answer::status(500), "waiting", 1)] {
            let shape = Shape {
                attempt_timeout: DEADLINE,
                schedule: "3600",
                ..Shape::default()
            };
            let mut rig = Rig::shaped(db, shape).await;
            let (receiver, gate) = (Receiver::start().await, Gate::closed());
            receiver.answer(answer.behind(&gate));
            let app = rig.application(state).await;
            rig.endpoint(&app, state, &receiver.url()).await;
            let running = rig.run();
            let id = rig.accept(&app, "{}").await.message_id;
            receiver.wait_for(1).await;
            rig.sql(
                "update delivery set due_at = 0 where message_id = $1",
                [id.as_str().into()],
            )
            .await;
            let anew = format!("delivery where message_id = '{id}' and owner is not null and due_at > 0");
            within(DEADLINE, "the row is leased anew", async || {
                rig.advance(1);
                (rig.count(&anew).await == 1).then_some(())
            })
            .await;
            gate.open();
            running.stop(true).await;
            assert_eq!(receiver.count(), 1);
            assert_eq!(rig.state(&id).await, state);
            assert_eq!(rig.count(&format!("attempt where message_id = '{id}'")).await, 1);
            let waiting = format!("delivery where message_id = '{id}' and attempts_made = 1 and owner is null");
            assert_eq!(rig.count(&waiting).await, left);
            rig.kill().await;
        }
    }
);

postgres_only!(a_beat_that_was_answered_late_does_not_move_the_clock, async |db| {
    let proxy = Proxy::to(db.url()).await;
    let mut rig = through(db, &proxy, &Clock::system()).await;
    let stalled = Clock::system();
    proxy.stall();
    tokio::join!(rig.step(), async {
        within(DEADLINE, "the stall is longer than any answer", async || {
            (stalled.monotonic() > Duration::from_millis(1_600)).then_some(())
        })
        .await;
        proxy.resume();
    });
    let apart = rig.clock.now().0 - stalled.now().0;
    assert!(apart.abs() < 500_000, "{apart} us");
});

/// Tries until a lease has come during a single statement of the settlement.
const TRIES: usize = 20;

// Another process took the row over and released it. This process claims it again while the outcome of its own first
// attempt is about to be stored.
postgres_only!(
    a_lease_that_comes_while_an_earlier_one_is_being_settled_is_given_back,
    async |db| {
        let shape = Shape {
            attempt_timeout: DEADLINE,
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let running = rig.run();
        let mut came = None;
        for _ in 0..TRIES {
            let gate = Gate::closed();
            receiver.answer_next([Answer::status(500).behind(&gate)]);
            let before = receiver.count();
            let id = rig.accept(&app, "{}").await.message_id;
            receiver.wait_for(before + 1).await;
            let now = rig.clock.now().0;
            rig.sql(
                "update delivery set due_at = $1, owner = null, lease_id = null",
                [now.into()],
            )
            .await;
            let locked = lock(db, "attempt").await;
            gate.open();
            wait_for_blocked(&rig, 1).await;
            rig.store.wake();
            within(DEADLINE, "the row is claimed anew", async || {
                (rig.count("delivery where lease_id is not null").await == 1).then_some(())
            })
            .await;
            locked.commit().await.unwrap();
            // A statement that has waited for a second fails, and the next one settles under the new lease, which is right
            // too: the attempt counts, and the next one is due later.
            let is_given_back = within(DEADLINE, "the row is sent again or waits", async || {
                let waits = rig.count("delivery where lease_id is null and attempts_made = 1").await == 1;
                (waits || receiver.count() == before + 2).then_some(!waits)
            })
            .await;
            if is_given_back {
                came = Some(id);
                break;
            }
            rig.sql("delete from delivery", []).await;
        }
        let id = came.expect("a lease comes during a statement");
        within(DEADLINE, "the message is delivered", async || {
            (rig.state(&id).await == "delivered").then_some(())
        })
        .await;
        running.stop(true).await;
        assert_eq!(rig.count(&format!("attempt where message_id = '{id}'")).await, 2);
        assert_eq!(rig.count("delivery").await, 0);
    }
);
