//! Decides from the method and the path of a request what it does, and so whether a limited token may make it.
//!
//! Must not decide what a capability allows: the domain does.

use super::paths::fits;
use crate::domain::capability::{self, Act, Capability};

/// The operations that do something other than [`Act::Read`] or [`Act::Write`].
const ACTS: [(&str, Act); 7] = [
    ("/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret", Act::RevealSecret),
    (
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
        Act::RotateSecret,
    ),
    ("/api/v1/app/{app_id}/endpoint/{endpoint_id}/recover", Act::Send),
    ("/api/v1/app/{app_id}/endpoint/{endpoint_id}/replay-missing", Act::Send),
    ("/api/v1/app/{app_id}/endpoint/{endpoint_id}/bulk-replay", Act::Send),
    (
        "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
        Act::Send,
    ),
    ("/api/v1/auth/logout", Act::EndToken),
];

/// Returns whether a token that is limited to the capabilities `held` may make a request to `path`. `reads` means that
/// the method is GET or HEAD.
pub fn allows(held: &[Capability], reads: bool, path: &str) -> bool {
    capability::allows(held, act(reads, path))
}

/// Returns what a request to `path` does. A write that is not listed counts as [`Act::Write`], so an operation that is
/// added later is never open to every token by mistake.
fn act(reads: bool, path: &str) -> Act {
    match ACTS.iter().find(|(template, _)| fits(template, path)) {
        Some((_, Act::RevealSecret)) => Act::RevealSecret,
        _ if reads => Act::Read,
        Some((_, act)) => *act,
        None => Act::Write,
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::capability::Capability::*;

    use super::*;

    const SECRET: &str = "/api/v1/app/a/endpoint/e/secret";
    const ROTATE: &str = "/api/v1/app/a/endpoint/e/secret/rotate";

    #[test]
    fn every_token_reads_and_ends_itself() {
        for path in [
            "/api/v1/app/a",
            "/api/v1/app/a/endpoint",
            "/api/v1/event-type",
            "/api/v1/app/a/endpoint/e/headers",
        ] {
            assert!(allows(&[], true, path), "{path}");
        }
        assert!(allows(&[], false, "/api/v1/auth/logout"));
    }

    #[test]
    fn a_secret_is_read_and_rotated_by_those_who_may() {
        for (held, read, rotate) in [
            (ViewBase, false, false),
            (ManageTransformations, false, false),
            (CreateAttempts, false, false),
            (ViewEndpointSecret, true, false),
            (ManageEndpointSecret, true, true),
            (ManageEndpoint, true, true),
        ] {
            assert_eq!(allows(&[held], true, SECRET), read, "{held:?}");
            assert_eq!(allows(&[held], false, ROTATE), rotate, "{held:?}");
        }
    }

    #[test]
    fn attempts_are_made_by_create_attempts_alone() {
        for last in ["recover", "replay-missing", "bulk-replay"] {
            let path = format!("/api/v1/app/a/endpoint/e/{last}");
            assert!(allows(&[CreateAttempts], false, &path));
            assert!(!allows(&[ViewBase, ManageEndpoint], false, &path));
        }
        assert!(allows(
            &[CreateAttempts],
            false,
            "/api/v1/app/a/msg/m/endpoint/e/resend"
        ));
    }

    #[test]
    fn every_other_write_needs_manage_endpoint() {
        // A uid may be any of the words that a path has.
        for path in [
            "/api/v1/app/a/endpoint",
            "/api/v1/app/a/endpoint/recover",
            "/api/v1/app/a/endpoint/e/headers",
            "/api/v1/something/resend",
        ] {
            assert!(allows(&[ManageEndpoint], false, path));
            let others = [ViewBase, ViewEndpointSecret, ManageEndpointSecret, CreateAttempts];
            assert!(!allows(&others, false, path), "{path}");
        }
    }
}
