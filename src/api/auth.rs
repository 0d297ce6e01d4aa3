//! Who asks: the bearer token of a request, looked up by its hash and remembered for a few seconds.
//! Must not: decide what a thing's absence or another application's thing is answered with, beyond its own 401, 403 and
//! 404. Called before anything else of a request is read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use poem::http::Method;
use poem::http::header::AUTHORIZATION;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use tokio::sync::Semaphore;

use super::wire::error::into_poem;
use crate::domain::capability::{self, Capability};
use crate::domain::timestamp::Timestamp;
use crate::domain::token;
use crate::error::{Error, Kind, Result};
use crate::store::database::budget::Customer;
use crate::store::database::request;
use crate::store::entity::application::Model as Application;
use crate::store::{Store, application, token as tokens};

/// How long a token is taken without asking the database: a revoked one works this much longer (wire promise: 5 s).
const REMEMBERED: Duration = Duration::from_secs(4);
/// When so many are remembered, those that were not looked up lately are forgotten: they count as unknown from then on.
const MOST_REMEMBERED: usize = 10_000;
const USED_LATELY: Duration = Duration::from_secs(60);
/// Tokens are looked up over the queue's connections, so few at once: each takes a fraction of a millisecond.
const KNOWN_AT_ONCE: usize = 2;
const UNKNOWN_AT_ONCE: usize = 1;
/// Requests with tokens that were never known here, random ones perhaps; more are answered 503.
const UNKNOWN_WAITING: usize = 512;
/// Stands for the id of a token that the configuration names.
const ADMIN: &str = "admin";
pub(super) const SCHEME: &str = "HTTPBearer";
/// Stands in poem-openapi's document where only an organization's token will do, until openapi has read it.
pub(super) const ORGANIZATION: &str = "organization";

/// A token that the configuration names: it works without a row.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// What `domain::token::hash` makes of it, and of the former one while that is valid too.
    pub hashes: Vec<String>,
    pub org_id: String,
}

/// A proven token.
#[derive(Clone, Debug)]
pub struct Caller {
    pub org_id: String,
    /// Set: the token is of this application alone.
    pub app_id: Option<String>,
    /// The scope of idempotency keys.
    pub token_id: String,
    pub expires_at: Option<Timestamp>,
    /// What an application's token is limited to.
    pub capabilities: Option<Arc<[Capability]>>,
    feature_flags: Arc<[String]>,
    /// With whom it shares what requests may take.
    customer: Arc<Customer>,
}

/// A proven token of an organization; one of an application is answered with 403.
#[derive(Clone, Debug)]
pub struct Organization(pub Caller);

impl Caller {
    /// The application that a path names.
    ///
    /// # Errors
    /// `NotFound`, also when the token is of another application.
    pub async fn application(&self, store: &Store, id_or_uid: &str) -> Result<Application> {
        let found = application::get(store, &self.org_id, id_or_uid).await?;
        match &self.app_id {
            Some(own) if *own != found.id => Err(Error::not_found("application")),
            _ => Ok(found),
        }
    }

    /// The flags of the event types that an application's token sees; an organization's sees all.
    pub fn flags(&self) -> Option<&[String]> {
        self.app_id.as_ref().map(|_| &*self.feature_flags)
    }

    /// Whether the values of an endpoint's own headers are shown to this token, but for sensitive ones.
    pub fn sees_headers(&self) -> bool {
        let held = self.capabilities.as_deref();
        held.is_none_or(capability::shows_headers)
    }

    /// For what belongs to the organization: an application's token sees it as long as there is the application.
    ///
    /// # Errors
    /// `NotFound` when the token is of a deleted application.
    pub async fn check_application(&self, store: &Store) -> Result<()> {
        match &self.app_id {
            Some(own) => application::get(store, &self.org_id, own).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Proves tokens.
pub struct Authenticator {
    /// The API's.
    store: Store,
    admin: Option<(AdminToken, Arc<Customer>)>,
    /// By hash, with the instant at which each was looked up.
    remembered: RwLock<HashMap<String, (Duration, Caller)>>,
    /// Permits to look up tokens that were valid before: made-up tokens cannot take them.
    known: Semaphore,
    /// Permits to look up all other tokens.
    unknown: Semaphore,
    /// Permits to wait for one of those.
    seats: Semaphore,
}

impl Authenticator {
    pub fn new(store: Store, admin: Option<AdminToken>) -> Self {
        let admin = admin.map(|token| (token, store.budget().customer(ADMIN)));
        Self {
            store,
            admin,
            remembered: RwLock::default(),
            known: Semaphore::new(KNOWN_AT_ONCE),
            unknown: Semaphore::new(UNKNOWN_AT_ONCE),
            seats: Semaphore::new(UNKNOWN_WAITING),
        }
    }

    /// From here on the request waits for its customer's turns.
    ///
    /// # Errors
    /// `Unauthenticated`; for a token that is limited to other things as [`Self::prove_organization`]; `Unavailable` when too
    /// many unknown tokens wait to be looked up.
    async fn prove(self: &Arc<Self>, request: &Request) -> Result<Caller> {
        let text = bearer(request).ok_or_else(refused)?;
        let hash = token::hash(text);
        let caller = match self.recall(&hash) {
            Some(caller) => caller,
            // On the heap, so that a request with a remembered token does not carry it along.
            None => Box::pin(self.look_up_to_its_end(hash)).await?.ok_or_else(refused)?,
        };
        request::set_customer(&caller.customer);
        if caller.expires_at.is_some_and(|end| end <= self.store.clock().now()) {
            return Err(refused());
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match &caller.capabilities {
            Some(held) if !capability::allows(held, reads, request.uri().path()) => {
                Box::pin(caller.check_application(&self.store)).await?;
                Err(Error::new(Kind::Forbidden, "the token lacks the capability for this"))
            }
            _ => Ok(caller),
        }
    }

    /// # Errors
    /// `Unauthenticated`; for an application's token `Forbidden`, or `NotFound` where that application is deleted.
    async fn prove_organization(self: &Arc<Self>, request: &Request) -> Result<Organization> {
        let caller = self.prove(request).await?;
        if caller.app_id.is_none() {
            return Ok(Organization(caller));
        }
        Box::pin(caller.check_application(&self.store)).await?;
        let message = "this needs an organization's token; this one is of an application";
        Err(Error::new(Kind::Forbidden, message))
    }

    /// Asks the database again when this token comes next: it has just ended.
    pub fn forget(&self, token_id: &str) {
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|_, (_, caller)| caller.token_id != token_id);
    }

    /// Without the database.
    fn recall(&self, hash: &str) -> Option<Caller> {
        let is_own = |admin: &AdminToken| admin.hashes.iter().any(|own| token::same(own, hash));
        if let Some((admin, customer)) = self.admin.as_ref().filter(|(admin, _)| is_own(admin)) {
            return Some(Caller {
                org_id: admin.org_id.clone(),
                app_id: None,
                token_id: ADMIN.to_owned(),
                expires_at: None,
                capabilities: None,
                feature_flags: Arc::default(),
                customer: customer.clone(),
            });
        }
        let now = self.store.clock().monotonic();
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let (since, caller) = remembered.get(hash)?;
        (now.saturating_sub(*since) < REMEMBERED).then(|| caller.clone())
    }

    fn has_known(&self, hash: &str) -> bool {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        remembered.contains_key(hash)
    }

    /// Looks a token up in a task of its own: if the caller hangs up, the turn is not free before its statement has ended, as
    /// the statement's connection is not.
    async fn look_up_to_its_end(self: &Arc<Self>, hash: String) -> Result<Option<Caller>> {
        let own = self.clone();
        let look_up = tokio::spawn(async move { own.look_up_in_turn(hash).await });
        look_up
            .await
            .map_err(|err| Error::internal("the look-up of a token panicked").because(err))?
    }

    /// Looks a token up, a few at once. Of many requests that wait with one token the first asks for all.
    async fn look_up_in_turn(&self, hash: String) -> Result<Option<Caller>> {
        let closed = |_| Error::internal("a semaphore was closed");
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

    async fn look_up(&self, hash: String) -> Result<Option<Caller>> {
        let asked_at = self.store.clock().monotonic();
        let row = tokens::find_by_hash(&self.store.for_queue(), &hash).await?;
        let Some(row) = row.filter(|row| row.revoked_at.is_none()) else {
            let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
            remembered.remove(&hash);
            return Ok(None);
        };
        let customer = self.store.budget().customer(row.app_id.as_ref().unwrap_or(&row.id));
        let caller = Caller {
            customer,
            org_id: row.org_id,
            app_id: row.app_id,
            token_id: row.id,
            expires_at: row.expires_at,
            capabilities: row.capabilities.map(|list| list.0.into()),
            feature_flags: row.feature_flags.map_or_else(Arc::default, |list| list.0.into()),
        };
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

fn bearer(request: &Request) -> Option<&str> {
    let value = std::str::from_utf8(request.headers().get(AUTHORIZATION)?.as_bytes()).ok()?;
    let (scheme, text) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !text.is_empty()).then(|| text.trim())
}

fn refused() -> Error {
    Error::new(Kind::Unauthenticated, "the bearer token is missing or not valid")
}

fn authenticator(request: &Request) -> Result<&Arc<Authenticator>> {
    request
        .data::<Arc<Authenticator>>()
        .ok_or_else(|| Error::internal("the routes have no authenticator"))
}

fn describe(registry: &mut Registry) {
    let scheme = MetaSecurityScheme {
        ty: "http",
        description: Some("A token made by `app token create`."),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    registry.create_security_scheme(SCHEME, scheme);
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        describe(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let proven = async { authenticator(request)?.prove(request).await };
        proven.await.map_err(|err| into_poem(&err))
    }
}

impl<'a> ApiExtractor<'a> for Organization {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        describe(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![ORGANIZATION]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let proven = async { authenticator(request)?.prove_organization(request).await };
        proven.await.map_err(|err| into_poem(&err))
    }
}
