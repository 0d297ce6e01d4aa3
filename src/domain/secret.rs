//! The signing secrets of endpoints, their text on the wire, and the encryption by which they and other secrets are
//! sealed in the database.
//!
//! Must never print key bytes, nor decide where they are stored.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

// The prefixes of secrets by the Standard Webhooks specification.
pub(super) const SYMMETRIC: &str = "whsec_";
pub(super) const ED25519: &str = "whsk_";
pub(super) const ED25519_PUBLIC: &str = "whpk_";
/// Bytes of a symmetric secret.
pub(super) const SYMMETRIC_LEN: RangeInclusive<usize> = 24..=75;
/// Bytes of a symmetric secret that is made here.
const GENERATED_LEN: usize = 24;
/// Bytes of an Ed25519 seed, and of a public key.
const SEED_LEN: usize = 32;
/// Characters.
const KEY_TEXT_MIN: usize = 32;
/// The beginning of every sealed text.
const SEAL_VERSION: &str = "v1:";
const NONCE_LEN: usize = 24;

/// Standard base64 that reads secrets with and without padding.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that signs the deliveries to one endpoint.
#[derive(Clone, PartialEq, Eq)]
pub enum EndpointSecret {
    /// The key of HMAC-SHA256: 24 to 75 bytes.
    Symmetric(Vec<u8>),
    /// An Ed25519 key: the seed, then the public half that belongs to it.
    Ed25519([u8; 2 * SEED_LEN]),
}

impl EndpointSecret {
    /// Reads `whsec_` and base64 of 24 to 75 bytes, or `whsk_` and base64 of an Ed25519 seed and its public key (64
    /// bytes). The error is the broken rule; it never repeats the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(encoded) = text.strip_prefix(ED25519) {
            return Self::parse_ed25519(encoded);
        }
        text.strip_prefix(SYMMETRIC)
            .and_then(|encoded| LENIENT.decode(encoded).ok())
            .filter(|bytes| SYMMETRIC_LEN.contains(&bytes.len()))
            .map(Self::Symmetric)
            .ok_or_else(|| {
                format!(
                    "must be '{SYMMETRIC}' followed by base64 of 24 to 75 bytes, or '{ED25519}' followed by base64 of \
                     an Ed25519 key"
                )
            })
    }

    fn parse_ed25519(encoded: &str) -> Result<Self, String> {
        let bytes = LENIENT.decode(encoded).ok();
        let key: [u8; 2 * SEED_LEN] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            format!("must be '{ED25519}' followed by base64 of an Ed25519 key: seed and public key, 64 bytes")
        })?;
        let (seed, public) = key.split_at(SEED_LEN);
        match Ed25519KeyPair::from_seed_and_public_key(seed, public) {
            Ok(_) => Ok(Self::Ed25519(key)),
            Err(_) => Err("must be an Ed25519 key whose public half belongs to its seed".to_owned()),
        }
    }

    /// Returns a new symmetric secret of 24 random bytes. Panics if the operating system gives no random bytes.
    pub fn generate() -> Self {
        Self::Symmetric(random::<GENERATED_LEN>().to_vec())
    }

    /// Returns a new secret of the same kind. Panics if the operating system gives no random bytes.
    pub fn generate_alike(&self) -> Self {
        match self {
            Self::Symmetric(_) => Self::generate(),
            Self::Ed25519(_) => {
                let seed = random::<SEED_LEN>();
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed is 32 bytes");
                let mut key = [0; 2 * SEED_LEN];
                key[..SEED_LEN].copy_from_slice(&seed);
                key[SEED_LEN..].copy_from_slice(pair.public_key().as_ref());
                Self::Ed25519(key)
            }
        }
    }

    /// Returns the whole secret as `parse` reads it. It must be sealed and never be shown, unless it is symmetric.
    pub fn to_private(&self) -> String {
        match self {
            Self::Symmetric(key) => format!("{SYMMETRIC}{}", STANDARD.encode(key)),
            Self::Ed25519(key) => format!("{ED25519}{}", STANDARD.encode(key)),
        }
    }

    /// Returns the text with which a receiver verifies signatures: the secret itself if it is symmetric, otherwise
    /// `whpk_` and the public half of the Ed25519 key.
    pub fn to_wire(&self) -> String {
        match self {
            Self::Symmetric(_) => self.to_private(),
            Self::Ed25519(key) => format!("{ED25519_PUBLIC}{}", STANDARD.encode(&key[SEED_LEN..])),
        }
    }
}

impl fmt::Debug for EndpointSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointSecret(..)")
    }
}

/// The reason why a sealed text cannot be opened.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SealError {
    /// The text is no sealed text, or a later version of the program made it.
    Malformed,
    /// The text was sealed with another key or for another context, or it was changed.
    NotAuthentic,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the sealed text is malformed",
            Self::NotAuthentic => {
                "the sealed text was made with another encryption key, for another row, or was changed"
            }
        })
    }
}

impl std::error::Error for SealError {}

/// Seals texts that must not lie in the database in clear, by XChaCha20-Poly1305 with a key that is derived from the
/// configured text.
pub struct Encryptor {
    cipher: XChaCha20Poly1305,
    /// A text that identifies the key without revealing anything of it.
    check_value: String,
}

impl Encryptor {
    /// Derives the key by HKDF-SHA256 (RFC 5869) from any text of at least 32 characters. The error is the broken rule.
    pub fn new(key_text: &str) -> Result<Self, String> {
        if key_text.chars().count() < KEY_TEXT_MIN {
            return Err(format!(
                "the encryption key must have at least {KEY_TEXT_MIN} characters"
            ));
        }
        let root = Salt::new(HKDF_SHA256, &[]).extract(key_text.as_bytes());
        let key = derive(&root, b"postrider secrets at rest, key 1");
        let check = derive(&root, b"postrider check value, key 1");
        Ok(Self {
            cipher: XChaCha20Poly1305::new(&key.into()),
            check_value: URL_SAFE_NO_PAD.encode(check),
        })
    }

    /// Seals bytes so that they open only with the same `context`, such as the id of the row in which they lie. Returns
    /// `v1:` and base64url of nonce and ciphertext.
    ///
    /// Sealing the same bytes again gives another text. Panics if the operating system gives no random bytes.
    pub fn seal(&self, plaintext: &[u8], context: &str) -> String {
        let nonce = random::<NONCE_LEN>();
        let payload = Payload {
            msg: plaintext,
            aad: context.as_bytes(),
        };
        let ciphertext = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("the plaintext fits in memory");
        format!(
            "{SEAL_VERSION}{}",
            URL_SAFE_NO_PAD.encode([&nonce[..], &ciphertext[..]].concat())
        )
    }

    /// Opens a text that `seal` made with the same key and context.
    pub fn open(&self, sealed: &str, context: &str) -> Result<Vec<u8>, SealError> {
        let encoded = sealed.strip_prefix(SEAL_VERSION).ok_or(SealError::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| SealError::Malformed)?;
        let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        let payload = Payload {
            msg: ciphertext,
            aad: context.as_bytes(),
        };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| SealError::NotAuthentic)
    }

    /// Returns a text that identifies the key and reveals nothing of it. The database keeps it, so that a wrong key is
    /// noticed.
    pub fn check_value(&self) -> String {
        self.check_value.clone()
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryptor(..)")
    }
}

/// Derives a key for one purpose.
fn derive(root: &Prk, purpose: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    root.expand(&[purpose], HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut key))
        .expect("32 bytes are what HKDF-SHA256 gives in one block");
    key
}

/// Returns 32 random bytes as 43 characters, for passwords and keys that only machines read. Panics if the operating
/// system gives no random bytes.
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn encryptor() -> Encryptor {
        Encryptor::new(KEY).unwrap()
    }

    #[test]
    fn a_secret_is_whsec_and_base64_of_24_to_75_bytes() {
        for len in [24, 25, 32, 75] {
            let wire = format!("whsec_{}", STANDARD.encode(vec![7; len]));
            let key = EndpointSecret::Symmetric(vec![7; len]);
            assert_eq!(EndpointSecret::parse(&wire), Ok(key));
            assert_eq!(EndpointSecret::parse(&wire).unwrap().to_wire(), wire);
        }
        for len in [0, 23, 76] {
            let wire = format!("whsec_{}", STANDARD.encode(vec![7; len]));
            assert!(
                EndpointSecret::parse(&wire).unwrap_err().contains("24 to 75 bytes"),
                "{len}"
            );
        }
    }

    #[test]
    fn missing_padding_is_accepted_and_given_back() {
        let padded = format!("whsec_{}", STANDARD.encode([7; 25]));
        assert_eq!(
            EndpointSecret::parse(padded.trim_end_matches('=')).unwrap().to_wire(),
            padded
        );
    }

    #[test]
    fn other_secrets_are_refused_without_repeating_them() {
        let bare = STANDARD.encode([7; 24]);
        for text in [
            "",
            "whsec_",
            "whsec_***",
            &bare,
            &format!("WHSEC_{bare}"),
            &format!("whsec_{bare}\n"),
        ] {
            let message = EndpointSecret::parse(text).unwrap_err();
            assert!(
                message.starts_with("must be 'whsec_'") && !message.contains(&bare),
                "{text}"
            );
        }
    }

    /// RFC 8032, section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn an_ed25519_secret_comes_in_whole_and_goes_out_as_its_public_half() {
        let key = [bytes(SEED), bytes(PUBLIC)].concat();
        let text = format!("whsk_{}", STANDARD.encode(key));
        let secret = EndpointSecret::parse(&text).unwrap();
        assert_eq!(secret.to_private(), text);
        assert_eq!(secret.to_wire(), format!("whpk_{}", STANDARD.encode(bytes(PUBLIC))));
        assert_eq!(EndpointSecret::parse(text.trim_end_matches('=')), Ok(secret));
    }

    #[test]
    fn an_ed25519_secret_whose_halves_do_not_belong_together_is_refused_without_repeating_it() {
        let (seed, public) = (bytes(SEED), bytes(PUBLIC));
        let mut other = public.clone();
        other[0] ^= 1;
        for key in [
            seed.clone(),
            [seed.clone(), seed.clone()].concat(),
            [public.clone(), seed.clone()].concat(),
            [seed.clone(), other].concat(),
            [seed.clone(), public.clone(), vec![0]].concat(),
            vec![],
        ] {
            let text = format!("whsk_{}", STANDARD.encode(&key));
            let message = EndpointSecret::parse(&text).unwrap_err();
            assert!(message.starts_with("must be"), "{message}");
            assert!(
                text == "whsk_" || !message.contains(&text["whsk_".len()..]),
                "{message}"
            );
        }
    }

    #[test]
    fn a_secret_made_after_another_is_of_its_kind() {
        let key = [bytes(SEED), bytes(PUBLIC)].concat();
        let asymmetric = EndpointSecret::parse(&format!("whsk_{}", STANDARD.encode(key))).unwrap();
        let alike = asymmetric.generate_alike();
        assert!(alike != asymmetric && alike.to_wire().starts_with("whpk_"));
        assert_eq!(EndpointSecret::parse(&alike.to_private()), Ok(alike));
        assert!(
            EndpointSecret::generate()
                .generate_alike()
                .to_wire()
                .starts_with("whsec_")
        );
    }

    #[test]
    fn generated_secrets_differ_and_have_24_bytes() {
        let (first, second) = (EndpointSecret::generate(), EndpointSecret::generate());
        assert!(matches!(&first, EndpointSecret::Symmetric(key) if key.len() == 24));
        assert_ne!(first, second);
        assert_eq!(EndpointSecret::parse(&first.to_wire()), Ok(first));
    }

    #[test]
    fn debug_never_shows_key_bytes() {
        let secret = EndpointSecret::parse(&format!("whsec_{}", STANDARD.encode([7; 24]))).unwrap();
        assert_eq!(format!("{secret:?}"), "EndpointSecret(..)");
        assert_eq!(format!("{:?}", encryptor()), "Encryptor(..)");
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_context_alone() {
        let sealed = encryptor().seal(b"whsec_x", "ep_1");
        assert!(sealed.starts_with("v1:") && !sealed.contains("whsec"));
        assert_eq!(encryptor().open(&sealed, "ep_1").unwrap(), b"whsec_x");
        assert_eq!(encryptor().open(&sealed, "ep_2"), Err(SealError::NotAuthentic));
        let other = Encryptor::new(&KEY.replace('0', "1")).unwrap();
        assert_eq!(other.open(&sealed, "ep_1"), Err(SealError::NotAuthentic));
    }

    #[test]
    fn sealing_twice_gives_two_texts() {
        assert_ne!(encryptor().seal(b"", "ep_1"), encryptor().seal(b"", "ep_1"));
        assert_eq!(encryptor().open(&encryptor().seal(b"", ""), ""), Ok(Vec::new()));
    }

    #[test]
    fn a_changed_or_foreign_text_does_not_open() {
        let sealed = encryptor().seal(b"secret", "ep_1");
        let mut bytes = URL_SAFE_NO_PAD.decode(&sealed["v1:".len()..]).unwrap();
        for place in [0, NONCE_LEN, bytes.len() - 1] {
            bytes[place] ^= 1;
            let changed = format!("v1:{}", URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(encryptor().open(&changed, "ep_1"), Err(SealError::NotAuthentic));
            bytes[place] ^= 1;
        }
        for text in ["", "v1:", "v1:***", "v1:AAAA", "v2:AAAA", "whsec_AAAA"] {
            assert_eq!(encryptor().open(text, "ep_1"), Err(SealError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_check_value_tells_keys_apart_and_never_changes() {
        assert_eq!(encryptor().check_value(), encryptor().check_value());
        assert_ne!(
            encryptor().check_value(),
            Encryptor::new(&format!("{KEY} ")).unwrap().check_value()
        );
        assert_eq!(encryptor().check_value(), "-qUympuZ6fwmsf-ieNyVmIIypJrYh1TeVLOhqq3twBY");
    }

    #[test]
    fn a_text_sealed_by_an_earlier_build_still_opens() {
        assert_eq!(
            encryptor()
                .open(
                    "v1:qAsRA1wDDUj3VP4COoLNRkEcRSmaL03CFHAsq2hSucSUMRZBtd9MvhNyNbnCzfQ",
                    "ep_1"
                )
                .unwrap(),
            b"whsec_x"
        );
    }

    #[test]
    fn the_key_text_has_at_least_32_characters() {
        assert!(
            Encryptor::new(&KEY[1..])
                .unwrap_err()
                .contains("at least 32 characters")
        );
        assert!(Encryptor::new(&"ü".repeat(31)).is_err());
        assert!(Encryptor::new(&"ü".repeat(32)).is_ok());
    }
}
