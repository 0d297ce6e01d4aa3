//! Reads the applications that messages name, with those of their endpoints that may be called, and their pollers.
//!
//! Must not remember them: `known.rs` does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use super::member::AppName;
use crate::domain::poller_number::PollerNumber;
use crate::domain::typed_id::{AppId, EndpointId};
use crate::error::Result;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::database::source::Source;
use crate::store::entity::json_text::JsonText;
use crate::store::queue::{TARGET_BUT_HEADERS, Target, TargetRow};

/// The most bytes of an endpoint's custom headers, as they are stored, that are read here. Deliveries to an endpoint
/// with more are not sent over the fast path, and the claim reads the headers: a thousand endpoints with all the
/// headers that they may have would delay every other message.
const LARGE_HEADERS: i32 = 4096;

/// The applications that messages name, by organization and by id or uid.
pub(super) type Named<'a> = HashMap<AppName<'a>, Arc<App>>;

/// An application, with its endpoints that may be called.
pub(super) struct App {
    pub id: AppId,
    /// A number that Postgres changes with each write of the application or of its endpoints. Not used on SQLite.
    pub revision: i64,
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The pollers that take messages. Most applications have none.
    pub pollers: Vec<Poller>,
}

/// A poller that is not disabled.
pub(super) struct Poller {
    pub number: PollerNumber,
    /// The event types that it wants; `None` means all.
    pub event_types: Option<Vec<String>>,
    /// The channels of which a message must have at least one; `None` means any message.
    pub channels: Option<Vec<String>>,
    /// The bytes of the texts that were read, as they are stored.
    pub bytes: usize,
}

/// An endpoint that is neither deleted nor disabled.
pub(super) struct Endpoint {
    pub id: EndpointId,
    /// The event types that it wants; `None` means all.
    pub event_types: Option<Vec<String>>,
    /// The channels of which a message must have at least one; `None` means any message.
    pub channels: Option<Vec<String>>,
    /// What sending needs; `None` means that it was not read, because the custom headers are large.
    pub target: Option<Arc<Target>>,
    /// The bytes of the texts that were read, as they are stored.
    pub bytes: usize,
}

/// Returns the applications with these names, each an organization with an id or uid. Leaves out names without an
/// application.
pub(super) async fn find_apps<'a>(source: &impl Source, mut names: Vec<AppName<'a>>) -> Result<Named<'a>> {
    names.sort_unstable();
    names.dedup();
    // A uid never begins with `app_`, so the name tells whether it is an id.
    let (ids, uids): (Vec<_>, Vec<_>) = names.into_iter().partition(|app| app.name.starts_with("app_"));
    let mut found = HashMap::new();
    for (names, matches) in [(ids, "a.id = t.name"), (uids, "a.uid = t.name")] {
        if names.is_empty() {
            continue;
        }
        let (orgs, refs) = names.iter().map(|app| (app.org_id, app.name)).unzip();
        let rows = Rows::new([("org_id", Column::Text(orgs)), ("name", Column::Text(refs))]);
        let sql = format!(
            "select a.id as a_id, a.org_id as a_org_id, a.revision as a_revision, a.polled, t.name as a_name, e.event_types, e.channels, \
             octet_length(e.headers) as header_bytes, octet_length(e.url) + octet_length(e.secrets) \
             + coalesce(octet_length(e.event_types), 0) + coalesce(octet_length(e.channels), 0) as other_bytes, \
             case when octet_length(e.headers) <= {LARGE_HEADERS} then e.headers end as headers, {TARGET_BUT_HEADERS} from {{t}} \
             join application a on a.org_id = t.org_id and {matches} and a.deleted_at is null and {} \
             left join endpoint e on e.app_id = a.id and e.deleted_at is null and not e.disabled order by e.id",
            if matches == "a.uid = t.name" {
                "a.uid is not null"
            } else {
                "true"
            }
        );
        let rows = source
            .source()
            .query_all_raw(statement(source.dialect(), &sql, &[("t", &rows)], []))
            .await?;
        // By organization and name.
        let mut apps: HashMap<(String, String), App> = HashMap::new();
        let mut polled = HashSet::new();
        for row in &rows {
            let key = (row.try_get("", "a_org_id")?, row.try_get("", "a_name")?);
            let id: AppId = row.try_get("", "a_id")?;
            if row.try_get("", "polled")? {
                polled.insert(id.clone());
            }
            let revision = row.try_get("", "a_revision")?;
            let app = apps.entry(key).or_insert_with(|| App {
                id,
                revision,
                endpoints: Vec::new(),
                pollers: Vec::new(),
            });
            if let Some(id) = row.try_get::<Option<EndpointId>>("", "id")? {
                app.endpoints.push(Arc::new(endpoint(id, row)?));
            }
        }
        if !polled.is_empty() {
            add_pollers(source, &polled, &mut apps).await?;
        }
        for name in names {
            if let Some(app) = apps.remove(&(name.org_id.to_owned(), name.name.to_owned())) {
                found.insert(name, Arc::new(app));
            }
        }
    }
    Ok(found)
}

/// Reads the pollers of the applications `polled`. For all others nothing is read: a statement that joined pollers would
/// cost each of them something.
async fn add_pollers(
    source: &impl Source,
    polled: &HashSet<AppId>,
    apps: &mut HashMap<(String, String), App>,
) -> Result<()> {
    let rows = Rows::new([("app_id", Column::Text(polled.iter().map(AppId::as_str).collect()))]);
    let sql = "select p.app_id, p.number, p.event_types, p.channels, coalesce(octet_length(p.event_types), 0) \
               + coalesce(octet_length(p.channels), 0) as bytes from {t} join poller p on p.app_id = t.app_id \
               where not p.disabled";
    let found = source
        .source()
        .query_all_raw(statement(source.dialect(), sql, &[("t", &rows)], []))
        .await?;
    for row in &found {
        let app_id: AppId = row.try_get("", "app_id")?;
        for app in apps.values_mut().filter(|app| app.id == app_id) {
            app.pollers.push(poller(row)?);
        }
    }
    Ok(())
}

/// Builds a poller from a row of [`add_pollers`].
fn poller(row: &QueryResult) -> Result<Poller> {
    let bytes: i32 = row.try_get("", "bytes")?;
    Ok(Poller {
        number: row.try_get("", "number")?,
        event_types: list(row, "event_types")?,
        channels: list(row, "channels")?,
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
    })
}

/// Reads a list of texts.
fn list(row: &QueryResult, column: &str) -> Result<Option<Vec<String>>> {
    let list = row.try_get::<Option<JsonText<Vec<String>>>>("", column)?;
    Ok(list.map(|list| list.0))
}

/// Builds an endpoint from a row of [`find_apps`].
fn endpoint(id: EndpointId, row: &QueryResult) -> Result<Endpoint> {
    let (headers, others): (i32, i32) = (row.try_get("", "header_bytes")?, row.try_get("", "other_bytes")?);
    let target = match headers <= LARGE_HEADERS {
        true => Some(Target::from(TargetRow::from_query_result(row, "")?)),
        false => None,
    };
    let bytes = others + target.as_ref().map_or(0, |_| headers);
    Ok(Endpoint {
        id: target.as_ref().map_or(id, |target| target.endpoint_id.clone()),
        event_types: list(row, "event_types")?,
        channels: list(row, "channels")?,
        target: target.map(Arc::new),
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
    })
}
