//! Adds to an operation of the API document which tokens may call it: a sentence for people, and the extensions
//! `x-roles` and `x-capabilities` for programs.
//!
//! Must not decide rights: each operation declares what it does, and the domain says who may do it.

use serde_json::{Value, json};

use crate::api::rights::{Needs, SCHEME};
use crate::domain::capability;
use crate::domain::role::Role;

/// Writes the rights into an operation, and the name of the security scheme in place of its mark.
pub(super) fn describe(operation: &mut Value, needs: Needs) {
    operation["security"] = json!([{SCHEME: []}]);
    let roles: Vec<_> = Role::of(needs.act).iter().map(|role| role.name().to_owned()).collect();
    let capabilities = (!needs.organization)
        .then(|| capability::needed(needs.act))
        .flatten()
        .map(|needed| {
            needed
                .iter()
                .map(|capability| format!("{capability:?}"))
                .collect::<Vec<_>>()
        });
    let own = match (needs.organization, &capabilities) {
        (true, _) => String::new(),
        (false, None) => ", and for tokens of applications".to_owned(),
        (false, Some(needed)) => {
            let either = either(needed);
            format!(", and for tokens of applications that are not limited or have the capability {either}")
        }
    };
    let sentence = format!("For tokens with the role {}{own}.", either(&roles));
    let text = match operation["description"].as_str() {
        Some(text) => format!("{text}\n\n{sentence}"),
        None => sentence,
    };
    operation["description"] = text.into();
    operation["x-roles"] = roles.into();
    if let Some(needed) = capabilities {
        operation["x-capabilities"] = needed.into();
    }
}

fn either(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

/// Returns what a 403 of an operation with these needs means.
pub(super) fn forbidden(needs: Needs) -> &'static str {
    match (needs.organization, capability::needed(needs.act)) {
        (true, _) => "The token is of one application, and this is not for applications; or its role may not do this.",
        (false, Some(_)) => "The token's role, or the capabilities to which it is limited, do not allow this.",
        (false, None) => "The token's role does not allow this.",
    }
}
