//! Where statements go: a pool, or a transaction on one of its connections. Every answer of Postgres has a deadline. A host
//! that has vanished says nothing, and TCP would wait for it for a quarter of an hour; so the pool in which one answer is
//! overdue is replaced as a whole. Must not know what is asked. Called by connect and tx.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement, TransactionOptions, TransactionTrait,
};

/// Longer than a statement of ours may run.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(35);

pub struct Pool {
    current: RwLock<Current>,
    /// None: SQLite, whose file does not vanish.
    renewal: Option<Renewal>,
}

#[derive(Clone)]
struct Current {
    pool: DatabaseConnection,
    /// How many came before it.
    number: u64,
}

struct Renewal {
    deadline: Duration,
    open: Box<dyn Fn() -> DatabaseConnection + Send + Sync>,
}

/// A transaction; dropped without [`Transaction::commit`] it is rolled back.
pub struct Transaction {
    inner: DatabaseTransaction,
    pool: Arc<Pool>,
    number: u64,
}

impl Pool {
    /// Without deadlines.
    pub fn lasting(pool: DatabaseConnection) -> Arc<Self> {
        Self::new(pool, None)
    }

    /// What `open` makes, and makes again whenever an answer takes longer than `deadline`.
    pub fn renewed(deadline: Duration, open: impl Fn() -> DatabaseConnection + Send + Sync + 'static) -> Arc<Self> {
        let renewal = Renewal {
            deadline,
            open: Box::new(open),
        };
        Self::new((renewal.open)(), Some(renewal))
    }

    fn new(pool: DatabaseConnection, renewal: Option<Renewal>) -> Arc<Self> {
        let current = RwLock::new(Current { pool, number: 0 });
        Arc::new(Self { current, renewal })
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pool itself, as it is now.
    pub fn inner(&self) -> DatabaseConnection {
        self.current().pool
    }

    /// # Errors
    /// As a statement's, and when no connection could be had.
    pub async fn begin(self: &Arc<Self>, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let Current { pool, number } = self.current();
        let inner = self.answer(number, pool.begin_with_options(options)).await?;
        Ok(Transaction {
            inner,
            pool: self.clone(),
            number,
        })
    }

    /// Waits for an answer over a connection of the pool of this `number`, but not for ever.
    async fn answer<T>(&self, number: u64, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let Some(renewal) = &self.renewal else {
            return answer.await;
        };
        match tokio::time::timeout(renewal.deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.renew(renewal, number);
                Err(silent(renewal.deadline))
            }
        }
    }

    fn renew(&self, renewal: &Renewal, number: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.number != number {
            return;
        }
        tracing::warn!("Postgres does not answer; connecting anew");
        let next = Current {
            pool: (renewal.open)(),
            number: number + 1,
        };
        let overdue = std::mem::replace(&mut *current, next).pool;
        // What still works there goes on to its end; the rest ends when TCP gives up.
        tokio::spawn(overdue.close());
    }
}

/// The error for an answer that did not come.
pub(super) fn silent(deadline: Duration) -> DbErr {
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
        let Current { pool, number } = self.current();
        self.answer(number, pool.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let Current { pool, number } = self.current();
        self.answer(number, pool.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let Current { pool, number } = self.current();
        self.answer(number, pool.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Current { pool, number } = self.current();
        self.answer(number, pool.query_all_raw(statement)).await
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
