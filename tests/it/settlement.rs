//! Outcomes: every attempt is recorded, and neither a resend nor an outcome that cannot be stored disturbs other
//! deliveries.

use crate::harness::{Answer, DEADLINE, Gate, Receiver, Rig, Shape, within};

both!(
    a_resend_is_never_rescheduled_and_leaves_the_waiting_retry_alone,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500));
        let app = rig.application("a").await;
        let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
        let id = rig.accept(&app, "{}").await.message_id;
        rig.step().await;
        rig.resend(&app, &id, &endpoint).await;
        assert_eq!(rig.step().await.sent, 1);
        assert_eq!(rig.count("delivery where trigger = 1").await, 0);
        assert_eq!(rig.count("delivery where trigger = 0 and attempts_made = 1").await, 1);
        assert_eq!(
            rig.state(&id).await,
            "waiting",
            "a failed resend does not end the schedule"
        );
        assert_eq!(rig.count("attempt where trigger = 1 and next_at is null").await, 1);
        rig.advance(7);
        assert_eq!(rig.drain().await, 1);
        assert_eq!(receiver.count(), 3);
    }
);

both!(a_resends_success_removes_the_waiting_retry, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer_next([Answer::status(500)]);
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    let id = rig.accept(&app, "{}").await.message_id;
    rig.step().await;
    rig.resend(&app, &id, &endpoint).await;
    rig.step().await;
    assert_eq!(rig.state(&id).await, "delivered");
    assert_eq!(rig.count("delivery").await, 0);
    rig.resend(&app, &id, &endpoint).await;
    receiver.answer(Answer::status(500));
    assert_eq!(rig.step().await.sent, 1, "a delivered message can be sent again");
    assert_eq!(rig.state(&id).await, "delivered", "the message stays delivered");
    assert_eq!(receiver.count(), 3);
});

both!(
    a_retry_in_flight_whose_message_was_delivered_meanwhile_is_not_rescheduled,
    async |db| {
        let mut rig = Rig::shaped(
            db,
            Shape {
                schedule: "0,300",
                ..Shape::default()
            },
        )
        .await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.answer_next([Answer::status(500), Answer::status(503).behind(&gate)]);
        let app = rig.application("a").await;
        let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
        let id = rig.accept(&app, "{}").await.message_id;
        rig.step().await;
        let running = rig.run();
        receiver.wait_for(2).await;
        rig.resend(&app, &id, &endpoint).await;
        rig.store.wake();
        receiver.wait_for(3).await;
        crate::harness::within(crate::harness::DEADLINE, "the resend is settled", async || {
            (rig.state(&id).await == "delivered").then_some(())
        })
        .await;
        gate.open();
        running.stop(true).await;
        assert_eq!(rig.count("delivery").await, 0);
        assert_eq!(rig.state(&id).await, "delivered");
        assert_eq!(
            rig.count("attempt where response_status = 503 and next_at is null")
                .await,
            1
        );
        assert_eq!(rig.count("attempt").await, 3);
    }
);

both!(a_batch_of_outcomes_that_fails_is_settled_one_by_one, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer_by(|arrival| match arrival.path.as_str() {
        "/text" => Answer::ok().body("refused"),
        "/whole" => Answer::status(418),
        _ => Answer::ok(),
    });
    rig.refuse(db, "attempt", "response = 'refused' or response_status = 418")
        .await;
    let app = rig.application("a").await;
    for path in ["good", "text", "whole", "fine"] {
        rig.endpoint(&app, path, &receiver.url_of(&format!("/{path}"))).await;
    }
    rig.accept(&app, "{}").await;
    rig.step().await;
    assert_eq!(rig.count("delivery_result where state = 0").await, 3);
    let without =
        "attempt where endpoint_id = 'ep_text' and delivered and response = '(the answer could not be stored)'";
    assert_eq!(rig.count(without).await, 1);
    assert_eq!(rig.count("attempt").await, 3);
    assert_eq!(
        rig.count("delivery where endpoint_id = 'ep_whole' and owner is not null")
            .await,
        1
    );
    assert_eq!(
        rig.count("delivery").await,
        1,
        "an outcome that cannot be settled at all is sent again when its lease ends"
    );
    rig.advance(36);
    receiver.answer(Answer::ok());
    rig.drain().await;
    assert_eq!(rig.count("delivery").await, 0);
});

// The trigger does to each batch what the time limit of statements would do.
postgres_only!(
    a_batch_of_outcomes_that_takes_too_long_is_settled_one_by_one,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        for name in ["one", "two", "three"] {
            rig.endpoint(&app, name, &receiver.url()).await;
        }
        rig.sql(
        "create function take_too_long() returns trigger language plpgsql as $$ begin \
         if (select count(*) from added) > 1 then raise 'too long' using errcode = '57014'; end if; return null; end $$",
        [],
    )
    .await;
        rig.sql(
            "create trigger take_too_long after insert on attempt referencing new table as added \
         for each statement execute function take_too_long()",
            [],
        )
        .await;
        rig.accept(&app, "{}").await;
        assert_eq!(rig.step().await.sent, 3);
        assert_eq!(rig.count("attempt").await, 3);
        assert_eq!(rig.count("delivery_result where state = 0").await, 3);
        assert_eq!(rig.count("delivery").await, 0);
    }
);

// This is how it looks when another session has locked rows of that application.
postgres_only!(outcomes_that_take_too_long_delay_no_other_application, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let (a, b) = (rig.application("a").await, rig.application("b").await);
    rig.endpoint(&a, "slow", &receiver.url()).await;
    rig.endpoint(&b, "quick", &receiver.url()).await;
    rig.sql(
        "create function take_too_long() returns trigger language plpgsql as $$ begin \
             if new.app_id = 'app_a' then raise 'too long' using errcode = '57014'; end if; return null; end $$",
        [],
    )
    .await;
    rig.sql(
        "create trigger take_too_long after insert on attempt for each row execute function take_too_long()",
        [],
    )
    .await;
    let running = rig.run();
    let mut stuck = Vec::new();
    for round in 1..=3 {
        stuck.push(rig.accept(&a, "{}").await.message_id);
        receiver.wait_for(2 * round - 1).await;
        let id = rig.accept(&b, "{}").await.message_id;
        within(DEADLINE, "the other application's message is settled", async || {
            (rig.state(&id).await == "delivered").then_some(())
        })
        .await;
    }
    for id in &stuck {
        assert_eq!(rig.state(id).await, "none");
    }
    rig.sql("drop trigger take_too_long on attempt", []).await;
    for id in &stuck {
        within(DEADLINE, "nothing is lost", async || {
            (rig.state(id).await == "delivered").then_some(())
        })
        .await;
    }
    running.stop(true).await;
    assert_eq!(receiver.count(), 6, "nothing is sent twice");
    assert_eq!(rig.count("delivery").await, 0);
});

// First the database is away. When it is back, another session has locked the rows of that application.
postgres_only!(
    an_outcome_that_takes_too_long_after_an_outage_keeps_no_delivery_from_being_claimed,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let (a, b) = (rig.application("a").await, rig.application("b").await);
        rig.endpoint(&a, "slow", &receiver.url_of("/a")).await;
        rig.endpoint(&b, "quick", &receiver.url_of("/b")).await;
        rig.sql("create sequence tries", []).await;
        rig.sql(
            "create function take_too_long() returns trigger language plpgsql as $$ begin \
             if new.app_id = 'app_a' then \
             if nextval('tries') = 1 then raise 'away' using errcode = '57P01'; end if; \
             raise 'too long' using errcode = '57014'; end if; return null; end $$",
            [],
        )
        .await;
        rig.sql(
            "create trigger take_too_long after insert on attempt for each row execute function take_too_long()",
            [],
        )
        .await;
        receiver.answer(Answer::status(500));
        let retried = rig.accept(&b, "{}").await.message_id;
        rig.step().await;
        let stuck = rig.accept(&a, "{}").await.message_id;
        receiver.answer(Answer::ok());
        let running = rig.run();
        within(DEADLINE, "the outcome waits apart from the others", async || {
            (rig.count("(select last_value as tries from tries) as t where tries > 2")
                .await
                == 1)
                .then_some(())
        })
        .await;
        within(DEADLINE, "the other application's retry is claimed", async || {
            rig.advance(1);
            (rig.state(&retried).await == "delivered").then_some(())
        })
        .await;
        rig.sql("drop trigger take_too_long on attempt", []).await;
        within(DEADLINE, "nothing is lost", async || {
            (rig.state(&stuck).await == "delivered").then_some(())
        })
        .await;
        running.stop(true).await;
    }
);

both!(a_delivered_message_is_not_sent_again_by_a_waiting_row, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
    let id = rig.accept(&app, "{}").await.message_id;
    rig.step().await;
    rig.resend(&app, &id, &endpoint).await;
    rig.sql("update delivery set trigger = 0, attempts_made = 1", []).await;
    rig.drain().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(rig.state(&id).await, "delivered");
    assert_eq!(rig.count("delivery").await, 0);
});
