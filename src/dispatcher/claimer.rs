//! Claims what is due, when woken and at every poll, as far as there are slots. One a process.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use crate::crash_point;
use crate::error::Result;
use crate::store::Store;
use crate::store::handoff::{Handoff, Lane};
use crate::store::queue::{self, Lease, LeaseTerms};

/// The net under every wake-up: what is due is found this often by itself.
const POLL: Duration = Duration::from_secs(1);
/// Rows of one lane in one claim.
const CLAIM: usize = 256;
/// Endpoints whose parked rows one claim may bring back.
const PARKED_ENDPOINTS: usize = 32;
/// Endpoints with parked rows that one look finds.
const LOOK: usize = 1_024;

pub(super) struct Claimer {
    store: Store,
    handoff: Arc<Handoff>,
    lease: Duration,
    /// Where the look for endpoints with parked rows goes on.
    after: String,
    /// Leases of claims whose commit was not answered, by delivery id: nobody sends them.
    lost: Vec<(String, i64)>,
    /// Who comes first at the next claim.
    turn: usize,
}

/// What a claim looks for.
#[derive(Clone, Copy)]
enum Waiting {
    Due(Lane),
    Parked,
}

pub(super) struct Claims {
    pub leases: Vec<Lease>,
    /// There may be more that can be claimed at once.
    pub more: bool,
}

impl Claimer {
    pub fn new(store: Store, handoff: Arc<Handoff>, lease: Duration) -> Self {
        Self {
            store,
            handoff,
            lease,
            after: String::new(),
            lost: Vec::new(),
            turn: 0,
        }
    }

    pub async fn run(mut self, shared: Arc<Shared>, sends: TaskTracker, stop: CancellationToken) {
        let clock = self.store.clock().clone();
        let mut next_look = clock.monotonic();
        while !stop.is_cancelled() {
            let look = clock.monotonic() >= next_look;
            if look {
                next_look = clock.monotonic() + POLL;
            }
            let claims = match self.turn(look, shared.is_stuck()).await {
                Ok(claims) => claims,
                Err(err) => {
                    tracing::warn!(%err, "nothing could be claimed; trying again at the next poll");
                    Claims::none()
                }
            };
            for lease in claims.leases {
                shared.spawn_send(lease, &sends);
            }
            if !claims.more {
                tokio::select! {
                    () = self.store.woken() => {}
                    () = self.handoff.paced() => {}
                    () = clock.sleep(POLL) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    async fn turn(&mut self, look: bool, stuck: bool) -> Result<Claims> {
        if stuck {
            return Ok(Claims::none());
        }
        if look && let Err(err) = self.discover().await {
            tracing::warn!(%err, "endpoints with parked rows could not be looked for; trying again at the next poll");
        }
        self.claim().await
    }

    /// Finds endpoints with parked rows that this process does not know of: parked by others, or before a restart.
    pub async fn discover(&mut self) -> Result<()> {
        let found = queue::list_parked(&self.store, &self.after, LOOK).await?;
        self.after = match found.last() {
            Some(last) if found.len() == LOOK => last.to_string(),
            _ => String::new(),
        };
        self.handoff.set_parked(&found);
        self.handoff.forget_unused();
        Ok(())
    }

    /// Another one comes first at every claim: where slots are short, none of them waits for the others to end.
    fn take_turns(&mut self) -> [Waiting; 3] {
        let mut order = [Waiting::Due(Lane::First), Waiting::Due(Lane::Again), Waiting::Parked];
        order.rotate_left(self.turn);
        self.turn = (self.turn + 1) % order.len();
        order
    }

    /// Leases what is due, both lanes, and parked rows of endpoints that have room again.
    pub async fn claim(&mut self) -> Result<Claims> {
        let Some(owner) = self.handoff.owner() else {
            return Ok(Claims::none());
        };
        let terms = LeaseTerms {
            owner,
            lease_id: self.handoff.new_lease_id(),
            lasts: self.lease,
        };
        let tx = self.store.begin().await?;
        if !self.lost.is_empty() {
            queue::release(&tx, self.lost.iter().map(|(id, lease)| (id.as_str(), *lease))).await?;
        }
        let mut claims = Claims::none();
        let mut empty = Vec::new();
        for waiting in self.take_turns() {
            let Waiting::Due(lane) = waiting else {
                let parked = self.handoff.parked_with_room(PARKED_ENDPOINTS);
                let (leases, without) = queue::claim_parked(&tx, &self.handoff, &terms, &parked).await?;
                claims.more |= parked.len() == PARKED_ENDPOINTS;
                claims.leases.extend(leases);
                empty = without;
                continue;
            };
            let most = self.handoff.free(lane).min(CLAIM);
            if most > 0 {
                let (leases, found) = queue::claim(&tx, &self.handoff, &terms, lane, most).await?;
                claims.more |= found == most;
                claims.leases.extend(leases);
            }
        }
        if let Err(err) = tx.commit().await {
            let leases = claims.leases.into_iter();
            self.lost
                .extend(leases.map(|lease| (lease.delivery_id, lease.lease_id)));
            return Err(err);
        }
        self.lost.clear();
        if !claims.leases.is_empty() {
            crash_point::pass("claimed");
        }
        self.handoff.unset_parked(&empty);
        Ok(claims)
    }
}

impl Claims {
    fn none() -> Self {
        Self {
            leases: Vec::new(),
            more: false,
        }
    }
}
