//! Resolves the names of receivers, less the addresses that may not be called. What a lookup gives is what is dialled, so
//! a name that changes its address between check and use gains nothing. Literal addresses never come here: the sender
//! checks them.
//!
//! A name is looked up once at a time, whoever asks, and is then answered from memory: its addresses for their time to
//! live, a failure for some seconds. Lookups hold sockets and no threads. There are so many of them at once at most, and
//! an application has no more than it leaves free: silent name servers of one customer's endpoints slow no other customer.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{Shared, ready};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr;
use hickory_resolver::system_conf::read_system_conf;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tower_service::Service;

use super::exchange::is_shortage;
use super::shares::Shares;
use crate::domain::target::{NOT_CALLED, TargetPolicy};

/// A lookup ends after this, the wait for its turn included, as the system's resolver gives up a silent name server; and
/// after half the time of an attempt, so that the attempt tells why it failed.
const LOOKUP: Duration = Duration::from_secs(10);
/// Lookups at once. At a silent name server each holds six sockets: three for either kind of address.
const LOOKUPS: usize = 256;
/// Addresses are remembered no longer than this, whatever their time to live: /etc/hosts has none.
const KEPT: Duration = Duration::from_secs(60);
/// A failure is remembered for this long: a silent name server costs one lookup meanwhile, not one for each delivery.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Names that are remembered, of some 500 bytes at most each; when there are more, those that are not being looked up are
/// forgotten.
const MOST_KNOWN: usize = 8_192;
/// Addresses of one name that are remembered and tried: an answer may have thousands.
const MOST_ADDRESSES: usize = 16;
/// Hosts that the operator has been told of; when there are more, the telling starts over.
const MOST_TOLD: usize = 1_024;
/// Name servers that are asked, as in the system's resolver.
const MOST_SERVERS: usize = 3;
/// The system's configuration is read again when it has changed, which is looked at no more often than this.
const REREAD: Duration = Duration::from_secs(5);
/// What it is read from.
const CONFIGURATION: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

tokio::task_local! {
    /// Whose share a lookup takes.
    static ASKED_BY: Arc<str>;
}

/// Runs an exchange whose lookups, if it needs any, take the share of `app`.
pub(super) async fn asked_by<F: Future>(app: &Arc<str>, exchange: F) -> F::Output {
    ASKED_BY.scope(app.clone(), exchange).await
}

/// Why a name has no addresses, in words for the endpoint's owner.
#[derive(Clone, Debug)]
pub(super) enum Unresolved {
    /// It does not exist, or has no address that may be called. One text, or a customer could tell which names of our
    /// network exist.
    Unknown,
    NotInTime,
    /// The name servers refuse, or fail.
    Refused(String),
    /// This machine had no file descriptors or memory left, by the system's number for it.
    Shortage(i32),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(NOT_CALLED),
            Self::NotInTime => f.write_str("the host's name servers did not answer in time"),
            Self::Refused(why) => write!(f, "the host's name could not be resolved: {why}"),
            Self::Shortage(number) => write!(f, "{}", std::io::Error::from_raw_os_error(*number)),
        }
    }
}

impl std::error::Error for Unresolved {}

type Addresses = Result<Arc<[IpAddr]>, Unresolved>;
type Lookup = Shared<Pin<Box<dyn Future<Output = Addresses> + Send>>>;

enum Known {
    Asked(Lookup),
    Answered(Addresses, Instant),
}

/// hyper's resolver. Its clones share everything.
#[derive(Clone)]
pub(super) struct PublicNames(Arc<Inner>);

struct Inner {
    targets: Arc<TargetPolicy>,
    /// How long a lookup may take.
    patience: Duration,
    servers: Mutex<Servers>,
    /// Written by whoever begins a lookup, and by the lookup's own task when it ends.
    known: Mutex<HashMap<Name, Known>>,
    lookups: Shares,
    /// Refused hosts that the operator has been told of.
    told: Mutex<HashSet<String>>,
}

impl PublicNames {
    /// Asks `name_server` alone, or those that the system's configuration names. An attempt may take `timeout` in all.
    pub fn new(targets: Arc<TargetPolicy>, name_server: Option<SocketAddr>, timeout: Duration) -> Self {
        let patience = LOOKUP.min(timeout / 2);
        Self(Arc::new(Inner {
            targets,
            patience,
            servers: Mutex::new(Servers::new(name_server, patience)),
            known: Mutex::default(),
            lookups: Shares::new(LOOKUPS),
            told: Mutex::default(),
        }))
    }

    /// Tells the operator, once a host, what its customer is not told: that it exists.
    pub fn warn_refused(&self, host: &str) {
        let mut told = lock(&self.0.told);
        if told.contains(host) {
            return;
        }
        if told.len() >= MOST_TOLD {
            told.clear();
        }
        told.insert(host.to_owned());
        drop(told);
        tracing::warn!(
            host,
            "a receiver's address is not public, or refused, and is not called; POSTRIDER_ALLOW_TARGETS can allow it"
        );
    }

    /// Returns what is remembered of this name, joins the lookup of it that is under way, or begins one by `resolve`,
    /// which says how long to remember its answer.
    fn look_up<F>(&self, name: Name, resolve: impl FnOnce(Self, Name) -> F) -> Lookup
    where
        F: Future<Output = (Addresses, Duration)> + Send + 'static,
    {
        let mut known = lock(&self.0.known);
        match known.get(&name) {
            // One that has ended without leaving an answer, as its task panicked, is begun anew.
            Some(Known::Asked(lookup)) if lookup.peek().is_none() => return lookup.clone(),
            Some(Known::Answered(addresses, until)) if *until > Instant::now() => {
                return ready(addresses.clone()).boxed().shared();
            }
            _ => {}
        }
        make_room(&mut known);
        // A task of its own: it ends, and is remembered, though nobody waits for it any more.
        let task = tokio::spawn({
            let (names, name) = (self.clone(), name.clone());
            let resolving = resolve(self.clone(), name.clone());
            async move {
                let (addresses, kept) = resolving.await;
                let answered = Known::Answered(addresses.clone(), Instant::now() + kept);
                lock(&names.0.known).insert(name, answered);
                addresses
            }
        });
        let lookup = task.map(|ended| ended.unwrap_or_else(|err| Err(Unresolved::Refused(err.to_string()))));
        let lookup = lookup.boxed().shared();
        known.insert(name, Known::Asked(lookup.clone()));
        lookup
    }

    /// Asks the name servers. Returns the addresses that may be called, and how long to remember them.
    async fn resolve(self, app: Arc<str>, name: Name) -> (Addresses, Duration) {
        let deadline = Instant::now() + self.0.patience;
        let Some(_room) = self.0.lookups.room(&app, 1, sleep_until(deadline)).await else {
            // Nobody asked for this name.
            return (Err(Unresolved::NotInTime), Duration::ZERO);
        };
        let servers = lock(&self.0.servers).current();
        let answer = timeout_at(deadline, ask(&servers, name.as_str(), self.0.patience)).await;
        match answer.unwrap_or(Err(Unresolved::NotInTime)) {
            Ok((found, kept)) => {
                let allowed = found.iter().copied().filter(|address| self.0.targets.allows(*address));
                let allowed: Arc<[IpAddr]> = allowed.take(MOST_ADDRESSES).collect();
                if allowed.is_empty() {
                    if !found.is_empty() {
                        self.warn_refused(name.as_str());
                    }
                    return (Err(Unresolved::Unknown), FAILURE_KEPT);
                }
                (Ok(allowed), kept.min(KEPT))
            }
            Err(err @ Unresolved::Shortage(_)) => (Err(err), Duration::ZERO),
            Err(err) => (Err(err), FAILURE_KEPT),
        }
    }
}

impl Service<Name> for PublicNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let app = ASKED_BY.try_with(Arc::clone).unwrap_or_default();
        let lookup = self.look_up(name, |names, name| names.resolve(app, name));
        Box::pin(async move {
            let addresses = lookup.await?;
            let addresses: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

/// The name servers, and when their configuration was read.
struct Servers {
    /// Instead of those that the system's configuration names.
    given: Option<SocketAddr>,
    /// How long all of them together are waited for.
    patience: Duration,
    resolvers: Arc<[TokioResolver]>,
    /// None: never looked at.
    looked_at: Option<Instant>,
    /// When the files were written that the resolvers are made of. None: they are made of none.
    written_at: Option<[Option<SystemTime>; 2]>,
}

impl Servers {
    fn new(given: Option<SocketAddr>, patience: Duration) -> Self {
        Self {
            given,
            patience,
            resolvers: Arc::default(),
            looked_at: None,
            written_at: None,
        }
    }

    /// Returns one resolver for each name server, in the order in which they are to be asked.
    fn current(&mut self) -> Arc<[TokioResolver]> {
        if self.looked_at.is_some_and(|at| at.elapsed() < REREAD) {
            return self.resolvers.clone();
        }
        self.looked_at = Some(Instant::now());
        let written = |path: &str| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let written_at = self.given.is_none().then(|| CONFIGURATION.map(written));
        if self.resolvers.is_empty() || self.written_at != written_at {
            let read = match self.given {
                Some(address) => Ok((only(address), ResolverOpts::default())),
                None => read_system_conf(),
            };
            match read {
                Ok((config, options)) => {
                    self.resolvers = resolvers(config, &options, self.patience);
                    self.written_at = written_at;
                }
                // It is read again at the next look; until then what was there before holds.
                Err(err) if self.resolvers.is_empty() => {
                    tracing::warn!(%err, "/etc/resolv.conf cannot be used; asking the name server on this machine");
                    let here = only((Ipv4Addr::LOCALHOST, 53).into());
                    self.resolvers = resolvers(here, &ResolverOpts::default(), self.patience);
                }
                Err(_) => self.written_at = None,
            }
        }
        self.resolvers.clone()
    }
}

/// A resolver for each name server, since one for all of them asks several at once and takes the first answer: a name that
/// the first server knows alone would be found now and then.
fn resolvers(config: ResolverConfig, options: &ResolverOpts, patience: Duration) -> Arc<[TokioResolver]> {
    let (domain, search, mut servers) = config.into_parts();
    servers.truncate(MOST_SERVERS);
    let each = share_of(patience, servers.len());
    let resolvers = servers.into_iter().filter_map(|server| {
        let config = ResolverConfig::from_parts(domain.clone(), search.clone(), vec![server]);
        let mut options = options.clone();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Once more after half the time; each time it may repeat its datagram twice.
        (options.timeout, options.attempts) = (each / 2, 1);
        // It would keep whole answers, of up to 64 kB, and no failures.
        options.cache_size = 0;
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let built = resolver.with_options(options).build();
        built
            .inspect_err(|err| tracing::warn!(%err, "a name server cannot be used"))
            .ok()
    });
    resolvers.collect()
}

/// How long one of so many name servers is waited for.
fn share_of(patience: Duration, servers: usize) -> Duration {
    patience / u32::try_from(servers.max(1)).unwrap_or(u32::MAX)
}

fn only(address: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

/// Asks one name server after the other, until one has an answer: that there is no such name is one. Returns the addresses,
/// and their time to live.
async fn ask(servers: &[TokioResolver], name: &str, patience: Duration) -> Result<(Vec<IpAddr>, Duration), Unresolved> {
    let Ok(name) = rr::Name::from_ascii(name) else {
        return Err(Unresolved::Unknown);
    };
    let each = share_of(patience, servers.len());
    let mut failure = Unresolved::NotInTime;
    for server in servers {
        failure = match timeout(each, server.lookup_ip(name.clone())).await {
            Ok(Ok(found)) => {
                let kept = found.valid_until().saturating_duration_since(std::time::Instant::now());
                return Ok((found.iter().collect(), kept));
            }
            Ok(Err(err)) if err.is_no_records_found() => return Err(Unresolved::Unknown),
            Ok(Err(NetError::Io(err))) if is_shortage(&err) => {
                return Err(Unresolved::Shortage(err.raw_os_error().unwrap_or_default()));
            }
            Ok(Err(NetError::Timeout)) | Err(_) => Unresolved::NotInTime,
            Ok(Err(err)) => Unresolved::Refused(err.to_string()),
        };
    }
    Err(failure)
}

/// Forgets answers whose time is over, or all of them, when there are too many.
fn make_room(known: &mut HashMap<Name, Known>) {
    let now = Instant::now();
    for least in [now, now + KEPT] {
        if known.len() >= MOST_KNOWN {
            known.retain(|_, known| match known {
                Known::Asked(_) => true,
                Known::Answered(_, until) => *until > least,
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    fn names() -> PublicNames {
        PublicNames::new(Arc::default(), None, LOOKUP)
    }

    fn address() -> Addresses {
        Ok([IpAddr::from([192, 0, 2, 1])].into())
    }

    /// Looks names up by waiting for a permit; counts how often it did.
    struct Asked {
        names: PublicNames,
        count: AtomicUsize,
        gate: Arc<Semaphore>,
    }

    impl Asked {
        fn new() -> Self {
            Self {
                names: names(),
                count: AtomicUsize::new(0),
                gate: Arc::new(Semaphore::new(0)),
            }
        }

        fn look_up(&self, name: &str, found: Addresses, kept: Duration) -> Lookup {
            let gate = self.gate.clone();
            self.names.look_up(name.parse().unwrap(), |_, _| {
                self.count.fetch_add(1, Ordering::Relaxed);
                async move {
                    let _ = gate.acquire().await;
                    (found, kept)
                }
            })
        }

        fn count(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_at_a_time() {
        let asked = Asked::new();
        let look_up = |name: &str| asked.look_up(name, address(), Duration::ZERO);
        drop(look_up("a"));
        let lookups = [look_up("a"), look_up("a"), look_up("b")];
        assert_eq!(asked.count(), 2, "one a name");
        asked.gate.add_permits(1);
        for lookup in lookups {
            assert_eq!(lookup.await.unwrap(), address().unwrap());
        }
        look_up("a").await.unwrap();
        assert_eq!(asked.count(), 3, "its time to live is over");
    }

    #[tokio::test]
    async fn addresses_and_failures_are_answered_from_memory_for_their_time() {
        let asked = Asked::new();
        asked.gate.add_permits(1);
        for found in [address(), Err(Unresolved::NotInTime)] {
            let before = asked.count();
            for name in ["a", "b", "a", "b"] {
                let name = format!("{name}{before}");
                let again = asked.look_up(&name, found.clone(), FAILURE_KEPT).await;
                assert_eq!(again.is_ok(), found.is_ok(), "{name}");
            }
            assert_eq!(asked.count(), before + 2);
        }
    }

    #[tokio::test]
    async fn no_more_names_are_remembered_than_fit() {
        let asked = Asked::new();
        asked.gate.add_permits(1);
        for number in 0..2 * MOST_KNOWN {
            let _ = asked.look_up(&format!("n{number}"), address(), KEPT).await;
        }
        assert!(lock(&asked.names.0.known).len() <= MOST_KNOWN);
    }

    #[tokio::test]
    async fn a_refused_name_and_one_that_does_not_exist_have_one_text_without_an_address() {
        let mut names = names();
        let mut texts = Vec::new();
        for name in ["localhost", "does-not-exist.invalid."] {
            texts.push(names.call(name.parse().unwrap()).await.unwrap_err().to_string());
        }
        assert_eq!(texts, [NOT_CALLED; 2]);
    }
}
