//! Makes API tokens, the hashes by which they are stored and looked up, and the rule for their names.
//!
//! Must not know to which organization or application a token belongs, or whether it is still valid.

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// The beginning of every token.
pub(super) const PREFIX: &str = "pr_";
/// The most characters of a token's name.
const NAME_MOST: usize = 256;
/// Who made a token, if no token did: the command line, or the program at its first start.
pub const BY_COMMAND_LINE: &str = "cli";
pub const BY_PROGRAM: &str = "system";
/// The name, and the session, of a token with which somebody has signed in to the console.
pub const CONSOLE: &str = "console";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Returns a new token and its [`hash`]. The token is `pr_` and 43 characters for 32 random bytes.
///
/// The token itself is shown once and never stored. Panics if the operating system gives no random bytes.
pub fn generate() -> (String, String) {
    let token = format!("{PREFIX}{}", random());
    let hash = hash(&token);
    (token, hash)
}

/// Returns a new code of a link that signs in to the console, and its [`hash`]. The code is 43 characters for 32 random
/// bytes.
///
/// Panics as [`generate`] does.
pub fn generate_code() -> (String, String) {
    let code = random();
    let hash = hash(&code);
    (code, hash)
}

/// Returns 32 random bytes as text.
fn random() -> String {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the form in which a token is stored and looked up: SHA-256 as 64 lower-case hex digits.
pub fn hash(token: &str) -> String {
    let digest = digest(&SHA256, token.as_bytes());
    let nibbles = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(HEX[usize::from(nibble)])).collect()
}

/// Returns the form in which the [`hash`] of a token is stored whose role is not `admin`. Versions of the program from
/// before roles look tokens up by the plain hash, and would give such a token all rights.
pub fn limited(hash: &str) -> String {
    format!("limited:{hash}")
}

/// Returns the form in which the [`hash`] of a token is stored that reads a single poller. Versions of the program from
/// before pollers know neither this form nor the limit, and would give such a token all that an application's may do.
pub fn of_poller(hash: &str) -> String {
    format!("poller:{hash}")
}

/// Checks the name of a token: 1 to 256 characters, no control characters, not only white space.
///
/// # Errors
/// Returns the rule that is broken.
pub fn check_name(name: &str) -> Result<(), String> {
    let count = name.chars().count();
    match name.trim().is_empty() || count > NAME_MOST || name.chars().any(char::is_control) {
        true => Err(format!(
            "must be 1 to {NAME_MOST} characters, and not control characters"
        )),
        false => Ok(()),
    }
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
    fn a_name_has_1_to_256_characters_and_can_be_printed_on_one_line() {
        for good in ["a", "CI of the shop", &"ä".repeat(256)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "  ", "a\nb", &"ä".repeat(257)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hashes_are_the_same_only_when_all_of_them_is() {
        let known = hash("a");
        assert!(same(&known, &hash("a")) && same("", ""));
        assert!(!same(&known, &hash("b")) && !same(&known, &known[1..]) && !same(&known, "") && !same("", &known));
    }
}
