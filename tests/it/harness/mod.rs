//! The tools that the integration tests share: databases, receivers, proxies, the program as a process.
//! Must not: test anything itself, or know the subject of a single test.
//!
//! [`both!`] turns an async closure that takes a migrated [`TestDatabase`] into two tests, one for each database:
//! `both!(a_message_is_kept, async |db| { .. })` becomes `a_message_is_kept::sqlite` and `a_message_is_kept::postgres`.

mod caller;
mod corpora;
mod database;
mod name_server;
mod postgres;
mod program;
mod proxy;
mod random;
mod raw;
mod receiver;
mod rig;
mod standby;
mod statements;
mod within;

pub use caller::Caller;
pub use corpora::record;
pub use database::{Kind, TestDatabase, connect, on_postgres, on_sqlite, rows};
pub use name_server::{NameServer, Zone};
pub use postgres::find_binaries;
pub use program::{Ended, KEY, Program, Running, Serving};
pub use proxy::Proxy;
pub use random::random;
pub use raw::{RawReceiver, Then, read_request};
pub use receiver::{Answer, Arrival, Gate, Receiver};
pub use rig::{ORG, Rig, SECRET, START, Shape};
pub use standby::Replicated;
pub use statements::{plan, recorded};
pub use within::{DEADLINE, Patience, within};

/// Defines two tests, `NAME::sqlite` and `NAME::postgres`, each with a migrated database of its own.
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

/// Defines one test, `NAME::postgres`, for behaviour that only Postgres has.
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

/// Defines one test, `NAME::sqlite`, for behaviour that only SQLite has.
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
