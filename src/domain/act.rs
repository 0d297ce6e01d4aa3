//! What an operation of the API does, as far as the rights of tokens tell operations apart.
//!
//! Must not decide who may do it: `role.rs` does for an organization's tokens, `capability.rs` for an application's.

/// What an operation does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Read anything but signing secrets and tokens.
    View,
    /// Read a signing secret.
    RevealSecret,
    RotateSecret,
    /// Send a new message.
    SendMessage,
    /// Send messages again, by a resend, a recovery or a replay; send an example; cancel a background task.
    SendAgain,
    /// Make a token for the people of an application.
    OpenPortal,
    /// Change an endpoint. Some roles may switch it on and off, and change nothing else of it.
    SwitchEndpoint,
    /// Read the messages of a poller.
    Poll,
    /// Move the place of a consumer of a poller: by reading as that consumer, or by a seek.
    MoveConsumer,
    /// End the token itself.
    EndToken,
    /// Read, change or end tokens; read the audit log.
    Administer,
    /// Any other write.
    Edit,
}
