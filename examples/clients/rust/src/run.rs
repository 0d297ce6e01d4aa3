//! Provides a client of the server and a receiver to each function.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use svix::api::SvixOptions;
use svix::models::{ApplicationIn, EndpointIn, EndpointOut, HttpErrorOut, MessageIn, MessageOut, ValidationError};
use svix::{Error, Svix};

use crate::receiver::{DEADLINE, Inbox, Receiver};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The result of a function: what it has shown, in a sentence.
pub type Shown = Outcome<&'static str>;

pub struct Run {
    pub url: String,
    pub token: String,
    pub svix: Svix,
    pub receiver: Receiver,
}

impl Run {
    pub fn new(url: String, token: String) -> Outcome<Self> {
        let svix = client(&url, &token);
        let receiver = Receiver::start()?;
        Ok(Self {
            url,
            token,
            svix,
            receiver,
        })
    }

    pub async fn application(&self, name: &str) -> Outcome<String> {
        let body = ApplicationIn::new(name.to_owned());
        Ok(self.svix.application().create(body, None).await?.id)
    }

    pub async fn endpoint(&self, app: &str) -> Outcome<(EndpointOut, Inbox)> {
        let inbox = self.receiver.inbox();
        let body = EndpointIn::new(inbox.url.clone());
        Ok((self.svix.endpoint().create(app.to_owned(), body, None).await?, inbox))
    }

    pub async fn send(&self, app: &str, payload: Value) -> Outcome<MessageOut> {
        let body = MessageIn::new("order.paid".to_owned(), payload);
        Ok(self.svix.message().create(app.to_owned(), body, None).await?)
    }
}

pub fn client(url: &str, token: &str) -> Svix {
    let options = SvixOptions {
        server_url: Some(url.to_owned()),
        ..SvixOptions::default()
    };
    Svix::new(token.to_owned(), Some(options))
}

/// Returns a name that is not in use.
pub fn new_name(prefix: &str) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{prefix}-{:x}", now.as_nanos())
}

/// Calls `read` until `holds` is true for its result, and returns that.
///
/// # Errors
/// If `read` fails, or `holds` is still false at the deadline.
pub async fn eventually<T: Debug>(mut read: impl AsyncFnMut() -> Outcome<T>, holds: impl Fn(&T) -> bool) -> Outcome<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = read().await?;
        if holds(&answer) {
            return Ok(answer);
        }
        if Instant::now() > end {
            return Err(format!("still {answer:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns status and body of a refusal as the SDK gives them.
///
/// # Errors
/// If the call was not refused, or the SDK could not read the body.
pub fn refused<T: Debug>(answer: Result<T, Error>) -> Outcome<(u16, HttpErrorOut)> {
    match answer {
        Err(Error::Http(refusal)) => {
            let body = refusal.payload.ok_or("the SDK could not read the error's body")?;
            Ok((refusal.status.as_u16(), body))
        }
        other => Err(format!("not refused: {other:?}").into()),
    }
}

/// Returns the fields that a 422 names.
///
/// # Errors
/// If the response was not a 422, or the SDK could not read the body.
pub fn invalid<T: Debug>(answer: Result<T, Error>) -> Outcome<Vec<ValidationError>> {
    match answer {
        Err(Error::Validation(refusal)) => {
            let body = refusal.payload.ok_or("the SDK could not read the error's body")?;
            Ok(body.detail)
        }
        other => Err(format!("not a 422: {other:?}").into()),
    }
}
