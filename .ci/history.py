"""Gives a server a long history: copies of a message, with its content, tags, result and successful attempts, by SQL into the
database of DATABASE_URL, while the server runs. A million messages through the API would take a quarter of an hour."""

import os
import sqlite3
import subprocess

# The tables, and the column that names the message.
TABLES = {
    "message": "id",
    "message_content": "message_id",
    "message_tag": "message_id",
    "attempt": "message_id",
    "delivery_result": "message_id",
}
NUMBER = 14  # digits at the end of an id that number the copies; those before are the instant
BATCH = 20_000  # rows of a transaction: on SQLite the server waits meanwhile


class Sqlite:
    columns = "select name from pragma_table_info('{table}')"
    number = f"printf('%0{NUMBER}d', n)"

    def __init__(self, url):
        self.database = sqlite3.connect(url.removeprefix("sqlite://").partition("?")[0], timeout=60, isolation_level=None)

    def run(self, statement):
        return [row[0] for row in self.database.execute(statement).fetchall() if row]


class Postgres:
    columns = "select column_name from information_schema.columns where table_schema = current_schema() and table_name = '{table}'"
    number = f"lpad(n::text, {NUMBER}, '0')"

    def __init__(self, url):
        self.url = url

    def run(self, statement):
        psql = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url, "-c", statement]
        return subprocess.run(psql, check=True, capture_output=True, text=True).stdout.split()


def fill(app, message, count):
    """Copies the message of the application `count` times. The copies have its instant, and `copy-1` and so on as event ids."""
    url = os.environ["DATABASE_URL"]
    database = (Sqlite if url.startswith("sqlite") else Postgres)(url)
    for first in range(1, count + 1, BATCH):
        for table, key in TABLES.items():
            database.run(copy(database, table, key, app, message, first, min(first + BATCH - 1, count)))
    for table in TABLES:
        database.run(f"analyze {table}")


def copy(database, table, key, app, message, first, last):
    """Returns the statement that inserts the copies with these numbers into a table."""
    numbered = {key, "id"} if table == "attempt" else {key}

    def value(column):
        if column in numbered:
            return f'substr(t."{column}", 1, length(t."{column}") - {NUMBER}) || {database.number}'
        return "'copy-' || n" if column == "event_id" else f't."{column}"'

    columns = database.run(database.columns.format(table=table))
    names, values = ", ".join(f'"{column}"' for column in columns), ", ".join(map(value, columns))
    return (
        f"with recursive n(n) as (select {first} union all select n + 1 from n where n < {last}) "
        f"insert into {table} ({names}) select {values} from {table} t cross join n "
        f"where t.app_id = '{app}' and t.\"{key}\" = '{message}'" + (" and t.delivered" if table == "attempt" else "")
    )
