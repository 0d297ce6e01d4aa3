//! Adds fields to all log lines that a task writes for one thing, such as a request, a delivery or a background task.
//!
//! The fields are a task-local value, which is read only when a line is written: no function has to pass ids along, and
//! the lines of libraries and of panics have them too. Work that is spawned as another task has them only if it is
//! spawned in their scope.
//!
//! Must not decide which lines are written.

use std::fmt;

use tokio::task::futures::TaskLocalFuture;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;
use crate::domain::typed_id::{AppId, DeliveryId, EndpointId, MessageId, TaskId};

const REQUEST_ID: &str = "request_id";

tokio::task_local! {
    static FIELDS: LogFields;
}

/// The fields of one thing: the names and values of its ids.
// Rejected: spans. At `info`, the usual level, a span for each request and each send is registered, formatted and
// entered at every poll, and nearly all of them end without a line.
#[derive(Clone)]
pub struct LogFields {
    names: &'static [&'static str],
    /// The values, with a line feed between each two, so that they are one allocation. No id has a line feed.
    values: String,
}

/// The ids of a delivery. `None` means that the id is not known.
pub struct DeliveryIds<'a> {
    pub app_id: &'a AppId,
    pub endpoint_id: Option<&'a EndpointId>,
    pub message_id: Option<&'a MessageId>,
    pub delivery_id: &'a DeliveryId,
}

/// The names of the fields are listed in docs/operating.md. An event in their scope must not have a field of the same
/// name itself: in JSON that would be the same key twice.
impl LogFields {
    pub fn of_request(id: String) -> Self {
        Self {
            names: &[REQUEST_ID],
            values: id,
        }
    }

    pub fn of_delivery(ids: &DeliveryIds<'_>) -> Self {
        Self {
            names: &["app_id", "endpoint_id", "message_id", "delivery_id"],
            values: [
                ids.app_id.as_str(),
                ids.endpoint_id.map_or("", EndpointId::as_str),
                ids.message_id.map_or("", MessageId::as_str),
                ids.delivery_id.as_str(),
            ]
            .join("\n"),
        }
    }

    pub fn of_task(app_id: &AppId, task_id: &TaskId) -> Self {
        Self {
            names: &["app_id", "task_id"],
            values: [app_id.as_str(), task_id.as_str()].join("\n"),
        }
    }

    /// Returns the names and values of the fields that are known.
    fn known(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = self.names.iter().copied().zip(self.values.split('\n'));
        fields.filter(|(_, value)| !value.is_empty())
    }

    /// Runs `work` so that its log lines have these fields, in place of those of an outer scope.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        FIELDS.scope(self, work)
    }

    /// Calls `work` so that its log lines have these fields, in place of those of an outer scope.
    pub fn sync_scope<R>(self, work: impl FnOnce() -> R) -> R {
        FIELDS.sync_scope(self, work)
    }
}

/// Returns the id of the request that the current task serves; `None` means that it serves none.
pub fn request_id() -> Option<String> {
    let id = FIELDS.try_with(|fields| (fields.names == [REQUEST_ID]).then(|| fields.values.clone()));
    id.ok().flatten()
}

/// Formats events as `format` does, and appends the fields of the current scope.
pub(super) struct WithFields<E> {
    pub format: E,
    /// The form of the lines that `format` writes.
    pub form: LogFormat,
}

impl<S, N, E> FormatEvent<S, N> for WithFields<E>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Ok(fields) = FIELDS.try_with(LogFields::clone) else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        append(writer, &line, self.form, &fields)
    }
}

/// Writes a formatted line with these fields at its end.
fn append(mut writer: Writer<'_>, line: &str, form: LogFormat, fields: &LogFields) -> fmt::Result {
    match form {
        LogFormat::Text => {
            writer.write_str(line.trim_end_matches('\n'))?;
            for (name, value) in fields.known() {
                write!(writer, " {name}={value:?}")?;
            }
            writer.write_str("\n")
        }
        LogFormat::Json => {
            writer.write_str(line.strip_suffix("}\n").unwrap_or(line))?;
            for (name, value) in fields.known() {
                write!(writer, ",\"{name}\":{}", serde_json::Value::from(value))?;
            }
            writer.write_str("}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(line: &str, form: LogFormat, fields: &LogFields) -> String {
        let mut text = String::new();
        append(Writer::new(&mut text), line, form, fields).unwrap();
        text
    }

    #[test]
    fn fields_stand_at_the_end_of_a_line_of_text() {
        let fields = LogFields::of_task(&"app_1".into(), &"qtask_1".into());
        assert_eq!(
            appended("WARN it failed err=late\n", LogFormat::Text, &fields),
            "WARN it failed err=late app_id=\"app_1\" task_id=\"qtask_1\"\n"
        );
    }

    #[test]
    fn a_line_of_json_stays_json() {
        let fields = LogFields::of_request(r#"a"b\c"#.to_owned());
        let line = appended("{\"message\":\"it failed\"}\n", LogFormat::Json, &fields);
        assert_eq!(line, concat!(r#"{"message":"it failed","request_id":"a\"b\\c"}"#, "\n"));
    }

    #[test]
    fn ids_that_are_not_known_are_left_out() {
        let fields = LogFields::of_delivery(&DeliveryIds {
            app_id: &"app_1".into(),
            endpoint_id: None,
            message_id: None,
            delivery_id: &"dlv_1".into(),
        });
        assert_eq!(
            appended("late\n", LogFormat::Text, &fields),
            "late app_id=\"app_1\" delivery_id=\"dlv_1\"\n"
        );
    }
}
