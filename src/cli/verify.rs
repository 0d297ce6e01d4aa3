//! `app verify`: says whether the signature of a received webhook holds, and if not, why. Needs neither a server nor a
//! database.
//!
//! Must not judge: the domain does.

use std::io::{IsTerminal, Read, stdin};
use std::path::PathBuf;

use clap::Args;

use super::output::{HeaderParser, say};
use crate::clock::Clock;
use crate::config::{Secret, resolve};
use crate::domain::timestamp::Timestamp;
use crate::domain::verification::{Finding, Received, check};
use crate::error::{Error, Kind, Result};

/// The most bytes of a body: far above the 2 MiB that the API accepts.
const MOST_BODY: u64 = 16 << 20;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The endpoint's secret: whsec_… of a symmetric one, whpk_… or whsk_… of an Ed25519 key
    #[arg(long, env = "POSTRIDER_VERIFY_SECRET", value_name = "SECRET", hide_env_values = true)]
    secret: Option<Secret>,

    /// A file to read the secret from
    #[arg(long, env = "POSTRIDER_VERIFY_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// A header of the request, as "webhook-id: msg_…"; repeat it, or give one a line. Only the three that begin with
    /// webhook- or svix- matter
    #[arg(long, short = 'H', env = "POSTRIDER_VERIFY_HEADER", value_name = "NAME: VALUE", value_delimiter = '\n', value_parser = HeaderParser, hide_env_values = true)]
    header: Vec<(String, String)>,

    /// When the request came, such as 2027-01-31T00:00:00Z: its age is judged by this instant [default: now]
    #[arg(long, env = "POSTRIDER_VERIFY_AT", value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339)]
    at: Option<Timestamp>,

    /// Accept a request of any age, because it was stored
    #[arg(long, env = "POSTRIDER_VERIFY_ANY_AGE", conflicts_with = "at")]
    any_age: bool,
}

const NOTES: &str = "\
The body is read from standard input, byte for byte. The exit code is 0 if the signature is valid, and 1 if not; the
error then says why, as far as that can be found out: a body that was parsed and written again, a secret of another
kind, a secret that was not decoded, an old timestamp, and others. Nothing is sent anywhere.

Example:
  app verify --secret whsec_… -H 'webhook-id: msg_…' -H 'webhook-timestamp: 1700000000' \\
    -H 'webhook-signature: v1,…' < body.json";

pub fn run(arguments: &Arguments) -> Result<()> {
    let name = "POSTRIDER_VERIFY_SECRET";
    let secret = resolve(name, arguments.secret.as_ref(), arguments.secret_file.as_deref())?;
    let secret = secret.ok_or_else(|| Error::config(format!("there is no secret: give --secret, or set {name}")))?;
    let body = body()?;
    let found = check(&Received {
        secret: secret.expose(),
        headers: &arguments.header,
        body: &body,
        at: arguments.at.unwrap_or_else(|| Clock::system().now()),
        any_age: arguments.any_age,
    });
    let text = format!("{}: {found}", found.title());
    match found {
        Finding::Valid => say(text),
        _ if body.is_empty() => Err(invalid(format!(
            "{text} The body was empty: it is read from standard input."
        ))),
        _ => Err(invalid(text)),
    }
}

/// Reads the body from standard input.
///
/// # Errors
/// `Config` if that is a terminal, which would wait for a body without saying so, or cannot be read; `TooLarge`.
fn body() -> Result<Vec<u8>> {
    if stdin().is_terminal() {
        return Err(Error::config(
            "the body is read from standard input: end the command with < FILE",
        ));
    }
    let mut body = Vec::new();
    let read = stdin().lock().take(MOST_BODY + 1).read_to_end(&mut body);
    let read = read.map_err(|err| Error::config("cannot read the body from standard input").because(err))?;
    match read as u64 > MOST_BODY {
        true => Err(Error::new(
            Kind::TooLarge,
            format!("the body has more than {MOST_BODY} bytes"),
        )),
        false => Ok(body),
    }
}

fn invalid(text: String) -> Error {
    Error::new(Kind::Invalid, text)
}
