//! Makes API tokens, and the hashes by which they are stored and looked up.
//!
//! Must not know to which organization or application a token belongs, or whether it is still valid.

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

const PREFIX: &str = "pr_";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Returns a new token and its [`hash`]. The token is `pr_` and 43 characters for 32 random bytes.
///
/// The token itself is shown once and never stored. Panics if the operating system gives no random bytes.
pub fn generate() -> (String, String) {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash(&token);
    (token, hash)
}

/// Returns the form in which a token is stored and looked up: SHA-256 as 64 lower-case hex digits.
pub fn hash(token: &str) -> String {
    let digest = digest(&SHA256, token.as_bytes());
    let nibbles = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(HEX[usize::from(nibble)])).collect()
}

/// Returns whether two hashes are equal, in a time that does not reveal where they differ.
pub fn same(first: &str, second: &str) -> bool {
    let difference = first
        .bytes()
        .zip(second.bytes())
        .fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    first.len() == second.len() && difference == 0
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
        let ((first, first_hash), (second, second_hash)) = (generate(), generate());
        assert_ne!(first, second);
        assert_eq!(hash(&first), first_hash);
        assert_eq!(hash(&second), second_hash);
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
        let known = hash("a");
        assert!(same(&known, &hash("a")) && same("", ""));
        assert!(!same(&known, &hash("b")) && !same(&known, &known[1..]) && !same(&known, "") && !same("", &known));
    }
}
