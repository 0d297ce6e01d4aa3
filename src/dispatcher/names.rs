//! Resolves the names of receivers, and leaves out the addresses that may not be called. The addresses that a lookup
//! returns are those that are dialled, so a name that changes its address between check and use gains nothing. Literal
//! addresses never come here: the sender checks them.
//!
//! A name is looked up once at a time for all applications, and is then answered from memory: its addresses for their
//! time to live, a failure for some seconds. Lookups hold sockets and no threads. Their number is limited, and an
//! application begins no more of them than it leaves free, so silent name servers of one customer's endpoints do not
//! slow other customers. A lookup that other applications can join is always running; it never waits in the line of one
//! application.
//!
//! Must not speak to name servers: `name_servers` does.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Shared, ready};
use hyper_util::client::legacy::connect::dns::Name;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tower_service::Service;

use super::name_servers::{Servers, Sockets, Unresolved, ask, lock};
use super::shares::{Room, Shares};
use super::trace;
use crate::domain::target::TargetPolicy;

/// How long a lookup may take, if half the time of an attempt is not shorter. The system's resolver gives up a silent
/// name server after the same time. A caller waits no longer either, including the wait for its turn, so that the
/// attempt's text says why it failed.
const LOOKUP: Duration = Duration::from_secs(10);
/// Lookups that may run at once; fewer if they could take more than a quarter of the files that the process may open.
const LOOKUPS: usize = 256;
/// Sockets that a lookup holds at a silent name server: three for IPv4 and three for IPv6.
const SOCKETS: u64 = 6;
/// The longest time for which addresses are remembered, whatever their time to live: /etc/hosts has none.
const KEPT: Duration = Duration::from_secs(60);
/// How long a failure is remembered: in that time a silent name server costs one lookup, not one for each delivery.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Names that are remembered at most, with some 500 bytes each. If there are more, those that are not being looked up
/// are forgotten.
const MOST_KNOWN: usize = 8_192;
/// Addresses of one name that are remembered and tried at most: an answer may have thousands.
const MOST_ADDRESSES: usize = 16;
/// Refused hosts that are remembered because they were logged. If there are as many as this, all are forgotten, but no
/// sooner than `LOGGED_FOR` after the first of them; until then no further hosts are logged.
const MOST_LOGGED: usize = 1_024;
/// How long logged hosts are remembered at least.
const LOGGED_FOR: Duration = Duration::from_secs(3_600);

type Addresses = Result<Arc<[IpAddr]>, Unresolved>;
type Lookup = Shared<Pin<Box<dyn Future<Output = Addresses> + Send>>>;

/// What is remembered of a name.
enum Known {
    /// A lookup is running, or has panicked.
    Asked(Lookup),
    /// The answer, and the instant until which it holds.
    Answered(Addresses, Instant),
}

/// The resolver for hyper's connector. Clones share everything.
#[derive(Clone)]
pub(super) struct PublicNames(Arc<Inner>);

struct Inner {
    targets: Arc<TargetPolicy>,
    /// How long a lookup may take.
    patience: Duration,
    servers: Mutex<Servers>,
    /// Callers read it. The caller that begins a lookup writes it, and the lookup's own task when it ends. The mutex
    /// orders them, so that no name has two lookups at once.
    known: Mutex<HashMap<Name, Known>>,
    lookups: Shares,
    sockets: Sockets,
    logged: Mutex<LoggedHosts>,
}

/// Refused hosts that were logged.
#[derive(Default)]
struct LoggedHosts {
    hosts: HashSet<String>,
    /// When the first of `hosts` was logged. `None` means that there are none.
    since: Option<Instant>,
    /// Whether a line has said that further hosts are not logged.
    is_full: bool,
}

/// What to log about a refused host.
#[derive(Debug, PartialEq, Eq)]
enum HostLog {
    /// Its name.
    Host,
    /// That this host and further ones are not logged.
    Full,
    Nothing,
}

impl LoggedHosts {
    /// Notes a refused host. Returns what to log about it.
    fn note(&mut self, host: &str, now: Instant) -> HostLog {
        if self.hosts.contains(host) {
            return HostLog::Nothing;
        }
        if self.hosts.len() >= MOST_LOGGED {
            if self.since.is_some_and(|since| now < since + LOGGED_FOR) {
                return match std::mem::replace(&mut self.is_full, true) {
                    true => HostLog::Nothing,
                    false => HostLog::Full,
                };
            }
            *self = Self::default();
        }
        self.since.get_or_insert(now);
        self.hosts.insert(host.to_owned());
        HostLog::Host
    }
}

impl PublicNames {
    /// Builds a resolver that asks `name_server`, or with `None` those of the system's configuration. `timeout` is the
    /// time of a whole attempt.
    pub fn new(targets: Arc<TargetPolicy>, name_server: Option<SocketAddr>, timeout: Duration) -> Self {
        let patience = LOOKUP.min(timeout / 2);
        let sockets = Sockets::default();
        let mut servers = Servers::new(name_server, patience, sockets.clone());
        // Read now: at the first lookup there may be no descriptor left to read it with.
        servers.current();
        let files = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        Self(Arc::new(Inner {
            targets,
            patience,
            servers: Mutex::new(servers),
            known: Mutex::default(),
            lookups: Shares::new(most_lookups(files)),
            sockets,
            logged: Mutex::default(),
        }))
    }

    /// Logs once for each host that its address is refused. The customer must not learn this, because it says that the
    /// host exists.
    pub fn warn_refused(&self, host: &str) {
        let line = lock(&self.0.logged).note(host, Instant::now());
        match line {
            HostLog::Host => tracing::warn!(
                host,
                "a receiver's address is not public, or refused, and is not called; POSTRIDER_ALLOW_TARGETS can allow it"
            ),
            HostLog::Full => tracing::warn!(
                hosts = MOST_LOGGED,
                "many receivers' addresses are not public, or refused; further ones are not logged within the hour"
            ),
            HostLog::Nothing => {}
        }
    }

    /// Returns what is remembered of this name, or the lookup of it that is running.
    fn known(&self, name: &Name) -> Option<Lookup> {
        find_known(&lock(&self.0.known), name)
    }

    /// Returns what is remembered of this name, or begins a lookup. `resolve` returns the answer and how long to
    /// remember it.
    fn look_up<F>(&self, name: Name, resolve: impl FnOnce(Self, Name) -> F) -> Lookup
    where
        F: Future<Output = (Addresses, Duration)> + Send + 'static,
    {
        let mut known = lock(&self.0.known);
        if let Some(lookup) = find_known(&known, &name) {
            return lookup;
        }
        make_room(&mut known);
        // A task of its own: the lookup ends, and its answer is remembered, even if no caller waits for it any more.
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

    /// Asks the name servers while it holds `_room`. Returns the addresses that may be called, and how long to remember
    /// them.
    async fn resolve(self, _room: Room, name: Name) -> (Addresses, Duration) {
        let begun = Instant::now();
        let servers = lock(&self.0.servers).current();
        let answer = timeout(self.0.patience, ask(&servers, name.as_str(), self.0.patience)).await;
        match answer.unwrap_or(Err(Unresolved::NotInTime)) {
            Ok((found, kept)) => {
                let allowed = found.iter().copied().filter(|address| self.0.targets.allows(*address));
                let allowed: Arc<[IpAddr]> = allowed.take(MOST_ADDRESSES).collect();
                if allowed.is_empty() {
                    let Some(Err(why)) = found.first().map(|address| self.0.targets.check_address(*address)) else {
                        return (Err(Unresolved::Unknown), FAILURE_KEPT);
                    };
                    self.warn_refused(name.as_str());
                    return (Err(Unresolved::NotPublic(why.into())), FAILURE_KEPT);
                }
                (Ok(allowed), kept.min(KEPT))
            }
            // The resolver reports a socket that could not be opened as a failure like any other.
            Err(err) => match self.0.sockets.shortage_since(begun) {
                Some(number) => (Err(Unresolved::Shortage(number)), Duration::ZERO),
                None => (Err(err), FAILURE_KEPT),
            },
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
        let (names, app) = (self.clone(), trace::app());
        Box::pin(async move {
            trace::note(|steps| steps.is_resolving = true);
            let deadline = Instant::now() + names.0.patience;
            let lookup = match names.known(&name) {
                Some(lookup) => lookup,
                // The wait comes before the lookup is entered in `known`: other applications can join an entered
                // lookup, and would then wait in the line of this one.
                None => {
                    let room = names.0.lookups.room(&app, 1, sleep_until(deadline)).await;
                    let room = room.ok_or(Unresolved::NotInTime)?;
                    names.look_up(name, |names, name| names.resolve(room, name))
                }
            };
            let addresses = timeout_at(deadline, lookup)
                .await
                .unwrap_or(Err(Unresolved::NotInTime))?;
            trace::note(|steps| {
                steps.is_resolving = false;
                steps.resolved = Some(Instant::now());
                steps.address = addresses.first().copied();
            });
            let addresses: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

/// Returns how many lookups may run at once if the process may open `files` files.
fn most_lookups(files: u64) -> usize {
    let fitting = usize::try_from(files / 4 / SOCKETS).unwrap_or(LOOKUPS);
    fitting.clamp(1, LOOKUPS)
}

/// Returns an answer that still holds, or a running lookup. `None` means that a lookup has to begin.
fn find_known(known: &HashMap<Name, Known>, name: &Name) -> Option<Lookup> {
    match known.get(name)? {
        // A lookup that has ended and is still entered has panicked: its task replaces the entry otherwise.
        Known::Asked(lookup) => lookup.peek().is_none().then(|| lookup.clone()),
        Known::Answered(addresses, until) => {
            (*until > Instant::now()).then(|| ready(addresses.clone()).boxed().shared())
        }
    }
}

/// If there are too many names, forgets the answers that hold no longer, and all answers if that is not enough.
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::domain::target::NOT_CALLED;
    use crate::domain::typed_id::AppId;

    fn names() -> PublicNames {
        PublicNames::new(Arc::default(), None, LOOKUP)
    }

    fn address() -> Addresses {
        Ok([IpAddr::from([192, 0, 2, 1])].into())
    }

    /// A resolver whose lookups wait for a permit, and which counts them.
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
    async fn a_lookup_that_waits_in_one_application_s_line_is_not_joined_by_another() {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let names = PublicNames::new(Arc::default(), Some(here), LOOKUP);
        let (busy, other): (AppId, AppId) = ("busy".into(), "other".into());
        let mut rooms = Vec::new();
        while let Some(Some(room)) = names.0.lookups.room(&busy, 1, std::future::pending()).now_or_never() {
            rooms.push(room);
        }
        assert!(!rooms.is_empty());
        let call = || names.clone().call("localhost".parse().unwrap());
        let mut waiting = Box::pin(trace::attempt_of(&busy, async { call().await }));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let joined = timeout(LOOKUP / 10, trace::attempt_of(&other, async { call().await })).await;
        let err = joined.expect("it waits for no other application").unwrap_err();
        assert!(matches!(err, Unresolved::NotPublic(_)), "{err}");
    }

    #[test]
    fn lookups_take_a_quarter_of_the_open_files_at_most() {
        for (files, most) in [(0, 1), (1_024, 42), (20_000, LOOKUPS), (u64::MAX, LOOKUPS)] {
            assert_eq!(most_lookups(files), most, "{files}");
        }
    }

    #[test]
    fn refused_hosts_are_logged_once_each_and_no_more_of_them_an_hour_than_are_remembered() {
        let (mut logged, begun) = (LoggedHosts::default(), Instant::now());
        for number in 0..MOST_LOGGED {
            assert_eq!(logged.note(&number.to_string(), begun), HostLog::Host);
        }
        let soon = begun + LOGGED_FOR / 2;
        assert_eq!(logged.note("0", soon), HostLog::Nothing);
        let further = ["a", "b", "a"].map(|host| logged.note(host, soon));
        assert_eq!(further, [HostLog::Full, HostLog::Nothing, HostLog::Nothing]);
        let later = begun + LOGGED_FOR;
        assert_eq!(
            logged.note("1", later),
            HostLog::Nothing,
            "room is made for new hosts only"
        );
        let anew = ["a", "0", "a"].map(|host| logged.note(host, later));
        assert_eq!(anew, [HostLog::Host, HostLog::Host, HostLog::Nothing]);
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
