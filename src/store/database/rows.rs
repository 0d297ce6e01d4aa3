//! Many rows as one bound table: one statement text, and one parameter a column (Postgres) or one in all (SQLite),
//! whatever the number of rows. So a statement is prepared once and no batch meets a parameter limit.
//! Called by the store's batch statements.

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, Statement, Value};
use serde::Serialize;
use serde::ser::SerializeSeq;

use super::backend::Backend;
use super::source::Source;

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

    /// Appends the rows' parameters to `values` and answers the table's text, named `name`.
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

/// A write over the bound table `t`.
pub(crate) struct Write<'a> {
    pub sql: &'static str,
    pub rows: Rows<'a>,
}

/// Runs writes that do not see one another: in one round trip on Postgres, one by one on SQLite, which has none to save.
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

/// A statement over several bound tables; `{name}` in the text is replaced by the table called `name`.
pub(crate) fn statement(
    backend: Backend,
    sql: &str,
    tables: &[(&str, &Rows)],
    rest: impl IntoIterator<Item = Value>,
) -> Statement {
    // The plain parameters come first, so that the text can name them $1, $2, …
    let mut values: Vec<Value> = rest.into_iter().collect();
    let mut sql = sql.to_owned();
    for (name, rows) in tables {
        let table = rows.bind(backend, name, &mut values);
        sql = sql.replace(&format!("{{{name}}}"), &table);
    }
    Statement::from_sql_and_values(backend.orm(), sql, values)
}

impl Column<'_> {
    fn postgres_type(&self) -> &'static str {
        match self {
            Column::Text(_) | Column::MaybeText(_) => "text",
            Column::Int(_) | Column::MaybeInt(_) => "int8",
        }
    }

    /// SeaORM binds no null inside an array, so these stand for it: no text of ours is empty where it may be null,
    /// and no integer the least there is.
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
                text(&mut values.iter().map(|one| one.unwrap_or_default())),
            ),
            Column::Int(values) => (ArrayType::BigInt, int(&mut values.iter().copied())),
            Column::MaybeInt(values) => (
                ArrayType::BigInt,
                int(&mut values.iter().map(|one| one.unwrap_or(i64::MIN))),
            ),
        };
        Value::Array(kind, Some(Box::new(values)))
    }
}

/// The rows as a JSON array of arrays.
struct ByRow<'r, 'a>(&'r Rows<'a>);
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
