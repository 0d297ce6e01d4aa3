//! The groups of operations in the API document.

/// The groups into which the API document sorts the operations.
#[derive(poem_openapi::Tags)]
pub(crate) enum Tag {
    /// An application is one of your customers. It has endpoints, and you send messages to it.
    Application,
    /// Kinds of events in your product. Endpoints filter by them, and they are documentation for your customers.
    #[oai(rename = "Event Type")]
    EventType,
    /// URLs at which an application receives its messages.
    Endpoint,
    /// Messages of an application that are kept for a program that asks for them, without an address of its own.
    Poller,
    /// Payloads that are sent to the endpoints of an application.
    Message,
    /// Requests that were made to deliver messages to endpoints, and the answers to them.
    #[oai(rename = "Message Attempt")]
    MessageAttempt,
    /// Endpoints of your own that are notified of what happens to the endpoints and messages of your applications.
    #[oai(rename = "Operational Webhook")]
    OperationalWebhook,
    /// Many messages that are sent to an endpoint again, in the background.
    #[oai(rename = "Background Task")]
    BackgroundTask,
    /// Finding things by a text when their application is not known.
    Search,
    /// Counts of attempts, and endpoints in trouble.
    Statistics,
    /// Tokens with which the people of an application use this API and the portal page.
    Authentication,
    /// Tokens of the organization itself: programs and people of yours.
    Token,
    /// Who has changed what.
    Audit,
    /// Probes, which need no token.
    Health,
}
