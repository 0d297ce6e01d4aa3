//! Decides which endpoints get a message, by event type and channels alone.
//!
//! Must not ask whether an endpoint is disabled or deleted: callers leave such endpoints out.

/// The filter of an endpoint. A list is never empty.
#[derive(Copy, Clone, Debug, Default)]
pub struct EndpointFilter<'a> {
    /// The event types that it wants; `None` means all.
    pub event_types: Option<&'a [String]>,
    /// The channels of which a message must have at least one; `None` means any message, with channels or without.
    pub channels: Option<&'a [String]>,
}

/// Returns whether an endpoint with this filter gets a message of this event type on these channels.
///
/// An endpoint with channels gets only messages that have one of them. A message without channels therefore reaches
/// only endpoints without channels.
pub fn accepts(filter: &EndpointFilter<'_>, event_type: &str, message_channels: &[String]) -> bool {
    let type_wanted = filter
        .event_types
        .is_none_or(|wanted| wanted.iter().any(|name| name == event_type));
    let channel_wanted = filter
        .channels
        .is_none_or(|wanted| message_channels.iter().any(|channel| wanted.contains(channel)));
    type_wanted && channel_wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn accepted(types: Option<&[&str]>, channels: Option<&[&str]>, event_type: &str, on: &[&str]) -> bool {
        let (types, channels) = (types.map(list), channels.map(list));
        let filter = EndpointFilter {
            event_types: types.as_deref(),
            channels: channels.as_deref(),
        };
        accepts(&filter, event_type, &list(on))
    }

    #[test]
    fn an_endpoint_without_filter_gets_everything() {
        assert!(accepted(None, None, "user.created", &[]));
        assert!(accepted(None, None, "user.created", &["eu"]));
    }

    #[test]
    fn an_event_type_filter_passes_its_exact_names_only() {
        let wanted = Some(&["user.created", "user.deleted"][..]);
        assert!(accepted(wanted, None, "user.deleted", &["eu"]));
        for other in ["user.updated", "user", "User.Created", "user.created.v2", ""] {
            assert!(!accepted(wanted, None, other, &[]), "{other}");
        }
    }

    #[test]
    fn channels_match_when_one_is_shared() {
        let wanted = Some(&["eu", "us"][..]);
        assert!(accepted(None, wanted, "t", &["asia", "us"]));
        assert!(!accepted(None, wanted, "t", &["asia"]));
        assert!(!accepted(None, wanted, "t", &["EU"]));
    }

    #[test]
    fn a_message_without_channels_reaches_only_endpoints_without() {
        assert!(!accepted(None, Some(&["eu"]), "t", &[]));
        assert!(accepted(None, None, "t", &[]));
    }

    #[test]
    fn both_filters_must_pass() {
        let (types, channels) = (Some(&["t"][..]), Some(&["eu"][..]));
        assert!(accepted(types, channels, "t", &["eu"]));
        assert!(!accepted(types, channels, "other", &["eu"]));
        assert!(!accepted(types, channels, "t", &["us"]));
    }
}
