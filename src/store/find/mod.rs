//! Finds things of an organization by a text that a person has in hand: an id, a uid, an event id, a tag.
//!
//! The text seldom tells the application, and no index spans applications. So a look-up probes an index once for each
//! application, the newest first, at most a thousand times; if that was not all, the result is marked as truncated.
//!
//! Must not find what no other route shows: deleted applications, and messages that are notices.

mod found;
mod search;

pub use self::found::{Findings, Found, Kind, Matched};
use self::search::Search;
use super::database::source::Source;
use crate::error::Result;

/// Finds things of the organization whose id, uid, event id, name or tag is `text`. An id is looked up by its prefix; the
/// other ways are taken if it is none, or names nothing.
pub async fn find(source: &impl Source, org_id: &str, text: &str) -> Result<Findings> {
    let search = Search::begin(source, org_id, text).await?;
    let by_id = search.by_id().await?;
    if !by_id.found.is_empty() {
        let found = by_id.found;
        return Ok(Findings::whole(found));
    }
    let mut findings = search.by_name().await?;
    findings.is_truncated |= by_id.is_truncated;
    Ok(findings)
}
