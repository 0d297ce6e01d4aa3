//! Signs deliveries by the Standard Webhooks specification, schemes `v1` (HMAC-SHA256) and `v1a` (Ed25519).
//!
//! Responsible for the value of the signature header alone. Must not decide which secrets are valid, nor name headers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{Context, HMAC_SHA256, Key};
use ring::signature::Ed25519KeyPair;

use super::secret::EndpointSecret;

/// Returns the signatures of `id.timestamp.body`: for each secret, in the given order, `v1,<base64 HMAC-SHA256>` or
/// `v1a,<base64 Ed25519>`, separated by spaces.
///
/// `timestamp_seconds` is the Unix time of the attempt, which is sent in a header too.
pub fn sign(secrets: &[EndpointSecret], id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp_seconds}.");
    let mut signatures = String::with_capacity(secrets.len() * 93);
    for secret in secrets {
        if !signatures.is_empty() {
            signatures.push(' ');
        }
        match secret {
            EndpointSecret::Symmetric(key) => {
                let mut context = Context::with_key(&Key::new(HMAC_SHA256, key));
                context.update(head.as_bytes());
                context.update(body);
                signatures.push_str("v1,");
                STANDARD.encode_string(context.sign(), &mut signatures);
            }
            EndpointSecret::Ed25519(key) => {
                let (seed, public) = key.split_at(key.len() / 2);
                let pair =
                    Ed25519KeyPair::from_seed_and_public_key(seed, public).expect("it was checked when it was read");
                signatures.push_str("v1a,");
                STANDARD.encode_string(pair.sign(&[head.as_bytes(), body].concat()), &mut signatures);
            }
        }
    }
    signatures
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use ring::signature::{ED25519, UnparsedPublicKey};
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

    fn ed25519() -> EndpointSecret {
        let key = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
        EndpointSecret::parse(&format!("whsk_{key}")).unwrap()
    }

    #[test]
    fn ring_verifies_an_ed25519_signature_with_the_public_half_alone() {
        let secret = ed25519();
        for body in ["", "{}", r#"{"text": "grüße 🚀", "n": 1.10}"#] {
            let signature = sign(std::slice::from_ref(&secret), ID, 1_614_265_330, body.as_bytes());
            let signature = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
            let public = STANDARD
                .decode(secret.to_wire().strip_prefix("whpk_").unwrap())
                .unwrap();
            let signed = format!("{ID}.1614265330.{body}");
            let public = UnparsedPublicKey::new(&ED25519, public);
            public.verify(signed.as_bytes(), &signature).unwrap();
            assert!(public.verify(format!("{signed} ").as_bytes(), &signature).is_err());
        }
    }

    #[test]
    fn the_reference_library_finds_its_signature_beside_an_ed25519_one() {
        let (old, seconds) = (EndpointSecret::generate(), now_seconds());
        for secrets in [[ed25519(), old.clone()], [old.clone(), ed25519()]] {
            let both = sign(&secrets, ID, seconds, b"{}");
            let kinds: Vec<_> = both
                .split(' ')
                .map(|signature| signature.split(',').next().unwrap())
                .collect();
            let expected = secrets.map(|secret| if secret == old { "v1" } else { "v1a" });
            assert_eq!(kinds, expected, "in the order of the secrets");
            assert!(verified(&old, ID, seconds, b"{}", &both));
        }
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
