//! The applications that messages name, with the endpoints that may be called, as the database has them now. Must not
//! remember them.

use std::collections::HashMap;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult};

use crate::error::Result;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::database::source::Source;
use crate::store::entity::json_text::JsonText;
use crate::store::queue::{TARGET_BUT_HEADERS, Target, TargetRow};

/// Bytes of an endpoint's headers as they are stored. Larger ones are read when they are to be sent: a thousand endpoints
/// with all the headers that they may have would hold up whatever else is to be accepted.
const LARGE_HEADERS: i32 = 4096;

/// The applications that messages name, by (organization, id or uid).
pub(super) type Named<'a> = HashMap<(&'a str, &'a str), Arc<App>>;

/// An application and its endpoints that may be called.
pub(super) struct App {
    pub id: String,
    /// On Postgres: what changes with it and with its endpoints.
    pub revision: i64,
    pub endpoints: Vec<Arc<Endpoint>>,
}

pub(super) struct Endpoint {
    pub id: Arc<str>,
    pub event_types: Option<Vec<String>>,
    pub channels: Option<Vec<String>>,
    /// None: with its large headers it was not read.
    pub target: Option<Arc<Target>>,
    /// Of its texts that were read, as they are stored.
    pub bytes: usize,
}

/// The applications called so by id or uid, each with its endpoints, by (organization, name).
pub(super) async fn find_apps<'a>(source: &impl Source, mut names: Vec<(&'a str, &'a str)>) -> Result<Named<'a>> {
    names.sort_unstable();
    names.dedup();
    // A uid never begins with `app_`, so a name says which of the two it is.
    let (ids, uids): (Vec<_>, Vec<_>) = names.into_iter().partition(|(_, name)| name.starts_with("app_"));
    let mut found = HashMap::new();
    for (names, matches) in [(ids, "a.id = t.name"), (uids, "a.uid = t.name")] {
        if names.is_empty() {
            continue;
        }
        let (orgs, refs) = names.iter().copied().unzip();
        let rows = Rows::new([("org_id", Column::Text(orgs)), ("name", Column::Text(refs))]);
        let sql = format!(
            "select a.id as a_id, a.org_id as a_org_id, a.revision as a_revision, t.name as a_name, e.event_types, e.channels, \
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
        let mut apps: HashMap<(String, String), App> = HashMap::new();
        for row in &rows {
            let key = (row.try_get("", "a_org_id")?, row.try_get("", "a_name")?);
            let id: String = row.try_get("", "a_id")?;
            let revision = row.try_get("", "a_revision")?;
            let app = apps.entry(key).or_insert_with(|| App {
                id,
                revision,
                endpoints: Vec::new(),
            });
            if let Some(id) = row.try_get::<Option<String>>("", "id")? {
                app.endpoints.push(Arc::new(endpoint(id, row)?));
            }
        }
        for name in names {
            if let Some(app) = apps.remove(&(name.0.to_owned(), name.1.to_owned())) {
                found.insert(name, Arc::new(app));
            }
        }
    }
    Ok(found)
}

fn endpoint(id: String, row: &QueryResult) -> Result<Endpoint> {
    let list = |column| {
        Ok::<_, sea_orm::DbErr>(
            row.try_get::<Option<JsonText<Vec<String>>>>("", column)?
                .map(|list| list.0),
        )
    };
    let (headers, others): (i32, i32) = (row.try_get("", "header_bytes")?, row.try_get("", "other_bytes")?);
    let target = match headers <= LARGE_HEADERS {
        true => Some(Target::from(TargetRow::from_query_result(row, "")?)),
        false => None,
    };
    let bytes = others + target.as_ref().map_or(0, |_| headers);
    Ok(Endpoint {
        id: target.as_ref().map_or_else(|| id.into(), |it| it.endpoint_id.clone()),
        event_types: list("event_types")?,
        channels: list("channels")?,
        target: target.map(Arc::new),
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
    })
}
