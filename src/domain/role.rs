//! The roles of an organization's tokens, and what each of them may do.
//!
//! Must not know tokens or routes.

use std::str::FromStr;

use poem_openapi::Enum;
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

use super::act::Act;

/// The role of an organization's token.
#[derive(Copy, Clone, Debug, Default, DeriveActiveEnum, Deserialize, Enum, EnumIter, Eq, PartialEq, Serialize)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
#[serde(rename_all = "lowercase", try_from = "String")]
#[oai(rename = "Role", rename_all = "lowercase")]
pub enum Role {
    /// Everything of its organization, tokens and the audit log too.
    #[default]
    #[sea_orm(num_value = 0)]
    Admin,
    /// Reads everything but secrets, tokens and the audit log, sends messages again, and switches endpoints on and off.
    #[sea_orm(num_value = 1)]
    Operator,
    /// Reads everything but secrets, the values of custom headers, tokens and the audit log.
    #[sea_orm(num_value = 2)]
    Viewer,
    /// Sends messages, and nothing else.
    #[sea_orm(num_value = 3)]
    Sender,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Viewer, Self::Sender];

    /// Returns the name by which the API and the command line know the role.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Sender => "sender",
        }
    }

    /// Returns the roles that may do this.
    pub const fn of(act: Act) -> &'static [Self] {
        use Role::{Admin, Operator, Sender, Viewer};
        match act {
            Act::View | Act::Poll | Act::OpenPortal | Act::EndToken => &[Admin, Operator, Viewer],
            Act::SendAgain | Act::MoveConsumer | Act::SwitchEndpoint => &[Admin, Operator],
            Act::SendMessage => &[Admin, Sender],
            Act::RevealSecret | Act::RotateSecret | Act::Edit | Act::Administer => &[Admin],
        }
    }

    /// Returns whether the role may do this.
    pub fn may(self, act: Act) -> bool {
        Self::of(act).contains(&self)
    }

    /// Returns whether the role may do only a part of what is done by [`Act::SwitchEndpoint`], [`Act::OpenPortal`] and
    /// [`Act::SendMessage`]: of an endpoint it may change `disabled` alone, the links that it makes only read, and it
    /// creates no application on the way.
    pub fn is_limited(self) -> bool {
        self != Self::Admin
    }

    /// Returns whether the role sees the values of custom headers, except those of sensitive ones.
    pub fn sees_headers(self) -> bool {
        matches!(self, Self::Admin | Self::Operator)
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| "must be admin, operator, viewer or sender".to_owned())
    }
}

/// By way of a text: serde_json by itself takes a null in place of a variant for a fault of the JSON.
impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_do_everything_and_a_sender_one_thing() {
        let acts = [
            Act::View,
            Act::RevealSecret,
            Act::RotateSecret,
            Act::SendMessage,
            Act::SendAgain,
            Act::OpenPortal,
            Act::SwitchEndpoint,
            Act::Poll,
            Act::MoveConsumer,
            Act::EndToken,
            Act::Administer,
            Act::Edit,
        ];
        for act in acts {
            assert!(Role::Admin.may(act), "{act:?}");
            assert_eq!(Role::Sender.may(act), act == Act::SendMessage, "{act:?}");
            assert!(!Role::Viewer.may(act) || Role::Operator.may(act), "{act:?}");
        }
    }

    #[test]
    fn a_role_is_known_by_its_name_alone() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        for other in ["", "Admin", "owner"] {
            assert!(other.parse::<Role>().is_err(), "{other}");
        }
    }
}
