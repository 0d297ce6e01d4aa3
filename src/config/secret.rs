//! Holds secret settings: reads them from a value or a file, and writes the files of those that this program makes.
//!
//! A `Secret` never shows its content in logs or errors. A file gets its name only when it is complete and on the disk,
//! so a process that is killed leaves either the old content or the new one.
//!
//! Must not know single settings: config.rs does.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::domain::secret::random_text;
use crate::error::{Error, Result};

/// A secret setting. `Debug` prints `[secret]` and never the value.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Returns the value itself, to be passed on and never printed.
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

/// A secret that can be replaced while it is in use. If it has two lines, the first is the new secret and the second
/// the former one, which stays valid until its line is removed.
#[derive(Clone, Debug)]
pub struct Rotating {
    pub newest: Secret,
    pub former: Option<Secret>,
}

impl Rotating {
    /// Parses one line or two, each of at least `least` characters. `name` is the setting, for errors.
    ///
    /// # Errors
    /// `Config` if there are more lines, or if a line is shorter or holds a control character.
    pub fn parse(name: &str, text: &Secret, least: usize) -> Result<Self> {
        let mut lines = text.0.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let [newest, former, more] = [lines.next(), lines.next(), lines.next()];
        if more.is_some() {
            return Err(Error::config(format!(
                "{name} must be one line, or two while it is rotated, the new one and the former one; it has {}",
                3 + lines.count()
            )));
        }
        let checked = |name: &str, line: &str| {
            let secret = Secret(line.to_owned());
            check_length(name, &secret, least).map(|()| secret)
        };
        Ok(Self {
            newest: checked(name, newest.unwrap_or_default())?,
            former: former
                .map(|line| checked(&format!("{name}, line 2,"), line))
                .transpose()?,
        })
    }

    /// Returns the text that [`Rotating::parse`] reads: one line per secret.
    pub fn to_lines(&self) -> String {
        let lines: Vec<&str> = self.iter().map(Secret::expose).collect();
        lines.join("\n")
    }

    /// Generates a new secret and makes the present newest one the former one.
    pub fn renewed(&self) -> Self {
        Self {
            newest: Secret(random_text()),
            former: Some(self.newest.clone()),
        }
    }

    /// Iterates over the secrets, the newest one first.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        [&self.newest].into_iter().chain(&self.former)
    }
}

/// Returns the setting `name`: its value, or the content of the file that `name`_FILE names, without one trailing
/// newline. `None` means that neither is given.
///
/// # Errors
/// `Config` if both are given, or if the file cannot be read or is empty.
pub fn resolve(name: &str, value: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>> {
    match (value, file) {
        (Some(_), Some(_)) => Err(Error::config(format!(
            "{name} and {name}_FILE are both set: set one of them"
        ))),
        (value, None) => Ok(value.cloned()),
        (None, Some(path)) => read_secret(name, path).map(Some),
    }
}

/// Reads the file at `path` and removes one trailing newline. `name` is the setting, for errors.
///
/// # Errors
/// `Config` if the file cannot be read or is empty.
pub fn read_secret(name: &str, path: &Path) -> Result<Secret> {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = shown.display();
    let text = fs::read_to_string(path)
        .map_err(|err| Error::config(format!("{name}_FILE: cannot read {shown}")).because(err))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::config(format!("{name}_FILE: {shown} is empty")));
    }
    Ok(Secret(text.to_owned()))
}

/// Rejects a secret that is too short or holds a control character.
///
/// # Errors
/// `Config` if `secret` has fewer than `least` characters or holds a control character.
fn check_length(name: &str, secret: &Secret, least: usize) -> Result<()> {
    let count = secret.0.chars().count();
    if count < least {
        return Err(Error::config(format!(
            "{name} must have {least} characters or more, it has {count}"
        )));
    }
    if secret.0.chars().any(char::is_control) {
        return Err(Error::config(format!("{name} must not contain control characters")));
    }
    Ok(())
}

/// Writes a new secret to `path` unless a file is there, and returns whether it wrote.
///
/// Any number of processes may do this at once. The finished file gets its name by a hard link, which fails if the name
/// is taken: the file is never half written, and never replaces another one.
pub fn write_missing(path: &Path, mode: u32) -> io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = write_draft(path, &random_text(), mode)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(err),
    }
}

/// Replaces the content of the file at `path` by `text`, completely or not at all. Its mode and owner stay the same,
/// and a symbolic link to it stays a link. When this returns, the new content is on the disk.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = &fs::canonicalize(path)?;
    let before = fs::metadata(path)?;
    let draft = write_draft(path, text, before.permissions().mode())?;
    let replaced = keep_owner(&draft, &before).and_then(|()| fs::rename(&draft, path));
    if let Err(err) = replaced {
        let _ = fs::remove_file(&draft);
        return Err(err);
    }
    sync_folder(path)
}

/// Gives the draft the owner of the file that it replaces. Otherwise a key that root replaces could not be read by the
/// process that serves with it.
fn keep_owner(draft: &Path, before: &fs::Metadata) -> io::Result<()> {
    let made = fs::metadata(draft)?;
    if (made.uid(), made.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    chown(draft, Some(before.uid()), Some(before.gid()))
}

/// Writes `text` to a new file beside `path`, with a random suffix, and returns its path.
fn write_draft(path: &Path, text: &str, mode: u32) -> io::Result<PathBuf> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", &random_text()[..8]));
    let draft = PathBuf::from(draft);
    // For the owner alone until the content is written and the file gets its own mode.
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = (&file)
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all());
    if let Err(err) = written {
        let _ = fs::remove_file(&draft);
        return Err(err);
    }
    Ok(draft)
}

/// Flushes the folder of `path`: until then a new name in it can be lost in a power failure.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
    fn what_replaces_a_file_has_its_mode_and_owner_and_goes_where_a_link_leads() {
        let path = file("replaced", "former");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        // Only root can change a file's owner. For all other users this fails, and the file stays their own.
        let _ = chown(&path, Some(65_532), Some(65_532));
        let before = fs::metadata(&path).unwrap();
        let link = path.with_extension("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, "new").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let seen = |metadata: &fs::Metadata| (metadata.mode() & 0o777, metadata.uid(), metadata.gid());
        assert_eq!(seen(&after), (0o440, before.uid(), before.gid()));
        fs::remove_file(link).unwrap();
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from("abc".to_owned())), "[secret]");
    }

    #[test]
    fn of_two_lines_the_first_is_the_new_secret_and_the_second_the_former_one() {
        let parse = |text: &str| Rotating::parse("NAME", &Secret::from(text.to_owned()), 3);
        let lines = |text: &str| -> Vec<String> { parse(text).unwrap().iter().map(|line| line.0.clone()).collect() };
        assert_eq!(lines("üüü"), ["üüü"]);
        for text in ["new\nold", "new\r\nold"] {
            assert_eq!(lines(text), ["new", "old"]);
        }
        for (text, rule) in [
            ("üü", "NAME must have 3 characters or more, it has 2"),
            ("new\n", "NAME, line 2, must have 3 characters or more, it has 0"),
            ("\nold", "NAME must have 3 characters or more, it has 0"),
            ("a\tb", "NAME must not contain control characters"),
            ("new\nold\nolder\noldest", "new one and the former one; it has 4"),
        ] {
            let message = parse(text).unwrap_err().message;
            assert!(
                message.ends_with(rule) && !message.contains("old\n"),
                "{text:?}: {message}"
            );
        }
    }
}
