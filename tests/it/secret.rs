//! Signing secrets through the API and on the wire: both kinds, and their rotation. Signatures are verified by code
//! that is not ours: the public library for `v1`, ring for `v1a`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::json;

use crate::api::Api;
use crate::harness::{Arrival, Receiver, TestDatabase, rows};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const DAY: u64 = 86_400;

/// Returns an Ed25519 key: the private text that a caller gives, and the public text that receivers get.
fn asymmetric(seed: u8) -> (String, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let whole = [&[seed; 32], public].concat();
    (
        format!("whsk_{}", STANDARD.encode(whole)),
        format!("whpk_{}", STANDARD.encode(public)),
    )
}

fn symmetric(byte: u8) -> String {
    format!("whsec_{}", STANDARD.encode([byte; 24]))
}

/// Returns the places of the signatures that this key (`whsec_…` or `whpk_…`) verifies.
fn signed_at(arrival: &Arrival, key: &str) -> Vec<usize> {
    let signatures = arrival.header("webhook-signature").unwrap().split(' ');
    let head = format!(
        "{}.{}.",
        arrival.message_id(),
        arrival.header("webhook-timestamp").unwrap()
    );
    let signed = [head.as_bytes(), &arrival.body].concat();
    let verifies = |signature: &str| match (key.strip_prefix("whpk_"), signature.strip_prefix("v1a,")) {
        (Some(public), Some(signature)) => UnparsedPublicKey::new(&ED25519, STANDARD.decode(public).unwrap())
            .verify(&signed, &STANDARD.decode(signature).unwrap())
            .is_ok(),
        (None, None) => {
            let timestamp = arrival.header("webhook-timestamp").unwrap().parse().unwrap();
            let webhook = standardwebhooks::Webhook::new(key).unwrap();
            let expected = webhook.sign(arrival.message_id(), timestamp, &arrival.body).unwrap();
            expected == signature
        }
        _ => false,
    };
    let found = signatures.enumerate().filter(|(_, signature)| verifies(signature));
    found.map(|(place, _)| place).collect()
}

/// An application with an endpoint `e` at a receiver.
struct Signed {
    api: Api,
    receiver: Receiver,
    endpoint: String,
    app: String,
}

impl Signed {
    async fn with(db: &TestDatabase, secret: &str) -> Self {
        let (api, receiver) = (Api::on(db).await, Receiver::start().await);
        let app = api.application("app").await;
        let new = json!({"url": receiver.url(), "uid": "e", "secret": secret});
        api.post(&format!("/app/{app}/endpoint"), new).await.expect(201);
        Self {
            api,
            receiver,
            endpoint: format!("/app/{app}/endpoint/e"),
            app,
        }
    }

    async fn rotate(&self, body: serde_json::Value) -> String {
        let path = format!("{}/secret/rotate", self.endpoint);
        self.api.post(&path, body).await.expect(200)["key"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn key(&self) -> String {
        self.api.get(&format!("{}/secret", self.endpoint)).await.expect(200)["key"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Sends a message and returns it as it arrives.
    async fn arrival(&mut self) -> Arrival {
        let body = json!({"eventType": "a", "payload": {"n": 1.10, "ü": "🚀"}});
        self.api.post(&format!("/app/{}/msg", self.app), body).await.expect(202);
        self.api.rig.drain().await;
        self.receiver.arrivals().pop().unwrap()
    }
}

fn count(arrival: &Arrival) -> usize {
    arrival.header("webhook-signature").unwrap().split(' ').count()
}

both!(
    an_ed25519_key_comes_in_as_whsk_goes_out_as_whpk_and_signs_v1a,
    async |db| {
        let (private, public) = asymmetric(7);
        let mut signed = Signed::with(db, &private).await;
        assert_eq!(signed.key().await, public);
        let arrival = signed.arrival().await;
        assert_eq!(signed_at(&arrival, &public), [0]);
        assert_eq!((count(&arrival), signed_at(&arrival, &asymmetric(8).1)), (1, vec![]));
        let stored = rows(&signed.api.rig.db, "select secrets from endpoint").await;
        let stored: String = stored[0].try_get("", "secrets").unwrap();
        assert!(
            !stored.contains("whsk") && !stored.contains(&private[5..20]),
            "{stored}"
        );
    }
);

both!(
    rotating_from_one_kind_to_the_other_signs_with_both_newest_first,
    async |db| {
        let (private, public) = asymmetric(7);
        let mut signed = Signed::with(db, SECRET).await;
        assert_eq!(signed.rotate(json!({"key": private})).await, public);
        let arrival = signed.arrival().await;
        assert_eq!(
            (signed_at(&arrival, &public), signed_at(&arrival, SECRET)),
            (vec![0], vec![1])
        );
        let back = symmetric(1);
        assert_eq!(signed.rotate(json!({"key": back})).await, back);
        let arrival = signed.arrival().await;
        let places = [&back, &public, SECRET].map(|key| signed_at(&arrival, key));
        assert_eq!(places, [[0], [1], [2]]);
    }
);

both!(
    a_secret_that_is_made_by_rotating_is_of_the_kind_that_it_replaces,
    async |db| {
        let mut signed = Signed::with(db, &asymmetric(7).0).await;
        let made = signed.rotate(json!({})).await;
        assert!(made.starts_with("whpk_"), "{made}");
        assert_eq!(signed.key().await, made);
        let arrival = signed.arrival().await;
        assert_eq!(
            (signed_at(&arrival, &made), signed_at(&arrival, &asymmetric(7).1)),
            (vec![0], vec![1])
        );
    }
);

both!(a_replaced_secret_signs_until_its_grace_period_ends, async |db| {
    let mut signed = Signed::with(db, &symmetric(1)).await;
    signed
        .rotate(json!({"key": symmetric(2), "gracePeriodSeconds": 604_800}))
        .await;
    signed
        .rotate(json!({"key": symmetric(3), "gracePeriodSeconds": null}))
        .await;
    let arrival = signed.arrival().await;
    let places = [3, 2, 1].map(|byte| signed_at(&arrival, &symmetric(byte)));
    assert_eq!(places, [[0], [1], [2]]);
    signed.api.rig.advance(DAY - 1);
    assert_eq!(count(&signed.arrival().await), 3, "the default grace period is 86400 s");
    signed.api.rig.advance(1);
    let arrival = signed.arrival().await;
    assert_eq!((count(&arrival), signed_at(&arrival, &symmetric(1))), (2, vec![1]));
    signed
        .rotate(json!({"key": symmetric(4), "gracePeriodSeconds": 0}))
        .await;
    let arrival = signed.arrival().await;
    assert_eq!(
        (count(&arrival), signed_at(&arrival, &symmetric(3))),
        (2, vec![]),
        "a grace period of 0 ends the old secret at once"
    );
    signed.api.rig.advance(6 * DAY);
    let arrival = signed.arrival().await;
    assert_eq!((count(&arrival), signed_at(&arrival, &symmetric(4))), (1, vec![0]));
});

both!(
    a_secret_that_is_rotated_between_accept_and_first_try_signs_the_first_try,
    async |db| {
        let mut signed = Signed::with(db, &symmetric(1)).await;
        // Too large for the fast path.
        let message = json!({"eventType": "a", "payload": {"x": "x".repeat(70_000)}});
        let path = format!("/app/{}/msg", signed.app);
        for (old, new, grace) in [(1, 2, 0), (2, 3, DAY)] {
            signed.api.post(&path, message.clone()).await.expect(202);
            signed
                .rotate(json!({"key": symmetric(new), "gracePeriodSeconds": grace}))
                .await;
            signed.api.rig.drain().await;
            let arrival = signed.receiver.arrivals().pop().unwrap();
            assert_eq!(signed_at(&arrival, &symmetric(new)), [0]);
            let valid = if grace == 0 { vec![] } else { vec![1] };
            assert_eq!(signed_at(&arrival, &symmetric(old)), valid);
        }
        assert_eq!(signed.receiver.count(), 2);
    }
);

both!(post_rotate_answers_200_with_the_key_also_without_a_body, async |db| {
    let signed = Signed::with(db, SECRET).await;
    let path = format!("{}/secret/rotate", signed.endpoint);
    let blank = signed.api.call(&signed.api.token, "POST", &path, &[], " \n").await;
    blank.breaks_rule_at("body");
    for body in ["", "{}", r#"{"key":null,"gracePeriodSeconds":null,"unknown":1}"#] {
        let answer = signed.api.call(&signed.api.token, "POST", &path, &[], body).await;
        let key = answer.expect(200)["key"].as_str().unwrap().to_owned();
        assert!(key.starts_with("whsec_") && key != SECRET);
        assert_eq!(answer.json.as_object().unwrap().len(), 1);
        assert_eq!(signed.key().await, key);
    }
});

both!(
    post_rotate_answers_204_to_sdks_that_take_nothing_else_and_the_key_to_all_others,
    async |db| {
        let signed = Signed::with(db, SECRET).await;
        let api = &signed.api;
        let operational = "/operational-webhook/endpoint";
        let new = json!({"url": signed.receiver.url(), "uid": "o"});
        api.post(operational, new).await.expect(201);
        for endpoint in [signed.endpoint.clone(), format!("{operational}/o")] {
            let (path, secret) = (format!("{endpoint}/secret/rotate"), format!("{endpoint}/secret"));
            for version in ["0.70.0", "1.11.0", "1.36.0", "1.56.0"] {
                let agent = format!("svix-libs/{version}/python");
                let headers = [("user-agent", agent.as_str()), ("idempotency-key", version)];
                let before = api.get(&secret).await.field("key");
                let done = api.call(&api.token, "POST", &path, &headers, "{}").await;
                done.expect(204);
                assert_eq!((done.text.as_str(), done.headers.get("content-type")), ("", None));
                let rotated = api.get(&secret).await.field("key");
                assert_ne!(rotated, before);
                api.call(&api.token, "POST", &path, &headers, "{}").await.expect(204);
                assert_eq!(
                    api.get(&secret).await.field("key"),
                    rotated,
                    "a repeated key does not rotate again"
                );
            }
            for agent in [
                "svix-libs/1.64.0/python",
                "svix-libs/2.9.1/python",
                "svix-libs/1.36.0/javascript",
                "curl/8.14.1",
            ] {
                let headers = [("user-agent", agent)];
                let done = api.call(&api.token, "POST", &path, &headers, "{}").await;
                assert_eq!(done.expect(200)["key"], api.get(&secret).await.field("key"), "{agent}");
            }
        }
    }
);

both!(
    post_rotate_is_limit_reached_while_ten_replaced_secrets_sign,
    async |db| {
        let mut signed = Signed::with(db, &symmetric(0)).await;
        for n in 1..=10 {
            signed
                .rotate(json!({"key": symmetric(n), "gracePeriodSeconds": 60}))
                .await;
        }
        let path = format!("{}/secret/rotate", signed.endpoint);
        let more = signed.api.post(&path, json!({})).await;
        more.is_over_limit("at most 10 replaced secrets sign beside the newest; wait until one expires");
        let arrival = signed.arrival().await;
        assert_eq!((count(&arrival), signed_at(&arrival, &symmetric(10))), (11, vec![0]));
        assert_eq!(signed_at(&arrival, &symmetric(0)), [10]);
        signed.api.rig.advance(60);
        signed.rotate(json!({})).await;
        assert_eq!(count(&signed.arrival().await), 2);
    }
);

both!(put_and_patch_never_touch_the_secret, async |db| {
    let signed = Signed::with(db, SECRET).await;
    let body = json!({"url": signed.receiver.url(), "uid": "e", "secret": symmetric(1), "key": symmetric(1)});
    signed.api.put(&signed.endpoint, body.clone()).await.expect(200);
    signed.api.patch(&signed.endpoint, body).await.expect(200);
    assert_eq!(signed.key().await, SECRET);
});

both!(an_invalid_key_is_refused_at_creation_and_rotation, async |db| {
    let signed = Signed::with(db, SECRET).await;
    let (private, public) = asymmetric(7);
    let other = asymmetric(8).0;
    let mixed = format!("{}{}", &private[..48], &other[48..]);
    let short = format!("whsk_{}", STANDARD.encode([7; 32]));
    for key in [
        public,
        mixed,
        short,
        format!("whsec_{}", STANDARD.encode([1; 76])),
        "whsk_".into(),
    ] {
        let new = json!({"url": signed.receiver.url(), "secret": key});
        let path = format!("/app/{}/endpoint", signed.app);
        signed.api.post(&path, new).await.breaks_rule_at("body.secret");
        let path = format!("{}/secret/rotate", signed.endpoint);
        signed
            .api
            .post(&path, json!({"key": key}))
            .await
            .breaks_rule_at("body.key");
    }
});
