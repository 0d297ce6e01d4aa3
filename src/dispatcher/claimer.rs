//! Leases waiting deliveries for this process: due ones of both lanes, and parked ones of endpoints that have free
//! slots again.
//!
//! One claimer runs in a process. It claims when it is woken, when a rate allows more, and once a second in any case,
//! and never more than there are free slots. Must not send: each lease goes to a task of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shared::Shared;
use crate::crash_point;
use crate::error::{Error, Result};
use crate::slots::{Grant, Lane, Slots};
use crate::store::database::outage;
use crate::store::queue::{self, Lease, LeaseKey, LeaseTerms};
use crate::store::{Store, ran_too_long};

/// The longest pause between two claims, in case a wake-up was missed; and the least between two looks for leases of
/// lost claims.
const POLL: Duration = Duration::from_secs(1);
/// Rows of one lane that one claim leases at most.
const CLAIM: usize = 256;
/// Endpoints whose parked rows one claim brings back at most, by one statement.
// A slow rate gives each endpoint one row per claim, so with 256 endpoints the fixed cost of a claim weighed: 100,000
// endpoints got 78 % of the deliveries that they get without a rate. With 512 they get all of them. 1,024 gained
// nothing more and delayed other claims.
const PARKED_ENDPOINTS: usize = 512;

pub(super) struct Claimer {
    store: Store,
    slots: Arc<Slots>,
    /// How long a lease lasts.
    lease: Duration,
    /// Leases of claims whose commit was not answered. They are never sent. They are released before the next claims,
    /// and kept until they are released or would have ended: their commit may still be under way.
    lost: Vec<Lost>,
    /// When leases of lost claims are looked for next, by the monotonic clock.
    next_release: Duration,
    /// Which kind of waiting deliveries the next claim begins with, by its index.
    first_kind: usize,
}

/// A lease that may be in the database although its claim has failed.
struct Lost {
    lease: LeaseKey,
    /// When the lease ends and the row is due by itself, by the monotonic clock.
    ends_at: Duration,
}

/// A kind of waiting deliveries.
#[derive(Clone, Copy)]
enum Waiting {
    Due(Lane),
    Parked,
}

/// What a claim has brought.
pub(super) struct Claims {
    pub leases: Vec<Lease>,
    /// Whether there may be more that can be claimed at once.
    pub more: bool,
}

impl Claimer {
    pub fn new(store: Store, slots: Arc<Slots>, lease: Duration) -> Self {
        Self {
            store,
            slots,
            lease,
            lost: Vec::new(),
            next_release: Duration::ZERO,
            first_kind: 0,
        }
    }

    /// Claims and starts the sends of what it has leased, until `stop`. Claims nothing while outcomes cannot be stored.
    pub async fn run(mut self, shared: Arc<Shared>, sends: TaskTracker, stop: CancellationToken) {
        let clock = self.store.clock().clone();
        while !stop.is_cancelled() {
            let claims = match shared.is_stuck() {
                true => Ok(Claims::none()),
                false => self.claim().await,
            };
            let claims = claims.unwrap_or_else(|err| {
                outage::note_failure(&err, "nothing could be claimed; trying again at the next poll");
                Claims::none()
            });
            for lease in claims.leases {
                shared.spawn_send(lease, &sends);
            }
            if !claims.more {
                tokio::select! {
                    () = self.store.woken() => {}
                    () = self.slots.paced() => {}
                    () = clock.sleep(POLL) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Returns the kinds of waiting deliveries in the order of this claim. Each claim begins with another kind: if
    /// slots are short, no kind has to wait until there are none of the others.
    fn next_order(&mut self) -> [Waiting; 3] {
        let mut order = [Waiting::Due(Lane::First), Waiting::Due(Lane::Retry), Waiting::Parked];
        order.rotate_left(self.first_kind);
        self.first_kind = (self.first_kind + 1) % order.len();
        order
    }

    /// Leases due rows of both lanes, and parked rows of endpoints that have free slots again. Returns nothing while
    /// this process may not lease: it is stopping, or its heartbeat is late.
    pub async fn claim(&mut self) -> Result<Claims> {
        let Some(owner) = self.slots.owner() else {
            return Ok(Claims::none());
        };
        let terms = LeaseTerms {
            owner,
            lease_id: self.slots.new_lease_id(),
            lasts: self.lease,
        };
        self.release_lost().await;
        let mut parked = Vec::new();
        let claimed = self.claim_all(&terms, &mut parked).await;
        if let Err(err) = &claimed {
            let floors = self.store.floors();
            if ran_too_long(err) {
                tracing::warn!(
                    "a claim read for too long; older deliveries may wait until the database removes its deleted rows"
                );
                // The floors of parked rows too: without them the next claim would read for as long.
                floors.begin_at(self.store.clock().now());
            } else {
                // The claim raised these floors before its commit.
                floors.forget_parked(parked.iter().map(|grant| &grant.endpoint_id));
            }
        }
        claimed
    }

    /// Claims in one transaction. Sets `parked` to the parked rows that it asks for; the caller needs them if the
    /// claim fails.
    async fn claim_all(&mut self, terms: &LeaseTerms, parked: &mut Vec<Grant>) -> Result<Claims> {
        let tx = self.store.begin().await?;
        let mut claims = Claims::none();
        let mut empty = Vec::new();
        let mut drained = Vec::new();
        for waiting in self.next_order() {
            let Waiting::Due(lane) = waiting else {
                *parked = self.slots.parked_with_room(PARKED_ENDPOINTS);
                let claimed = queue::claim_parked(&tx, &self.slots, terms, parked).await?;
                claims.more |= parked.len() == PARKED_ENDPOINTS;
                claims.leases.extend(claimed.leases);
                empty = claimed.empty;
                continue;
            };
            let most = self.slots.free(lane).min(CLAIM);
            if most > 0 {
                let due = queue::claim(&tx, &self.slots, terms, lane, most).await?;
                claims.more |= due.found == most;
                claims.leases.extend(due.leases);
                drained.extend(due.drained.map(|drained| (lane, drained)));
            }
        }
        if let Err(err) = tx.commit().await {
            self.lost.extend(claims.leases.iter().map(|lease| Lost {
                lease: lease.key(),
                ends_at: lease.ends_at,
            }));
            return Err(err);
        }
        for (lane, drained) in drained {
            self.store.floors().raise(lane, drained);
        }
        if !claims.leases.is_empty() {
            crash_point::pass("claimed");
        }
        self.slots.unset_parked(&empty);
        Ok(claims)
    }

    /// Releases the leases of lost claims, at most once a second. It does so in a transaction of its own and without
    /// waiting for locks, so that a row that cannot be released now does not stop the claims.
    async fn release_lost(&mut self) {
        let now = self.store.clock().monotonic();
        self.lost.retain(|lost| lost.ends_at > now);
        if self.lost.is_empty() || now < self.next_release {
            return;
        }
        self.next_release = now + POLL;
        let released = async {
            let tx = self.store.begin().await?;
            let lost: Vec<_> = self.lost.iter().map(|lost| lost.lease.clone()).collect();
            let released = queue::release_lost(&tx, &lost).await?;
            tx.commit().await?;
            Ok::<_, Error>(released)
        };
        match released.await {
            Ok(released) => {
                let released: HashSet<_> = released.into_iter().collect();
                self.lost.retain(|lost| !released.contains(&lost.lease.delivery_id));
            }
            Err(err) => {
                let what = "leases of a lost claim could not be released; trying again";
                outage::note_failure(&err, what);
            }
        }
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
