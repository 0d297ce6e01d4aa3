//! Asks the name servers of the system's configuration, or the one that the operator has set, for the addresses of a
//! name: one server after the other, over sockets and without threads.
//!
//! Must not remember answers and must not decide which addresses may be called: `names` does both.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use hickory_resolver::proto::rr::{self, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::{Instant, timeout};

use crate::domain::target::NOT_CALLED;

/// How long to wait for the IPv6 addresses of a name once the IPv4 ones are there: some name servers drop the question.
const SECOND_KIND: Duration = Duration::from_secs(1);
/// Name servers that are asked at most, as in the system's resolver.
const MOST_SERVERS: usize = 3;
/// The least time between two checks whether the system's configuration has changed; if so, it is read again.
const REREAD: Duration = Duration::from_secs(5);
/// The files of the system's configuration.
const CONFIGURATION: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// EMFILE, ENFILE, ENOMEM and ENOBUFS on Linux and the BSDs, macOS among them.
const SHORTAGES: [i32; 5] = [24, 23, 12, 105, 55];

/// Why a name has no addresses, in words for the endpoint's owner.
#[derive(Clone, Debug)]
pub(super) enum Unresolved {
    /// The name does not exist, or has no address. Shown as `NotPublic` is: with two texts a customer could find out which
    /// names of our network exist.
    Unknown,
    /// None of the name's addresses may be called, with the reason for the first of them, for the organization alone.
    NotPublic(Arc<str>),
    /// No name server has answered in time.
    NotInTime,
    /// The name servers refused or failed, with the reason of the last one.
    Refused(String),
    /// This machine had no file descriptors or memory left, with the system's number of that error.
    Shortage(i32),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown | Self::NotPublic(_) => f.write_str(NOT_CALLED),
            Self::NotInTime => f.write_str("its name servers did not answer in time"),
            Self::Refused(why) => f.write_str(why),
            Self::Shortage(number) => write!(f, "{}", io::Error::from_raw_os_error(*number)),
        }
    }
}

impl std::error::Error for Unresolved {}

/// Opens the sockets of lookups, and notes when this machine had no descriptor or memory left for one. The tasks of
/// lookups write the note and read it; a mutex orders them.
#[derive(Clone, Default)]
pub(super) struct Sockets {
    provider: TokioRuntimeProvider,
    /// When the latest shortage was, and the system's number of that error. `None` means that there was none.
    shortage: Arc<Mutex<Option<(Instant, i32)>>>,
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Sockets {
    /// Notes a shortage if `opening` ends with one.
    fn note_shortage<T: 'static>(&self, opening: Opening<T>) -> Opening<T> {
        let shortage = self.shortage.clone();
        Box::pin(opening.inspect(move |opened| {
            let failure = opened.as_ref().err().filter(|err| is_shortage(err));
            if let Some(number) = failure.and_then(io::Error::raw_os_error) {
                *lock(&shortage) = Some((Instant::now(), number));
            }
        }))
    }

    /// Returns the system's error number of a shortage that was noted at `begun` or later.
    pub fn shortage_since(&self, begun: Instant) -> Option<i32> {
        let (at, number) = (*lock(&self.shortage))?;
        (at >= begun).then_some(number)
    }
}

impl RuntimeProvider for Sockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.provider.create_handle()
    }

    fn connect_tcp(&self, to: SocketAddr, from: Option<SocketAddr>, timeout: Option<Duration>) -> Opening<Self::Tcp> {
        self.note_shortage(self.provider.connect_tcp(to, from, timeout))
    }

    fn bind_udp(&self, from: SocketAddr, to: SocketAddr) -> Opening<Self::Udp> {
        self.note_shortage(self.provider.bind_udp(from, to))
    }
}

/// The name servers, and when their configuration was read.
pub(super) struct Servers {
    /// The name server that the operator has set. `None` means those of the system's configuration.
    given: Option<SocketAddr>,
    /// How long to wait for all name servers together.
    patience: Duration,
    sockets: Sockets,
    /// One for each name server.
    resolvers: Arc<[Resolver<Sockets>]>,
    /// When the configuration was last checked for changes. `None` means never.
    looked_at: Option<Instant>,
    /// When the files were written that the resolvers are made of. `None` means that they are not made of files, or
    /// that the files could not be read the last time.
    written_at: Option<[Option<SystemTime>; 2]>,
}

impl Servers {
    pub fn new(given: Option<SocketAddr>, patience: Duration, sockets: Sockets) -> Self {
        Self {
            given,
            patience,
            sockets,
            resolvers: Arc::default(),
            looked_at: None,
            written_at: None,
        }
    }

    /// Returns one resolver for each name server, in the order in which they are to be asked.
    pub fn current(&mut self) -> Arc<[Resolver<Sockets>]> {
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
                    self.resolvers = self.build(config, &options);
                    self.written_at = written_at;
                }
                // The files are read again at the next check. Until then the former resolvers are used, or a name
                // server on this machine if there are none.
                Err(err) if self.resolvers.is_empty() => {
                    tracing::warn!(%err, "/etc/resolv.conf cannot be used; asking the name server on this machine");
                    let here = only((Ipv4Addr::LOCALHOST, 53).into());
                    self.resolvers = self.build(here, &ResolverOpts::default());
                }
                Err(_) => self.written_at = None,
            }
        }
        self.resolvers.clone()
    }

    /// Builds a resolver for each name server. A single resolver for all of them would ask several at once and take the
    /// first answer, so that a name that only one server knows would be found only now and then.
    fn build(&self, config: ResolverConfig, options: &ResolverOpts) -> Arc<[Resolver<Sockets>]> {
        let (domain, search, mut servers) = config.into_parts();
        servers.truncate(MOST_SERVERS);
        let each = share_of(self.patience, servers.len());
        let resolvers = servers.into_iter().filter_map(|server| {
            let config = ResolverConfig::from_parts(domain.clone(), search.clone(), vec![server]);
            let mut options = options.clone();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            // Two tries, each of which may repeat its datagram twice. Both end before the name server's time does: only
            // then does the resolver return the addresses of one kind if the question for the other was dropped.
            (options.timeout, options.attempts) = (each * 2 / 5, 1);
            // hickory's cache would keep whole answers, of up to 64 kB, and no failures.
            options.cache_size = 0;
            let resolver = Resolver::builder_with_config(config, self.sockets.clone());
            let built = resolver.with_options(options).build();
            built
                .inspect_err(|err| tracing::warn!(%err, "a name server cannot be used"))
                .ok()
        });
        resolvers.collect()
    }
}

/// Returns how long to wait for each of `servers` name servers.
fn share_of(patience: Duration, servers: usize) -> Duration {
    patience / u32::try_from(servers.max(1)).unwrap_or(u32::MAX)
}

/// Returns a configuration that names one name server, over UDP and TCP.
fn only(address: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

/// Asks one name server after the other until one answers; that the name does not exist is an answer too. Returns the
/// addresses and their time to live.
pub(super) async fn ask(
    servers: &[Resolver<Sockets>],
    name: &str,
    patience: Duration,
) -> Result<(Vec<IpAddr>, Duration), Unresolved> {
    let Ok(name) = rr::Name::from_ascii(name) else {
        return Err(Unresolved::Unknown);
    };
    let each = share_of(patience, servers.len());
    let mut failure = Unresolved::NotInTime;
    for server in servers {
        failure = match timeout(each, ask_one(server, &name)).await {
            Ok(Ok(found)) => {
                let kept = found.valid_until().saturating_duration_since(std::time::Instant::now());
                return Ok((found.iter().collect(), kept));
            }
            Ok(Err(err)) if err.is_no_records_found() => return Err(Unresolved::Unknown),
            Ok(Err(NetError::Timeout | NetError::NoConnections)) | Err(_) => Unresolved::NotInTime,
            Ok(Err(err)) => Unresolved::Refused(err.to_string()),
        };
    }
    Err(failure)
}

/// Asks one name server for a name's IPv4 and IPv6 addresses. Once the IPv4 ones are there, waits for the others for
/// one more second.
async fn ask_one(server: &Resolver<Sockets>, name: &rr::Name) -> Result<LookupIp, NetError> {
    // Both lookups want the IPv4 addresses; the resolver sends one question for them.
    let mut both = pin!(server.lookup_ip(name.clone()));
    let ipv4 = tokio::select! {
        biased;
        found = &mut both => return found,
        found = server.lookup(name.clone(), RecordType::A) => found,
    };
    match ipv4 {
        Ok(ipv4) if !ipv4.answers().is_empty() => match timeout(SECOND_KIND, both).await {
            Ok(Ok(found)) => Ok(found),
            _ => Ok(ipv4.into()),
        },
        _ => both.await,
    }
}

/// Returns whether this machine has run out of file descriptors, memory or buffers, which is not a receiver's fault.
/// Local ports (EADDRNOTAVAIL) do not count: a machine without IPv6 gives the same error for each IPv6 address.
pub(super) fn is_shortage(err: &io::Error) -> bool {
    err.raw_os_error().is_some_and(|number| SHORTAGES.contains(&number))
}

/// Locks a mutex, even if a task panicked while it held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_this_machine_had_no_descriptor_for_is_noted() {
        let sockets = Sockets::default();
        let open = |number| sockets.note_shortage(ready(Err::<(), _>(io::Error::from_raw_os_error(number))).boxed());
        let begun = Instant::now();
        open(111).await.unwrap_err();
        assert_eq!(sockets.shortage_since(begun), None, "a refused connection is none");
        open(24).await.unwrap_err();
        assert_eq!(sockets.shortage_since(begun), Some(24));
        assert_eq!(
            sockets.shortage_since(Instant::now() + Duration::from_secs(1)),
            None,
            "it was before"
        );
    }
}
