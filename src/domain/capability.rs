//! The capabilities by which the SDKs limit the token of an application, and the requests that each of them allows.
//!
//! Must not know tokens, nor of routes more than the form of their paths.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

/// One thing that the token of an application may be limited to.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
pub enum Capability {
    /// Read everything except signing secrets. Every token may do this, whether it has this capability or not.
    ViewBase,
    /// Read signing secrets.
    ViewEndpointSecret,
    /// Read and rotate signing secrets.
    ManageEndpointSecret,
    /// Nothing beyond `ViewBase`, since this program has no transformations.
    ManageTransformations,
    /// Resend messages, and start recoveries and replays.
    CreateAttempts,
    /// Create, change and delete endpoints, including their custom headers and secrets, and every other write.
    ManageEndpoint,
}

/// Returns whether a token that is limited to the capabilities `held` may make a request to `path`. `reads` means that
/// the method is GET or HEAD.
pub fn allows(held: &[Capability], reads: bool, path: &str) -> bool {
    use Capability::{CreateAttempts, ManageEndpoint, ManageEndpointSecret, ViewEndpointSecret};
    let any = |wanted: &[Capability]| wanted.iter().any(|capability| held.contains(capability));
    let path = path.strip_prefix("/api/v1/").unwrap_or(path);
    let steps: Vec<&str> = path.split('/').collect();
    match steps[..] {
        ["app", _, "endpoint", _, "secret"] => any(&[ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint]),
        _ if reads => true,
        ["auth", "logout"] => true,
        ["app", _, "endpoint", _, "secret", "rotate"] => any(&[ManageEndpointSecret, ManageEndpoint]),
        ["app", _, "endpoint", _, "recover" | "replay-missing" | "bulk-replay"] => any(&[CreateAttempts]),
        ["app", _, "msg", _, "endpoint", _, "resend"] => any(&[CreateAttempts]),
        // Also each write that is added later, until it gets a capability of its own: none can be forgotten.
        _ => any(&[ManageEndpoint]),
    }
}

/// Returns whether a token that is limited to the capabilities `held` sees the values of custom headers. Only a token
/// that may also change them does, because the values often hold a credential, whatever the header's name.
pub fn shows_headers(held: &[Capability]) -> bool {
    held.contains(&Capability::ManageEndpoint)
}

/// Returns those of the capabilities that only allow to read.
pub fn read_only(held: &[Capability]) -> Vec<Capability> {
    let reads = |capability: &&Capability| matches!(capability, Capability::ViewBase | Capability::ViewEndpointSecret);
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
