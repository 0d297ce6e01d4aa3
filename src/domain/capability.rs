//! The capabilities by which the SDKs limit the token of an application, and what each of them allows.
//!
//! Must not know tokens or routes.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

use super::act::Act;

/// One thing that the token of an application may be limited to.
#[derive(Clone, Copy, Debug, Deserialize, Enum, Eq, PartialEq, Serialize)]
pub enum Capability {
    /// Read everything except signing secrets, messages of pollers too. Every token may do this, whether it has this capability or not.
    ViewBase,
    /// Read signing secrets.
    ViewEndpointSecret,
    /// Read and rotate signing secrets.
    ManageEndpointSecret,
    /// Nothing beyond `ViewBase`, since this program has no transformations.
    ManageTransformations,
    /// Resend messages, send examples, start recoveries and replays, cancel them, and move consumers of pollers.
    CreateAttempts,
    /// Create, change and delete endpoints and pollers, including their custom headers and secrets, and every other write.
    ManageEndpoint,
}

/// Returns the capabilities of which a limited token needs one to do this. `None` means that it needs none; an empty
/// list means that no token of an application may do it.
pub fn needed(act: Act) -> Option<&'static [Capability]> {
    use Capability::{CreateAttempts, ManageEndpoint, ManageEndpointSecret, ViewEndpointSecret};
    match act {
        Act::View | Act::Poll | Act::EndToken => None,
        Act::RevealSecret => Some(&[ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint]),
        Act::RotateSecret => Some(&[ManageEndpointSecret, ManageEndpoint]),
        Act::SendAgain | Act::MoveConsumer => Some(&[CreateAttempts]),
        Act::SwitchEndpoint | Act::Edit => Some(&[ManageEndpoint]),
        Act::SendMessage | Act::OpenPortal | Act::Administer => Some(&[]),
    }
}

/// Returns whether a token that is limited to the capabilities `held` may do this.
pub fn allows(held: &[Capability], act: Act) -> bool {
    needed(act).is_none_or(|needed| needed.iter().any(|capability| held.contains(capability)))
}

/// Returns whether a token that reads a single poller may do this, of that poller or of itself.
pub const fn is_of_a_reader(act: Act) -> bool {
    matches!(act, Act::Poll | Act::MoveConsumer | Act::EndToken)
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
    fn every_token_reads_and_ends_itself() {
        for act in [Act::View, Act::Poll, Act::EndToken] {
            assert!(allows(&[], act), "{act:?}");
        }
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
            assert_eq!(allows(&[held], Act::RevealSecret), read, "{held:?}");
            assert_eq!(allows(&[held], Act::RotateSecret), rotate, "{held:?}");
        }
    }

    #[test]
    fn messages_are_sent_again_by_create_attempts_alone() {
        assert!(allows(&[CreateAttempts], Act::SendAgain));
        assert!(!allows(&[ViewBase, ManageEndpoint], Act::SendAgain));
    }

    #[test]
    fn consumers_are_moved_by_create_attempts_alone() {
        assert!(allows(&[CreateAttempts], Act::MoveConsumer));
        assert!(!allows(&[ViewBase, ManageEndpoint], Act::MoveConsumer));
    }

    #[test]
    fn every_other_write_needs_manage_endpoint() {
        for act in [Act::SwitchEndpoint, Act::Edit] {
            assert!(allows(&[ManageEndpoint], act), "{act:?}");
            let others = [ViewBase, ViewEndpointSecret, ManageEndpointSecret, CreateAttempts];
            assert!(!allows(&others, act), "{act:?}");
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
