//! Finds the application that a command names. Must not print anything.

use crate::domain::identifier::check_identifier;
use crate::error::{Error, Result};
use crate::store::entity::application::Model as Application;
use crate::store::{Store, application, organization};

/// The organizations that are read at once.
const ORGANIZATIONS: u64 = 1_000;

/// Finds the application in the organization, or in all of them if none is named.
///
/// # Errors
/// `NotFound`; `Config` if several organizations have an application of this uid.
pub(super) async fn find(store: &Store, organization: Option<&str>, id_or_uid: &str) -> Result<Application> {
    if let Some(name) = organization {
        let found = organization::find_by_name(store, name).await?;
        let found = found.ok_or_else(|| Error::not_found(&format!("organization \"{name}\"")))?;
        return application::get(store, &found.id, id_or_uid).await;
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let organizations = organization::list(store, &after, ORGANIZATIONS).await?;
        let Some(last) = organizations.last() else { break };
        after.clone_from(&last.id);
        for organization in &organizations {
            found.extend(application::find(store, &organization.id, id_or_uid).await?);
        }
    }
    match found.len() {
        0 => Err(Error::not_found(&format!("application \"{id_or_uid}\""))),
        1 => Ok(found.remove(0)),
        more => Err(Error::config(format!(
            "{more} organizations have an application \"{id_or_uid}\": name one with --organization"
        ))),
    }
}

/// Parses an id, uid or event id.
pub(super) fn name(text: &str) -> Result<String, String> {
    check_identifier(text).map(|()| text.to_owned())
}
