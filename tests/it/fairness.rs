//! Fairness: no backlog delays another endpoint's deliveries, and everything that is due is sent without a poll. If the
//! dispatcher runs by itself, the test clock stands still and no poll ever comes, so each arrival is due to a wake-up.

use std::time::Duration;

use postrider::slots::{Caps, Lane};

use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, Shape, TestDatabase, within};

async fn capped(db: &TestDatabase, process: usize, endpoint: usize) -> Rig {
    let shape = Shape {
        caps: Caps { process, endpoint },
        schedule: "0,0,0,0",
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

/// Inserts `count` messages whose deliveries to `endpoint` are due, with `attempt` attempts made.
pub async fn backlog(rig: &Rig, app: &str, endpoint: &str, count: i64, attempt: i32) {
    let due = rig.clock.now().0 - 1_000_000_000;
    let each = "with recursive n(n) as (select 1 union all select n + 1 from n where n < $1)";
    let message = format!(
        "{each} insert into message (app_id, id, event_type, created_at, expires_at) \
         select $2, 'msg_' || $3 || n, 'order.created', $4, 9000000000000000000 from n"
    );
    let values = [count.into(), app.into(), endpoint.into(), due.into()];
    rig.sql(&message, values.clone()).await;
    let content = format!(
        "{each} insert into message_content (app_id, message_id, body, expires_at) \
         select $2, 'msg_' || $3 || n, '{{}}', 9000000000000000000 from n"
    );
    rig.sql(&content, values[..3].to_vec()).await;
    let delivery = format!(
        "{each} insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
         select 'dlv_' || $3 || n, $2, 'msg_' || $3 || n, $3, 0, {attempt}, $4 + n from n"
    );
    rig.sql(&delivery, values).await;
}

both!(
    a_hundred_thousand_waiting_rows_hold_up_nobody_elses_first_attempt,
    async |db| {
        // An attempt that reached its deadline would free its slot for another request, so the deadline is longer than
        // the test on any machine.
        let shape = Shape {
            caps: Caps {
                process: 64,
                endpoint: 16,
            },
            attempt_timeout: Duration::from_secs(60),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let (slow, quick, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        slow.answer(Answer::ok().behind(&gate));
        let (a, b) = (rig.application("a").await, rig.application("b").await);
        let slow_id = rig.endpoint(&a, "slow", &slow.url()).await;
        rig.endpoint(&b, "quick", &quick.url()).await;
        backlog(&rig, &a, &slow_id, 100_000, 0).await;
        let running = rig.run();
        slow.wait_for(16).await;
        rig.accept(&b, r#"{"fast":"path"}"#).await;
        let large = format!(r#"{{"by":"claim","x":"{}"}}"#, "x".repeat(70_000));
        rig.accept(&b, &large).await;
        let begun = std::time::Instant::now();
        quick.wait_for(2).await;
        println!("the other endpoint's first attempts came after {:?}", begun.elapsed());
        assert_eq!(slow.count(), 16, "the endpoint's cap");
        gate.open();
        running.stop(false).await;
    }
);

both!(parked_rows_are_released_by_their_endpoints_own_settles, async |db| {
    let mut rig = capped(db, 8, 2).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    for _ in 0..40 {
        rig.accept(&app, "{}").await;
    }
    assert_eq!(rig.count("delivery where due_at is null").await, 38);
    let running = rig.run();
    receiver.wait_for(40).await;
    running.stop(true).await;
    assert_eq!(rig.count("delivery").await, 0);
    assert_eq!(receiver.count(), 40);
});

both!(parked_rows_are_found_after_a_restart, async |db| {
    let rig = capped(db, 8, 2).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    for _ in 0..10 {
        rig.accept(&app, "{}").await;
    }
    rig.sql("delete from delivery where due_at is not null", []).await;
    rig.kill().await;
    let mut rig = capped(db, 8, 2).await;
    rig.drain().await;
    assert_eq!(receiver.count(), 8);
    assert_eq!(rig.count("delivery").await, 0);
});

both!(
    retries_flow_without_a_poll_although_slots_are_kept_from_them,
    async |db| {
        let mut rig = capped(db, 8, 8).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        for endpoint in ["e1", "e2", "e3"] {
            let endpoint = rig.endpoint(&app, endpoint, &receiver.url()).await;
            backlog(&rig, &app, &endpoint, 20, 1).await;
        }
        let running = rig.run();
        receiver.wait_for(60).await;
        running.stop(true).await;
    }
);

both!(
    first_attempts_find_a_slot_while_broken_endpoints_are_retried,
    async |db| {
        let mut rig = capped(db, 8, 4).await;
        let (broken, healthy, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        broken.answer(Answer::status(500).behind(&gate));
        let app = rig.application("a").await;
        for endpoint in ["e1", "e2", "e3"] {
            let endpoint = rig.endpoint(&app, endpoint, &broken.url()).await;
            backlog(&rig, &app, &endpoint, 30, 1).await;
        }
        let other = rig.application("b").await;
        rig.endpoint(&other, "healthy", &healthy.url()).await;
        let running = rig.run();
        broken.wait_for(6).await;
        rig.accept(&other, "{}").await;
        healthy.wait_for(1).await;
        gate.open();
        healthy.wait_for(1).await;
        broken.wait_for(90).await;
        running.stop(false).await;
    }
);

both!(parked_retries_leave_the_kept_slots_alone, async |db| {
    let mut rig = capped(db, 8, 4).await;
    let (broken, healthy, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
    broken.answer(Answer::status(500).behind(&gate));
    for endpoint in ["e1", "e2", "e3"] {
        let app = rig.application(endpoint).await;
        let endpoint = rig.endpoint(&app, endpoint, &broken.url()).await;
        backlog(&rig, &app, &endpoint, 30, 1).await;
    }
    rig.sql("update delivery set due_at = null", []).await;
    let other = rig.application("b").await;
    rig.endpoint(&other, "healthy", &healthy.url()).await;
    let running = rig.run();
    broken.wait_for(6).await;
    rig.accept(&other, "{}").await;
    healthy.wait_for(1).await;
    assert_eq!(broken.count(), 6, "of 8 slots, 2 are kept");
    gate.open();
    running.stop(false).await;
});

both!(a_due_retry_goes_out_although_first_attempts_never_end, async |db| {
    let mut rig = capped(db, 4, 4).await;
    let (busy, waiting) = (Receiver::start().await, Receiver::start().await);
    let app = rig.application("a").await;
    for endpoint in ["e1", "e2", "e3", "e4", "e5", "e6"] {
        let endpoint = rig.endpoint(&app, endpoint, &busy.url()).await;
        backlog(&rig, &app, &endpoint, 4, 0).await;
    }
    let other = rig.application("b").await;
    let waits = rig.endpoint(&other, "waits", &waiting.url()).await;
    backlog(&rig, &other, &waits, 1, 1).await;
    for _ in 0..3 {
        rig.step().await;
    }
    assert_eq!(waiting.count(), 1, "the retry does not wait until nothing else is due");
    assert!(busy.count() < 24);
});

both!(endpoints_with_parked_rows_take_turns, async |db| {
    let mut rig = capped(db, 8, 4).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    for endpoint in ["e1", "e2", "e3", "e4", "e5"] {
        let endpoint = rig
            .endpoint(&app, endpoint, &receiver.url_of(&format!("/{endpoint}")))
            .await;
        backlog(&rig, &app, &endpoint, 50, 0).await;
    }
    rig.sql("update delivery set due_at = null", []).await;
    for _ in 0..10 {
        rig.step().await;
    }
    let arrivals = receiver.arrivals();
    let of = |path: &str| arrivals.iter().filter(|arrival| arrival.path == path).count();
    let counts = ["/e1", "/e2", "/e3", "/e4", "/e5"].map(of);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 4, "every endpoint has had its turns: {counts:?}");
});

both!(
    large_bodies_for_an_endpoint_that_hangs_do_not_keep_others_waiting,
    async |db| {
        let mut rig = capped(db, 64, 32).await;
        let (slow, quick, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        slow.answer(Answer::ok().behind(&gate));
        let (a, b) = (rig.application("a").await, rig.application("b").await);
        rig.endpoint(&a, "slow", &slow.url()).await;
        rig.endpoint(&b, "quick", &quick.url()).await;
        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(100_000));
        for _ in 0..24 {
            rig.accept(&a, &large).await;
        }
        let running = rig.run();
        slow.wait_for(24).await;
        rig.accept(&b, &large).await;
        quick.wait_for(1).await;
        gate.open();
        running.stop(true).await;
    }
);

both!(
    large_bodies_of_an_application_that_hangs_leave_memory_to_others,
    async |db| {
        // No attempt ends by its deadline before the test does.
        let shape = Shape {
            caps: Caps {
                process: 128,
                endpoint: 64,
            },
            attempt_timeout: Duration::from_secs(120),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let (slow, quick, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        slow.answer(Answer::ok().behind(&gate));
        let (a, b) = (rig.application("a").await, rig.application("b").await);
        let slow_id = rig.endpoint(&a, "slow", &slow.url()).await;
        rig.endpoint(&b, "quick", &quick.url()).await;
        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(1_900_000));
        backlog(&rig, &a, &slow_id, 40, 0).await;
        rig.sql("update message_content set body = $1", [large.as_str().into()])
            .await;
        let running = rig.run();
        slow.wait_for(17).await;
        within(
            DEADLINE,
            "the other deliveries have slots and wait for memory",
            async || (rig.count("delivery where owner is not null").await == 40).then_some(()),
        )
        .await;
        rig.accept(&b, &large).await;
        quick.wait_for(1).await;
        assert_eq!(slow.count(), 17, "half of the memory");
        gate.open();
        slow.wait_for(40).await;
        running.stop(true).await;
    }
);

both!(parked_rows_of_many_endpoints_are_found_by_one_look, async |db| {
    let rig = capped(db, 200, 4).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoints(&app, 150, &receiver.url()).await;
    rig.accept(&app, "{}").await;
    rig.sql("update delivery set due_at = null, owner = null, lease_id = null", [])
        .await;
    rig.kill().await;
    let mut rig = capped(db, 200, 4).await;
    let running = rig.run();
    receiver.wait_for(150).await;
    running.stop(true).await;
});

both!(what_is_parked_while_a_claim_runs_is_not_forgotten, async |db| {
    let rig = capped(db, 8, 2).await;
    let endpoint: postrider::domain::typed_id::EndpointId = "ep_e".into();
    rig.slots.set_parked([&endpoint]);
    let turn = |slots: &std::sync::Arc<postrider::slots::Slots>| slots.parked_with_room(8).len();
    assert_eq!(turn(&rig.slots), 1);
    rig.slots.set_parked([&endpoint]);
    rig.slots.unset_parked([&endpoint]);
    assert_eq!(turn(&rig.slots), 1, "the row was parked after the claim had looked");
    rig.slots.unset_parked([&endpoint]);
    assert_eq!(turn(&rig.slots), 0);
});

both!(
    an_application_whose_endpoints_all_hang_leaves_slots_for_every_other,
    async |db| {
        let mut rig = capped(db, 64, 16).await;
        let (hanging, healthy, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        hanging.answer(Answer::ok().behind(&gate));
        let (a, b, c) = (
            rig.application("a").await,
            rig.application("b").await,
            rig.application("c").await,
        );
        rig.endpoints(&a, 200, &hanging.url()).await;
        for at in 0..20 {
            rig.endpoint(&b, &format!("b{at}"), &hanging.url()).await;
        }
        rig.endpoint(&c, "c", &healthy.url()).await;
        rig.accept(&a, "{}").await;
        assert_eq!(
            rig.count("delivery where owner is not null").await,
            49,
            "all but the last quarter"
        );
        assert_eq!(rig.count("delivery where due_at is null").await, 151);
        rig.accept(&b, "{}").await;
        assert_eq!(
            rig.count("delivery where owner is not null and app_id = 'app_b'").await,
            8,
            "half of the rest"
        );
        let running = rig.run();
        hanging.wait_for(57).await;
        for at in 1..=5 {
            rig.accept(&c, "{}").await;
            healthy.wait_for(at).await;
        }
        assert_eq!(
            hanging.count(),
            57,
            "parked deliveries wait for slots of their own application"
        );
        gate.open();
        hanging.wait_for(220).await;
        running.stop(true).await;
        assert_eq!(rig.count("delivery").await, 0);
    }
);

both!(
    an_application_with_half_of_the_slots_gets_one_more_for_each_idle_endpoint,
    async |db| {
        let rig = capped(db, 64, 16).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoints(&app, 4, &receiver.url()).await;
        for _ in 0..20 {
            rig.accept(&app, "{}").await;
        }
        assert_eq!(rig.count("delivery where owner is not null").await, 32);
        rig.endpoint(&app, "idle", &receiver.url()).await;
        rig.accept(&app, "{}").await;
        assert_eq!(
            rig.count("delivery where owner is not null and endpoint_id = 'ep_idle'")
                .await,
            1
        );
    }
);

postgres_only!(
    a_delivery_that_finds_no_slot_is_sent_by_another_process_after_a_wake_up,
    async |db| {
        let (mut full, mut idle) = (capped(db, 1, 1).await, capped(db, 8, 8).await);
        let (slow, quick, gate) = (Receiver::start().await, Receiver::start().await, Gate::closed());
        slow.answer(Answer::ok().behind(&gate));
        let (a, b) = (full.application("a").await, full.application("b").await);
        full.endpoint(&a, "slow", &slow.url()).await;
        let endpoint = full.endpoint(&b, "quick", &quick.url()).await;
        // No wake-up announces this delivery. Its arrival shows that the first look, which needs no wake-up, is over.
        backlog(&idle, &b, &endpoint, 1, 0).await;
        let others = idle.run();
        quick.wait_for(1).await;
        let own = full.run();
        let listening = "pg_stat_activity where datname = current_database() and query ilike 'listen %'";
        within(DEADLINE, "both listen", async || {
            (full.count(listening).await == 2).then_some(())
        })
        .await;

        full.accept(&a, "{}").await;
        slow.wait_for(1).await;
        let id = full.accept(&b, "{}").await.message_id;
        let arrivals = quick.wait_for(2).await;
        assert_eq!(arrivals[1].message_id(), id);
        assert_eq!(full.slots.free(Lane::First), 0, "the first process has no free slot");
        gate.open();
        own.stop(true).await;
        others.stop(true).await;
        assert_eq!(idle.count("attempt").await, 3);
        assert_eq!(idle.count("delivery").await, 0);
    }
);
