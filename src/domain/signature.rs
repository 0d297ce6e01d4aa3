//! Signs a delivery by the Standard Webhooks specification, scheme `v1`.
//!
//! Responsible for the header's value alone; which secrets are valid, and the headers' names, are others' concern.
//! Called by the sender for every attempt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{Context, HMAC_SHA256, Key};

use super::secret::EndpointSecret;

/// The signatures of `id.timestamp.body`: `v1,<base64 HMAC-SHA256>` for each secret, in the given order, space-separated.
///
/// `timestamp_seconds` is the Unix time of this attempt, as sent beside the signature.
pub fn sign(secrets: &[EndpointSecret], id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp_seconds}.");
    let mut signatures = String::with_capacity(secrets.len() * 48);
    for secret in secrets {
        if !signatures.is_empty() {
            signatures.push(' ');
        }
        let mut context = Context::with_key(&Key::new(HMAC_SHA256, secret.key_bytes()));
        context.update(head.as_bytes());
        context.update(body);
        signatures.push_str("v1,");
        STANDARD.encode_string(context.sign(), &mut signatures);
    }
    signatures
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use standardwebhooks::Webhook;

    use super::*;
    use crate::clock::Clock;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    fn now_seconds() -> i64 {
        Clock::system().now().unix_seconds()
    }

    fn verified(secret: &EndpointSecret, id: &str, seconds: i64, body: &[u8], signatures: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
        headers.insert("webhook-signature", signatures.parse().unwrap());
        Webhook::new(&secret.to_wire()).unwrap().verify(body, &headers).is_ok()
    }

    #[test]
    fn the_signature_of_a_known_message_is_the_known_one() {
        let secret = EndpointSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(&[secret], ID, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_reference_library_verifies_what_we_sign() {
        let (secret, seconds) = (EndpointSecret::generate(), now_seconds());
        for body in ["", "{}", r#"{"text": "grüße 🚀", "n": 1.10}"#, &"x".repeat(100_000)] {
            let signature = sign(std::slice::from_ref(&secret), ID, seconds, body.as_bytes());
            assert!(verified(&secret, ID, seconds, body.as_bytes(), &signature));
        }
    }

    #[test]
    fn each_secret_verifies_its_own_signature_in_the_header() {
        let (new, old, seconds) = (EndpointSecret::generate(), EndpointSecret::generate(), now_seconds());
        let both = sign(&[new.clone(), old.clone()], ID, seconds, b"{}");
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.starts_with(&sign(std::slice::from_ref(&new), ID, seconds, b"{}")));
        assert!(verified(&new, ID, seconds, b"{}", &both));
        assert!(verified(&old, ID, seconds, b"{}", &both));
        assert!(!verified(&EndpointSecret::generate(), ID, seconds, b"{}", &both));
    }

    #[test]
    fn a_changed_id_time_or_body_does_not_verify() {
        let (secret, seconds) = (EndpointSecret::generate(), now_seconds());
        let signature = sign(std::slice::from_ref(&secret), ID, seconds, b"{}");
        assert!(!verified(&secret, "msg_other", seconds, b"{}", &signature));
        assert!(!verified(&secret, ID, seconds + 1, b"{}", &signature));
        assert!(!verified(&secret, ID, seconds, b"{ }", &signature));
    }

    #[test]
    fn without_secrets_there_is_no_signature() {
        assert_eq!(sign(&[], ID, 0, b"{}"), "");
    }
}
