//! Deliveries: a message is sent, signed, retried and recorded.

use crate::harness::{Answer, Receiver, Rig, SECRET, START};

both!(a_message_arrives_signed_and_byte_for_byte, async |db| {
    let mut rig = Rig::on(db).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    let body = r#"{"z":1,"a":1.10,"n":12345678901234567890123, "u":"\u00e9"}"#;
    let accepted = rig.accept(&app, body).await;
    assert_eq!(rig.step().await.sent, 1);
    let arrivals = receiver.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0].text(), body);
    assert_eq!(arrivals[0].message_id(), accepted.message_id);
    assert_eq!(
        arrivals[0].header("webhook-timestamp"),
        Some(START.unix_seconds().to_string().as_str())
    );
    assert_eq!(arrivals[0].header("content-type"), Some("application/json"));
    assert_eq!(rig.state(&accepted.message_id).await, "delivered");
    assert_eq!(rig.count("delivery").await, 0);
    assert_eq!(
        rig.count("attempt where delivered and response_status = 200 and trigger = 0")
            .await,
        1
    );
});

both!(
    a_failed_attempt_is_tried_again_by_the_schedule_until_it_is_exhausted,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        receiver.answer(Answer::status(500));
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let id = rig.accept(&app, "{}").await.message_id;
        assert_eq!(rig.step().await.sent, 1);
        assert_eq!(rig.state(&id).await, "waiting");
        rig.advance(3);
        assert_eq!(rig.step().await.sent, 0, "5 s less 20 % is the earliest");
        rig.advance(4);
        assert_eq!(rig.step().await.sent, 1);
        rig.advance(361);
        assert_eq!(rig.step().await.sent, 1);
        assert_eq!(rig.state(&id).await, "failed");
        assert_eq!(rig.count("delivery").await, 0);
        assert_eq!(rig.count("attempt where not delivered").await, 3);
        assert_eq!(rig.count("attempt where next_at is null").await, 1);
    }
);

both!(
    a_delivery_is_signed_with_every_secret_that_has_not_expired_newest_first,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
        let old = "whsec_b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZA==";
        let gone = "whsec_Z29uZSBnb25lIGdvbmUgZ29uZSBnb25lIGdvbmUgZ29uZQ==";
        let secrets = serde_json::json!([
            {"sealed": rig.seal(&endpoint, SECRET)},
            {"sealed": rig.seal(&endpoint, old), "expires_at": START.0 + 1},
            {"sealed": rig.seal(&endpoint, gone), "expires_at": START.0},
        ]);
        rig.sql("update endpoint set secrets = $1", [secrets.to_string().into()])
            .await;
        rig.accept("a-uid", "{}").await;
        rig.drain().await;
        let arrival = &receiver.arrivals()[0];
        assert!(arrival.is_signed_with(SECRET) && arrival.is_signed_with(old) && !arrival.is_signed_with(gone));
        assert_eq!(arrival.header("webhook-signature").unwrap().split(' ').count(), 2);
    }
);
