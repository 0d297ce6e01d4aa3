//! Checks a database's URL and brings it into the form that the store reads.
//!
//! No error repeats any part of the URL except the names of files: in a mistyped URL, part of the password may stand
//! anywhere. Must not connect to the database.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use super::secret::Secret;
use crate::error::{Error, Result};

/// The parameters that the driver reads, and the form of each. All others are removed before the driver sees them: it
/// logs an unknown parameter with its value.
const PARAMETERS: [(&str, Form); 18] = [
    ("application_name", Form::Text),
    ("dbname", Form::Text),
    ("host", Form::Text),
    ("hostaddr", Form::Address),
    ("options", Form::Text),
    ("password", Form::Text),
    ("port", Form::Number),
    ("ssl-ca", Form::RootCertificates),
    ("ssl-cert", Form::Certificate),
    ("ssl-key", Form::Key),
    ("ssl-mode", Form::Mode),
    ("ssl-root-cert", Form::RootCertificates),
    ("sslcert", Form::Certificate),
    ("sslkey", Form::Key),
    ("sslmode", Form::Mode),
    ("sslrootcert", Form::RootCertificates),
    ("statement-cache-capacity", Form::Number),
    ("user", Form::Text),
];
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const QUOTING: &str = "In user name and password write @ as %40, : as %3A, / as %2F, ? as %3F and # as %23, or give the \
                       password by POSTRIDER_DATABASE_PASSWORD";

/// The form that a parameter's value must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Text,
    Number,
    Address,
    Mode,
    RootCertificates,
    Certificate,
    Key,
}

/// Checks the URL that the setting `name` gives, and returns it in the form that the store reads.
///
/// # Errors
/// `Config` if the URL names neither an SQLite file nor a Postgres server, or if a certificate or key file that it
/// names cannot be used.
pub fn check(name: &str, url: &Secret) -> Result<Secret> {
    let text = url.expose();
    let checked = match text.strip_prefix("sqlite:") {
        Some(path) => check_sqlite(path).map(|path| format!("sqlite:{path}")),
        None if ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme)) =>
        {
            check_postgres(text)
        }
        None => Err(Error::config("must start with sqlite:// or postgresql://")),
    };
    checked.map(Secret::from).map_err(|mut err| {
        err.message = format!("{name} {}", err.message);
        err
    })
}

/// Returns the path of an SQLite URL without the one parameter that may follow it.
fn check_sqlite(path: &str) -> Result<String> {
    // Other programs need `mode=rwc` for a file to be created. Here a missing file is always created.
    let path = path.strip_suffix("?mode=rwc").unwrap_or(path);
    if path.contains(":memory:") || path.trim_start_matches('/').is_empty() {
        return Err(Error::config("must name a file: sqlite://PATH"));
    }
    if path.contains('?') {
        return Err(Error::config("takes no parameters but mode=rwc: sqlite://PATH alone"));
    }
    Ok(path.to_owned())
}

/// Returns a Postgres URL with the known parameters alone.
fn check_postgres(text: &str) -> Result<String> {
    let mut url = Url::parse(text).map_err(|err| Error::config(format!("is not a URL: {err}. {QUOTING}")))?;
    // An unquoted /, ? or # in a password ends it, and its rest is read as path, query or fragment. There the @ before
    // the host gives it away.
    let database = url.path().strip_prefix('/').unwrap_or_default();
    let given = url.query_pairs().into_owned();
    let (mut known, unknown): (Vec<_>, Vec<_>) = given.partition(|(key, _)| form_of(key).is_some());
    let is_cut = |(key, value): &(String, String)| key.contains('@') || value.contains('@');
    if url.fragment().is_some() || database.contains(['@', '/']) || unknown.iter().any(is_cut) {
        return Err(Error::config(format!("has an @, / or # where none can be. {QUOTING}")));
    }
    for (key, value) in &known {
        check_parameter(key, value)?;
    }
    if !unknown.is_empty() {
        let known = PARAMETERS.map(|(key, _)| key).join(" ");
        tracing::warn!(
            unknown = unknown.len(),
            known,
            "the database's URL has parameters that are not known; they are left out"
        );
    }
    verify_by_root(&mut known);
    url.set_query(None);
    if !known.is_empty() {
        url.query_pairs_mut().extend_pairs(known);
    }
    Ok(url.into())
}

/// Returns the form of the parameter `key`; `None` means that the driver does not know it.
fn form_of(key: &str) -> Option<Form> {
    if key.starts_with("options[") {
        return Some(Form::Text);
    }
    let found = PARAMETERS.iter().find(|(known, _)| *known == key);
    found.map(|(_, form)| *form)
}

/// Rejects a parameter whose value does not have its form. The error does not repeat the value, unless it is a file.
fn check_parameter(key: &str, value: &str) -> Result<()> {
    let (fits, rule) = match form_of(key) {
        Some(Form::Number) => (value.parse::<u16>().is_ok(), "must be a number"),
        Some(Form::Address) => (value.parse::<IpAddr>().is_ok(), "must be an IP address"),
        Some(Form::Mode) => (
            MODES.contains(&value.to_ascii_lowercase().as_str()),
            "must be disable, allow, prefer, require, verify-ca or verify-full",
        ),
        Some(form @ (Form::RootCertificates | Form::Certificate | Form::Key)) => {
            return check_file(form, key, Path::new(value));
        }
        Some(Form::Text) | None => (true, ""),
    };
    match fits {
        true => Ok(()),
        false => Err(Error::config(format!("has a parameter {key}, which {rule}"))),
    }
}

/// Replaces `sslmode=require` by `verify-ca` if root certificates are given, as Postgres' own library does. The driver
/// would accept any certificate with `require`. Both settings may also come from the environment, where the driver
/// reads them too.
fn verify_by_root(parameters: &mut Vec<(String, String)>) {
    let last = |wanted| {
        let mut found = parameters.iter().rev().filter(|(key, _)| form_of(key) == Some(wanted));
        found.next().map(|(_, value)| value.clone())
    };
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let root = last(Form::RootCertificates).or_else(|| variable("PGSSLROOTCERT"));
    let mode = last(Form::Mode).or_else(|| variable("PGSSLMODE"));
    if root.is_some() && mode.is_some_and(|mode| mode.eq_ignore_ascii_case("require")) {
        parameters.retain(|(key, _)| form_of(key) != Some(Form::Mode));
        parameters.push(("sslmode".to_owned(), "verify-ca".to_owned()));
    }
}

/// Rejects a file that cannot be read, or does not hold what `form` asks for.
fn check_file(form: Form, key: &str, path: &Path) -> Result<()> {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = shown.display();
    let pem = fs::read(path)
        .map_err(|err| Error::config(format!("has a parameter {key}, but {shown} cannot be read")).because(err))?;
    let (fits, wanted) = match form {
        Form::Key => (PrivateKeyDer::from_pem_slice(&pem).is_ok(), "a private key"),
        _ => (holds_certificates(&pem), "certificates"),
    };
    match fits {
        true => Ok(()),
        false => Err(Error::config(format!(
            "has a parameter {key}, but {shown} does not hold {wanted} (PEM)"
        ))),
    }
}

/// Returns whether `pem` holds at least one certificate, and none that cannot be a root of trust.
fn holds_certificates(pem: &[u8]) -> bool {
    let mut store = RootCertStore::empty();
    let all_fit = CertificateDer::pem_slice_iter(pem).all(|found| found.is_ok_and(|found| store.add(found).is_ok()));
    all_fit && !store.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, String> {
        let checked = check("DATABASE_URL", &Secret::from(text.to_owned()));
        checked
            .map(|url| url.expose().to_owned())
            .map_err(|err| err.to_string())
    }

    #[test]
    fn a_url_that_is_fine_stays_as_it_is() {
        for url in [
            "postgresql://postrider:p%40ss@db:5432/postrider",
            "postgres://db/postrider?sslmode=verify-full&statement-cache-capacity=0",
            "postgresql:///postrider?host=%2Frun%2Fpostgresql&options=-c+work_mem%3D8MB",
            "sqlite://data/postrider.sqlite",
            "sqlite:///var/lib/with # and @.sqlite",
        ] {
            assert_eq!(checked(url).as_deref(), Ok(url));
        }
        assert_eq!(checked("sqlite://x?mode=rwc").as_deref(), Ok("sqlite://x"));
    }

    #[test]
    fn an_unknown_parameter_is_left_out_for_the_driver_would_log_it() {
        let url = "postgresql://db/postrider?channel_binding=require&sslmode=require&passwort=geheim";
        assert_eq!(checked(url).as_deref(), Ok("postgresql://db/postrider?sslmode=require"));
    }

    #[test]
    fn no_part_of_a_mistyped_url_is_repeated() {
        for url in [
            "postgresql:/user:hunter2@db/x",
            "postgresql//user:hunter2@db/x",
            "user:hunter2@db/x",
            "postgresql://user:hunter2@db:54x32/x",
            "postgresql://user:hun/ter2@db/x",
            "postgresql://user:123/hunter2@db/x",
            "postgresql://user:123#hunter2@db/x",
            "postgresql://user:123?hunter2@db/x",
            "postgresql://user:123?hunter2=@db/x",
            "postgresql://user@db/x?sslmode=hunter2",
            "postgresql://user@db/x?port=hunter2",
            "postgresql://user@db/x?hostaddr=hunter2",
            "postgresql://user:pass word@db:hunter2/x",
            "sqlite://x?mode=hunter2",
        ] {
            let Err(said) = checked(url) else {
                panic!("{url} is taken")
            };
            assert!(said.starts_with("DATABASE_URL "), "{said}");
            assert!(
                !said.contains("hunter2") && !said.contains("ter2") && !said.contains("123"),
                "{said}"
            );
        }
    }
}
