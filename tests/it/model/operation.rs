//! The operations of which a sequence consists, and the strategies by which proptest chooses them.
//!
//! An operation names things by small numbers, which are read modulo what exists: so each sequence is valid, and stays
//! so while proptest leaves out operations to shrink it. Must not know the product or the model.

use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The most endpoints that an application has at a time. With three, no resend of 400 sequences succeeded while a retry of
/// its message waited.
pub const ENDPOINTS: usize = 2;
/// The most operations of a sequence after its first, which creates an endpoint.
const MOST: usize = 40;

/// A filter of an endpoint, a poller or a replay. Event types and channels are given by their bits; 0 means all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    pub event_types: u8,
    pub channels: u8,
}

/// What a receiver does with each request to an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reaction {
    Status(u16),
    /// It answers 500, and asks by Retry-After for a wait of so many seconds.
    Later(u64),
    /// It ends the connection without an answer.
    Cut,
    /// It never answers. Slow, since the attempt's timeout is real: it does so once, and then answers 200.
    Hang,
}

#[derive(Clone, Copy, Debug)]
pub enum Task {
    Recover,
    ReplayMissing,
    BulkReplay(Replayed),
}

/// What a bulk replay sends again.
#[derive(Clone, Copy, Debug)]
pub struct Replayed {
    pub event_types: u8,
    pub channel: Option<u8>,
    /// The state, as the API numbers it.
    pub state: Option<u8>,
    /// The hundred of an attempt's status; 0 means that there was no answer.
    pub class: Option<u16>,
}

#[derive(Clone, Debug)]
pub enum Operation {
    Send {
        event_type: u8,
        /// The channels by their bits; 0 means none.
        channels: u8,
        event_id: Option<u8>,
        /// Whether the payload is so large that it is read just before it is sent.
        is_large: bool,
    },
    /// Sends a message with an idempotency key. The second of both keys comes with an event id.
    SendOnce {
        key: u8,
        variant: u8,
    },
    Create {
        endpoint: usize,
        filter: Filter,
    },
    Filter {
        endpoint: usize,
        filter: Filter,
    },
    /// Drains, and gives the endpoint another URL.
    Move {
        endpoint: usize,
    },
    /// Gives the endpoint a custom header with this value, or none.
    Header {
        endpoint: usize,
        value: Option<u8>,
    },
    Disable {
        endpoint: usize,
        disabled: bool,
    },
    Delete {
        endpoint: usize,
    },
    Rotate {
        endpoint: usize,
        grace: u64,
    },
    React {
        endpoint: usize,
        reaction: Reaction,
    },
    Resend {
        message: usize,
        endpoint: usize,
    },
    Start {
        task: Task,
        endpoint: usize,
    },
    Expunge {
        message: usize,
    },
    /// Lets the dispatcher send all that is due.
    Drain,
    /// Drains, advances the clock by so many seconds, and drains again.
    Wait {
        seconds: u64,
    },
    /// Ends the process as a kill does and starts another one; with `sending` while the receivers have the requests of
    /// all that is due, and have not answered.
    Kill {
        sending: bool,
    },
    /// Lets the janitor run, which must remove nothing of all this.
    Prune,
    /// Reads on in the poller's messages, from where the last read has ended.
    Poll {
        limit: usize,
    },
    /// Reads the poller's messages from the same place on, without those that this filter of one event type or one
    /// channel leaves out. The place stays.
    Search {
        limit: usize,
        wanted: Filter,
    },
    /// Reads the poller's messages as a consumer, from the place that it has confirmed; with `confirms` it confirms the
    /// page before.
    Consume {
        limit: usize,
        confirms: bool,
    },
    Compare,
}

/// A sequence, and the filter of the poller that its application has.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub poller: Filter,
    pub operations: Vec<Operation>,
    /// Whether the application is deleted while its messages wait.
    pub is_abandoned: bool,
}

pub fn sequence() -> impl Strategy<Value = Sequence> {
    let parts = (filter(), filter(), vec(operation(), 1..=MOST), weighted(0.2));
    parts.prop_map(|(poller, filter, mut operations, is_abandoned)| {
        operations.insert(0, Operation::Create { endpoint: 0, filter });
        Sequence {
            poller,
            operations,
            is_abandoned,
        }
    })
}

/// Chooses some of two things by their bits, or all of them: 0.
fn some() -> impl Strategy<Value = u8> {
    prop_oneof![7 => Just(0), 3 => 1..4_u8]
}

fn filter() -> impl Strategy<Value = Filter> {
    (some(), some()).prop_map(|(event_types, channels)| Filter { event_types, channels })
}

fn reaction() -> impl Strategy<Value = Reaction> {
    prop_oneof![
        300 => Just(Reaction::Status(200)),
        300 => Just(Reaction::Status(500)),
        100 => Just(Reaction::Status(404)),
        100 => Just(Reaction::Status(410)),
        100 => Just(Reaction::Cut),
        60 => Just(Reaction::Later(100)),
        4 => Just(Reaction::Hang),
    ]
}

fn task() -> impl Strategy<Value = Task> {
    let class = prop_oneof![Just(0), Just(200), Just(400), Just(500)];
    let state = prop_oneof![Just(0), Just(2), Just(3)];
    let channel = option::weighted(0.2, 0..2_u8);
    let replayed = (some(), channel, option::of(state), option::weighted(0.3, class));
    let replayed = replayed.prop_map(|(event_types, channel, state, class)| Replayed {
        event_types,
        channel,
        state,
        class,
    });
    prop_oneof![
        Just(Task::Recover),
        Just(Task::ReplayMissing),
        replayed.prop_map(Task::BulkReplay)
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let endpoint = 0..ENDPOINTS;
    let send = (0..2_u8, 0..4_u8, option::weighted(0.2, 0..2_u8), weighted(0.1));
    let send = send.prop_map(|(event_type, channels, event_id, is_large)| Operation::Send {
        event_type,
        channels,
        event_id,
        is_large,
    });
    let one = prop_oneof![Just((1, 0)), Just((2, 0)), Just((0, 1)), Just((0, 2))];
    let wanted = one.prop_map(|(event_types, channels)| Filter { event_types, channels });
    prop_oneof![
        20 => send,
        4 => (0..2_u8, 0..2_u8).prop_map(|(key, variant)| Operation::SendOnce { key, variant }),
        12 => (endpoint.clone(), filter()).prop_map(|(endpoint, filter)| Operation::Create { endpoint, filter }),
        4 => (endpoint.clone(), filter()).prop_map(|(endpoint, filter)| Operation::Filter { endpoint, filter }),
        2 => endpoint.clone().prop_map(|endpoint| Operation::Move { endpoint }),
        2 => (endpoint.clone(), option::of(0..2_u8))
            .prop_map(|(endpoint, value)| Operation::Header { endpoint, value }),
        6 => (endpoint.clone(), any::<bool>())
            .prop_map(|(endpoint, disabled)| Operation::Disable { endpoint, disabled }),
        2 => endpoint.clone().prop_map(|endpoint| Operation::Delete { endpoint }),
        4 => (endpoint.clone(), prop_oneof![Just(0), Just(10), Just(86_400)])
            .prop_map(|(endpoint, grace)| Operation::Rotate { endpoint, grace }),
        10 => (endpoint.clone(), reaction())
            .prop_map(|(endpoint, reaction)| Operation::React { endpoint, reaction }),
        6 => (any::<u8>(), endpoint.clone()).prop_map(|(message, endpoint)| Operation::Resend {
            message: message.into(),
            endpoint,
        }),
        8 => (task(), endpoint.clone()).prop_map(|(task, endpoint)| Operation::Start { task, endpoint }),
        2 => any::<u8>().prop_map(|message| Operation::Expunge { message: message.into() }),
        12 => Just(Operation::Drain),
        12 => prop_oneof![3 => Just(1), 3 => Just(15), 3 => Just(1_300), 3 => Just(4_000), 1 => Just(50_000)]
            .prop_map(|seconds| Operation::Wait { seconds }),
        2 => any::<bool>().prop_map(|sending| Operation::Kill { sending }),
        1 => Just(Operation::Prune),
        5 => (1..4_usize).prop_map(|limit| Operation::Poll { limit }),
        2 => (1..4_usize, wanted).prop_map(|(limit, wanted)| Operation::Search { limit, wanted }),
        3 => (1..4_usize, any::<bool>()).prop_map(|(limit, confirms)| Operation::Consume { limit, confirms }),
        2 => Just(Operation::Compare),
    ]
}
