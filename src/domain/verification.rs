//! Says whether the signature of a received webhook holds, and if not, why.
//!
//! The portal's page for signatures has the same words for the same reasons. Must not read a clock: the caller says when
//! the webhook came.

use std::fmt;

use super::id::Prefix;
use super::request_headers::signature_headers;
use super::rewritten::variants;
use super::secret::SYMMETRIC;
use super::timestamp::Timestamp;
use super::verifier::{SecretFault, SignatureFault, Verifier, is_hmac};

/// Seconds by which a timestamp may differ from the present: what the libraries of Standard Webhooks allow.
const TOLERANCE: i64 = 300;
/// Digits of a timestamp, at most: more are not seconds.
const MOST_DIGITS: usize = 12;
/// The most texts that are tried in place of a message's id.
const MOST_IDS: usize = 100;

/// A webhook as it was received.
pub(crate) struct Received<'a> {
    pub secret: &'a str,
    /// Names in any case, and their values.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    /// When it was received. Its age is judged by this instant.
    pub at: Timestamp,
    /// Whether it may be of any age, because it was stored.
    pub any_age: bool,
}

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Valid,
    /// Names of the headers that are missing.
    Missing(Vec<&'static str>),
    /// The name of a header that is there more than once.
    Twice(&'static str),
    /// The timestamp is no number of seconds. Has the present one.
    Timestamp(i64),
    Secret(SecretFault),
    Signature(SignatureFault),
    /// The versions that the secret makes and that the header has.
    Version(&'static str, String),
    /// Words that follow "the signature holds once".
    Rewritten(&'static str),
    /// The signature was made with the secret as text.
    NotDecoded,
    /// The signature was made over a part: which one.
    Partial(&'static str),
    /// The signature holds with this id, which is at this place.
    OtherId(String, String),
    /// The signature does not hold, and the id is none that this server makes.
    ForeignId(String),
    Either,
    /// Seconds of its age.
    Old(i64),
    /// Seconds by which it is ahead.
    Future(i64),
}

/// Checks a received webhook.
pub(crate) fn check(received: &Received<'_>) -> Finding {
    check_all(received).unwrap_or_else(|finding| finding)
}

/// As [`check`]; what ends the check early is the error.
fn check_all(received: &Received<'_>) -> Result<Finding, Finding> {
    let [id, time, signatures] = received.main_headers()?;
    let now = received.at.unix_seconds();
    let is_seconds = (1..=MOST_DIGITS).contains(&time.len()) && time.bytes().all(|digit| digit.is_ascii_digit());
    let seconds = time.parse::<i64>().ok().filter(|_| is_seconds);
    let seconds = seconds.ok_or(Finding::Timestamp(now))?;
    let verifier = Verifier::parse(received.secret.trim()).map_err(Finding::Secret)?;
    let signatures = verifier.signatures(signatures).map_err(|fault| match fault {
        SignatureFault::OtherVersion(version) => Finding::Version(verifier.version(), version),
        fault => Finding::Signature(fault),
    })?;
    let signed = Signed {
        verifier,
        signatures,
        id,
        time,
    };
    if !signed.holds(id, received.body) {
        return Err(signed.why_not(received));
    }
    Ok(match now - seconds {
        age if received.any_age || age.abs() <= TOLERANCE => Finding::Valid,
        age if age > 0 => Finding::Old(age),
        age => Finding::Future(-age),
    })
}

impl Received<'_> {
    /// Returns the value of a header; `None` if it is missing or empty. If it is there more than once, that is the error.
    fn header(&self, name: &'static str) -> Result<Option<&str>, Finding> {
        let named = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut values = named.map(|(_, value)| value.trim());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Finding::Twice(name)),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// Returns id, timestamp and signatures, by their names or their older ones.
    fn main_headers(&self) -> Result<[&str; 3], Finding> {
        let names: Vec<_> = signature_headers(true).collect();
        let mut found = [None; 3];
        for names in &names {
            for (value, name) in found.iter_mut().zip(names) {
                *value = value.or(self.header(name)?);
            }
        }
        match found {
            [Some(id), Some(time), Some(signatures)] => Ok([id, time, signatures]),
            values => {
                let missing = names[0].iter().zip(values).filter(|(_, value)| value.is_none());
                Err(Finding::Missing(missing.map(|(name, _)| *name).collect()))
            }
        }
    }

    /// Returns texts that a program may have taken for the message's id, or the other way round, and where they are.
    fn other_ids(&self) -> Vec<(String, String)> {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (format!("the header {name}"), value.trim().to_owned()));
        let headers = headers.filter(|(place, _)| place.to_ascii_lowercase().ends_with("-id"));
        let body: serde_json::Value = serde_json::from_slice(self.body).unwrap_or_default();
        let members = body.as_object().into_iter().flatten();
        let members =
            members.filter_map(|(name, value)| Some((format!("the body's \"{name}\""), value.as_str()?.to_owned())));
        headers.chain(members).take(MOST_IDS).collect()
    }
}

/// What was signed, as far as headers say it, with the signatures.
struct Signed<'a> {
    verifier: Verifier,
    signatures: Vec<Vec<u8>>,
    id: &'a str,
    time: &'a str,
}

impl Signed<'_> {
    fn holds(&self, id: &str, body: &[u8]) -> bool {
        self.verifier.holds(&self.signatures, &content(id, self.time, body))
    }

    /// Returns the most likely reason why the signature does not hold.
    fn why_not(&self, received: &Received<'_>) -> Finding {
        let body = received.body;
        let bodies = std::str::from_utf8(body).map(variants).unwrap_or_default();
        if let Some((words, _)) = bodies.iter().find(|(_, text)| self.holds(self.id, text.as_bytes())) {
            return Finding::Rewritten(words);
        }
        if self.is_made_with_text(received) {
            return Finding::NotDecoded;
        }
        for (words, signed) in [
            ("the body alone", body.to_vec()),
            (
                "timestamp and body, without the id",
                [self.time.as_bytes(), b".", body].concat(),
            ),
        ] {
            if self.verifier.holds(&self.signatures, &signed) {
                return Finding::Partial(words);
            }
        }
        let mut ids = received.other_ids().into_iter();
        if let Some((place, id)) = ids.find(|(_, id)| self.holds(id, body)) {
            return Finding::OtherId(id, place);
        }
        match Prefix::Message.is_of(self.id) {
            true => Finding::Either,
            false => Finding::ForeignId(self.id.to_owned()),
        }
    }

    /// Returns whether the text of the secret was the key, with its prefix or without.
    fn is_made_with_text(&self, received: &Received<'_>) -> bool {
        let text = received.secret.trim();
        let signed = content(self.id, self.time, received.body);
        let keys = [Some(text), text.strip_prefix(SYMMETRIC)];
        let mut keys = keys.into_iter().flatten();
        keys.any(|key| {
            self.signatures
                .iter()
                .any(|signature| is_hmac(key.as_bytes(), &signed, signature))
        })
    }
}

/// Returns the bytes that are signed.
fn content(id: &str, time: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", time.as_bytes(), b".", body].concat()
}

impl Finding {
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::Valid => "The signature is valid",
            Self::Missing(_) => "Missing header",
            Self::Twice(_) => "Header given twice",
            Self::Timestamp(_) => "Unreadable timestamp",
            Self::Secret(_) => "Unreadable secret",
            Self::Signature(_) => "Unreadable signature",
            Self::Version(..) => "Wrong secret",
            Self::Rewritten(_) => "Altered body",
            Self::NotDecoded => "Secret not decoded",
            Self::Partial(_) => "Incomplete content",
            Self::OtherId(..) | Self::ForeignId(_) => "Wrong id",
            Self::Either => "Wrong secret or altered request",
            Self::Old(_) => "Old timestamp",
            Self::Future(_) => "Timestamp in the future",
        }
    }
}

/// Writes what was found in a sentence or two.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("Secret, body, id and timestamp fit together."),
            Self::Missing(names) => write!(f, "All three are needed. Missing: {}.", names.join(", ")),
            Self::Twice(name) => write!(
                f,
                "{name} is there more than once, and receivers differ in which value they take. Give it once, as the \
                 request had it."
            ),
            Self::Timestamp(now) => write!(f, "It must be seconds since 1970, such as {now}."),
            Self::Secret(fault) => fault.fmt(f),
            Self::Signature(fault) => fault.fmt(f),
            Self::Version(own, given) => {
                write!(
                    f,
                    "No signature begins with {own}, as this kind of secret makes. The header has {given}"
                )?;
                f.write_str(match given.as_str() {
                    "v1" => ", which a secret that begins with whsec_ makes.",
                    _ => ", which is verified with the key that begins with whpk_.",
                })
            }
            Self::Rewritten(words) => write!(
                f,
                "The secret is right, and the signature holds once {words}. Sign the raw bytes of the request, before \
                 anything parses them."
            ),
            Self::NotDecoded => f.write_str(
                "The signature was made with the text of the secret as the key. The key is what the text after whsec_ \
                 gives when it is decoded as base64.",
            ),
            Self::Partial(words) => write!(
                f,
                "The secret is right, but the signature was made over {words}. What is signed is id, timestamp and \
                 body, with a dot after the first two."
            ),
            Self::OtherId(id, place) => write!(
                f,
                "Secret and body are right, and the signature holds with the id {id}, which is {place}. What is signed \
                 is the header webhook-id as it came."
            ),
            Self::ForeignId(id) => write!(
                f,
                "The signature does not hold, and the id is none that Postrider makes: {id} does not begin with msg_. \
                 What is signed is the header webhook-id as it came."
            ),
            Self::Either => f.write_str(
                "The signature does not hold. Secret, body, id or timestamp are not those that were signed. \
                 Take all from one request, and the secret of its endpoint, as it is now.",
            ),
            Self::Old(age) => write!(
                f,
                "The signature is right, but was made {} ago. Receivers refuse what is older than 5 minutes, so that \
                 nobody can send it again; for a request that you kept this is as it should be.",
                duration(*age)
            ),
            Self::Future(ahead) => {
                write!(
                    f,
                    "Its time is {} ahead. Is the clock of this computer right?",
                    duration(*ahead)
                )
            }
        }
    }
}

impl fmt::Display for SignatureFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed | Self::OtherVersion(_) => f.write_str(
                "It must be v1 or v1a, a comma and base64, such as v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=; \
                 several are separated by spaces.",
            ),
            Self::UnknownVersion(version) => write!(
                f,
                "No signature of a known version is there: v1 and v1a are known. The header has {version}."
            ),
            Self::Hexadecimal => f.write_str("After the comma it is hexadecimal. It must be base64."),
            Self::Unpadded => {
                f.write_str("Padding is missing: = at the end of its base64. Libraries refuse a signature without.")
            }
            Self::Incomplete(length) => {
                write!(
                    f,
                    "After the comma there must be base64 of {length} bytes. Is it complete?"
                )
            }
        }
    }
}

/// Returns a number of seconds in words: 6 min, 3 h, 2 d.
fn duration(seconds: i64) -> String {
    match seconds {
        ..5_400 => format!("{} min", (seconds + 30) / 60),
        5_400..172_800 => format!("{} h", (seconds + 1_800) / 3_600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac;

    use super::*;
    use crate::domain::secret::EndpointSecret;
    use crate::domain::signature::sign;

    const SYMMETRIC_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const PRIVATE: &str =
        "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SENT: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;

    /// A webhook, right unless a test changes it.
    struct Case {
        secret: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        at: i64,
        any_age: bool,
    }

    impl Case {
        /// Returns a webhook that was signed with `secret` for the body.
        fn signed(secret: &str, body: &str) -> Self {
            let key = EndpointSecret::parse(secret).unwrap();
            let signature = sign(&[key], ID, SENT, body.as_bytes());
            Self {
                secret: secret.to_owned(),
                headers: [
                    ("webhook-id", ID),
                    ("webhook-timestamp", &SENT.to_string()),
                    ("webhook-signature", &signature),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
                body: body.into(),
                at: SENT,
                any_age: false,
            }
        }

        fn right() -> Self {
            Self::signed(SYMMETRIC_SECRET, BODY)
        }

        /// Replaces the value of a header.
        fn header(mut self, name: &str, value: &str) -> Self {
            self.headers.retain(|(other, _)| other != name);
            self.headers.push((name.to_owned(), value.to_owned()));
            self
        }

        /// Replaces the signature by an HMAC of `signed` under `key`.
        fn hmac(self, key: &[u8], signed: &str) -> Self {
            let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
            self.header("webhook-signature", &format!("v1,{}", STANDARD.encode(made)))
        }

        fn secret(mut self, secret: &str) -> Self {
            self.secret = secret.to_owned();
            self
        }

        fn body(mut self, body: &str) -> Self {
            self.body = body.into();
            self
        }

        fn found(&self) -> Finding {
            check(&Received {
                secret: &self.secret,
                headers: &self.headers,
                body: &self.body,
                at: Timestamp(self.at * 1_000_000),
                any_age: self.any_age,
            })
        }
    }

    fn key() -> Vec<u8> {
        STANDARD.decode(&SYMMETRIC_SECRET["whsec_".len()..]).unwrap()
    }

    #[test]
    fn a_right_signature_is_valid_with_each_kind_of_secret() {
        let public = EndpointSecret::parse(PRIVATE).unwrap().to_wire();
        let asymmetric = || Case::signed(PRIVATE, BODY);
        for case in [
            Case::right(),
            Case::right().secret(&SYMMETRIC_SECRET.replace("whsec_", "")),
            Case::right().secret(&format!(" {SYMMETRIC_SECRET}\n")),
            asymmetric(),
            asymmetric().secret(&public),
            Case::signed(SYMMETRIC_SECRET, ""),
        ] {
            assert_eq!(case.found(), Finding::Valid, "{}", case.secret);
        }
    }

    #[test]
    fn headers_are_found_in_any_case_and_by_their_older_names() {
        let mut case = Case::right();
        for (name, _) in &mut case.headers {
            *name = name.to_uppercase();
        }
        assert_eq!(case.found(), Finding::Valid);
        for (name, _) in &mut case.headers {
            *name = name.replace("WEBHOOK", "svix");
        }
        assert_eq!(case.found(), Finding::Valid);
    }

    #[test]
    fn one_right_signature_among_others_is_enough() {
        let right = Case::right().headers[2].1.clone();
        let other = Case::signed("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", BODY).headers[2]
            .1
            .clone();
        for value in [
            format!("{other} {right}"),
            format!("v1a,AAAA v1,*** {right}"),
            format!("{right} rest"),
        ] {
            assert_eq!(
                Case::right().header("webhook-signature", &value).found(),
                Finding::Valid,
                "{value}"
            );
        }
    }

    #[test]
    fn missing_headers_are_named() {
        let found = Case::right().header("webhook-id", " ").found();
        assert_eq!(found.to_string(), "All three are needed. Missing: webhook-id.");
        let mut case = Case::right();
        case.headers.clear();
        let all = vec!["webhook-id", "webhook-timestamp", "webhook-signature"];
        assert_eq!(case.found(), Finding::Missing(all));
    }

    #[test]
    fn a_header_that_is_there_twice_is_named_whatever_its_values() {
        let twice = |name: &str, value: &str| {
            let mut case = Case::right();
            case.headers.push((name.to_owned(), value.to_owned()));
            case.found()
        };
        assert_eq!(twice("webhook-id", ID), Finding::Twice("webhook-id"));
        assert_eq!(twice("Webhook-Id", "msg_other"), Finding::Twice("webhook-id"));
        assert_eq!(twice("webhook-timestamp", "1"), Finding::Twice("webhook-timestamp"));
        assert_eq!(
            twice("webhook-signature", "v1,***"),
            Finding::Twice("webhook-signature")
        );
        let mut case = Case::right();
        case.headers
            .extend(["svix-id", "svix-id"].map(|name| (name.to_owned(), ID.to_owned())));
        assert_eq!(case.found(), Finding::Twice("svix-id"));
        assert_eq!(twice("svix-id", ID), Finding::Valid, "an older name is another header");
    }

    #[test]
    fn a_timestamp_that_is_no_number_of_seconds_is_unreadable() {
        for text in ["2021-02-25T15:02:10Z", "-1", "1.5", "1614265330000"] {
            assert_eq!(
                Case::right().header("webhook-timestamp", text).found(),
                Finding::Timestamp(SENT),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_too_old_or_ahead_says_by_how_much() {
        let at = |seconds| Case {
            at: SENT + seconds,
            ..Case::right()
        };
        assert_eq!((at(300).found(), at(-300).found()), (Finding::Valid, Finding::Valid));
        assert_eq!(at(301).found(), Finding::Old(301));
        assert_eq!(at(-301).found(), Finding::Future(301));
        for (seconds, words) in [
            (301, "5 min ago"),
            (10_000, "3 h ago"),
            (400_000, "5 d ago"),
            (-7_300, "2 h ahead"),
        ] {
            let said = at(seconds).found().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_stored_request_may_be_of_any_age() {
        for at in [0, SENT + 1_000_000] {
            let case = Case {
                at,
                any_age: true,
                ..Case::right()
            };
            assert_eq!(case.found(), Finding::Valid);
        }
    }

    #[test]
    fn a_signature_header_that_is_no_list_of_versions_is_malformed() {
        for value in [
            "K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
            "v1,",
            "sha256=abc",
            "t=1,v1=abc",
        ] {
            let found = Case::right().header("webhook-signature", value).found();
            assert_eq!(found, Finding::Signature(SignatureFault::Malformed), "{value}");
        }
    }

    #[test]
    fn a_hexadecimal_signature_is_recognized() {
        let value = format!("v1,{}", "0f".repeat(32));
        let found = Case::right().header("webhook-signature", &value).found();
        assert_eq!(found, Finding::Signature(SignatureFault::Hexadecimal));
    }

    #[test]
    fn a_signature_without_its_padding_is_refused_as_libraries_do() {
        for secret in [SYMMETRIC_SECRET, PRIVATE] {
            let case = Case::signed(secret, BODY);
            let cut = case.headers[2].1.trim_end_matches('=').to_owned();
            let found = case.header("webhook-signature", &cut).found();
            assert_eq!(found, Finding::Signature(SignatureFault::Unpadded), "{cut}");
        }
    }

    #[test]
    fn a_signature_that_is_cut_off_is_not_complete() {
        let whole = Case::right().headers[2].1.clone();
        for value in [&whole[..20], "v1,***"] {
            let found = Case::right().header("webhook-signature", value).found();
            assert_eq!(found, Finding::Signature(SignatureFault::Incomplete(32)), "{value}");
        }
    }

    #[test]
    fn a_secret_of_the_other_kind_is_told_by_the_version() {
        let found = Case::right().secret(PRIVATE).found();
        assert_eq!(found, Finding::Version("v1a", "v1".to_owned()));
        assert!(
            found
                .to_string()
                .ends_with("which a secret that begins with whsec_ makes.")
        );
        let found = Case::signed(PRIVATE, BODY).secret(SYMMETRIC_SECRET).found();
        assert_eq!(found, Finding::Version("v1", "v1a".to_owned()));
        assert!(
            found
                .to_string()
                .ends_with("which is verified with the key that begins with whpk_.")
        );
    }

    #[test]
    fn a_signature_of_an_unknown_version_blames_no_secret() {
        for (value, version) in [("v2,abc=", "v2"), ("v10,abc= v2,abc=", "v10")] {
            for secret in [SYMMETRIC_SECRET, PRIVATE] {
                let found = Case::right().secret(secret).header("webhook-signature", value).found();
                let fault = SignatureFault::UnknownVersion(version.to_owned());
                assert_eq!(found, Finding::Signature(fault), "{value}");
                assert_eq!(found.title(), "Unreadable signature");
            }
        }
        let found = Case::right().header("webhook-signature", "v2,abc= v1a,abc=").found();
        assert_eq!(
            found,
            Finding::Version("v1", "v1a".to_owned()),
            "the known one is named"
        );
    }

    #[test]
    fn an_unknown_form_of_secret_is_unreadable() {
        for secret in ["", "sk_live_1234", "whsec_", "whsec_AAAA", "whpk_AAAA", "whsk_AAAA"] {
            assert!(
                matches!(Case::right().secret(secret).found(), Finding::Secret(_)),
                "{secret}"
            );
        }
    }

    #[test]
    fn a_body_that_was_rewritten_says_how() {
        let compact = r#"{"a":1.5,"b":"ü, c"}"#;
        for (sent, received, words) in [
            (
                compact,
                format!("{compact}\n"),
                "the line breaks at its end are removed",
            ),
            (compact, format!("  {compact} "), "the space around it is removed"),
            ("{}\n", "{}".to_owned(), "a line break at its end is added"),
            ("{\n}", "{\r\n}".to_owned(), "its line breaks are those of Unix"),
            ("{\r\n}", "{\n}".to_owned(), "its line breaks are those of Windows"),
            (
                compact,
                r#"{ "a": 1.5, "b": "ü, c" }"#.to_owned(),
                "its JSON is written without spaces",
            ),
            (
                compact,
                r#"{"a": 1.50, "b": "\u00fc, c"}"#.to_owned(),
                "its JSON is written by JSON.stringify",
            ),
            (
                r#"{"a": 1.5, "b": "\u00fc"}"#,
                r#"{"a":1.5,"b":"ü"}"#.to_owned(),
                "its JSON is written by json.dumps",
            ),
            (
                "{\n  \"a\": [\n    1\n  ]\n}",
                r#"{"a":[1]}"#.to_owned(),
                "its JSON is indented by two spaces",
            ),
        ] {
            for secret in [SYMMETRIC_SECRET, PRIVATE] {
                assert_eq!(
                    Case::signed(secret, sent).body(&received).found(),
                    Finding::Rewritten(words)
                );
            }
        }
    }

    #[test]
    fn a_signature_by_the_text_of_the_secret_is_recognized() {
        for text in [SYMMETRIC_SECRET, &SYMMETRIC_SECRET["whsec_".len()..]] {
            let case = Case::right().hmac(text.as_bytes(), &format!("{ID}.{SENT}.{BODY}"));
            assert_eq!(case.found(), Finding::NotDecoded);
        }
    }

    #[test]
    fn a_signature_over_a_part_is_recognized() {
        let found = Case::right().hmac(&key(), BODY).found();
        assert_eq!(found, Finding::Partial("the body alone"));
        let found = Case::right().hmac(&key(), &format!("{SENT}.{BODY}")).found();
        assert_eq!(found, Finding::Partial("timestamp and body, without the id"));
    }

    #[test]
    fn an_id_from_elsewhere_is_found_at_its_place() {
        let case = Case::right().header("webhook-id", "order-1").header("x-message-id", ID);
        assert_eq!(
            case.found(),
            Finding::OtherId(ID.to_owned(), "the header x-message-id".to_owned())
        );
        let body = format!(r#"{{"n":1,"id":"{ID}"}}"#);
        let case = Case::signed(SYMMETRIC_SECRET, &body).header("webhook-id", "msg_other");
        assert_eq!(
            case.found(),
            Finding::OtherId(ID.to_owned(), "the body's \"id\"".to_owned())
        );
    }

    #[test]
    fn an_id_that_is_not_of_this_server_is_named() {
        let found = Case::right().header("webhook-id", "order-1").found();
        assert_eq!(found, Finding::ForeignId("order-1".to_owned()));
        assert!(found.to_string().contains("order-1 does not begin with msg_"));
    }

    #[test]
    fn another_secret_id_timestamp_or_body_leaves_either_open() {
        for case in [
            Case::right().secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            Case::right().header("webhook-id", "msg_other"),
            Case::right().header("webhook-timestamp", &(SENT + 1).to_string()),
            Case::right().body("{}"),
        ] {
            assert_eq!(case.found(), Finding::Either);
        }
        let mut case = Case::right();
        case.body = vec![0xff];
        assert_eq!(case.found(), Finding::Either, "a body that is no text");
    }

    #[test]
    fn every_finding_has_words_of_its_own() {
        let findings = [
            Finding::Valid,
            Finding::Missing(vec!["webhook-id"]),
            Finding::Twice("webhook-id"),
            Finding::Timestamp(1),
            Finding::Secret(SecretFault::Empty),
            Finding::Secret(SecretFault::Prefix),
            Finding::Secret(SecretFault::Token),
            Finding::Secret(SecretFault::Bare("whsec_")),
            Finding::Secret(SecretFault::Space),
            Finding::Secret(SecretFault::Url),
            Finding::Secret(SecretFault::Character),
            Finding::Secret(SecretFault::Cut),
            Finding::Secret(SecretFault::Unpadded),
            Finding::Secret(SecretFault::Length("whsec_", 1)),
            Finding::Secret(SecretFault::Halves),
            Finding::Signature(SignatureFault::Malformed),
            Finding::Signature(SignatureFault::UnknownVersion("v2".to_owned())),
            Finding::Signature(SignatureFault::Hexadecimal),
            Finding::Signature(SignatureFault::Unpadded),
            Finding::Signature(SignatureFault::Incomplete(32)),
            Finding::Version("v1", "v1a".to_owned()),
            Finding::Rewritten("x"),
            Finding::NotDecoded,
            Finding::Partial("x"),
            Finding::OtherId("x".to_owned(), "y".to_owned()),
            Finding::ForeignId("x".to_owned()),
            Finding::Either,
            Finding::Old(400),
            Finding::Future(400),
        ];
        let said: std::collections::BTreeSet<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), findings.len());
        assert!(findings.iter().all(|finding| !finding.title().is_empty()));
    }
}
