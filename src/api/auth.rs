//! Authentication: proves the bearer token of a request, and with it the caller.
//!
//! A token is looked up by its hash and then remembered for a few seconds. A token that is not valid is refused with
//! 401. Must not decide what a token may do: rights.rs does.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use poem::Request;
use poem::http::header::AUTHORIZATION;
use tokio::sync::Semaphore;

use super::caller::Caller;
use crate::domain::role::Role;
use crate::domain::token;
use crate::error::{Error, Kind, Result};
use crate::store::database::request;
use crate::store::entity::api_token::Model as Token;
use crate::store::token_use::minute_of;
use crate::store::{Store, token as tokens};

/// How long a token is accepted without asking the database. A revoked token works this much longer; the API promises
/// that it ends within 5 s.
const REMEMBERED: Duration = Duration::from_secs(4);
/// If this many tokens are remembered, those that were not looked up within [`USED_LATELY`] are forgotten; if there are
/// none of these, all are. A forgotten token counts as unknown.
const MOST_REMEMBERED: usize = 10_000;
const USED_LATELY: Duration = Duration::from_secs(60);
/// Look-ups at once, of tokens that were valid before and of others. Few, since they use the queue's connections; each
/// takes a fraction of a millisecond.
const KNOWN_AT_ONCE: usize = 2;
const UNKNOWN_AT_ONCE: usize = 1;
/// Requests with unknown tokens, perhaps random ones, that may wait for a look-up or be in one. Any more get 503.
const UNKNOWN_WAITING: usize = 512;
/// The id and the name of the token from the configuration, which has no row.
const ADMIN: &str = "admin";

/// A token from the configuration, which works without a row.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// The hash (`domain::token::hash`) of the token, and that of the former token while both are valid.
    pub hashes: Vec<String>,
    pub org_id: String,
}

/// Proves tokens, and remembers those that it has looked up.
pub struct Authenticator {
    /// The store with the API's connections. Tokens are looked up over the queue's connections all the same.
    store: Store,
    /// The token from the configuration, and its caller.
    admin: Option<(AdminToken, Arc<Caller>)>,
    /// Callers by the hash of their token, each with the instant of the monotonic clock at which its look-up began. All
    /// requests read the map; look-ups and [`Self::forget`] write it.
    remembered: RwLock<HashMap<String, (Duration, Arc<Caller>)>>,
    /// Permits to look up tokens that were valid before. Made-up tokens cannot use them up.
    known: Semaphore,
    /// Permits to look up all other tokens.
    unknown: Semaphore,
    /// Permits to wait for a permit of `unknown`.
    seats: Semaphore,
}

impl Authenticator {
    pub fn new(store: Store, admin: Option<AdminToken>) -> Self {
        let admin = admin.map(|token| {
            let caller = Caller {
                org_id: token.org_id.clone(),
                app_id: None,
                poller_id: None,
                token_id: ADMIN.to_owned(),
                name: Some(ADMIN.into()),
                role: Some(Role::Admin),
                expires_at: None,
                capabilities: None,
                feature_flags: Arc::default(),
                customer: store.budget().customer(ADMIN),
            };
            (token, Arc::new(caller))
        });
        Self {
            store,
            admin,
            remembered: RwLock::default(),
            known: Semaphore::new(KNOWN_AT_ONCE),
            unknown: Semaphore::new(UNKNOWN_AT_ONCE),
            seats: Semaphore::new(UNKNOWN_WAITING),
        }
    }

    /// Proves the token of a request: that it is known and has not ended. Also sets the customer of the request, so that
    /// its statements wait for that customer's turns from here on.
    ///
    /// # Errors
    /// `Unauthenticated`; `Unavailable` if too many unknown tokens wait to be looked up.
    pub async fn prove(self: &Arc<Self>, request: &Request) -> Result<Arc<Caller>> {
        let text = bearer(request).ok_or_else(refused)?;
        let hash = token::hash(text);
        let caller = match self.recall(&hash) {
            Some(caller) => caller,
            // Boxed, so that the future of a request with a remembered token has no room for it.
            None => Box::pin(self.look_up_to_its_end(hash)).await?.ok_or_else(refused)?,
        };
        request::set_customer(&caller.customer);
        match caller.expires_at.is_some_and(|end| end <= self.store.clock().now()) {
            true => Err(refused()),
            false => Ok(caller),
        }
    }

    /// Returns the error for a proven caller that may not make its request: `refusal`, or `NotFound` if its application
    /// is deleted.
    pub async fn refuse(&self, caller: &Caller, refusal: Error) -> Error {
        caller.check_application(&self.store).await.err().unwrap_or(refusal)
    }

    /// Forgets a token that has just changed or ended, so that the database is asked when it comes next.
    pub fn forget(&self, token_id: &str) {
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|_, (_, caller)| caller.token_id != token_id);
    }

    /// Forgets all tokens of an application.
    pub fn forget_application(&self, app_id: &str) {
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|_, (_, caller)| caller.app_id.as_deref() != Some(app_id));
    }

    /// Returns the caller of a token without asking the database: of the token from the configuration, or of one that
    /// was looked up less than [`REMEMBERED`] ago.
    fn recall(&self, hash: &str) -> Option<Arc<Caller>> {
        let is_own = |admin: &AdminToken| admin.hashes.iter().any(|own| token::same(own, hash));
        if let Some((_, caller)) = self.admin.as_ref().filter(|(admin, _)| is_own(admin)) {
            return Some(caller.clone());
        }
        let now = self.store.clock().monotonic();
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let (since, caller) = remembered.get(hash)?;
        (now.saturating_sub(*since) < REMEMBERED).then(|| caller.clone())
    }

    /// Returns whether a token was valid at its last look-up, however long ago that was.
    fn has_known(&self, hash: &str) -> bool {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        remembered.contains_key(hash)
    }

    /// Looks a token up in a task of its own. If the caller hangs up, the task goes on and keeps its permit until the
    /// statement has ended, since the statement keeps its connection until then.
    async fn look_up_to_its_end(self: &Arc<Self>, hash: String) -> Result<Option<Arc<Caller>>> {
        let own = self.clone();
        let look_up = tokio::spawn(async move { own.look_up_in_turn(hash).await });
        look_up
            .await
            .map_err(|err| Error::internal("the look-up of a token panicked").because(err))?
    }

    /// Waits for a permit and looks a token up. Of many requests that wait with the same valid token only the first ask
    /// the database; the others find it remembered once they have a permit.
    async fn look_up_in_turn(&self, hash: String) -> Result<Option<Arc<Caller>>> {
        let closed = |_| Error::internal("a semaphore was closed");
        // Out here, so that it is held until the look-up has ended.
        let _seat;
        let _turn = match self.has_known(&hash) {
            true => self.known.acquire().await.map_err(closed)?,
            false => {
                let full = |_| Error::unavailable("too many unknown tokens wait to be looked up; try again");
                _seat = self.seats.try_acquire().map_err(full)?;
                self.unknown.acquire().await.map_err(closed)?
            }
        };
        match self.recall(&hash) {
            Some(caller) => Ok(Some(caller)),
            None => self.look_up(hash).await,
        }
    }

    /// Notes that a token is used now, unless this minute is recorded already or the token has expired.
    fn note_use(&self, row: &Token) {
        let now = self.store.clock().now();
        let minute = minute_of(now);
        if row.expires_at.is_none_or(|end| now < end) && row.last_used_at < Some(minute) {
            self.store.token_uses().note(&row.id, minute);
        }
    }

    /// Looks a token up and remembers it. If it is unknown or revoked, forgets it and returns `None`.
    async fn look_up(&self, hash: String) -> Result<Option<Arc<Caller>>> {
        // Taken before the statement: a token that is revoked while it runs then works for REMEMBERED at most.
        let asked_at = self.store.clock().monotonic();
        let row = tokens::find_by_hash(&self.store.for_queue(), &hash).await?;
        let Some(row) = row.filter(|row| row.revoked_at.is_none()) else {
            let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
            remembered.remove(&hash);
            return Ok(None);
        };
        self.note_use(&row);
        let customer = self.store.budget().customer(row.app_id.as_ref().unwrap_or(&row.id));
        let caller = Arc::new(Caller {
            customer,
            org_id: row.org_id,
            role: row.app_id.is_none().then_some(row.role),
            app_id: row.app_id,
            poller_id: row.poller_id,
            token_id: row.id,
            name: row.name.map(Into::into),
            expires_at: row.expires_at,
            capabilities: row.capabilities.map(|list| list.0.into()),
            feature_flags: row.feature_flags.map_or_else(Arc::default, |list| list.0.into()),
        });
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, (since, _)| asked_at.saturating_sub(*since) < USED_LATELY);
        }
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, (asked_at, caller.clone()));
        Ok(Some(caller))
    }
}

/// Returns the token in a request's `Authorization` header, if its scheme is `Bearer`.
fn bearer(request: &Request) -> Option<&str> {
    let value = std::str::from_utf8(request.headers().get(AUTHORIZATION)?.as_bytes()).ok()?;
    let (scheme, text) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !text.is_empty()).then(|| text.trim())
}

fn refused() -> Error {
    Error::new(Kind::Unauthenticated, "the bearer token is missing or not valid")
}

impl Authenticator {
    /// Returns the authenticator that `http::routes` has put into the request.
    ///
    /// # Errors
    /// `Internal` if there is none.
    pub fn of(request: &Request) -> Result<&Arc<Self>> {
        request
            .data::<Arc<Self>>()
            .ok_or_else(|| Error::internal("the routes have no authenticator"))
    }
}
