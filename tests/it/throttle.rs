//! Throttle rates, on a test clock that moves only between steps: how many requests are sent in each second, exactly.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{self, Api};
use crate::fairness::backlog;
use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, Shape, TestDatabase, within};

/// The time between steps. A rate is used in bursts of 200 ms.
const STEP: Duration = Duration::from_millis(50);

async fn rig(db: &TestDatabase) -> Rig {
    let shape = Shape {
        attempt_timeout: DEADLINE,
        schedule: "3600",
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

/// Starts another process on the same clock.
async fn beside(db: &TestDatabase, rig: &Rig) -> Rig {
    let shape = Shape {
        clock: rig.clock.clone(),
        attempt_timeout: DEADLINE,
        schedule: "3600",
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

async fn throttle(rig: &Rig, table: &str, id: &str, rate: impl Into<Option<i32>>) {
    let sql = format!("update {table} set throttle_rate = $1 where id = $2");
    assert_eq!(rig.sql(&sql, [rate.into().into(), id.into()]).await, 1);
}

/// Lets a second pass and returns how many requests each of `rigs` has sent in it.
async fn second(rigs: &mut [&mut Rig]) -> Vec<usize> {
    let mut sent = vec![0; rigs.len()];
    for _ in 0..20 {
        for (rig, sent) in rigs.iter_mut().zip(&mut sent) {
            *sent += rig.step().await.sent;
        }
        rigs[0].clock.advance(STEP);
    }
    sent
}

async fn seconds(rig: &mut Rig, count: usize) -> Vec<usize> {
    let mut sent = Vec::new();
    for _ in 0..count {
        sent.extend(second(&mut [rig]).await);
    }
    sent
}

/// Returns how many rows a claim would find now.
async fn due(rig: &Rig) -> i64 {
    let now = rig.clock.now().0;
    rig.count(&format!("delivery where due_at is not null and due_at <= {now}"))
        .await
}

both!(an_endpoint_gets_its_rate_and_not_one_more, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 50).await;
    backlog(&rig, &app, &endpoint, 10_000, 0).await;
    assert_eq!(
        seconds(&mut rig, 5).await,
        [57, 50, 50, 50, 50],
        "a burst of 200 ms, then the rate"
    );
    assert_eq!(receiver.count(), 257);
    assert_eq!(due(&rig).await, 0, "waiting deliveries have left the index of due rows");
    assert!(rig.slots.is_idle(), "waiting deliveries hold no slot");
    assert_eq!(rig.count("delivery where owner is not null").await, 0);
    assert_eq!(rig.count("delivery").await, 9_743, "nothing is lost");
});

both!(a_low_rate_is_one_by_one, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 1).await;
    backlog(&rig, &app, &endpoint, 20, 0).await;
    assert_eq!(seconds(&mut rig, 4).await, [1, 1, 1, 1]);
});

both!(an_application_s_rate_is_shared_by_its_endpoints, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    for name in ["e1", "e2", "e3"] {
        let endpoint = rig.endpoint(&app, name, &receiver.url_of(&format!("/{name}"))).await;
        backlog(&rig, &app, &endpoint, 300, 0).await;
    }
    throttle(&rig, "application", &app, 30).await;
    assert_eq!(seconds(&mut rig, 6).await, [33, 30, 30, 30, 30, 30]);
    let arrivals = receiver.arrivals();
    let counts = ["/e1", "/e2", "/e3"].map(|path| arrivals.iter().filter(|arrival| arrival.path == path).count());
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(
        most - least <= 9,
        "the endpoints take turns, half a burst each: {counts:?}"
    );
    assert_eq!(due(&rig).await, 0);
});

both!(the_lower_of_two_rates_holds, async |db| {
    let mut rig = rig(db).await;
    let (narrow, wide) = (Receiver::start().await, Receiver::start().await);
    let app = rig.application("a").await;
    for (name, receiver, rate) in [("narrow", &narrow, 10), ("wide", &wide, 1_000)] {
        let endpoint = rig.endpoint(&app, name, &receiver.url()).await;
        throttle(&rig, "endpoint", &endpoint, rate).await;
        backlog(&rig, &app, &endpoint, 500, 0).await;
    }
    throttle(&rig, "application", &app, 40).await;
    second(&mut [&mut rig]).await;
    let before = (narrow.count(), wide.count());
    assert_eq!(seconds(&mut rig, 3).await, [40, 40, 40]);
    assert_eq!(narrow.count() - before.0, 30);
    assert_eq!(wide.count() - before.1, 90);
});

both!(a_new_rate_holds_from_the_next_claim_on, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 10).await;
    backlog(&rig, &app, &endpoint, 1_000, 0).await;
    assert_eq!(seconds(&mut rig, 2).await, [11, 10]);
    throttle(&rig, "endpoint", &endpoint, 50).await;
    seconds(&mut rig, 1).await;
    assert_eq!(seconds(&mut rig, 2).await, [50, 50]);
    throttle(&rig, "endpoint", &endpoint, 5).await;
    seconds(&mut rig, 1).await;
    assert_eq!(seconds(&mut rig, 2).await, [5, 5]);
    throttle(&rig, "endpoint", &endpoint, None).await;
    seconds(&mut rig, 1).await;
    rig.drain().await;
    assert_eq!(receiver.count(), 1_000, "without a rate nothing waits");
});

both!(within_its_rate_a_message_goes_straight_to_the_sender, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 10).await;
    let mut counts = Vec::new();
    for _ in 0..4 {
        for _ in 0..3 {
            rig.accept(&app, "{}").await;
        }
        counts.push((
            rig.count("delivery where owner is not null").await,
            rig.count("delivery where due_at is null").await,
        ));
        assert_eq!(due(&rig).await, 0);
        rig.step().await;
        rig.advance(1);
    }
    assert_eq!(counts[0], (2, 1), "the third delivery is parked at once");
    seconds(&mut rig, 2).await;
    assert_eq!(receiver.count(), 12);
});

both!(deliveries_that_wait_for_a_rate_delay_no_others, async |db| {
    let mut rig = rig(db).await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    let (a, b) = (rig.application("a").await, rig.application("b").await);
    for at in 0..40 {
        let endpoint = rig.endpoint(&a, &format!("slow{at}x"), &slow.url()).await;
        throttle(&rig, "endpoint", &endpoint, 1).await;
        backlog(&rig, &a, &endpoint, 100, at % 2).await;
    }
    rig.endpoint(&b, "quick", &quick.url()).await;
    let large = format!(r#"{{"by":"claim","x":"{}"}}"#, "x".repeat(70_000));
    for round in 1..=10 {
        rig.accept(&b, &large).await;
        let begun = rig.clock.monotonic();
        while quick.count() < round {
            assert!(
                rig.clock.monotonic() - begun < Duration::from_millis(200),
                "round {round}"
            );
            rig.step().await;
            rig.clock.advance(STEP);
        }
    }
});

both!(a_manual_delivery_keeps_to_the_rate, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    let message = rig.accept(&app, "{}").await.message_id;
    rig.drain().await;
    throttle(&rig, "endpoint", &endpoint, 10).await;
    for _ in 0..40 {
        rig.resend(&app, &message, &endpoint).await;
    }
    // A manual delivery that succeeds ends the others of the same message at that endpoint, so these have to fail.
    receiver.answer(Answer::status(404));
    assert_eq!(seconds(&mut rig, 3).await, [11, 10, 10]);
});

both!(retries_keep_to_the_rate, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 10).await;
    backlog(&rig, &app, &endpoint, 100, 1).await;
    assert_eq!(seconds(&mut rig, 3).await, [11, 10, 10]);
});

both!(a_restart_brings_a_burst_and_no_stampede, async |db| {
    let first = rig(db).await;
    let receiver = Receiver::start().await;
    let app = first.application("a").await;
    let endpoint = first.endpoint(&app, "e", &receiver.url()).await;
    throttle(&first, "endpoint", &endpoint, 10).await;
    backlog(&first, &app, &endpoint, 1_000, 0).await;
    first.sql("update delivery set due_at = null", []).await;
    first.kill().await;
    let mut rig = rig(db).await;
    if db.kind() == crate::harness::Kind::Postgres {
        // The dead process keeps its share until it is declared dead.
        for _ in 0..6 {
            second(&mut [&mut rig]).await;
        }
        let sent = receiver.count();
        assert!((40..=62).contains(&sent), "{sent} in 6 s");
        assert_eq!(seconds(&mut rig, 2).await, [10, 10]);
    } else {
        assert_eq!(seconds(&mut rig, 3).await, [11, 10, 10]);
    }
});

both!(what_waits_for_a_rate_goes_without_a_poll, async |db| {
    let mut rig = rig(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 10).await;
    let running = rig.run();
    for _ in 0..9 {
        rig.accept(&app, "{}").await;
    }
    receiver.wait_for(2).await;
    for at in 3..=9 {
        within(DEADLINE, "the next delivery waits for the rate", async || {
            (rig.count("delivery where owner is not null").await == 0).then_some(())
        })
        .await;
        assert_eq!(receiver.count(), at - 1);
        rig.clock.advance(Duration::from_millis(100));
        receiver.wait_for(at).await;
    }
    running.stop(true).await;
    assert_eq!(rig.count("delivery").await, 0);
});

both!(a_rate_holds_beside_a_full_cap, async |db| {
    let mut rig = rig(db).await;
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.answer(Answer::ok().behind(&gate));
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    throttle(&rig, "endpoint", &endpoint, 100).await;
    backlog(&rig, &app, &endpoint, 50, 0).await;
    let running = rig.run();
    receiver.wait_for(16).await;
    rig.clock.advance(Duration::from_millis(900));
    gate.open();
    receiver.wait_for(26).await;
    assert!(receiver.count() <= 36, "a burst is 20");
    // How much of each burst is sent depends on when slots become free. As the clock moves, all of it is sent.
    within(DEADLINE, "the rest goes out", async || {
        rig.clock.advance(STEP);
        (receiver.count() >= 50).then_some(())
    })
    .await;
    running.stop(true).await;
});

postgres_only!(two_processes_share_a_rate, async |db| {
    let mut a = rig(db).await;
    let mut b = beside(db, &a).await;
    let receiver = Receiver::start().await;
    let app = a.application("a").await;
    let endpoint = a.endpoint(&app, "e", &receiver.url()).await;
    throttle(&a, "endpoint", &endpoint, 50).await;
    backlog(&a, &app, &endpoint, 2_000, 0).await;
    for _ in 0..2 {
        second(&mut [&mut a, &mut b]).await;
    }
    for _ in 0..3 {
        assert_eq!(second(&mut [&mut a, &mut b]).await, [25, 25]);
    }
    a.kill().await;
    let mut rates = Vec::new();
    for _ in 0..7 {
        rates.extend(second(&mut [&mut b]).await);
    }
    assert_eq!(rates[0], 25, "the death is not known yet");
    assert_eq!(rates[5..], [50, 50], "the living process has the whole rate: {rates:?}");
    let mut c = beside(db, &b).await;
    second(&mut [&mut b, &mut c]).await;
    assert_eq!(
        second(&mut [&mut b, &mut c]).await,
        [25, 25],
        "a third process has half of the rate"
    );
});

postgres_only!(an_orderly_stop_gives_the_share_back_at_once, async |db| {
    let mut a = rig(db).await;
    let mut b = beside(db, &a).await;
    let receiver = Receiver::start().await;
    let app = a.application("a").await;
    let endpoint = a.endpoint(&app, "e", &receiver.url()).await;
    throttle(&a, "endpoint", &endpoint, 50).await;
    b.step().await;
    a.run().stop(true).await;
    backlog(&b, &app, &endpoint, 1_000, 0).await;
    assert_eq!(seconds(&mut b, 3).await, [55, 50, 50]);
});

/// Returns the values of both names of the rate in a response.
fn rates(answer: &Value) -> [&Value; 2] {
    [&answer["throttleRate"], &answer["rateLimit"]]
}

both!(
    throttle_rate_and_rate_limit_are_one_field_of_applications_and_endpoints,
    async |db| {
        let api = Api::on(db).await;
        api.application("own").await;
        let new = [
            ("/app".to_owned(), json!({"name": "n", "uid": "u"})),
            (
                "/app/u/endpoint".to_owned(),
                json!({"url": "https://example.com/", "uid": "u"}),
            ),
        ];
        for (list, body) in new {
            let item = format!("{list}/u");
            let with = |more: Value| {
                let mut body = body.clone();
                body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                body
            };
            let is = |answer: api::Answer, rate: Value| {
                assert!(answer.status.is_success(), "{}", answer.json);
                assert_eq!(rates(&answer.json), [&rate, &rate], "{item}");
            };
            is(api.post(&list, body.clone()).await, json!(null));
            for (name, other) in [("throttleRate", "rateLimit"), ("rateLimit", "throttleRate")] {
                let both = json!({"throttleRate": 3, "rateLimit": 4});
                is(api.put(&item, with(json!({name: 7}))).await, json!(7));
                is(api.get(&item).await, json!(7));
                is(
                    api.put(&item, with(json!({name: 65_535, other: null}))).await,
                    json!(65_535),
                );
                is(api.put(&item, with(both.clone())).await, json!(3));
                is(api.put(&item, body.clone()).await, json!(null));
                is(api.patch(&item, json!({name: 1})).await, json!(1));
                is(api.patch(&item, json!({})).await, json!(1));
                is(api.patch(&item, both).await, json!(3));
                is(api.patch(&item, json!({name: null})).await, json!(null));
                for wrong in [0, 65_536] {
                    let at = format!("body.{name}");
                    api.put(&item, with(json!({name: wrong}))).await.breaks_rule_at(&at);
                    api.patch(&item, json!({name: wrong})).await.breaks_rule_at(&at);
                }
            }
            let listed = api.get(&list).await;
            let listed = listed.expect(200)["data"].as_array().unwrap();
            assert!(listed.iter().all(|entry| rates(entry) == [&Value::Null; 2]));
        }
    }
);
