//! Makes one HTTP exchange with a receiver: sends a request, and says whether an answer came and which.
//!
//! Once the head of an answer is there, its status is the outcome, whatever happens to the body. The body is read for
//! two seconds at most; if it does not end well, a remark in the kept text says how it ended. A head that hyper refuses
//! still has a status. A lack of file descriptors or memory on this machine is no failure of the receiver.
//!
//! Must not decide what follows from an outcome: the domain does.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::http::Extensions;
use hyper::{Request, Response};
use hyper_util::client::legacy;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::cause::{Call, Failed, causes, reason};
use super::client::Client;
use super::connection::Heard;
use super::name_servers::{Unresolved, is_shortage};
use crate::domain::delivery::{Answer, answer_text, is_success, unfinished_answer_text};
use crate::domain::failure::Failure;
use crate::domain::retry::parse_retry_after;
use crate::domain::timestamp::Timestamp;

/// Bytes of an answer's body that are read; if there are more, the connection is closed. More than the 20,000 bytes
/// that are kept, so that an answer that is slightly longer than these leaves its connection usable.
const READ_CAP: usize = 32 * 1024;
/// How long an answer's body is read. The body does not change the outcome, and an event stream never ends.
const BODY: Duration = Duration::from_secs(2);
/// Why there is no answer.
pub(super) enum NoAnswer {
    Failed(Failed),
    /// This machine had no file descriptors or memory left, with the reason in words for its operator.
    Shortage(String),
}

/// An answer, and what is kept of it beside status and body if it is no success.
pub(super) type Answered = (Answer, Option<Box<Failure>>);

/// Sends a request to `url` and reads the answer. Connecting, sending, and the head of the answer have `timeout`
/// together. `at` is when the attempt began; the wait until a date in Retry-After is counted from there.
pub(super) async fn exchange(
    client: &Client,
    request: Request<Full<Bytes>>,
    url: &Url,
    at: Timestamp,
    timeout: Duration,
) -> Result<Answered, NoAnswer> {
    let begun = Instant::now();
    let call = Call { url, begun, timeout };
    let deadline = begun + timeout;
    let response = match timeout_at(deadline, client.request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(err)) => return refused_head(&err, at, &call).ok_or_else(|| no_answer(&err, &call)),
        Err(_) => return Err(NoAnswer::Failed(call.timed_out())),
    };
    let answered_at = Instant::now();
    let status = response.status().as_u16();
    let failure = (!is_success(status)).then(|| call.refused(response.headers(), response.extensions(), answered_at));
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| parse_retry_after(text, at));
    let mut body = Vec::new();
    let ended = timeout_at(deadline.min(answered_at + BODY), read(response, &mut body)).await;
    let body = match ended {
        Ok(Ok(())) => answer_text(&body),
        Ok(Err(err)) => unfinished_answer_text(&body, &format!("the body ended early: {}", reason(&err))),
        Err(_) => unfinished_answer_text(&body, "the body did not end in time"),
    };
    let answer = Answer {
        status,
        body,
        retry_after,
    };
    Ok((answer, failure))
}

/// Reads an answer's body into `bytes`, up to `READ_CAP`.
async fn read(response: Response<Incoming>, bytes: &mut Vec<u8>) -> Result<(), hyper::Error> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data() {
            bytes.extend_from_slice(&part);
        }
        if bytes.len() > READ_CAP {
            break;
        }
    }
    Ok(())
}

/// Returns an answer whose head hyper refused, for example because of a NUL in a value, a Content-Length that is no
/// number, or 300 lines: the status line can still be read. `None` means that there is no status line, or that `err` is
/// another failure. The connection is closed by then, so nothing writes to its [`Heard`] any more.
fn refused_head(err: &legacy::Error, at: Timestamp, call: &Call<'_>) -> Option<Answered> {
    let refusal = causes(err).find_map(|cause| cause.downcast_ref::<hyper::Error>())?;
    if !refusal.is_parse() {
        return None;
    }
    let mut connection = Extensions::new();
    err.connect_info()?.get_extras(&mut connection);
    let (status, retry_after) = read_head(&connection.get::<Heard>()?.bytes())?;
    let answer = Answer {
        status,
        body: unfinished_answer_text(&[], &format!("the head is malformed: {}", reason(refusal))),
        retry_after: retry_after.and_then(|text| parse_retry_after(&text, at)),
    };
    let failure = (!is_success(status)).then(|| call.refused_head(err));
    Some((answer, failure))
}

/// Finds the status and Retry-After in the beginning of an answer. Interim heads before the final one are skipped.
/// `None` means that no whole status line has come.
fn read_head(bytes: &[u8]) -> Option<(u16, Option<String>)> {
    // A last line without its end may be cut off, so it does not count.
    let whole = &bytes[..bytes.iter().rposition(|byte| *byte == b'\n')?];
    let mut lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    loop {
        let first = lines.find(|line| !line.is_empty())?;
        let status = read_status(first)?;
        if matches!(status, 100 | 102..=199) {
            lines.find(|line| line.is_empty())?;
            continue;
        }
        let retry_after = lines.take_while(|line| !line.is_empty()).find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
            let wanted = name.eq_ignore_ascii_case(RETRY_AFTER.as_str().as_bytes());
            wanted.then(|| String::from_utf8_lossy(value.trim_ascii()).into_owned())
        });
        return Some((status, retry_after));
    }
}

/// Reads the status in `HTTP/1.1 200 OK`. `None` means that the line is no status line.
fn read_status(line: &[u8]) -> Option<u16> {
    let words = line.strip_prefix(b"HTTP/")?.split(u8::is_ascii_whitespace);
    let code = words.skip(1).find(|word| !word.is_empty())?;
    let status = std::str::from_utf8(code).ok()?.parse().ok()?;
    (code.len() == 3 && (100..=999).contains(&status)).then_some(status)
}

/// Says whether a failure is the receiver's or a shortage of this machine, with its reason.
fn no_answer(err: &legacy::Error, call: &Call<'_>) -> NoAnswer {
    match is_ours(err) {
        true => NoAnswer::Shortage(reason(err)),
        false => NoAnswer::Failed(call.failed(err)),
    }
}

/// Returns whether an error is a shortage of this machine.
fn is_ours(err: &(dyn StdError + 'static)) -> bool {
    causes(err).any(|cause| {
        let of_lookup = matches!(cause.downcast_ref::<Unresolved>(), Some(Unresolved::Shortage(_)));
        of_lookup || cause.downcast_ref::<io::Error>().is_some_and(is_shortage)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(head: &str) -> Option<(u16, Option<String>)> {
        read_head(head.as_bytes())
    }

    #[test]
    fn a_refused_head_has_the_status_of_its_first_line() {
        for (head, status) in [
            ("HTTP/1.1 200 OK\r\nx: \0\r\n\r\n", Some(200)),
            ("\r\nHTTP/1.0  204\r\n", Some(204)),
            ("HTTP/2 410 Gone\n\n", Some(410)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n", Some(202)),
            ("HTTP/1.1 200", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 099 OK\r\n", None),
            ("HTTP/1.1 +20 OK\r\n", None),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("ICY 200 OK\r\n", None),
            ("200 OK\r\n", None),
            ("", None),
        ] {
            assert_eq!(read_text(head).map(|(status, _)| status), status, "{head:?}");
        }
    }

    #[test]
    fn a_refused_head_has_its_retry_after() {
        let wait = |lines: &str| read_text(&format!("HTTP/1.1 503 Busy\r\n{lines}\r\n\r\n")).unwrap().1;
        assert_eq!(wait("x: \0\r\nRETRY-after : 7 ").as_deref(), Some("7"));
        assert_eq!(wait("x-retry-after: 7\r\nbody\r\n\r\nretry-after: 9"), None);
    }

    #[test]
    fn a_lack_of_descriptors_or_memory_is_ours_however_deep_it_lies() {
        for (number, is_ours) in [
            (24, true),
            (23, true),
            (12, true),
            (105, true),
            (111, false),
            (99, false),
        ] {
            let err = io::Error::other(io::Error::other(io::Error::from_raw_os_error(number)));
            assert_eq!(super::is_ours(&err), is_ours, "{number}");
        }
        assert!(super::is_ours(&Unresolved::Shortage(24)));
        assert!(!super::is_ours(&Unresolved::NotInTime));
    }
}
