//! API tokens: how they are made, and what of them is kept.
//!
//! Must not know who a token belongs to or whether it is still valid. Called by the token service and by authentication.

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "pr_";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A new token and its hash: `pr_` with 43 characters for 32 random bytes, and what `hash` makes of it.
///
/// The token itself is shown once and never stored. Panics when the operating system gives no random bytes.
pub fn generate() -> (String, String) {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash(&token);
    (token, hash)
}

/// The form in which a token is stored and looked up: SHA-256 as 64 lower-case hex digits.
pub fn hash(token: &str) -> String {
    let digest = digest(&SHA256, token.as_bytes());
    let nibbles = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(HEX[usize::from(nibble)])).collect()
}

/// Whether two hashes are equal, in a time that does not tell where they differ.
pub fn same(one: &str, other: &str) -> bool {
    let difference = one
        .bytes()
        .zip(other.bytes())
        .fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_pr_and_43_base64url_characters_without_a_dot() {
        let (token, _) = generate();
        let rest = token.strip_prefix("pr_").unwrap();
        assert_eq!(rest.len(), 43);
        assert!(
            rest.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        );
    }

    #[test]
    fn tokens_differ_and_come_with_their_hash() {
        let ((one, one_hash), (other, other_hash)) = (generate(), generate());
        assert_ne!(one, other);
        assert_eq!(hash(&one), one_hash);
        assert_eq!(hash(&other), other_hash);
    }

    #[test]
    fn the_hash_is_sha_256_in_lower_case_hex() {
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn hashes_are_the_same_only_when_all_of_them_is() {
        let one = hash("a");
        assert!(same(&one, &hash("a")) && same("", ""));
        assert!(!same(&one, &hash("b")) && !same(&one, &one[1..]) && !same(&one, "") && !same("", &one));
    }
}
