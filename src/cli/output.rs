//! Parses the paths that commands are given, and writes their results to standard output.
//!
//! Must not know any command.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};

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
