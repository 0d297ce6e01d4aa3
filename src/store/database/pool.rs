//! Runs statements: on a connection of a pool, or in a transaction on one of them.
//!
//! Every answer of Postgres has a deadline. A host that has vanished sends nothing more, and TCP would wait for it for
//! a quarter of an hour; so if one answer is overdue, the whole pool is replaced. A pool in which a session can only
//! read is replaced too: the server considers such a session healthy, but a new one may be able to write.
//!
//! Must not know the statements.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement, TransactionOptions, TransactionTrait,
};

use super::backend::{is_break, is_read_only};
use super::budget::Customer;
use super::last_break::LastBreak;
use super::request;
use super::turns::{Turn, Turns};

/// How long a write may wait for its turn or for a connection: as long as a caller of the API waits, before 503.
pub(crate) const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// How long Postgres may take for an answer: longer than any of our statements may run.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(35);
/// How long background work waits for other background work, whose statements may run for 30 s.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(60);
/// The least time between two replacements of a pool because of a read-only session: new sessions may be read-only too,
/// and for long.
const READ_ONLY_PAUSE: Duration = Duration::from_secs(3);

/// A pool of connections with its limits. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    limit: Limit,
}

/// The work that has to wait for a turn before it takes a connection.
#[derive(Clone)]
enum Limit {
    Nothing,
    /// Requests of customers: a statement for a turn in `reads`, a transaction for one in `writes`.
    Customers {
        reads: Arc<Turns>,
        writes: Arc<Turns>,
    },
    /// Every statement and transaction: only one runs at a time.
    All(Arc<Turns>),
}

/// The state that all clones of a pool share.
struct Shared {
    name: &'static str,
    current: RwLock<Current>,
    /// `None` for SQLite, whose file does not vanish as a host does.
    renewal: Option<Renewal>,
}

/// The connections in use now.
#[derive(Clone)]
struct Current {
    pool: DatabaseConnection,
    /// How many pools this one has replaced. An overdue answer replaces only the pool over which it was expected.
    number: u64,
    /// When the pool was opened.
    since: Instant,
}

/// When and how a pool is replaced.
struct Renewal {
    /// For each answer.
    deadline: Duration,
    last_break: LastBreak,
    open: Box<dyn Fn() -> DatabaseConnection + Send + Sync>,
}

/// A transaction. If it is dropped without [`Transaction::commit`], it is rolled back.
pub struct Transaction {
    inner: DatabaseTransaction,
    pool: Arc<Shared>,
    /// The [`Current::number`] of the pool that its connection belongs to.
    number: u64,
    _turn: Option<Turn>,
}

impl Pool {
    /// Makes a pool without a deadline for answers, which is never replaced.
    pub fn lasting(name: &'static str, pool: DatabaseConnection) -> Self {
        Self::new(name, pool, None)
    }

    /// Makes a pool by `open`, and replaces it by a new one of `open` if an answer takes longer than `deadline` or
    /// shows that a session can only read. Notes in `last_break` when a connection is found broken.
    pub(crate) fn renewed(
        name: &'static str,
        deadline: Duration,
        last_break: LastBreak,
        open: impl Fn() -> DatabaseConnection + Send + Sync + 'static,
    ) -> Self {
        let renewal = Renewal {
            deadline,
            last_break,
            open: Box::new(open),
        };
        Self::new(name, (renewal.open)(), Some(renewal))
    }

    fn new(name: &'static str, pool: DatabaseConnection, renewal: Option<Renewal>) -> Self {
        let current = RwLock::new(Current {
            pool,
            number: 0,
            since: Instant::now(),
        });
        Self {
            shared: Arc::new(Shared { name, current, renewal }),
            limit: Limit::Nothing,
        }
    }

    /// Returns the same connections with turns for customers: statements of requests wait in `reads`, their
    /// transactions in `writes`. A statement whose caller has left keeps its turn until it has ended, as it keeps its
    /// connection.
    pub(crate) fn in_turns(self, reads: Arc<Turns>, writes: Arc<Turns>) -> Self {
        let limit = Limit::Customers { reads, writes };
        Self { limit, ..self }
    }

    /// Returns the same connections for work that takes only one of them at a time.
    pub fn one_at_once(&self) -> Self {
        let limit = Limit::All(Turns::new(1, 1, BACKGROUND_PATIENCE));
        Self { limit, ..self.clone() }
    }

    /// Returns the name of the pool in metrics.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Returns SeaORM's pool that is in use now. It may be replaced later.
    pub fn inner(&self) -> DatabaseConnection {
        self.shared.current().pool
    }

    /// Waits for a turn to write of the customer whose request this task serves. Returns `None` without waiting if the
    /// task serves no request, or the pool has no turns for customers.
    pub(crate) async fn turn_to_write(&self) -> Result<Option<Turn>, DbErr> {
        match (&self.limit, request::customer()) {
            (Limit::Customers { writes, .. }, Some(customer)) => writes.enter(name(customer.as_ref())).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Begins a transaction, after a turn if the pool has turns.
    ///
    /// # Errors
    /// As `Turns::enter` if the pool has turns; `ConnectionAcquire` if no connection was available in time, `Conn` if
    /// Postgres did not answer in time, and any other error of the database.
    pub async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let turn = match &self.limit {
            Limit::All(turns) => Some(turns.enter("").await?),
            _ => self.turn_to_write().await?,
        };
        let Current { pool, number, .. } = self.shared.current();
        let inner = self.shared.answer(number, pool.begin_with_options(options)).await?;
        Ok(Transaction {
            inner,
            pool: self.shared.clone(),
            number,
            _turn: turn,
        })
    }

    /// Runs one statement outside a transaction, after a turn if the pool has turns.
    async fn run<T, F>(&self, statement: impl FnOnce(DatabaseConnection) -> F + Send) -> Result<T, DbErr>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbErr>> + Send + 'static,
    {
        let turn = match (&self.limit, request::customer()) {
            (Limit::Customers { reads, .. }, Some(customer)) => reads.enter(name(customer.as_ref())).await?,
            (Limit::All(turns), _) => turns.enter("").await?,
            _ => {
                let Current { pool, number, .. } = self.shared.current();
                return self.shared.answer(number, statement(pool)).await;
            }
        };
        let Current { pool, number, .. } = self.shared.current();
        let (shared, statement) = (self.shared.clone(), statement(pool));
        // A task of its own: if the caller leaves, this future is dropped, but the connection is busy until the
        // statement ends, and so the turn must be taken until then.
        let running = tokio::spawn(async move {
            let answer = shared.answer(number, statement).await;
            drop(turn);
            answer
        });
        let ended = running.await;
        ended.unwrap_or_else(|err| Err(DbErr::Conn(RuntimeErr::Internal(err.to_string()))))
    }
}

/// Returns the name by which a customer takes turns. It is empty as long as the request's customer is not known.
fn name(customer: Option<&Arc<Customer>>) -> &str {
    customer.map_or("", |customer| customer.name())
}

impl Shared {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an answer over a connection of the pool with this `number`, no longer than the deadline. Replaces the
    /// pool if the answer is overdue or shows that the session can only read.
    async fn answer<T>(&self, number: u64, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let Some(renewal) = &self.renewal else {
            return answer.await;
        };
        match tokio::time::timeout(renewal.deadline, answer).await {
            Ok(Err(err)) => {
                if is_break(&err) {
                    renewal.last_break.note();
                }
                if is_read_only(&err) {
                    self.renew(renewal, number, READ_ONLY_PAUSE, "the session is read-only");
                }
                Err(err)
            }
            Ok(answer) => answer,
            Err(_) => {
                renewal.last_break.note();
                self.renew(renewal, number, Duration::ZERO, "Postgres does not answer");
                Err(silent(renewal.deadline))
            }
        }
    }

    /// Replaces the pool with this `number`. Does nothing if it is replaced already, or is younger than `pause`.
    fn renew(&self, renewal: &Renewal, number: u64, pause: Duration, reason: &str) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.number != number || current.since.elapsed() < pause {
            return;
        }
        tracing::debug!(pool = self.name, reason, "connecting anew");
        // The whole pool: sqlx goes on counting a connection that it pings in vain, so a silent host would use up all
        // of them. Rejected: a maximum age of connections, which starts sqlx's maintenance task; that can spin without
        // end.
        let next = Current {
            pool: (renewal.open)(),
            number: number + 1,
            since: Instant::now(),
        };
        let former = std::mem::replace(&mut *current, next).pool;
        // Statements that are still answered go on to their end; the others end when TCP gives up.
        tokio::spawn(former.close());
    }
}

/// Returns the error for an answer that did not come within `deadline`.
pub(crate) fn silent(deadline: Duration) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(format!(
        "the database has not answered in {deadline:?}"
    )))
}

impl Transaction {
    /// Commits the transaction.
    ///
    /// # Errors
    /// `Conn` if Postgres did not answer in time, and any other error of the database. If the answer was lost or is
    /// overdue, the transaction may have committed all the same.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.pool.answer(self.number, self.inner.commit()).await
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.inner().get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(|pool| async move { pool.execute_raw(statement).await }).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = sql.to_owned();
        self.run(|pool| async move { pool.execute_unprepared(&sql).await })
            .await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(|pool| async move { pool.query_one_raw(statement).await })
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(|pool| async move { pool.query_all_raw(statement).await })
            .await
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.pool.answer(self.number, self.inner.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.pool.answer(self.number, self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.pool.answer(self.number, self.inner.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.pool.answer(self.number, self.inner.query_all_raw(statement)).await
    }
}
