//! Reads the filters that lists of messages and of attempts share from the query string.
//!
//! Must not apply the filters: the store does.

use poem::{Request, RequestBody};
use poem_openapi::param::Query;
use poem_openapi::registry::{MetaParamIn, MetaSchemaRef};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::paging::{Iterates, ListQuery, bad_query};
use super::values::Instant;
use crate::domain::id::Prefix;
use crate::domain::identifier::{check_identifier, check_tag};
use crate::error::Result;
use crate::store::{Between, PageRequest, message};

/// How many event types one query may name: fewer than the parameters that a statement may have.
const MOST_EVENT_TYPES: usize = 1000;

/// A list of names from the query: comma-separated, or as a repeated parameter, such as `event_types`,
/// `event_types[]` or `event_types[0]`.
pub struct Names(pub Vec<String>);

impl<'a> ApiExtractor<'a> for Names {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = Option<Vec<String>>;
    type ParamRawType = Vec<String>;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(Vec::<String>::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let pairs = url::form_urlencoded::parse(query);
        let named = pairs.filter(|(name, _)| is_spelling_of(options.name, name));
        let names = named.flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>());
        Ok(Self(names.filter(|name| !name.is_empty()).collect()))
    }
}

/// Returns whether a parameter is a spelling of the list `name`: `name`, `name[]` or `name[7]`.
fn is_spelling_of(name: &str, given: &str) -> bool {
    given.strip_prefix(name).is_some_and(|rest| {
        let index = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        rest.is_empty() || index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// The query parameters that lists of messages and of attempts share.
pub struct MessageQuery {
    pub list: ListQuery,
    pub channel: Query<Option<String>>,
    pub tag: Query<Option<String>>,
    pub before: Query<Option<Instant>>,
    pub after: Query<Option<Instant>>,
    pub event_types: Names,
}

impl MessageQuery {
    /// Returns the page that is asked for, of a list by ids with this prefix, and the filter of its messages.
    ///
    /// # Errors
    /// `Invalid`, with the parameter's name.
    pub fn read(self, prefix: Prefix) -> Result<(PageRequest, message::Filter)> {
        let mut page = self.list.request(&Iterates::Over(prefix), false)?;
        let between = Between {
            after: self.after.0.map(|instant| instant.0),
            before: self.before.0.map(|instant| instant.0),
        };
        // With `after` alone the list begins at that instant and goes on towards the present.
        if page.after.is_none() && between.after.is_some() && between.before.is_none() {
            page.backwards = true;
        }
        if let Some(channel) = &self.channel.0 {
            check_identifier(channel).map_err(|rule| bad_query("channel", rule))?;
        }
        if let Some(tag) = &self.tag.0 {
            check_tag(tag).map_err(|rule| bad_query("tag", rule))?;
        }
        let mut event_types = self.event_types.0;
        event_types.sort_unstable();
        event_types.dedup();
        if event_types.len() > MOST_EVENT_TYPES {
            let rule = format!("must be at most {MOST_EVENT_TYPES} different names");
            return Err(bad_query("event_types", rule));
        }
        for name in &event_types {
            check_identifier(name).map_err(|rule| bad_query("event_types", rule))?;
        }
        let filter = message::Filter {
            between,
            channel: self.channel.0,
            event_types,
            tag: self.tag.0,
        };
        Ok((page, filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_list_is_known() {
        for given in ["event_types", "event_types[]", "event_types[0]", "event_types[12]"] {
            assert!(is_spelling_of("event_types", given), "{given}");
        }
        for given in [
            "event_type",
            "event_types_x",
            "event_types[",
            "event_types[a]",
            "event_types][",
        ] {
            assert!(!is_spelling_of("event_types", given), "{given}");
        }
    }
}
