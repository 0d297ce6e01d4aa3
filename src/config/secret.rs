//! A value that must not be seen: given as it is or as a file that holds it. Called by config and cli.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::domain::secret::random_text;
use crate::error::{Error, Result};

/// A secret setting. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value itself: hand it on, never print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The setting `name`: its value, or what the file named by `name`_FILE holds, less one line end.
///
/// # Errors
/// `Config` when both are given, or the file cannot be read or is empty.
pub fn resolve(name: &str, value: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>> {
    match (value, file) {
        (Some(_), Some(_)) => Err(Error::config(format!(
            "{name} and {name}_FILE are both set: set one of them"
        ))),
        (value, None) => Ok(value.cloned()),
        (None, Some(path)) => read_secret(name, path).map(Some),
    }
}

/// What the file at `path` holds, less one line end.
///
/// # Errors
/// `Config` when it cannot be read or is empty.
pub fn read_secret(name: &str, path: &Path) -> Result<Secret> {
    let text = fs::read_to_string(path)
        .map_err(|err| Error::config(format!("{name}_FILE: cannot read {}", path.display())).because(err))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::config(format!("{name}_FILE: {} is empty", path.display())));
    }
    Ok(Secret(text.to_owned()))
}

/// # Errors
/// `Config` when `secret` has fewer than `least` characters or holds a control character.
pub fn check_length(name: &str, secret: &Secret, least: usize) -> Result<()> {
    let count = secret.0.chars().count();
    if count < least {
        return Err(Error::config(format!(
            "{name} must have {least} characters or more, it has {count}"
        )));
    }
    if secret.0.chars().any(char::is_control) {
        return Err(Error::config(format!(
            "{name} must not contain line ends or other control characters"
        )));
    }
    Ok(())
}

/// Writes a new secret to `path` unless there is a file. Answers whether it did. Whole or not at all, and never over
/// another's, however many processes do it at once: the finished file gets its name by a link, which fails if it is taken.
pub fn write_missing(path: &Path, mode: u32) -> std::io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let secret = random_text();
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", &random_text()[..8]));
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&draft)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| (&file).write_all(secret.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match written {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("postrider-secret-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn one_line_end_is_cut_and_nothing_else() {
        for (content, expected) in [
            ("abc\n", "abc"),
            ("abc\r\n", "abc"),
            ("abc\n\n", "abc\n"),
            (" a b ", " a b "),
        ] {
            let path = file("line-end", content);
            let read = resolve("NAME", None, Some(&path)).unwrap().unwrap();
            assert_eq!(read.expose(), expected);
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn an_empty_file_is_an_error_that_names_it() {
        let path = file("empty", "\n");
        let err = resolve("NAME", None, Some(&path)).unwrap_err();
        assert!(
            err.message.contains("NAME_FILE") && err.message.contains("is empty"),
            "{err}"
        );
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn both_forms_at_once_are_an_error() {
        let secret = Secret::from("abc".to_owned());
        let err = resolve("NAME", Some(&secret), Some(Path::new("x"))).unwrap_err();
        assert_eq!(err.message, "NAME and NAME_FILE are both set: set one of them");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from("abc".to_owned())), "[secret]");
    }

    #[test]
    fn lengths_are_counted_in_characters_and_line_ends_are_refused() {
        let check = |text: &str| check_length("NAME", &Secret::from(text.to_owned()), 3);
        assert!(check("üüü").is_ok() && check("üü").is_err() && check("abc\nabc").is_err());
    }
}
