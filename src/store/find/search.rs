//! The look-ups of a search. All rows are reached by way of the organization's own applications, so nothing of another
//! organization is found.
//!
//! Must not decide which look-ups a text is worth if another one has found something.

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::found::{Findings, Found, Kind, Matched};
use crate::domain::id::Prefix;
use crate::domain::identifier::check_identifier;
use crate::error::{self, Result};
use crate::store::database::backend::Backend;
use crate::store::database::rows::{Column, Rows, statement};
use crate::store::database::source::Source;
use crate::store::{application, background_task, event_type};

/// The most probes of one look-up. A thousand probes of the index of attempts by endpoint read 4,000 pages, in 10 ms on
/// two busy cores.
const MOST_PROBES: usize = 1_000;
/// The most things that one look-up returns.
const MOST_FOUND: usize = 50;

/// An application that is searched.
struct App {
    id: String,
    uid: Option<String>,
}

/// Returns the newest applications of the organization, one more than are searched.
async fn list_newest(source: &impl Source, org_id: &str) -> Result<Vec<App>> {
    let sql = "select id, uid from application where org_id = $1 and id <> $1 and deleted_at is null \
               order by id desc limit $2";
    let values = [org_id.into(), limit(MOST_PROBES + 1)];
    let statement = Statement::from_sql_and_values(source.dialect().orm(), sql, values);
    let rows = source.source().query_all_raw(statement).await?;
    let app = |row: &QueryResult| {
        Ok(App {
            id: row.try_get("", "id")?,
            uid: row.try_get("", "uid")?,
        })
    };
    rows.iter().map(app).collect()
}

pub(super) struct Search<'a, S> {
    source: &'a S,
    org_id: &'a str,
    text: &'a str,
    apps: Vec<App>,
    /// Whether the organization has more applications than are searched.
    has_more_apps: bool,
}

impl<'a, S: Source> Search<'a, S> {
    /// Reads the newest applications of the organization, which are to be searched.
    pub async fn begin(source: &'a S, org_id: &'a str, text: &'a str) -> Result<Self> {
        let mut apps = list_newest(source, org_id).await?;
        let has_more_apps = apps.len() > MOST_PROBES;
        apps.truncate(MOST_PROBES);
        Ok(Self {
            source,
            org_id,
            text,
            apps,
            has_more_apps,
        })
    }

    /// Looks the text up as an id.
    pub async fn by_id(&self) -> Result<Findings> {
        if check_identifier(self.text).is_err() {
            return Ok(Findings::default());
        }
        let is_of = |prefix: Prefix| prefix.is_of(self.text);
        if is_of(Prefix::Application) {
            return Ok(Findings::whole(self.application(Matched::Id).await?));
        }
        if is_of(Prefix::BackgroundTask) {
            return Ok(Findings::whole(self.task().await?));
        }
        if is_of(Prefix::Endpoint) {
            return self.receivers(Kind::Endpoint, "e.id = $1", Matched::Id).await;
        }
        if is_of(Prefix::Poller) {
            return self.receivers(Kind::Poller, "e.id = $1", Matched::Id).await;
        }
        if is_of(Prefix::Message) {
            return self.messages(MESSAGE_BY_ID, MOST_FOUND, Matched::Id).await;
        }
        if is_of(Prefix::Attempt) {
            return self.attempts().await;
        }
        Ok(Findings::default())
    }

    /// Looks the text up as everything that callers choose.
    pub async fn by_name(&self) -> Result<Findings> {
        let mut all = Findings::default();
        if check_identifier(self.text).is_ok() {
            all.add(Findings::whole(self.application(Matched::Uid).await?));
            for kind in [Kind::Endpoint, Kind::Poller] {
                let by_uid = "e.uid = $1 and e.uid is not null";
                all.add(self.receivers(kind, by_uid, Matched::Uid).await?);
            }
            let steps = MOST_PROBES + 1;
            all.add(self.messages(MESSAGE_BY_EVENT_ID, steps, Matched::EventId).await?);
            all.add(Findings::whole(self.event_type().await?));
        }
        let steps = self.apps.len() + MOST_FOUND + 1;
        all.add(self.messages(MESSAGE_BY_TAG, steps, Matched::Tag).await?);
        Ok(all)
    }

    async fn application(&self, matched: Matched) -> Result<Option<Found>> {
        let found = application::find(self.source, self.org_id, self.text).await?;
        Ok(found.map(|row| Found {
            app_id: Some(row.id.clone()),
            app_uid: row.uid.clone(),
            uid: row.uid,
            ..Found::new(Kind::Application, row.id, matched)
        }))
    }

    async fn event_type(&self) -> Result<Option<Found>> {
        let found = event_type::find(self.source, self.org_id, self.text).await?;
        Ok(found.map(|row| Found::new(Kind::EventType, row.name, Matched::Id)))
    }

    async fn task(&self) -> Result<Option<Found>> {
        let seen = background_task::Seen {
            org_id: self.org_id,
            app_id: None,
        };
        let row = match background_task::get(self.source, seen, self.text).await {
            Err(err) if err.kind == error::Kind::NotFound => return Ok(None),
            found => found?,
        };
        let found = Found {
            endpoint_id: Some(row.endpoint_id),
            ..Found::new(Kind::Task, row.id, Matched::Id)
        };
        Ok(Some(self.of_app(found, row.app_id)))
    }

    /// Finds pollers, or endpoints, the operational ones too: their application has the organization's id.
    async fn receivers(&self, kind: Kind, matches: &str, matched: Matched) -> Result<Findings> {
        let (table, is_there) = match kind {
            Kind::Poller => ("poller", ""),
            _ => ("endpoint", " and e.deleted_at is null"),
        };
        let sql = format!(
            "select e.app_id, e.id, e.uid from {{t}} cross join {table} e \
             where e.app_id = t.app_id and {matches}{is_there} limit $2"
        );
        let apps = self.of_apps(Some(self.org_id));
        let rows = self.probe(&sql, &apps, MOST_FOUND + 1).await?;
        let found = rows.iter().map(|row| {
            let found = Found {
                uid: row.try_get("", "uid")?,
                ..Found::new(kind, row.try_get("", "id")?, matched)
            };
            Ok(self.of_app(found, row.try_get("", "app_id")?))
        });
        Ok(self.findings(found.collect::<Result<_>>()?))
    }

    /// Finds messages by a query that returns at most `steps` rows: each an application with the id of a message, or with
    /// null if a probe found none.
    async fn messages(&self, sql: &str, steps: usize, matched: Matched) -> Result<Findings> {
        let rows = self.probe(sql, &self.of_apps(None), steps).await?;
        let mut found = Vec::new();
        for row in &rows {
            if let Some(id) = row.try_get::<Option<String>>("", "id")? {
                found.push(self.of_app(Found::new(Kind::Message, id, matched), row.try_get("", "app_id")?));
            }
        }
        found.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        let mut findings = self.findings(found);
        findings.is_truncated |= rows.len() == steps;
        Ok(findings)
    }

    /// Finds an attempt. Attempts are indexed by endpoint, so each endpoint of the applications is a probe.
    async fn attempts(&self) -> Result<Findings> {
        let endpoints = self.list_endpoints().await?;
        let searched = &endpoints[..endpoints.len().min(MOST_PROBES)];
        let (apps, ids) = searched.iter().map(|(app, id)| (app.as_str(), id.as_str())).unzip();
        let table = Rows::new([("app_id", Column::Text(apps)), ("endpoint_id", Column::Text(ids))]);
        let rows = self.probe(ATTEMPT, &table, 1).await?;
        let found = rows.iter().map(|row| {
            let found = Found {
                message_id: row.try_get("", "message_id")?,
                endpoint_id: row.try_get("", "endpoint_id")?,
                ..Found::new(Kind::Attempt, row.try_get("", "id")?, Matched::Id)
            };
            Ok(self.of_app(found, row.try_get("", "app_id")?))
        });
        let mut findings = self.findings(found.collect::<Result<_>>()?);
        findings.is_truncated |= endpoints.len() > MOST_PROBES;
        Ok(findings)
    }

    /// Returns the endpoints of the applications, deleted ones too, each with its application: one more than are
    /// searched.
    async fn list_endpoints(&self) -> Result<Vec<(String, String)>> {
        let sql = match self.source.dialect() {
            Backend::Sqlite => {
                "select e.app_id, e.id from {t} cross join endpoint e where e.app_id = t.app_id limit $1"
            }
            // With an order and a limit for each application: otherwise Postgres might read the whole table.
            Backend::Postgres => {
                "select t.app_id, e.id from {t} cross join lateral (select id from endpoint e \
                 where e.app_id = t.app_id order by id desc limit $1) e limit $1"
            }
        };
        let rows = self.run(sql, &self.of_apps(None), [limit(MOST_PROBES + 1)]).await?;
        let pair = |row: &QueryResult| Ok((row.try_get("", "app_id")?, row.try_get("", "id")?));
        rows.iter().map(pair).collect()
    }

    /// Binds the ids of the searched applications, and perhaps one more, as a table.
    fn of_apps<'s>(&'s self, other: Option<&'s str>) -> Rows<'s> {
        let ids = self.apps.iter().map(|app| app.id.as_str()).chain(other);
        Rows::new([("app_id", Column::Text(ids.collect()))])
    }

    /// Runs a query for the text ($1) with a limit ($2).
    async fn probe(&self, sql: &str, table: &Rows<'_>, most: usize) -> Result<Vec<QueryResult>> {
        self.run(sql, table, [self.text.into(), limit(most)]).await
    }

    async fn run(
        &self,
        sql: &str,
        table: &Rows<'_>,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>> {
        let statement = statement(self.source.dialect(), sql, &[("t", table)], values);
        Ok(self.source.source().query_all_raw(statement).await?)
    }

    /// Names the application of a thing; none if it is the one that holds operational endpoints.
    fn of_app(&self, found: Found, app_id: String) -> Found {
        if app_id == self.org_id {
            return found;
        }
        let app = self.apps.iter().find(|app| app.id == app_id);
        Found {
            app_uid: app.and_then(|app| app.uid.clone()),
            app_id: Some(app_id),
            ..found
        }
    }

    /// Makes the result of a look-up in the searched applications.
    fn findings(&self, mut found: Vec<Found>) -> Findings {
        let is_truncated = self.has_more_apps || found.len() > MOST_FOUND;
        found.truncate(MOST_FOUND);
        Findings { found, is_truncated }
    }
}

fn limit(most: usize) -> Value {
    i64::try_from(most).unwrap_or(i64::MAX).into()
}

const MESSAGE_BY_ID: &str = "
    select m.app_id, m.id from {t} cross join message m where m.app_id = t.app_id and m.id = $1 limit $2";

const ATTEMPT: &str = "
    select x.app_id, x.message_id, x.endpoint_id, x.id from {t} cross join attempt x
    where x.app_id = t.app_id and x.endpoint_id = t.endpoint_id and x.id = $1 limit $2";

/// Finds messages with an event id, the newest first.
///
/// The index is divided into stretches of 3.2 days (`store/message.rs` explains it). The query steps through those that
/// the applications have: first the newest of each application, then the second newest of each, and so on.
const MESSAGE_BY_EVENT_ID: &str = "
    with recursive stretch(app_id, start) as (
        select t.app_id, (select substr(m.id, 1, 8) from message m where m.app_id = t.app_id
            and m.event_id is not null order by substr(m.id, 1, 8) desc limit 1) from {t}
        union all
        select stretch.app_id, (select substr(m.id, 1, 8) from message m where m.app_id = stretch.app_id
            and m.event_id is not null and substr(m.id, 1, 8) < stretch.start order by substr(m.id, 1, 8) desc limit 1)
        from stretch where stretch.start is not null
    ),
    probed as (select app_id, start from stretch limit $2)
    select app_id, (select m.id from message m where m.app_id = probed.app_id and substr(m.id, 1, 8) = probed.start
        and m.event_id = $1 limit 1) as id from probed";

/// Finds messages with a tag: first the newest of each application, then the second newest of each, and so on.
const MESSAGE_BY_TAG: &str = "
    with recursive step(app_id, id) as (
        select t.app_id, (select g.message_id from message_tag g where g.app_id = t.app_id and g.tag = $1
            order by g.message_id desc limit 1) from {t}
        union all
        select step.app_id, (select g.message_id from message_tag g where g.app_id = step.app_id and g.tag = $1
            and g.message_id < step.id order by g.message_id desc limit 1)
        from step where step.id is not null
    )
    select app_id, id from step limit $2";
