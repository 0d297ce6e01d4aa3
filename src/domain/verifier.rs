//! The key with which a receiver verifies signatures, read from the text of a secret, and the signatures of a header.
//!
//! Must not say what is wrong with a request as a whole: `verification` does.

use std::fmt;

use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::{DecodeError, Engine};
use ring::hmac::{self, HMAC_SHA256};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use super::{secret, token};

/// The versions of signatures: symmetric, Ed25519.
const VERSIONS: [&str; 2] = ["v1", "v1a"];
/// Bytes of an HMAC-SHA256.
const HMAC_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
const ED25519_LEN: usize = 64;
/// Bytes of an Ed25519 public key.
const PUBLIC_LEN: usize = 32;

/// The key that verifies signatures of one version.
pub(crate) enum Verifier {
    Symmetric(Vec<u8>),
    Ed25519([u8; PUBLIC_LEN]),
}

impl Verifier {
    /// Reads `whsec_` with a symmetric key, the same without `whsec_`, `whpk_` with a public key, or `whsk_` with a
    /// private one.
    pub(crate) fn parse(text: &str) -> Result<Self, SecretFault> {
        let prefixes = [secret::SYMMETRIC, secret::ED25519_PUBLIC, secret::ED25519];
        match prefixes.into_iter().find(|prefix| text.starts_with(prefix)) {
            Some(prefix) => Self::decode(prefix, &text[prefix.len()..]),
            None if text.is_empty() => Err(SecretFault::Empty),
            None if text.starts_with(token::PREFIX) => Err(SecretFault::Token),
            // The libraries of receivers take a symmetric secret without its prefix, too.
            None => Self::decode(secret::SYMMETRIC, text).map_err(|fault| match fault {
                SecretFault::Unpadded => fault,
                _ => SecretFault::Prefix,
            }),
        }
    }

    /// Reads what follows a prefix.
    fn decode(prefix: &'static str, encoded: &str) -> Result<Self, SecretFault> {
        if encoded.is_empty() {
            return Err(SecretFault::Bare(prefix));
        }
        let key = STANDARD.decode(encoded).map_err(|err| SecretFault::of(err, encoded))?;
        let length = key.len();
        let read = match prefix {
            secret::SYMMETRIC if secret::SYMMETRIC_LEN.contains(&length) => Some(Self::Symmetric(key)),
            secret::SYMMETRIC => None,
            secret::ED25519_PUBLIC => key.try_into().ok().map(Self::Ed25519),
            _ => Self::of_private(&key)?,
        };
        read.ok_or(SecretFault::Length(prefix, length))
    }

    /// Reads a seed and its public half. `None` means that they have another length.
    fn of_private(key: &[u8]) -> Result<Option<Self>, SecretFault> {
        match key.split_first_chunk::<PUBLIC_LEN>() {
            Some((seed, public)) if public.len() == PUBLIC_LEN => {
                Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| SecretFault::Halves)?;
                Ok(public.try_into().ok().map(Self::Ed25519))
            }
            _ => Ok(None),
        }
    }

    /// Returns the version of the signatures that it verifies.
    pub(crate) fn version(&self) -> &'static str {
        match self {
            Self::Symmetric(_) => VERSIONS[0],
            Self::Ed25519(_) => VERSIONS[1],
        }
    }

    /// Returns the bytes of each of its signatures.
    fn signature_len(&self) -> usize {
        match self {
            Self::Symmetric(_) => HMAC_LEN,
            Self::Ed25519(_) => ED25519_LEN,
        }
    }

    /// Returns whether one of the signatures is that of `signed`.
    pub(crate) fn holds(&self, signatures: &[Vec<u8>], signed: &[u8]) -> bool {
        signatures.iter().any(|signature| match self {
            Self::Symmetric(key) => is_hmac(key, signed, signature),
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
        })
    }

    /// Returns those signatures of the header that have its version, decoded.
    ///
    /// # Errors
    /// What is wrong with the header if there is none that it could verify.
    pub(crate) fn signatures(&self, header: &str) -> Result<Vec<Vec<u8>>, SignatureFault> {
        let parts: Vec<_> = header
            .split_whitespace()
            .filter_map(|part| part.split_once(','))
            .filter(|(version, encoded)| version.starts_with('v') && !encoded.is_empty())
            .collect();
        if parts.is_empty() {
            return Err(SignatureFault::Malformed);
        }
        let own: Vec<_> = parts.iter().filter(|(version, _)| *version == self.version()).collect();
        if own.is_empty() {
            let mut versions = parts.iter().map(|(version, _)| *version);
            let first = parts[0].0.to_owned();
            return Err(match versions.find(|version| VERSIONS.contains(version)) {
                Some(other) => SignatureFault::OtherVersion(other.to_owned()),
                None => SignatureFault::UnknownVersion(first),
            });
        }
        let decode = |base64: &GeneralPurpose| -> Vec<_> {
            let decoded = own.iter().filter_map(|(_, encoded)| base64.decode(encoded).ok());
            decoded.filter(|bytes| bytes.len() == self.signature_len()).collect()
        };
        let whole = decode(&STANDARD);
        let is_hex =
            |text: &str| text.len() == 2 * self.signature_len() && text.bytes().all(|it| it.is_ascii_hexdigit());
        match whole.is_empty() {
            false => Ok(whole),
            true if own.iter().any(|(_, encoded)| is_hex(encoded)) => Err(SignatureFault::Hexadecimal),
            true if !decode(&secret::LENIENT).is_empty() => Err(SignatureFault::Unpadded),
            true => Err(SignatureFault::Incomplete(self.signature_len())),
        }
    }
}

/// Why a text is no secret that verifies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SecretFault {
    Empty,
    /// It begins with no known prefix.
    Prefix,
    Token,
    /// Nothing follows this prefix.
    Bare(&'static str),
    /// There is space within it.
    Space,
    /// It is base64 for URLs.
    Url,
    /// It has a character that no base64 has.
    Character,
    /// It ends as no base64 can.
    Cut,
    /// A key with this prefix never has this many bytes.
    Length(&'static str, usize),
    /// The padding at its end is missing.
    Unpadded,
    /// Public half and seed of a private key do not belong together.
    Halves,
}

impl SecretFault {
    /// Returns the reason why `encoded` is not base64.
    fn of(err: DecodeError, encoded: &str) -> Self {
        match err {
            DecodeError::InvalidByte(..) if encoded.contains(char::is_whitespace) => Self::Space,
            DecodeError::InvalidByte(_, b'-' | b'_') => Self::Url,
            DecodeError::InvalidByte(_, byte) if byte != b'=' => Self::Character,
            DecodeError::InvalidPadding if secret::LENIENT.decode(encoded).is_ok() => Self::Unpadded,
            _ => Self::Cut,
        }
    }
}

/// Writes a sentence or two, which never repeat the text.
impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "It is empty. The secret of an endpoint begins with whsec_, and a public key with whpk_.",
            Self::Prefix => {
                "It begins with none of whsec_, whpk_ and whsk_, and is no symmetric secret without its prefix either."
            }
            Self::Token => {
                "It is an API token. The secret of an endpoint is another text, which begins with whsec_ or whpk_."
            }
            Self::Bare(prefix) => return write!(f, "Nothing follows {prefix}."),
            Self::Space => "There is a space or a line break within it.",
            Self::Url => {
                "It has - or _ after its prefix, as base64 for URLs has. A secret has + and / in their place."
            }
            Self::Character => {
                "A secret is whsec_ and letters, digits, + and /, as the page of the endpoint shows it. Another \
                 character is in this one."
            }
            Self::Cut => {
                "It does not end as base64 does: a character at its end is missing, or is one too many. Is it complete?"
            }
            Self::Unpadded => {
                "Padding is missing: = at its end, as the page of the endpoint shows it. Some libraries refuse it without."
            }
            Self::Length(prefix, length) => {
                let (right, hint) = match (*prefix, *length) {
                    (secret::SYMMETRIC, _) => ("24 to 75", ""),
                    (secret::ED25519_PUBLIC, 64) => ("32", " A private key of 64 bytes begins with whsk_."),
                    (secret::ED25519_PUBLIC, _) => ("32", ""),
                    (_, 32) => ("64", " A public key of 32 bytes begins with whpk_."),
                    _ => ("64", ""),
                };
                return write!(
                    f,
                    "A key that begins with {prefix} has {right} bytes, and this one has {length}.{hint}"
                );
            }
            Self::Halves => "Its second half is not the public key that belongs to its first half.",
        })
    }
}

/// Why no signature of a header can be verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    /// The header is no list of versions with signatures.
    Malformed,
    /// The signatures are of another known version than the secret makes.
    OtherVersion(String),
    /// The signatures are of no known version; this is the first one's.
    UnknownVersion(String),
    Hexadecimal,
    /// The padding at the signature's end is missing.
    Unpadded,
    /// The signature is not base64 of this many bytes.
    Incomplete(usize),
}

/// Returns whether `signature` is the HMAC-SHA256 of `signed` under `key`.
pub(crate) fn is_hmac(key: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(HMAC_SHA256, key), signed, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::EndpointSecret;

    const PRIVATE: &str =
        "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

    /// Returns the error for a secret.
    fn refused(text: &str) -> SecretFault {
        let wrong = Verifier::parse(text).err().expect("it is refused");
        assert!(!wrong.to_string().contains("AQEB"), "the text is not repeated: {wrong}");
        wrong
    }

    /// Returns a prefix with base64 of this many bytes.
    fn text(prefix: &str, length: usize) -> String {
        format!("{prefix}{}", STANDARD.encode(vec![1; length]))
    }

    #[test]
    fn a_secret_of_each_kind_verifies_signatures_of_its_version() {
        let (pair, symmetric) = (EndpointSecret::parse(PRIVATE).unwrap(), EndpointSecret::generate());
        for (text, version) in [
            (symmetric.to_wire(), "v1"),
            (symmetric.to_wire().replace("whsec_", ""), "v1"),
            (pair.to_wire(), "v1a"),
            (pair.to_private(), "v1a"),
        ] {
            let verifier = Verifier::parse(&text).expect("it is a secret");
            assert_eq!(verifier.version(), version);
        }
    }

    #[test]
    fn a_text_that_is_no_secret_says_why() {
        for (text, fault, words) in [
            (String::new(), SecretFault::Empty, "It is empty."),
            (
                "sk_live_AQEB".to_owned(),
                SecretFault::Prefix,
                "none of whsec_, whpk_ and whsk_",
            ),
            (
                text("WHSEC_", 24),
                SecretFault::Prefix,
                "none of whsec_, whpk_ and whsk_",
            ),
            (
                text("", 23),
                SecretFault::Prefix,
                "no symmetric secret without its prefix",
            ),
            (token::generate().0, SecretFault::Token, "It is an API token."),
            (
                "whsec_".to_owned(),
                SecretFault::Bare("whsec_"),
                "Nothing follows whsec_.",
            ),
            ("whpk_".to_owned(), SecretFault::Bare("whpk_"), "Nothing follows whpk_."),
            ("whsk_".to_owned(), SecretFault::Bare("whsk_"), "Nothing follows whsk_."),
            (
                text("whsec_ ", 24),
                SecretFault::Space,
                "a space or a line break within it",
            ),
            (
                text("whsec_AQEB\n", 24),
                SecretFault::Space,
                "a space or a line break within it",
            ),
            (text("whsec_-_AA", 24), SecretFault::Url, "as base64 for URLs has"),
            (
                "whsec_***".to_owned(),
                SecretFault::Character,
                "Another character is in this one.",
            ),
            (
                "whpk_AQEB…".to_owned(),
                SecretFault::Character,
                "Another character is in this one.",
            ),
            (text("whsec_A", 24), SecretFault::Cut, "It does not end as base64 does"),
            (
                format!("{}===", text("whsec_", 24)),
                SecretFault::Cut,
                "It does not end as base64 does",
            ),
            (
                PRIVATE.replace("Gg==", "Gh=="),
                SecretFault::Cut,
                "It does not end as base64 does",
            ),
        ] {
            let found = refused(&text);
            assert!(found == fault && found.to_string().contains(words), "{text}: {found}");
        }
    }

    #[test]
    fn a_secret_without_its_padding_is_refused_as_libraries_do() {
        for whole in [
            text("whsec_", 25),
            text("whsec_", 32),
            text("", 25),
            text("whpk_", 32),
            PRIVATE.to_owned(),
        ] {
            assert_eq!(refused(whole.trim_end_matches('=')), SecretFault::Unpadded, "{whole}");
        }
        assert!(Verifier::parse(&text("whsec_", 25)).is_ok() && Verifier::parse(&text("whsec_", 24)).is_ok());
        assert!(SecretFault::Unpadded.to_string().starts_with("Padding is missing"));
    }

    #[test]
    fn a_key_of_another_length_says_both_lengths() {
        for (prefix, length, words) in [
            ("whsec_", 23, "has 24 to 75 bytes, and this one has 23."),
            ("whsec_", 76, "has 24 to 75 bytes, and this one has 76."),
            ("whpk_", 31, "has 32 bytes, and this one has 31."),
            (
                "whpk_",
                64,
                "this one has 64. A private key of 64 bytes begins with whsk_.",
            ),
            (
                "whsk_",
                32,
                "this one has 32. A public key of 32 bytes begins with whpk_.",
            ),
            ("whsk_", 63, "has 64 bytes, and this one has 63."),
        ] {
            let found = refused(&text(prefix, length));
            let begin = format!("A key that begins with {prefix} ");
            assert_eq!(found, SecretFault::Length(prefix, length));
            let found = found.to_string();
            assert!(found.starts_with(&begin) && found.ends_with(words), "{found}");
        }
    }

    #[test]
    fn a_private_key_whose_halves_do_not_belong_together_is_no_secret() {
        let found = refused(&text("whsk_", 64));
        assert_eq!(found, SecretFault::Halves);
        assert!(found.to_string().starts_with("Its second half is not the public key"));
    }
}
