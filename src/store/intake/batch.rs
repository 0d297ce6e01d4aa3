//! One batch: reads what its members need, plans their deliveries, writes everything, commits, hands over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::apps::{App, Endpoint, Named, find_apps};
use super::at_once::{Stored, UsualBatch, WorkerConnection};
use super::insert::{self, DeliveryRow, Fresh};
use super::keys::{self, Repeat};
use super::known::Known;
use super::member::{Accepted, Member};
use tokio::sync::mpsc;

use crate::crash_point;
use crate::domain::delivery::Trigger;
use crate::domain::filter::{self, EndpointFilter};
use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::slots::{Admission, Slot, Slots};
use crate::store::Store;
use crate::store::idempotency::another_body;
use crate::store::queue::{Content, LARGE_BODY, Lease, Target};

/// Delivery rows in one batch, and in one statement of a message that alone has more.
const BATCH_DELIVERIES: usize = 5_000;

#[derive(Clone)]
pub(super) struct Batch {
    store: Store,
    slots: Arc<Slots>,
    leases: mpsc::Sender<Lease>,
    lease: Duration,
    /// Lease ids of tries whose commit may have been lost with its answer.
    tried: Vec<i64>,
    /// A commit was not answered: the members may be stored.
    uncertain: bool,
}

/// A member, the application it goes to and those of its endpoints that want it.
struct Plan<'a> {
    member: &'a Member,
    app: Option<Arc<App>>,
    endpoints: Vec<Arc<Endpoint>>,
}

/// What a batch leaves to do once it is durable.
#[derive(Default)]
struct Placed {
    rows: Vec<DeliveryRow>,
    leases: Vec<Lease>,
    parked: HashSet<Arc<str>>,
    due: bool,
}

impl Batch {
    pub fn new(store: Store, slots: Arc<Slots>, leases: mpsc::Sender<Lease>, lease: Duration) -> Self {
        Self {
            store,
            slots,
            leases,
            lease,
            tried: Vec::new(),
            uncertain: false,
        }
    }

    /// Whether an earlier try may have stored the members.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// Stores a prefix of `members` and answers it, in order. Called again after a failure it finds what an earlier try
    /// had committed. With a `line` (Postgres) it tries the short way first.
    pub async fn store(
        &mut self,
        members: &[Member],
        known: &Known,
        line: Option<&mut WorkerConnection>,
    ) -> Result<Vec<Result<Accepted>>> {
        let is_plain = |member: &Member| member.message.event_id.is_none();
        if self.tried.is_empty()
            && let Some(line) = line
            && members.iter().all(is_plain)
            && let Some(answers) = self.store_at_once(members, known, line).await?
        {
            return Ok(answers);
        }
        self.store_by_steps(members).await
    }

    /// The usual batch in one round trip, or three where an application has changed. `None` when it is not a usual one,
    /// or some key has a reply already: the steps find that out, and what this has stored.
    async fn store_at_once(
        &mut self,
        members: &[Member],
        known: &Known,
        line: &mut WorkerConnection,
    ) -> Result<Option<Vec<Result<Accepted>>>> {
        // A new connection may lead to another server, which has not got the last writes of the one before.
        if line.is_lost() {
            known.clear();
        }
        for _ in 0..2 {
            let (now, began) = (self.store.clock().now(), self.store.clock().monotonic());
            let apps = known.find(&self.store, members).await?;
            let plans = plan(&apps, members);
            let keyed = keyed(&plans);
            let fresh: Vec<&Plan> = plans.iter().filter(|plan| plan.app.is_some()).collect();
            if fresh.is_empty() {
                return Ok(Some(answers(&plans, &HashMap::new(), |_| true, &HashSet::new())));
            }
            if !keyed.is_empty() && keyed.len() < fresh.len() {
                return Ok(None);
            }
            let placed = self.place(now, began, fresh.iter());
            if placed.rows.len() > BATCH_DELIVERIES {
                return Ok(None);
            }
            let batch = UsualBatch {
                now,
                apps: &apps,
                keyed: &keyed,
                fresh: &fresh.iter().map(|plan| plan.fresh()).collect::<Vec<_>>(),
                deliveries: &placed.rows,
            };
            crash_point::pass("accepted.before_commit");
            self.uncertain = true;
            let stored = line.store(&batch).await?;
            crash_point::pass("accepted.after_commit");
            match stored {
                Stored::Stale(ids) => {
                    let changed = apps.iter().filter(|(_, app)| ids.contains(&app.id));
                    known.forget(changed.map(|(name, _)| name));
                }
                Stored::Messages(stored) if stored < fresh.len() => return Ok(None),
                Stored::Messages(_) => {
                    if placed.due {
                        self.store.wake();
                    }
                    self.hand_over(placed);
                    let replies = keyed
                        .into_iter()
                        .map(|(key, reply)| ((key.scope.clone(), key.key.clone()), reply));
                    return Ok(Some(answers(&plans, &replies.collect(), |_| true, &HashSet::new())));
                }
            }
        }
        Ok(None)
    }

    async fn store_by_steps(&mut self, members: &[Member]) -> Result<Vec<Result<Accepted>>> {
        let tx = self.store.begin().await?;
        let apps = find_apps(&tx, members.iter().map(Member::app_name).collect()).await?;
        let plans = plan(&apps, members);
        let replies = keys::claim_keys(&tx, &keyed(&plans)).await?;
        let fresh: Vec<&Plan> = plans.iter().filter(|plan| stores(plan, &replies)).collect();
        let free = insert::take_event_ids(&tx, fresh.iter().map(|plan| plan.fresh()).collect()).await?;
        let stored = insert::insert_messages(&tx, &free).await?;
        let missing: Vec<_> = fresh
            .iter()
            .filter(|plan| !stored.contains(&plan.member.id))
            .map(|plan| plan.fresh())
            .collect();
        let committed = insert::find_committed(&tx, &missing).await?;
        insert::release_lost(&tx, &committed, &self.tried).await?;
        let refused = missing.iter().filter(|one| !committed.contains(&one.member.id));
        keys::delete_keys(&tx, refused.filter_map(|one| one.member.message.key.as_ref())).await?;

        let placed = self.place(
            tx.now,
            tx.began,
            fresh.iter().filter(|plan| stored.contains(&plan.member.id)),
        );
        let is_new = |plan: &&&Plan| stored.contains(&plan.member.id);
        let contents: Vec<_> = fresh.iter().filter(is_new).map(|plan| plan.fresh()).collect();
        insert::insert_rest(&tx, &contents, &placed.rows, BATCH_DELIVERIES).await?;
        if placed.due {
            tx.wake_on_commit();
        }
        let different = keys::find_different(&tx, &repeats(&plans, &replies)).await?;
        crash_point::pass("accepted.before_commit");
        self.uncertain = true;
        tx.commit().await?;
        crash_point::pass("accepted.after_commit");
        self.hand_over(placed);
        let is_stored = |id: &str| stored.contains(id) || committed.contains(id);
        Ok(answers(&plans, &replies, is_stored, &different))
    }

    /// Gives each new delivery its place: this process's sender, the due index, or parked.
    fn place<'a>(&mut self, now: Timestamp, began: Duration, plans: impl Iterator<Item = &'a &'a Plan<'a>>) -> Placed {
        let clock = self.store.clock();
        let owner = self.slots.owner();
        let lease_id = self.slots.new_lease_id();
        self.tried.push(lease_id);
        let ends_at = began + self.lease;
        let mut placed = Placed::default();
        for plan in plans {
            let message = &plan.member.message;
            let body: Arc<str> = message.body.as_str().into();
            let content_type: Option<Arc<str>> = message.content_type.as_deref().map(Into::into);
            for endpoint in &plan.endpoints {
                let target = endpoint.target.as_ref().filter(|_| body.len() <= LARGE_BODY);
                let admission = match (target, &owner) {
                    (Some(target), Some(_)) => self.slots.admit(&target.endpoint_id, &target.app_id, &target.throttle),
                    _ => Admission::Due,
                };
                let mut row = DeliveryRow {
                    id: clock.new_id(Prefix::Delivery),
                    app_id: plan.app_id().to_owned(),
                    message_id: plan.member.id.clone(),
                    endpoint_id: endpoint.id.clone(),
                    due_at: Some(now),
                    lease: None,
                };
                match (admission, &owner) {
                    (Admission::Leased(slot), Some(owner)) => {
                        row.due_at = Some(now.plus(self.lease));
                        row.lease = Some((owner.clone(), lease_id));
                        let content = Content::Body(body.clone());
                        let mut lease = lease(&row, target.cloned(), content, lease_id, ends_at, slot);
                        lease.content_type.clone_from(&content_type);
                        placed.leases.push(lease);
                    }
                    (Admission::Parked, _) => {
                        row.due_at = None;
                        placed.parked.insert(endpoint.id.clone());
                    }
                    _ => placed.due = true,
                }
                placed.rows.push(row);
            }
        }
        placed
    }

    fn hand_over(&self, placed: Placed) {
        for lease in placed.leases {
            if let Err(err) = self.leases.try_send(lease) {
                tracing::warn!(%err, "a lease could not be handed over; it will be claimed when it ends");
            }
        }
        if self.slots.set_parked(&placed.parked) {
            self.store.wake();
        }
        if placed.due {
            self.store.announce();
        }
    }
}

fn lease(
    row: &DeliveryRow,
    target: Option<Arc<Target>>,
    content: Content,
    lease_id: i64,
    ends_at: Duration,
    slot: Slot,
) -> Lease {
    Lease {
        delivery_id: row.id.clone(),
        app_id: row.app_id.clone(),
        message_id: row.message_id.clone(),
        endpoint_id: row.endpoint_id.clone(),
        trigger: Trigger::Scheduled,
        attempt: 0,
        lease_id,
        ends_at,
        target,
        content,
        content_type: None,
        delivered_already: false,
        slot,
    }
}

impl<'a> Plan<'a> {
    fn app_id(&self) -> &str {
        self.app.as_ref().map_or("", |app| &app.id)
    }

    fn fresh(&self) -> Fresh<'_> {
        Fresh {
            app_id: self.app_id(),
            member: self.member,
        }
    }

    /// What the member's key is answered with from now on.
    fn reply(&self) -> String {
        format!("{}/{}/{}", self.app_id(), self.member.id, self.member.created_at.0)
    }
}

/// Plans a prefix of the members that has at most 5,000 deliveries (or one member).
fn plan<'a>(apps: &Named<'_>, members: &'a [Member]) -> Vec<Plan<'a>> {
    let mut deliveries = 0;
    let mut plans = Vec::with_capacity(members.len());
    for member in members {
        let message = &member.message;
        let app = apps.get(&member.app_name()).cloned();
        let all = app.iter().flat_map(|app| &app.endpoints);
        let wanting = all.filter(|endpoint| {
            if let Some(only) = &message.only_to {
                return *endpoint.id == **only;
            }
            let filter = EndpointFilter {
                event_types: endpoint.event_types.as_deref(),
                channels: endpoint.channels.as_deref(),
            };
            filter::accepts(&filter, &message.event_type, &message.channels)
        });
        let endpoints: Vec<_> = wanting.cloned().collect();
        deliveries += endpoints.len();
        if deliveries > BATCH_DELIVERIES && !plans.is_empty() {
            break;
        }
        plans.push(Plan { member, app, endpoints });
    }
    plans
}

/// The members that bring a key, the first of each key only, with the reply that the key is to have.
fn keyed<'a>(plans: &'a [Plan<'a>]) -> Vec<(&'a crate::store::idempotency::Key, String)> {
    let mut seen = HashSet::new();
    let known = plans.iter().filter(|plan| plan.app.is_some());
    let keyed = known.filter_map(|plan| Some((plan.member.message.key.as_ref()?, plan.reply())));
    keyed.filter(|(key, _)| seen.insert(*key)).collect()
}

/// A member is stored unless its application is unknown or its key has another message's reply.
fn stores(plan: &Plan, replies: &HashMap<(String, String), String>) -> bool {
    plan.app.is_some() && reply_of(plan, replies).is_none_or(|reply| *reply == plan.reply())
}

fn reply_of<'r>(plan: &Plan, replies: &'r HashMap<(String, String), String>) -> Option<&'r String> {
    let key = plan.member.message.key.as_ref()?;
    replies.get(&(key.scope.clone(), key.key.clone()))
}

/// The members whose key has another message's reply.
fn repeats<'a>(plans: &'a [Plan<'a>], replies: &'a HashMap<(String, String), String>) -> Vec<Repeat<'a>> {
    let known = plans.iter().filter(|plan| plan.app.is_some());
    let repeated = known.filter_map(|plan| {
        let (app_id, message_id, _) = read_reply(reply_of(plan, replies)?)?;
        Some(Repeat {
            app_id,
            message_id,
            member: plan.member,
        })
    });
    repeated.filter(|one| one.message_id != one.member.id).collect()
}

/// The answer to each plan. `different` are the members, by their ids, that are another message than the one with their key.
fn answers(
    plans: &[Plan],
    replies: &HashMap<(String, String), String>,
    is_stored: impl Fn(&str) -> bool,
    different: &HashSet<String>,
) -> Vec<Result<Accepted>> {
    let conflict = || Error::new(Kind::Conflict, "eventId: a message of this application has it already");
    let mut refused: HashSet<&str> = HashSet::new();
    for plan in plans
        .iter()
        .filter(|plan| stores(plan, replies) && !is_stored(&plan.member.id))
    {
        refused.insert(&plan.member.id);
    }
    let answer = |plan: &Plan| {
        if plan.app.is_none() {
            return Err(Error::not_found("application"));
        }
        let own = plan.reply();
        let reply = reply_of(plan, replies).unwrap_or(&own);
        let (app_id, message_id, created_at) =
            read_reply(reply).ok_or_else(|| Error::internal("a stored reply is no message's"))?;
        if different.contains(&plan.member.id) {
            return Err(another_body());
        }
        // The same key twice in this batch: the later one shares the first's fate.
        if refused.contains(message_id) {
            return Err(conflict());
        }
        Ok(Accepted {
            app_id: app_id.to_owned(),
            message_id: message_id.to_owned(),
            created_at,
            replayed: message_id != plan.member.id,
        })
    };
    plans.iter().map(answer).collect()
}

/// Application, message and the instant at which it was created.
fn read_reply(reply: &str) -> Option<(&str, &str, Timestamp)> {
    let (app_id, rest) = reply.split_once('/')?;
    let (message_id, created_at) = rest.split_once('/')?;
    Some((app_id, message_id, Timestamp(created_at.parse().ok()?)))
}
