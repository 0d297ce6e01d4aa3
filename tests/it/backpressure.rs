//! Outcomes that are not yet stored: how many of them a process keeps, which deliveries they stop, and that none of
//! these messages is sent twice.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use postrider::clock::Clock;
use postrider::slots::Caps;

use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, START, Shape, TestDatabase, within};
use crate::intake::{lock, wait_for_blocked};
use crate::metrics::{page, value};

/// More messages than one application may have sent and not settled.
const MANY: usize = 3_500;
/// An application's share: half of the 4,096 outcomes that a process may keep.
const SHARE: usize = 2_048;
const CAPS: Caps = Caps {
    process: 512,
    endpoint: 512,
};
/// The share, and the attempts that were in flight when it was reached.
const SENT_AT_MOST: usize = SHARE + CAPS.process;

/// Returns a rig in real time: the claimer looks for due rows once a second.
async fn running_alone(db: &TestDatabase) -> Rig {
    let shape = Shape {
        clock: Clock::system(),
        caps: CAPS,
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

/// Accepts `count` messages, up to 256 at once.
async fn accept_many(rig: &Rig, app: &str, count: usize) {
    stream::iter(0..count)
        .map(|_| rig.accept(app, "{}"))
        .buffer_unordered(256)
        .count()
        .await;
}

/// Makes the database refuse attempts of the application with this error code. A sequence counts the tries.
async fn refuse_attempts(rig: &Rig, app: &str, code: &str) {
    rig.sql("create sequence tries", []).await;
    let function = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin \
         if new.app_id = '{app}' then perform nextval('tries'); raise 'refused' using errcode = '{code}'; end if; \
         return new; end $$"
    );
    rig.sql(&function, []).await;
    let trigger = "create trigger refuse before insert on attempt for each row execute function refuse()";
    rig.sql(trigger, []).await;
}

async fn tries(rig: &Rig) -> i64 {
    rig.count("generate_series(1, (select last_value from tries))").await
}

async fn refuse_no_more(rig: &Rig) {
    rig.sql("drop trigger refuse on attempt", []).await;
}

async fn is_delivered(rig: &Rig, what: &str, id: &str) {
    within(DEADLINE, what, async || {
        (rig.state(id).await == "delivered").then_some(())
    })
    .await;
}

async fn everything_is_settled(rig: &Rig, messages: usize) {
    within(DEADLINE, "everything is settled", async || {
        (rig.count("delivery").await == 0).then_some(())
    })
    .await;
    assert_eq!(rig.count("delivery_result where state = 0").await, messages as i64);
}

/// Waits until the process has looked for due rows at least once more.
async fn some_polls(rig: &Rig) {
    let beat = async || rig.count("generate_series(1, (select max(beat) from process))").await;
    let before = beat().await;
    within(DEADLINE, "two seconds of beats", async || {
        (beat().await >= before + 8).then_some(())
    })
    .await;
}

postgres_only!(
    senders_stop_while_outcomes_cannot_be_stored_and_go_on_where_they_stopped,
    async |db| {
        let mut rig = running_alone(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let locked = lock(db, "attempt").await;
        let running = rig.run();
        accept_many(&rig, &app, MANY).await;
        receiver
            .wait_until("senders use the application's share", |arrivals| {
                arrivals.len() >= SHARE
            })
            .await;
        some_polls(&rig).await;
        within(DEADLINE, "nothing is in flight", async || {
            rig.slots.is_idle().then_some(())
        })
        .await;
        let sent = receiver.count();
        assert!(sent <= SENT_AT_MOST, "{sent} are sent and not settled");
        assert_eq!(value(&page(&rig).await, "postrider_deliveries_unsettled"), sent as f64);
        locked.commit().await.expect("the lock ends");
        everything_is_settled(&rig, MANY).await;
        assert_eq!(receiver.count(), MANY, "each arrived once");
        running.stop(true).await;
        assert_eq!(value(&page(&rig).await, "postrider_deliveries_unsettled"), 0.0);
    }
);

postgres_only!(
    large_answers_that_wait_to_be_stored_stop_the_senders_sooner,
    async |db| {
        let mut rig = running_alone(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::ok().body("x".repeat(20_000)));
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let locked = lock(db, "attempt").await;
        let running = rig.run();
        accept_many(&rig, &app, 1_900).await;
        receiver
            .wait_until("senders use the application's share", |arrivals| {
                arrivals.len() >= 1_100
            })
            .await;
        some_polls(&rig).await;
        within(DEADLINE, "nothing is in flight", async || {
            rig.slots.is_idle().then_some(())
        })
        .await;
        let sent = receiver.count();
        assert!(sent <= 1_200 + CAPS.process, "{sent} answers of 20 kB are held");
        locked.commit().await.expect("the lock ends");
        everything_is_settled(&rig, 1_900).await;
        assert_eq!(receiver.count(), 1_900, "each arrived once");
        running.stop(true).await;
    }
);

// This is how it looks when another session locks rows of that application for hours.
postgres_only!(
    an_application_whose_outcomes_cannot_be_stored_stops_no_other,
    async |db| {
        let mut rig = running_alone(db).await;
        let receiver = Receiver::start().await;
        let (a, b) = (rig.application("a").await, rig.application("b").await);
        rig.endpoint(&a, "locked", &receiver.url_of("/a")).await;
        rig.endpoint(&b, "free", &receiver.url_of("/b")).await;
        refuse_attempts(&rig, &a, "57014").await;
        let running = rig.run();
        accept_many(&rig, &a, MANY).await;
        receiver
            .wait_until("senders use the application's share", |arrivals| {
                arrivals.len() >= SHARE
            })
            .await;
        for _ in 0..3 {
            let id = rig.accept(&b, "{}").await.message_id;
            is_delivered(&rig, "the other application's is settled", &id).await;
        }
        let sent = receiver.count() - 3;
        assert!(sent <= SENT_AT_MOST, "{sent} are sent and not settled");
        refuse_no_more(&rig).await;
        everything_is_settled(&rig, MANY + 3).await;
        running.stop(true).await;
        assert_eq!(receiver.count(), MANY + 3, "each arrived once");
    }
);

postgres_only!(an_outcome_that_meets_a_bad_block_stops_no_other, async |db| {
    let mut rig = Rig::on(db).await;
    let (receiver, gate) = (Receiver::start().await, Gate::closed());
    receiver.answer(Answer::ok().behind(&gate));
    let (a, b) = (rig.application("a").await, rig.application("b").await);
    rig.endpoint(&a, "bad", &receiver.url()).await;
    rig.endpoint(&b, "good", &receiver.url()).await;
    refuse_attempts(&rig, &a, "58030").await;
    let running = rig.run();
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push((
            rig.accept(&a, "{}").await.message_id,
            rig.accept(&b, "{}").await.message_id,
        ));
    }
    receiver.wait_for(16).await;
    gate.open();
    for (bad, good) in &ids {
        is_delivered(&rig, "the others are settled", good).await;
        assert_eq!(rig.state(bad).await, "none");
    }
    refuse_no_more(&rig).await;
    for (bad, _) in &ids {
        is_delivered(&rig, "nothing is lost", bad).await;
    }
    running.stop(true).await;
    assert_eq!(receiver.count(), 16, "each arrived once");
});

/// Lets a minute and a half pass for two processes, which is longer than any lease. The first runs by itself; the
/// second is stepped.
async fn outlast_leases(a: &Rig, b: &mut Rig) {
    let beats = async || {
        a.count("generate_series(1, (select sum(beat)::int from process))")
            .await
    };
    for _ in 0..90 {
        let before = beats().await;
        a.advance(1);
        within(DEADLINE, "the first process beats", async || {
            // The process may have been at work when the clock moved, and sleeps only now.
            let beaten = beats().await > before;
            if !beaten {
                a.clock.advance(Duration::from_millis(250));
            }
            beaten.then_some(())
        })
        .await;
        // On a busy machine many seconds of this clock pass before the first process has extended its leases once.
        within(DEADLINE, "the first process extends its leases", async || {
            let over = format!("delivery where owner is not null and due_at <= {}", a.clock.now().0);
            (a.count(&over).await == 0).then_some(())
        })
        .await;
        let step = tokio::time::timeout(DEADLINE, b.step())
            .await
            .expect("a step that sends nothing ends");
        assert_eq!(
            (step.taken_over, step.sent),
            (0, 0),
            "the first process still holds these leases"
        );
    }
}

fn two_on(clock: &Clock) -> Shape {
    Shape {
        clock: clock.clone(),
        ..Shape::default()
    }
}

postgres_only!(
    outcomes_that_wait_behind_a_locked_table_are_sent_by_no_other_process,
    async |db| {
        let clock = Clock::test(START);
        let mut a = Rig::shaped(db, two_on(&clock)).await;
        let mut b = Rig::shaped(db, two_on(&clock)).await;
        let receiver = Receiver::start().await;
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        let running = a.run();
        let locked = lock(db, "attempt").await;
        accept_many(&a, &app, 600).await;
        receiver.wait_for(600).await;
        wait_for_blocked(&a, 1).await;
        outlast_leases(&a, &mut b).await;
        locked.commit().await.expect("the lock ends");
        everything_is_settled(&a, 600).await;
        b.step().await;
        assert_eq!(receiver.count(), 600, "each arrived once");
        assert_eq!(a.count("attempt").await, 600);
        running.stop(true).await;
    }
);

postgres_only!(
    outcomes_that_are_refused_again_and_again_are_sent_by_no_other_process,
    async |db| {
        let clock = Clock::test(START);
        let mut a = Rig::shaped(db, two_on(&clock)).await;
        let mut b = Rig::shaped(db, two_on(&clock)).await;
        let receiver = Receiver::start().await;
        let app = a.application("a").await;
        a.endpoint(&app, "e", &receiver.url()).await;
        refuse_attempts(&a, &app, "57014").await;
        let running = a.run();
        accept_many(&a, &app, 20).await;
        receiver.wait_for(20).await;
        // From now on this process claims nothing, not even its own rows.
        running.stop.cancel();
        outlast_leases(&a, &mut b).await;
        refuse_no_more(&a).await;
        everything_is_settled(&a, 20).await;
        b.step().await;
        assert_eq!(receiver.count(), 20, "each arrived once");
        running.stop(true).await;
    }
);

// For example a process that was suspended for a moment, or whose machine was busy, while another session has locked a
// table.
postgres_only!(
    a_new_owner_id_is_taken_though_a_settle_of_the_process_keeps_rows_locked,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let old = rig.slots.owner().expect("the process may lease");
        let locked = lock(db, "attempt").await;
        let running = rig.run();
        accept_many(&rig, &app, 3).await;
        receiver.wait_for(3).await;
        wait_for_blocked(&rig, 1).await;
        rig.advance(4);
        let new = within(DEADLINE / 2, "the process may lease again", async || rig.slots.owner()).await;
        assert_ne!(old, new);
        locked.commit().await.expect("the lock ends");
        everything_is_settled(&rig, 3).await;
        running.stop(true).await;
        assert_eq!(receiver.count(), 3, "each arrived once");
    }
);

// The database is away for a moment just when the process stops.
postgres_only!(
    answers_that_are_there_when_the_grace_period_ends_are_settled_if_the_database_takes_them_soon,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        refuse_attempts(&rig, &app, "57P01").await;
        let running = rig.run();
        let ids = join_all((0..3).map(|_| rig.accept(&app, "{}"))).await;
        receiver.wait_for(3).await;
        within(DEADLINE, "the answers are there", async || {
            rig.slots.is_idle().then_some(())
        })
        .await;
        tokio::join!(running.stop(false), async {
            within(DEADLINE, "the process has stopped leasing", async || {
                rig.slots.owner().is_none().then_some(())
            })
            .await;
            let before = tries(&rig).await;
            within(
                DEADLINE,
                "storing is tried again although the grace period is over",
                async || (tries(&rig).await >= before + 3).then_some(()),
            )
            .await;
            refuse_no_more(&rig).await;
        });
        for id in ids {
            assert_eq!(rig.state(&id.message_id).await, "delivered");
        }
        assert_eq!(rig.count("delivery").await, 0, "nothing is sent again");
    }
);
