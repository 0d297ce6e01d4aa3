//! What an audit entry says of a write: who made it, by which operation, and which fields it has changed.
//!
//! Responsible for what may stand in an entry at all: fields are cut to a size, and URLs lose what may be secret. Must
//! not decide which writes have an entry: the service does.

use poem_openapi::Enum;
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use url::Url;

use super::token::{BY_COMMAND_LINE, BY_PROGRAM};

/// The most bytes of the JSON of the fields before a write, and of those after it: 16 KiB of an entry together.
const MOST_BYTES: usize = 8 << 10;
/// What stands in place of a value of a URL's query.
const HIDDEN: &str = "hidden";

/// The kind of an actor.
#[derive(Copy, Clone, Debug, DeriveActiveEnum, Deserialize, Enum, EnumIter, Eq, PartialEq, Serialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
#[oai(rename = "AuditActorKind", rename_all = "camelCase")]
pub enum ActorKind {
    /// A token of the organization.
    Token,
    /// A token of an application.
    Portal,
    /// The command line.
    Cli,
    /// The program itself.
    System,
}

/// The kind of thing that was written.
#[derive(Copy, Clone, Debug, DeriveActiveEnum, Deserialize, Enum, EnumIter, Eq, PartialEq, Serialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
#[oai(rename = "AuditObjectKind", rename_all = "camelCase")]
pub enum ObjectKind {
    Application,
    Attempt,
    ConsoleLink,
    EncryptionKey,
    Endpoint,
    EventType,
    Message,
    Organization,
    Poller,
    Task,
    Token,
}

/// The party that makes a write.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    pub kind: ActorKind,
    /// The id of the token; `admin` for the configured one, `cli` for the command line, `system` for the program.
    pub id: &'a str,
    /// The name of the token; `None` means it has none.
    pub name: Option<&'a str>,
}

impl Actor<'static> {
    pub const CLI: Self = Self {
        kind: ActorKind::Cli,
        id: BY_COMMAND_LINE,
        name: None,
    };
    pub const SYSTEM: Self = Self {
        kind: ActorKind::System,
        id: BY_PROGRAM,
        name: None,
    };
}

impl<'a> Actor<'a> {
    /// Returns the actor whose id is recorded as the maker of something.
    pub fn who_made(id: &'a str) -> Self {
        match id {
            BY_COMMAND_LINE => Actor::CLI,
            BY_PROGRAM => Actor::SYSTEM,
            id => Self {
                kind: ActorKind::Token,
                id,
                name: None,
            },
        }
    }
}

/// The origin of a write: who makes it, and by which operation.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub actor: Actor<'a>,
    /// The id of the operation in the API document. For the command line `cli.` and the command, for the program
    /// `system.` and what it does.
    pub operation: &'a str,
}

impl Origin<'static> {
    /// Returns the origin of a command's writes.
    pub const fn cli(operation: &'static str) -> Self {
        Self {
            actor: Actor::CLI,
            operation,
        }
    }

    /// Returns the origin of the program's own writes.
    pub const fn system(operation: &'static str) -> Self {
        Self {
            actor: Actor::SYSTEM,
            operation,
        }
    }
}

/// Named fields of a thing, each with its value as JSON.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &impl Serialize) -> Self {
        // Values of these types, which have text keys, can always be written.
        let json = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
        self.0.push((name, json));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the fields of `before` and of `after` that differ.
    pub fn changed(before: Self, after: Self) -> (Self, Self) {
        let differs = |(name, json): &(&str, String), others: &Self| {
            let other = others.0.iter().find(|(other, _)| other == name);
            other.is_none_or(|(_, other)| other != json)
        };
        let (mut old, mut new) = (before.clone(), after.clone());
        old.0.retain(|field| differs(field, &after));
        new.0.retain(|field| differs(field, &before));
        (old, new)
    }

    /// Returns the fields as a JSON object of at most 8 KiB. If they take more, the largest ones are replaced by
    /// `{"cut": true, "bytes": N}`, where N is the size of the value.
    pub fn written(mut self) -> String {
        let cut = |json: &str| format!(r#"{{"cut":true,"bytes":{}}}"#, json.len());
        while self.len() > MOST_BYTES {
            let Some((_, largest)) = self.0.iter_mut().max_by_key(|(_, json)| json.len()) else {
                break;
            };
            *largest = cut(largest);
        }
        let fields = self.0.iter().map(|(name, json)| format!(r#""{name}":{json}"#));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    /// Returns the bytes that [`Fields::written`] takes before anything is cut.
    fn len(&self) -> usize {
        let fields = self.0.iter().map(|(name, json)| name.len() + json.len() + 4);
        fields.sum::<usize>() + 1
    }
}

/// Returns a URL without what may be secret in it: user name and password, the values of its query, and its fragment.
pub fn shown_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return HIDDEN.to_owned();
    };
    let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    // A URL that has no host has no user name either, and refuses these.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    if !names.is_empty() {
        url.query_pairs_mut()
            .extend_pairs(names.iter().map(|name| (name, HIDDEN)));
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_differ_are_changed() {
        let before = Fields::default().with("a", &1).with("b", &"x").with("gone", &true);
        let after = Fields::default().with("a", &1).with("b", &"y");
        let (old, new) = Fields::changed(before, after);
        assert_eq!(old.written(), r#"{"b":"x","gone":true}"#);
        assert_eq!(new.written(), r#"{"b":"y"}"#);
        assert_eq!(Fields::default().written(), "{}");
    }

    #[test]
    fn the_largest_fields_are_cut_until_the_rest_fits() {
        let small = "s".repeat(5000);
        let fields = Fields::default()
            .with("large", &"l".repeat(100_000))
            .with("small", &small)
            .with("middle", &"m".repeat(6000));
        let text = fields.written();
        assert!(text.len() <= MOST_BYTES, "{}", text.len());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["large"], serde_json::json!({"cut": true, "bytes": 100_002}));
        assert_eq!(read["middle"], serde_json::json!({"cut": true, "bytes": 6002}));
        assert_eq!(read["small"], small);
        let whole = Fields::default().with("a", &"x".repeat(MOST_BYTES - 8));
        assert_eq!(whole.written().len(), MOST_BYTES);
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://hooks.example/in", "https://hooks.example/in"),
            (
                "https://me:pass@hooks.example:8443/in?token=abc&a%20b=c#top",
                "https://hooks.example:8443/in?token=hidden&a+b=hidden",
            ),
            ("https://hooks.example/?", "https://hooks.example/"),
            ("https://hooks.example/?secret", "https://hooks.example/?secret=hidden"),
            ("no url", "hidden"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
