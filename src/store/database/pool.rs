//! Where statements go: a pool, or a transaction on one of its connections. Every answer of Postgres has a deadline. A host
//! that has vanished says nothing, and TCP would wait for it for a quarter of an hour; so the pool in which one answer is
//! overdue is replaced as a whole. So is one with a session that can only read: the server takes it for healthy, and a new
//! one may be able to write. Must not know what is asked.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement, TransactionOptions, TransactionTrait,
};

use super::backend::is_read_only;
use super::budget::Customer;
use super::request;
use super::turns::{Turn, Turns};

/// How long a write may wait for its turn, or for a connection: as long as a sender is kept waiting (wire contract: 503).
pub(crate) const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// Longer than a statement of ours may run.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(35);
/// How long background work waits for other background work, which has statements of up to 30 s.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(60);
/// A read-only session is a reason to connect anew this seldom: the new ones may be read-only, too, and for long.
const READ_ONLY_PAUSE: Duration = Duration::from_secs(3);

/// Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    limit: Limit,
}

/// What waits before it takes a connection.
#[derive(Clone)]
enum Limit {
    Nothing,
    /// A customer's request, for a turn to read or to begin a transaction.
    Customers {
        reads: Arc<Turns>,
        writes: Arc<Turns>,
    },
    /// Every statement and transaction, for the one before it.
    All(Arc<Turns>),
}

struct Shared {
    name: &'static str,
    current: RwLock<Current>,
    /// None: SQLite, whose file does not vanish.
    renewal: Option<Renewal>,
}

#[derive(Clone)]
struct Current {
    pool: DatabaseConnection,
    /// How many came before it.
    number: u64,
    since: Instant,
}

struct Renewal {
    deadline: Duration,
    open: Box<dyn Fn() -> DatabaseConnection + Send + Sync>,
}

/// A transaction; dropped without [`Transaction::commit`] it is rolled back.
pub struct Transaction {
    inner: DatabaseTransaction,
    pool: Arc<Shared>,
    number: u64,
    _turn: Option<Turn>,
}

impl Pool {
    /// Without deadlines.
    pub fn lasting(name: &'static str, pool: DatabaseConnection) -> Self {
        Self::new(name, pool, None)
    }

    /// What `open` makes, and makes again whenever an answer takes longer than `deadline`, or tells of a session that can
    /// only read.
    pub fn renewed(
        name: &'static str,
        deadline: Duration,
        open: impl Fn() -> DatabaseConnection + Send + Sync + 'static,
    ) -> Self {
        let renewal = Renewal {
            deadline,
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

    /// The same connections for requests, which wait for their customer's turn. A statement whose caller has left keeps its
    /// turn until it has ended, as it keeps its connection.
    pub(crate) fn in_turns(self, reads: Arc<Turns>, writes: Arc<Turns>) -> Self {
        let limit = Limit::Customers { reads, writes };
        Self { limit, ..self }
    }

    /// The same connections for work that takes only one of them at a time.
    pub fn one_at_once(&self) -> Self {
        let limit = Limit::All(Turns::new(1, 1, BACKGROUND_PATIENCE));
        Self { limit, ..self.clone() }
    }

    /// What metrics call it.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The pool itself, as it is now.
    pub fn inner(&self) -> DatabaseConnection {
        self.shared.current().pool
    }

    /// Waits for the turn of the customer whose request this task serves; `None` if it serves none.
    pub(crate) async fn turn_to_write(&self) -> Result<Option<Turn>, DbErr> {
        match (&self.limit, request::customer()) {
            (Limit::Customers { writes, .. }, Some(customer)) => writes.enter(name(customer.as_ref())).await.map(Some),
            _ => Ok(None),
        }
    }

    /// # Errors
    /// As a statement's, and when no connection could be had.
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

    /// Runs one statement outside a transaction.
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
        // A caller that leaves drops its future, and the connection works on.
        let running = tokio::spawn(async move {
            let answer = shared.answer(number, statement).await;
            drop(turn);
            answer
        });
        let ended = running.await;
        ended.unwrap_or_else(|err| Err(DbErr::Conn(RuntimeErr::Internal(err.to_string()))))
    }
}

/// The name by which a customer takes turns; that of those who are not known yet is empty.
fn name(customer: Option<&Arc<Customer>>) -> &str {
    customer.map_or("", |customer| customer.name())
}

impl Shared {
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an answer over a connection of the pool of this `number`, but not for ever.
    async fn answer<T>(&self, number: u64, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let Some(renewal) = &self.renewal else {
            return answer.await;
        };
        match tokio::time::timeout(renewal.deadline, answer).await {
            Ok(Err(err)) if is_read_only(&err) => {
                self.renew(renewal, number, READ_ONLY_PAUSE, "the session is read-only");
                Err(err)
            }
            Ok(answer) => answer,
            Err(_) => {
                self.renew(renewal, number, Duration::ZERO, "Postgres does not answer");
                Err(silent(renewal.deadline))
            }
        }
    }

    /// Replaces the pool of this `number` as a whole, unless that has been done, or was done less than `pause` ago.
    fn renew(&self, renewal: &Renewal, number: u64, pause: Duration, reason: &str) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.number != number || current.since.elapsed() < pause {
            return;
        }
        tracing::debug!(pool = self.name, reason, "connecting anew");
        let next = Current {
            pool: (renewal.open)(),
            number: number + 1,
            since: Instant::now(),
        };
        let former = std::mem::replace(&mut *current, next).pool;
        // What still works there goes on to its end; the rest ends when TCP gives up.
        tokio::spawn(former.close());
    }
}

/// The error for an answer that did not come.
pub(crate) fn silent(deadline: Duration) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(format!(
        "the database has not answered in {deadline:?}"
    )))
}

impl Transaction {
    /// # Errors
    /// When the answer is lost or overdue: it may have committed all the same.
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
