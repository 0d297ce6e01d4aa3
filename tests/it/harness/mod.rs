//! What the integration tests stand on. Must not: test anything itself, or know one test's subject.
//!
//! [`both!`] makes a test of an async closure that gets a migrated [`TestDatabase`], once on each database:
//! `both!(a_message_is_kept, async |db| { .. })` becomes `a_message_is_kept::sqlite` and `a_message_is_kept::postgres`.

mod caller;
mod database;
mod name_server;
mod postgres;
mod program;
mod proxy;
mod raw;
mod receiver;
mod rig;
mod standby;
mod statements;
mod within;

pub use caller::Caller;
pub use database::{Kind, TestDatabase, connect, on_postgres, on_sqlite, rows};
pub use name_server::{NameServer, Zone};
pub use program::{KEY, Program, Serving};
pub use proxy::Proxy;
pub use raw::{RawReceiver, Then, read_request};
pub use receiver::{Answer, Arrival, Gate, Receiver};
pub use rig::{ORG, Rig, SECRET, START, Shape};
pub use standby::Replicated;
pub use statements::{plan, recorded};
pub use within::{DEADLINE, Patience, within};

/// Two tests, `NAME::sqlite` and `NAME::postgres`, each with a migrated database of its own.
macro_rules! both {
    ($name:ident, $test:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn sqlite() {
                $crate::harness::on_sqlite($test);
            }

            #[test]
            fn postgres() {
                $crate::harness::on_postgres($test);
            }
        }
    };
}

/// One test, `NAME::postgres`, for what only Postgres has.
macro_rules! postgres_only {
    ($name:ident, $test:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn postgres() {
                $crate::harness::on_postgres($test);
            }
        }
    };
}

/// One test, `NAME::sqlite`, for what only SQLite has.
macro_rules! sqlite_only {
    ($name:ident, $test:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn sqlite() {
                $crate::harness::on_sqlite($test);
            }
        }
    };
}
