//! Waits while a server does not respond, for commands that go on until they are stopped, and says so once.
//!
//! Must not know any command.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// The wait after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait: a server that is back is found soon, and one that starts is not asked often.
const LONGEST: Duration = Duration::from_secs(15);

/// Whether the server responds.
#[derive(Default)]
pub(super) struct Outage {
    /// Failures since the last response.
    failures: u32,
}

impl Outage {
    /// Waits after a failure. The first one is logged.
    ///
    /// # Errors
    /// `err`, if it does not pass by itself.
    pub async fn wait(&mut self, err: Error) -> Result<()> {
        if err.kind != Kind::Unavailable {
            return Err(err);
        }
        if self.failures == 0 {
            tracing::warn!("{err}; trying again until there is one");
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(4)).min(LONGEST);
        self.failures += 1;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Notes a response. Returns whether it ends an outage, which is logged.
    pub fn ends(&mut self) -> bool {
        let ends = self.failures > 0;
        if ends {
            tracing::info!("the server responds again");
        }
        self.failures = 0;
        ends
    }
}
