//! Endpoints in trouble: fewer attempts at a time while they fail, all of them again soon after, and no effect on
//! healthy endpoints.

use std::time::{Duration, Instant};

use postrider::slots::Caps;

use crate::fairness::backlog;
use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, Shape, TestDatabase};

async fn capped(db: &TestDatabase, process: usize, endpoint: usize) -> Rig {
    let shape = Shape {
        caps: Caps { process, endpoint },
        attempt_timeout: DEADLINE,
        schedule: "3600,3600",
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

async fn steps(rig: &mut Rig, count: usize) -> Vec<usize> {
    let mut sent = Vec::new();
    for _ in 0..count {
        sent.push(rig.step().await.sent);
    }
    sent
}

both!(
    an_endpoint_that_fails_gets_one_try_at_a_time_and_all_again_when_it_is_well,
    async |db| {
        for broken in [Answer::status(500), Answer::status(429), Answer::cut()] {
            let mut rig = capped(db, 64, 16).await;
            let receiver = Receiver::start().await;
            let app = rig.application("a").await;
            let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
            backlog(&rig, &app, &endpoint, 60, 0).await;
            receiver.answer(broken);
            assert_eq!(steps(&mut rig, 5).await, [16, 1, 1, 1, 1]);
            receiver.answer(Answer::ok());
            assert_eq!(steps(&mut rig, 6).await, [1, 2, 4, 8, 16, 9]);
            assert_eq!(
                rig.count("delivery where attempts_made = 1 and due_at is not null")
                    .await,
                20
            );
            assert_eq!(
                rig.count("delivery").await,
                20,
                "the failed deliveries wait for their retries"
            );
            rig.advance(3600 + 720);
            rig.drain().await;
            assert_eq!(rig.count("delivery").await, 0);
            assert_eq!(rig.count("delivery_result where state = 0").await, 60);
            rig.sql("delete from message", []).await;
            rig.sql("delete from message_content", []).await;
            rig.sql("delete from delivery_result", []).await;
            rig.sql("delete from endpoint", []).await;
            rig.sql("delete from application", []).await;
            rig.kill().await;
        }
    }
);

both!(an_endpoint_that_fails_now_and_then_keeps_its_cap, async |db| {
    let mut rig = capped(db, 64, 16).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    backlog(&rig, &app, &endpoint, 400, 0).await;
    let count = std::sync::atomic::AtomicUsize::new(0);
    receiver.answer_by(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Answer::status(if number.is_multiple_of(4) { 500 } else { 200 })
    });
    let sent: usize = steps(&mut rig, 30).await.iter().sum();
    assert!(
        sent > 240,
        "an endpoint that fails a quarter of the time is not slowed: {sent} in 30 steps"
    );
});

both!(a_retry_after_lets_the_endpoint_rest_for_a_minute_at_most, async |db| {
    for (status, asked, rests) in [(429, "20", 20), (503, "3000", 60), (500, "20", 0)] {
        let mut rig = capped(db, 64, 16).await;
        let receiver = Receiver::start().await;
        let app = rig.application(&format!("a{status}")).await;
        rig.endpoint(&app, &format!("e{status}"), &receiver.url()).await;
        receiver.answer_next([Answer::status(status).header("retry-after", asked)]);
        let first = rig.accept(&app, "{}").await.message_id;
        rig.step().await;
        for _ in 0..3 {
            rig.accept(&app, "{}").await;
        }
        for second in 0..rests {
            assert_eq!(rig.step().await.sent, 0, "after {second} s of {rests}");
            rig.advance(1);
        }
        assert_eq!(rig.drain().await, 3);
        assert_eq!(
            rig.state(&first).await,
            "waiting",
            "its own retry stays where the schedule put it"
        );
        rig.advance(4400);
        assert_eq!(rig.drain().await, 1);
        assert_eq!(rig.state(&first).await, "delivered");
        rig.kill().await;
    }
});

both!(the_end_of_a_rest_needs_no_poll, async |db| {
    let mut rig = capped(db, 64, 16).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    receiver.answer_next([Answer::status(429).header("retry-after", "1")]);
    let running = rig.run();
    rig.accept(&app, "{}").await;
    crate::harness::within(DEADLINE, "the first try is settled", async || {
        (rig.count("delivery where attempts_made = 1").await == 1).then_some(())
    })
    .await;
    rig.accept(&app, "{}").await;
    assert_eq!(rig.count("delivery where due_at is null").await, 1);
    rig.clock.advance(Duration::from_millis(999));
    assert_eq!(receiver.count(), 1);
    rig.clock.advance(Duration::from_millis(1));
    receiver.wait_for(2).await;
    running.stop(true).await;
});

/// Inserts 100 endpoints of two applications: half with 30 first attempts each, half with 30 retries each, all due.
async fn a_hundred_in_trouble(rig: &Rig, receiver: &Receiver) {
    let apps = [rig.application("trouble").await, rig.application("more").await];
    for at in 0..100 {
        let app = &apps[at / 50];
        let endpoint = rig.endpoint(app, &format!("t{at}x"), &receiver.url()).await;
        backlog(rig, app, &endpoint, 30, i32::from(at % 2 == 1)).await;
    }
}

/// Sends 20 messages, each after the one before has arrived, and returns the longest wait.
async fn longest_wait(rig: &Rig, app: &str, healthy: &Receiver) -> Duration {
    let large = format!(r#"{{"by":"claim","x":"{}"}}"#, "x".repeat(70_000));
    let mut longest = Duration::ZERO;
    for at in 1..=20 {
        let begun = Instant::now();
        rig.accept(app, if at % 2 == 0 { &large } else { "{}" }).await;
        healthy.wait_for(at).await;
        longest = longest.max(begun.elapsed());
    }
    longest
}

both!(a_healthy_endpoint_does_not_notice_a_hundred_that_hang, async |db| {
    let mut rig = capped(db, 1_024, 128).await;
    let (hanging, healthy, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
    hanging.answer(Answer::status(500).behind(&gate));
    a_hundred_in_trouble(&rig, &hanging).await;
    let app = rig.application("healthy").await;
    rig.endpoint(&app, "healthy", &healthy.url()).await;
    let running = rig.run();
    hanging.wait_for(700).await;
    let longest = longest_wait(&rig, &app, &healthy).await;
    println!("beside a hundred that hang the longest wait was {longest:?}");
    assert!(hanging.count() < 1_024, "the hanging endpoints leave slots free");
    gate.open();
    running.stop(false).await;
});

both!(a_healthy_endpoint_does_not_notice_a_hundred_that_fail, async |db| {
    let mut rig = capped(db, 1_024, 128).await;
    let (failing, healthy) = (Receiver::start().await, Receiver::start().await);
    failing.answer(Answer::status(503));
    a_hundred_in_trouble(&rig, &failing).await;
    let app = rig.application("healthy").await;
    rig.endpoint(&app, "healthy", &healthy.url()).await;
    let large = format!(r#"{{"by":"claim","x":"{}"}}"#, "x".repeat(70_000));
    let mut waits = Vec::new();
    for round in 1..=12 {
        rig.accept(&app, "{}").await;
        rig.accept(&app, &large).await;
        let mut steps = 0;
        while healthy.count() < 2 * round {
            rig.step().await;
            steps += 1;
        }
        waits.push(steps);
    }
    println!("claims until the healthy endpoint's message went: {waits:?}");
    assert!(waits[0] <= 6, "1,500 first attempts are older: {waits:?}");
    assert!(
        waits[1..].iter().all(|steps| *steps == 1),
        "every claim brings the healthy endpoint's message: {waits:?}"
    );
});

both!(
    what_waits_for_a_disabled_endpoint_in_trouble_ends_in_few_steps,
    async |db| {
        let mut rig = capped(db, 1_024, 128).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
        receiver.answer(Answer::status(500));
        backlog(&rig, &app, &endpoint, 430, 0).await;
        assert_eq!(steps(&mut rig, 3).await, [128, 1, 1]);
        rig.sql("update endpoint set disabled = true", []).await;
        steps(&mut rig, 5).await;
        assert_eq!(rig.count("delivery where due_at is null").await, 0);
        assert_eq!(receiver.count(), 130);
    }
);
