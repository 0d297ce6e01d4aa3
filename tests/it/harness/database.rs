//! A migrated database for each test: a file of its own on SQLite, a copy of a migrated template on Postgres.

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

/// How long a copied file handle may keep a lock alive: a program that is being started holds one until its exec.
const COPIES_ARE_GONE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A database of a single test; removed when the test has passed.
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

    /// Returns the value for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens the store on this database. SQLite allows one open store at a time.
    pub async fn open(&self, clock: Clock) -> Store {
        open(&self.url, clock)
            .await
            .expect("the store opens the test's database")
    }

    /// Opens a connection that bypasses the store, to read rows or to damage them.
    pub async fn connect(&self) -> DatabaseConnection {
        connect(&self.url).await.expect("the test's database answers")
    }

    /// Creates another database of the same kind, without tables.
    pub async fn empty_sibling(&self) -> TestDatabase {
        match &self.place {
            Place::File { .. } => empty_file().expect("a scratch folder can be made"),
            Place::Server(server, _) => copy_of(server, "template0")
                .await
                .expect("the server creates a database"),
        }
    }
}

/// Drops the database on the server. A SQLite file is removed with its folder.
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

/// Runs `test` with a migrated Postgres database. Skips it if the machine has no server; postgres.rs says so on stderr.
pub fn on_postgres(test: impl AsyncFnOnce(&TestDatabase)) {
    let Some(server) = postgres::server() else { return };
    block_on(async {
        let db = copy_of(server, &server.template)
            .await
            .expect("the server copies the template");
        test(&db).await;
    });
}

/// Returns the rows that `sql` selects.
///
/// # Panics
/// If the database refuses the statement.
pub async fn rows(on: &DatabaseConnection, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(on.get_database_backend(), sql);
    on.query_all_raw(statement)
        .await
        .unwrap_or_else(|err| panic!("{sql}: {err}"))
}

/// A folder of this test process, below the system's temporary folder. If the test fails, it is kept for inspection.
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

/// Returns the name of a migrated database on the server at `url`. The first caller creates it, once for each state of
/// the migrations: an advisory lock orders several test processes, which share it.
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

/// Opens a connection to `url` that bypasses the store.
pub async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let creating = if url.starts_with("sqlite:") {
        format!("{url}?mode=rwc")
    } else {
        url.to_owned()
    };
    let mut options = ConnectOptions::new(creating);
    options.max_connections(1).sqlx_logging(false);
    // Either setting would start sqlx's maintenance task, which can spin forever (sqlx issue 3645).
    options.idle_timeout(None).max_lifetime(None);
    Database::connect(options).await
}

pub(super) async fn open(url: &str, clock: Clock) -> postrider::error::Result<Store> {
    open_with(url, clock, store::ANSWER_DEADLINE).await
}

/// Opens the store with another deadline for each answer of Postgres.
pub(super) async fn open_with(url: &str, clock: Clock, answer_deadline: Duration) -> postrider::error::Result<Store> {
    let options = store::ConnectOptions {
        url: url.to_owned(),
        password: None,
        max_connections: USUAL_CONNECTIONS,
        full_sync: false,
        answer_deadline,
    };
    // Between the fork and the exec of a program that another test starts, that program holds a copy of every open
    // file, and so the lock of the store that had this file open before.
    let begun = Instant::now();
    loop {
        match Store::open(&options, clock.clone()).await {
            Err(err) if err.message.contains("another process uses") && begun.elapsed() < COPIES_ARE_GONE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened,
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
