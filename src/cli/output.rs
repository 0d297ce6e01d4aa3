//! Parses the paths and headers that commands are given, and writes their results to standard output.
//!
//! Must not know any command.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command};

use crate::error::{Error, Result};

/// Parses a path and makes it absolute, so that every message names a file that the operator can find.
pub(super) fn absolute_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// Writes a command's result to standard output.
pub(super) fn say(text: impl AsRef<str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.as_ref())
        .and_then(|()| out.flush())
        .map_err(|err| Error::internal("cannot write to standard output").because(err))
}

/// Writes a command's result to standard output without holding up the task: while nothing reads the output, the task
/// can be dropped. Runs on a thread that may block, which does not delay the end of the process.
pub(super) async fn say_aside(text: String) -> Result<()> {
    let said = tokio::task::spawn_blocking(move || say(text)).await;
    said.map_err(|err| Error::internal("cannot write to standard output").because(err))?
}

/// Parses a header, `name: value`. The error does not repeat the text, which may be a credential.
#[derive(Clone)]
pub(super) struct HeaderParser;

impl TypedValueParser for HeaderParser {
    type Value = (String, String);

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Self::Value, clap::Error> {
        let wrong = || {
            let place = arg.map_or_else(String::new, Arg::to_string);
            let setting = arg
                .and_then(Arg::get_env)
                .map_or_else(String::new, |name| format!(" (setting {})", name.to_string_lossy()));
            let rule = format!("a value for '{place}' must be a name, a colon and a value{setting}");
            clap::Error::raw(ErrorKind::ValueValidation, rule).with_cmd(command)
        };
        let text = StringValueParser::new()
            .parse_ref(command, arg, value)
            .map_err(|_| wrong())?;
        match text.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err(wrong()),
        }
    }
}

/// Shortens an instant of the API to seconds, for lines that people read.
pub(super) fn instant(text: &str) -> String {
    let seconds = text.split('.').next().unwrap_or(text);
    format!("{}Z", seconds.trim_end_matches('Z'))
}
