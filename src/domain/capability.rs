//! The capabilities by which the SDKs limit the token of an application, and what each of them allows.
//!
//! Must not know tokens or routes.

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

/// What a request does, as far as capabilities tell requests apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Read anything but a signing secret.
    Read,
    /// Read a signing secret.
    RevealSecret,
    RotateSecret,
    /// Send messages again: a resend, a recovery or a replay.
    Send,
    /// End the token itself.
    EndToken,
    /// Any other write.
    Write,
}

/// Returns whether a token that is limited to the capabilities `held` may do this.
pub fn allows(held: &[Capability], act: Act) -> bool {
    use Capability::{CreateAttempts, ManageEndpoint, ManageEndpointSecret, ViewEndpointSecret};
    let any = |wanted: &[Capability]| wanted.iter().any(|capability| held.contains(capability));
    match act {
        Act::Read | Act::EndToken => true,
        Act::RevealSecret => any(&[ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint]),
        Act::RotateSecret => any(&[ManageEndpointSecret, ManageEndpoint]),
        Act::Send => any(&[CreateAttempts]),
        Act::Write => any(&[ManageEndpoint]),
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
