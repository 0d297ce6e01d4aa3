//! What an application's token may do, where it may not do everything: the capabilities by which the SDKs limit one.
//! Must not know tokens or routes beyond a path's form. Called by authentication for every request of such a token.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

/// One thing that the token of an application may be limited to.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
pub enum Capability {
    /// To read, but no signing secret; every token has it.
    ViewBase,
    ViewEndpointSecret,
    ManageEndpointSecret,
    /// There are no transformations here: it allows nothing more.
    ManageTransformations,
    /// To resend, recover and replay.
    CreateAttempts,
    /// To create, change and delete endpoints, their headers and secrets too.
    ManageEndpoint,
}

/// Whether a token with these capabilities may do this.
pub fn allows(held: &[Capability], reads: bool, path: &str) -> bool {
    use Capability::{CreateAttempts, ManageEndpoint, ManageEndpointSecret, ViewEndpointSecret};
    let any = |wanted: &[Capability]| wanted.iter().any(|one| held.contains(one));
    let path = path.strip_prefix("/api/v1/").unwrap_or(path);
    let steps: Vec<&str> = path.split('/').collect();
    match steps[..] {
        ["app", _, "endpoint", _, "secret"] => any(&[ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint]),
        _ if reads => true,
        ["auth", "logout"] => true,
        ["app", _, "endpoint", _, "secret", "rotate"] => any(&[ManageEndpointSecret, ManageEndpoint]),
        ["app", _, "endpoint", _, "recover" | "replay-missing" | "bulk-replay"] => any(&[CreateAttempts]),
        ["app", _, "msg", _, "endpoint", _, "resend"] => any(&[CreateAttempts]),
        _ => any(&[ManageEndpoint]),
    }
}

/// Whether the values of an endpoint's own headers are shown to a token that is limited to these: to one that could also
/// change them. They often hold a credential, whatever the name.
pub fn shows_headers(held: &[Capability]) -> bool {
    held.contains(&Capability::ManageEndpoint)
}

/// Capabilities that only read.
pub fn read_only(held: &[Capability]) -> Vec<Capability> {
    let reads = |one: &&Capability| matches!(one, Capability::ViewBase | Capability::ViewEndpointSecret);
    held.iter().filter(reads).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::Capability::*;
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

    #[test]
    fn headers_are_shown_to_whom_may_change_them() {
        assert!(shows_headers(&[ViewBase, ManageEndpoint]));
        assert!(!shows_headers(&[
            ViewBase,
            ViewEndpointSecret,
            ManageEndpointSecret,
            CreateAttempts
        ]));
    }

    #[test]
    fn read_only_leaves_what_reads() {
        assert_eq!(
            read_only(&[ViewBase, ManageEndpoint, ViewEndpointSecret]),
            [ViewBase, ViewEndpointSecret]
        );
    }
}
