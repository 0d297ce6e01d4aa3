//! Binds many rows to a statement as one table: one parameter per column on Postgres, a single one on SQLite, whatever
//! the number of rows. So the statement's text is always the same and is prepared once, and no batch meets the limit on
//! parameters.
//!
//! Must not know the tables of the database.

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, Statement, Value};
use serde::Serialize;
use serde::ser::SerializeSeq;

use super::backend::Backend;
use super::source::Source;

/// The values of one column, in the order of the rows.
pub(crate) enum Column<'a> {
    Text(Vec<&'a str>),
    MaybeText(Vec<Option<&'a str>>),
    Int(Vec<i64>),
    MaybeInt(Vec<Option<i64>>),
}

/// Named columns of equal length.
pub(crate) struct Rows<'a>(Vec<(&'static str, Column<'a>)>);

impl<'a> Rows<'a> {
    pub fn new(columns: impl IntoIterator<Item = (&'static str, Column<'a>)>) -> Self {
        Self(columns.into_iter().collect())
    }

    /// Appends the parameters to `values`. Returns the SQL of the table, which is called `name`.
    pub fn bind(&self, backend: Backend, name: &str, values: &mut Vec<Value>) -> String {
        match backend {
            Backend::Postgres => {
                let mut arrays = Vec::with_capacity(self.0.len());
                for (_, column) in &self.0 {
                    values.push(column.array());
                    arrays.push(format!("${}::{}[]", values.len(), column.postgres_type()));
                }
                let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
                let columns: Vec<_> = self.0.iter().map(|(name, column)| column.selected(name)).collect();
                let (arrays, names, columns) = (arrays.join(", "), names.join(", "), columns.join(", "));
                format!("(select {columns} from unnest({arrays}) as bound({names})) as {name}")
            }
            Backend::Sqlite => {
                let json = serde_json::to_string(&ByRow(self)).expect("text and integers are JSON");
                values.push(json.into());
                let columns = self.0.iter().enumerate();
                let columns: Vec<_> = columns
                    .map(|(i, (name, _))| format!("value ->> {i} as {name}"))
                    .collect();
                format!(
                    "(select {} from json_each(${})) as {name}",
                    columns.join(", "),
                    values.len()
                )
            }
        }
    }

    fn len(&self) -> usize {
        self.0.first().map_or(0, |(_, column)| match column {
            Column::Text(values) => values.len(),
            Column::MaybeText(values) => values.len(),
            Column::Int(values) => values.len(),
            Column::MaybeInt(values) => values.len(),
        })
    }
}

/// A write with its bound table.
pub(crate) struct Write<'a> {
    /// Contains `{t}` where the bound table `t` stands.
    pub sql: &'static str,
    pub rows: Rows<'a>,
}

/// Runs writes of which none depends on what another one changes. On Postgres they are one statement, and so one round
/// trip; on SQLite they run one by one, as there is no round trip to save.
pub(crate) async fn execute_all(on: &impl Source, writes: Vec<Write<'_>>) -> crate::error::Result<()> {
    let backend = on.dialect();
    match backend {
        Backend::Sqlite => {
            for write in &writes {
                on.source()
                    .execute_raw(statement(backend, write.sql, &[("t", &write.rows)], []))
                    .await?;
            }
        }
        Backend::Postgres => {
            let mut values = Vec::new();
            let mut sql = String::new();
            for (index, write) in writes.iter().enumerate() {
                let text = write.sql.replace("{t}", &write.rows.bind(backend, "t", &mut values));
                sql = match (index, index + 1 == writes.len()) {
                    (0, true) => text,
                    (0, false) => format!("with w0 as ({text})"),
                    (_, true) => format!("{sql} {text}"),
                    (_, false) => format!("{sql}, w{index} as ({text})"),
                };
            }
            if !writes.is_empty() {
                on.source()
                    .execute_raw(Statement::from_sql_and_values(backend.orm(), sql, values))
                    .await?;
            }
        }
    }
    Ok(())
}

/// Makes a statement with several bound tables: `{name}` in `sql` is replaced by the table called `name`. `rest` are
/// the values of the plain parameters.
pub(crate) fn statement(
    backend: Backend,
    sql: &str,
    tables: &[(&str, &Rows)],
    rest: impl IntoIterator<Item = Value>,
) -> Statement {
    // The plain parameters come first, so that `sql` can call them $1, $2, …
    let mut values: Vec<Value> = rest.into_iter().collect();
    let mut sql = sql.to_owned();
    for (name, rows) in tables {
        let table = rows.bind(backend, name, &mut values);
        sql = sql.replace(&format!("{{{name}}}"), &table);
    }
    Statement::from_sql_and_values(backend.orm(), sql, values)
}

impl Column<'_> {
    /// Returns the type of a value on Postgres.
    pub fn postgres_type(&self) -> &'static str {
        match self {
            Column::Text(_) | Column::MaybeText(_) => "text",
            Column::Int(_) | Column::MaybeInt(_) => "int8",
        }
    }

    /// Returns the SQL that selects the column. SeaORM binds no null inside an array, so an empty text and the least
    /// integer stand for it: a text of ours that may be null is never empty, and no integer of ours is that low.
    fn selected(&self, name: &str) -> String {
        match self {
            Column::Text(_) | Column::Int(_) => name.to_owned(),
            Column::MaybeText(_) => format!("nullif({name}, '') as {name}"),
            Column::MaybeInt(_) => format!("nullif({name}, '{}'::int8) as {name}", i64::MIN),
        }
    }

    fn array(&self) -> Value {
        let text = |texts: &mut dyn Iterator<Item = &str>| texts.map(Value::from).collect();
        let int = |ints: &mut dyn Iterator<Item = i64>| ints.map(Value::from).collect();
        let (kind, values) = match self {
            Column::Text(values) => (ArrayType::String, text(&mut values.iter().copied())),
            Column::MaybeText(values) => (
                ArrayType::String,
                text(&mut values.iter().map(|value| value.unwrap_or_default())),
            ),
            Column::Int(values) => (ArrayType::BigInt, int(&mut values.iter().copied())),
            Column::MaybeInt(values) => (
                ArrayType::BigInt,
                int(&mut values.iter().map(|value| value.unwrap_or(i64::MIN))),
            ),
        };
        Value::Array(kind, Some(Box::new(values)))
    }
}

/// The rows as a JSON array of arrays.
struct ByRow<'r, 'a>(&'r Rows<'a>);
/// The row with this index.
struct Row<'r, 'a>(&'r Rows<'a>, usize);

impl Serialize for ByRow<'_, '_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0.len()).map(|index| Row(self.0, index)))
    }
}

impl Serialize for Row<'_, '_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(Some(self.0.0.len()))?;
        for (_, column) in &self.0.0 {
            match column {
                Column::Text(values) => row.serialize_element(values[self.1])?,
                Column::MaybeText(values) => row.serialize_element(&values[self.1])?,
                Column::Int(values) => row.serialize_element(&values[self.1])?,
                Column::MaybeInt(values) => row.serialize_element(&values[self.1])?,
            }
        }
        row.end()
    }
}
