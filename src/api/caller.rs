//! The caller of a request, as its token proves it: the organization or the application, and its rights.
//!
//! The file decides about two refusals: 403 for a token that may not do this, and 404 for one whose application is
//! deleted or is not the application in the path. Must not decide how a response says that any other resource is
//! missing.

use std::sync::Arc;

use crate::domain::act::Act;
use crate::domain::audit::{Actor, ActorKind, Origin};
use crate::domain::capability::{self, Capability};
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::application::{self, Named};
use crate::store::database::budget::Customer;
use crate::store::entity::application::Model as Application;

/// A caller whose token is proven.
#[derive(Debug)]
pub struct Caller {
    pub org_id: String,
    /// The application that the token is limited to. `None` means it is an organization's token.
    pub app_id: Option<String>,
    /// The poller that the token is limited to. `None` means no such limit.
    pub poller_id: Option<String>,
    /// The id of the token, which is also the scope of its idempotency keys.
    pub token_id: String,
    /// The name by which people know the token.
    pub name: Option<Arc<str>>,
    /// The role of an organization's token. `None` means it is an application's.
    pub role: Option<Role>,
    /// The instant at which the token ends. `None` means never.
    pub expires_at: Option<Timestamp>,
    /// The capabilities that an application's token is limited to. `None` means no such limit.
    pub capabilities: Option<Arc<[Capability]>>,
    /// The feature flags of the event types that an application's token sees.
    pub(super) feature_flags: Arc<[String]>,
    /// The customer whose limits on connections and bytes apply: the application, or the organization's token.
    pub(super) customer: Arc<Customer>,
}

impl Caller {
    /// Returns the origin of the caller's writes by an operation, named by its id in the API document.
    pub fn origin(&self, operation: &'static str) -> Origin<'_> {
        let kind = match self.app_id {
            Some(_) => ActorKind::Portal,
            None => ActorKind::Token,
        };
        Origin {
            actor: Actor {
                kind,
                id: &self.token_id,
                name: self.name.as_deref(),
            },
            operation,
        }
    }

    /// Checks that the token may do this, as far as its role or its capabilities decide.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn check(&self, act: Act) -> Result<()> {
        let message = match (self.role, &self.capabilities) {
            _ if self.poller_id.is_some() && !capability::is_of_a_reader(act) => {
                "the token reads the messages of one poller, and does nothing else".to_owned()
            }
            (Some(role), _) if !role.may(act) => {
                let roles: Vec<_> = Role::of(act).iter().map(|role| role.name()).collect();
                format!("this needs a token with the role {}", roles.join(" or "))
            }
            (None, Some(held)) if !capability::allows(held, act) => {
                "the token lacks the capability for this".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Error::new(Kind::Forbidden, message))
    }

    /// Checks that the token is an organization's.
    ///
    /// # Errors
    /// `Forbidden` for an application's token.
    pub fn check_organization(&self) -> Result<()> {
        let own = match (&self.poller_id, &self.app_id) {
            (Some(_), _) => "reads one poller",
            (None, Some(_)) => "is of an application",
            (None, None) => return Ok(()),
        };
        let message = format!("this needs an organization's token; this one {own}");
        Err(Error::new(Kind::Forbidden, message))
    }

    /// Returns the role of the token if it may do only a part of some operations, by [`Role::is_limited`].
    pub fn limited_role(&self) -> Option<Role> {
        self.role.filter(|role| role.is_limited())
    }

    /// Returns the name of an application, as it stands in the path, for a statement that looks it up itself.
    pub fn named<'a>(&'a self, id_or_uid: &'a str) -> Named<'a> {
        Named {
            org_id: &self.org_id,
            name: id_or_uid,
            only: self.app_id.as_deref(),
        }
    }

    /// Returns the application with this id or uid, as it stands in the path.
    ///
    /// # Errors
    /// `NotFound`, also if the token belongs to another application.
    pub async fn application(&self, store: &Store, id_or_uid: &str) -> Result<Application> {
        let found = application::get(store, &self.org_id, id_or_uid).await?;
        match &self.app_id {
            Some(own) if *own != found.id => Err(Error::not_found("application")),
            _ => Ok(found),
        }
    }

    /// Checks that the token may read this poller, of an application that it may name.
    ///
    /// # Errors
    /// `NotFound` if the token is limited to another poller.
    pub fn check_poller(&self, poller_id: &str) -> Result<()> {
        match &self.poller_id {
            Some(own) if own != poller_id => Err(Error::not_found("poller")),
            _ => Ok(()),
        }
    }

    /// Returns the feature flags of the event types that the token sees. `None` means it sees all event types, as each
    /// organization's token does.
    pub fn flags(&self) -> Option<&[String]> {
        self.app_id.as_ref().map(|_| &*self.feature_flags)
    }

    /// Returns whether the token sees the values of custom headers, except those of sensitive ones.
    pub fn sees_headers(&self) -> bool {
        let held = self.capabilities.as_deref();
        self.role.is_none_or(Role::sees_headers) && held.is_none_or(capability::shows_headers)
    }

    /// Checks that the application of the token still exists. For requests whose path names no application.
    ///
    /// # Errors
    /// `NotFound` if the token belongs to a deleted application.
    pub async fn check_application(&self, store: &Store) -> Result<()> {
        match &self.app_id {
            Some(own) => application::get(store, &self.org_id, own).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Returns the error for a request that names an unknown application, and brings one that its role may not create.
/// Any other error is returned as it is.
pub fn not_created(role: Option<Role>, error: Error) -> Error {
    match role {
        Some(role) if error.kind == Kind::NotFound => {
            let message = format!("a token with the role {} creates no application", role.name());
            Error::new(Kind::Forbidden, message)
        }
        _ => error,
    }
}
