//! One migrated database a test: a file of its own on SQLite, a copy of the migrated template on Postgres.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postrider::clock::Clock;
use postrider::config::USUAL_CONNECTIONS;
use postrider::store::database::schema;
use postrider::store::{self, Store};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, QueryResult, Statement};
use url::Url;

use super::postgres::{self, Server};

/// How long a lock may seem to be held by a program that is only just being started.
const COPIES_ARE_GONE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A database that this test has for itself; gone when the test has passed.
pub struct TestDatabase {
    url: String,
    place: Place,
}

enum Place {
    File { _folder: ScratchFolder },
    Server(&'static Server, String),
}

impl TestDatabase {
    pub fn kind(&self) -> Kind {
        match self.place {
            Place::File { .. } => Kind::Sqlite,
            Place::Server(..) => Kind::Postgres,
        }
    }

    /// What `DATABASE_URL` would be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The store on this database. SQLite takes one store at a time.
    pub async fn open(&self, clock: Clock) -> Store {
        open(&self.url, clock)
            .await
            .expect("the store opens the test's database")
    }

    /// A connection that knows nothing of the store: to look at rows, or to spoil them.
    pub async fn connect(&self) -> DatabaseConnection {
        connect(&self.url).await.expect("the test's database answers")
    }

    /// Another database of the same kind, without any table.
    pub async fn empty_sibling(&self) -> TestDatabase {
        match &self.place {
            Place::File { .. } => empty_file().expect("a scratch folder can be made"),
            Place::Server(server, _) => copy_of(server, "template0")
                .await
                .expect("the server creates a database"),
        }
    }
}

/// A file goes with its folder; on a server the database is dropped.
impl Drop for TestDatabase {
    fn drop(&mut self) {
        let &Place::Server(server, ref name) = &self.place else {
            return;
        };
        let drop = format!("drop database if exists {name} with (force)");
        let removing = std::thread::spawn(move || {
            block_on(async move {
                if let Ok(admin) = connect(server.url().as_str()).await {
                    let _ = admin.execute_unprepared(&drop).await;
                }
            });
        });
        let _ = removing.join();
    }
}

/// Runs `test` with a migrated SQLite file.
pub fn on_sqlite(test: impl AsyncFnOnce(&TestDatabase)) {
    block_on(async {
        let db = empty_file().expect("a scratch folder can be made");
        migrate(&db.url).await.expect("the migrations run on SQLite");
        test(&db).await;
    });
}

/// Runs `test` with a migrated Postgres database, or leaves it out where there is no server (postgres.rs says so).
pub fn on_postgres(test: impl AsyncFnOnce(&TestDatabase)) {
    let Some(server) = postgres::server() else { return };
    block_on(async {
        let db = copy_of(server, &server.template)
            .await
            .expect("the server copies the template");
        test(&db).await;
    });
}

/// The rows that `sql` answers.
///
/// # Panics
/// When the database refuses it.
pub async fn rows(on: &DatabaseConnection, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(on.get_database_backend(), sql);
    on.query_all_raw(statement)
        .await
        .unwrap_or_else(|err| panic!("{sql}: {err}"))
}

/// A folder of this test process, under the temporary folder; a test that fails leaves it to look at.
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    pub fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "postrider-it-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        match std::fs::remove_dir_all(&folder) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this test's files are kept in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The name of a migrated database on the server at `url`; made by whoever comes first, and once for every state of the
/// migrations, so that several test processes share it.
pub async fn migrated_template(url: &Url) -> postrider::error::Result<String> {
    const LOCK: i64 = 0x706f_7374_7269_6465;
    let name = format!("postrider_migrated_{:016x}", hash_of_migrations());
    let admin = connect(url.as_str()).await?;
    admin
        .execute_unprepared(&format!("select pg_advisory_lock({LOCK})"))
        .await?;
    if rows(&admin, &format!("select 1 from pg_database where datname = '{name}'"))
        .await
        .is_empty()
    {
        let draft = format!("{name}_draft");
        admin
            .execute_unprepared(&format!("drop database if exists {draft} with (force)"))
            .await?;
        admin
            .execute_unprepared(&format!("create database {draft} template template0"))
            .await?;
        let mut draft_url = url.clone();
        draft_url.set_path(&draft);
        migrate(draft_url.as_str()).await?;
        admin
            .execute_unprepared(&format!("alter database {draft} rename to {name}"))
            .await?;
    }
    admin.close().await?;
    Ok(name)
}

fn hash_of_migrations() -> u64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migration/src");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn empty_file() -> std::io::Result<TestDatabase> {
    let folder = ScratchFolder::new()?;
    let url = format!("sqlite://{}", folder.path().join("postrider.sqlite").display());
    Ok(TestDatabase {
        url,
        place: Place::File { _folder: folder },
    })
}

async fn copy_of(server: &'static Server, template: &str) -> Result<TestDatabase, DbErr> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("postrider_it_{}_{count}", std::process::id());
    let admin = connect(server.url().as_str()).await?;
    admin
        .execute_unprepared(&format!("drop database if exists {name} with (force)"))
        .await?;
    admin
        .execute_unprepared(&format!("create database {name} template {template}"))
        .await?;
    admin.close().await?;
    Ok(TestDatabase {
        url: server.url_of(&name).to_string(),
        place: Place::Server(server, name),
    })
}

/// A connection to `url` that knows nothing of the store.
pub async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let creating = if url.starts_with("sqlite:") {
        format!("{url}?mode=rwc")
    } else {
        url.to_owned()
    };
    let mut options = ConnectOptions::new(creating);
    options.max_connections(1).sqlx_logging(false);
    // Either would start sqlx's maintenance task, which may spin for ever (sqlx issue 3645).
    options.idle_timeout(None).max_lifetime(None);
    Database::connect(options).await
}

pub(super) async fn open(url: &str, clock: Clock) -> postrider::error::Result<Store> {
    open_with(url, clock, store::ANSWER_DEADLINE).await
}

/// With so much patience for each answer of Postgres.
pub(super) async fn open_with(url: &str, clock: Clock, answer_deadline: Duration) -> postrider::error::Result<Store> {
    let options = store::ConnectOptions {
        url: url.to_owned(),
        password: None,
        max_connections: USUAL_CONNECTIONS,
        full_sync: false,
        answer_deadline,
    };
    // A program that another test starts just now holds a copy of every open file, the last store's lock among them,
    // between its fork and its exec.
    let begun = Instant::now();
    loop {
        match Store::open(&options, clock.clone()).await {
            Err(err) if err.message.contains("another process uses") && begun.elapsed() < COPIES_ARE_GONE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            settled => return settled,
        }
    }
}

async fn migrate(url: &str) -> postrider::error::Result<()> {
    let store = open(url, Clock::system()).await?;
    schema::up(&store).await?;
    store.close().await;
    Ok(())
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime can be built").block_on(test);
}
