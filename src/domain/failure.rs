//! What is kept of a failed attempt beside its row: in which phase it failed, the headers of the answer, the address that
//! was called, and how long each phase took. Also which part of that an application's token may see.
//!
//! Must not find words for an error: the dispatcher does.

use std::net::SocketAddr;

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

use super::delivery::answered;
use super::target::TargetPolicy;

/// The most bytes that are kept of an answer's headers, names and values together.
const HEADERS_MAX: usize = 1024;

/// The step of an attempt that failed.
#[derive(Copy, Clone, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[oai(rename = "AttemptPhase", rename_all = "lowercase")]
pub enum Phase {
    /// The host's name has no address.
    Resolve,
    /// There is no connection to the address.
    Connect,
    /// There is a connection, and TLS failed.
    Tls,
    /// The request could not be made.
    Send,
    /// There is a connection for the request, and there was no answer, or one with another status than 2xx.
    Answer,
    /// The target must not be called. To an application's token a name that does not exist is in this phase too.
    Target,
}

/// How long the phases of an attempt took, in milliseconds. A phase that there was none of is `None`: the first three if
/// the connection was open already.
#[derive(Copy, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Phases {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<u32>,
    /// From the time when the connection was there until the answer's head was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<u32>,
}

/// What is kept of a failed attempt, in a column of its row, as JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failure {
    pub phase: Phase,
    /// The error in words for the organization alone: they say what is in its network. `None` means that the words in
    /// the attempt's row are for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_text: Option<String>,
    /// Headers of the answer: name and value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Whether the answer had headers that are not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub headers_cut: bool,
    /// The address that was called, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    #[serde(default)]
    pub phases: Phases,
}

impl Failure {
    /// Makes one of which only the phase is known.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase,
            organization_text: None,
            headers: Vec::new(),
            headers_cut: false,
            peer: None,
            phases: Phases::default(),
        }
    }

    /// Keeps the headers of an answer, as far as they fit. A header that does not fit is left out as a whole.
    pub fn keep_headers<'a>(&mut self, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let mut room = HEADERS_MAX;
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value);
            match room.checked_sub(name.len() + value.len()) {
                Some(rest) => {
                    room = rest;
                    self.headers.push((name.to_owned(), value.into_owned()));
                }
                None => self.headers_cut = true,
            }
        }
    }

    /// Returns the text in which it is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }

    /// Reads the text of [`Failure::to_json`]. `None` means that it is none.
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Returns the error in words. `status` and `response` are those of the attempt's row.
    pub fn text(&self, status: i32, response: &str) -> String {
        match (&self.organization_text, status) {
            (Some(text), _) => text.clone(),
            (None, 0) => response.to_owned(),
            (None, status) => answered(status),
        }
    }

    /// Returns what an application's token may see. A name that does not exist and an address that is not public are
    /// not told apart, neither by words nor by times, and no address that is not public is shown: customers must not
    /// learn from them what is in the operator's network.
    pub fn for_application(mut self) -> Self {
        if self.organization_text.is_some() {
            return Self::new(Phase::Target);
        }
        let public = TargetPolicy::default();
        self.peer = self.peer.filter(|peer| public.allows(peer.ip()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_whole_up_to_their_limit() {
        let mut failure = Failure::new(Phase::Answer);
        let long = "x".repeat(HEADERS_MAX);
        failure.keep_headers([
            ("a", &b"1"[..]),
            ("cookie", long.as_bytes()),
            ("b", &long.as_bytes()[..HEADERS_MAX - 4]),
            ("c", b""),
            ("d", b"1"),
        ]);
        let names: Vec<_> = failure.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(failure.headers_cut);
    }

    #[test]
    fn it_is_stored_in_few_bytes_and_read_again() {
        let mut failure = Failure::new(Phase::Connect);
        assert_eq!(failure.to_json(), r#"{"phase":"connect","phases":{}}"#);
        failure.keep_headers([("a", &b"\xff\t"[..])]);
        failure.peer = Some(([192, 0, 2, 1], 443).into());
        failure.phases.connect = Some(7);
        assert_eq!(Failure::parse(&failure.to_json()), Some(failure));
        assert_eq!(Failure::parse(r#"{"phase":"unheard of"}"#), None);
    }

    #[test]
    fn an_application_sees_only_public_addresses() {
        for (address, is_shown) in [([8, 8, 8, 8], true), ([10, 0, 0, 1], false), ([127, 0, 0, 1], false)] {
            let mut failure = Failure::new(Phase::Connect);
            failure.peer = Some((address, 443).into());
            assert_eq!(failure.for_application().peer.is_some(), is_shown, "{address:?}");
        }
    }

    #[test]
    fn to_an_application_missing_and_private_targets_are_one() {
        let mut missing = Failure::new(Phase::Resolve);
        missing.organization_text = Some("it does not exist".to_owned());
        missing.phases.resolve = Some(3);
        let mut private = Failure::new(Phase::Target);
        private.organization_text = Some("10.0.0.1 is not public".to_owned());
        private.peer = Some(([10, 0, 0, 1], 443).into());
        assert_eq!(missing.for_application(), private.for_application());
    }
}
