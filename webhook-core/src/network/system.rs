//! The operating system's resolver, which cannot be told to stop.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};

use super::resolve::Resolve;

/// The operating system's resolver (`getaddrinfo`).
///
/// It blocks a thread for each look-up and cannot be told to stop. So at most
/// [`MAX_LOOKUPS`](Self::MAX_LOOKUPS) run at a time, those counted in that nobody waits for any more:
/// names whose servers never answer cannot use up the runtime's blocking threads.
///
/// Nor can they keep others from being looked up: a name is looked up once at a time, whoever asks for it meanwhile
/// waits for that answer, and of the names below one domain (`example.com`, `example.co.uk`) at most
/// [`MAX_OF_DOMAIN`](Self::MAX_OF_DOMAIN) are looked up at a time. Half of all places are for one name of each domain: a
/// few domains that hang can take the other half, and then one place each. A look-up that cannot begin within some time
/// because too many others run says nothing of its endpoint: the attempt fails as one of
/// [ours](crate::Failure::is_ours).
#[derive(Clone)]
pub struct SystemResolver {
    lookups: Arc<Lookups>,
    /// How long a look-up waits for others to end.
    patience: Duration,
}

/// Too many look-ups run for one more to begin.
#[derive(Debug, thiserror::Error)]
#[error("too many names are being looked up at this time")]
pub(crate) struct NoPermit;

struct Lookups {
    ask: Box<Ask>,
    /// The places that a domain may have several of.
    shared: Arc<Semaphore>,
    /// Those of which each domain has at most one.
    spread: Arc<Semaphore>,
    known: Mutex<Known>,
}

type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// An answer that several wait for.
type Answer = Shared<BoxFuture<'static, Result<Vec<IpAddr>, Arc<io::Error>>>>;

#[derive(Default)]
struct Known {
    /// By name, what runs, whether somebody waits for it or not.
    running: HashMap<String, Answer>,
    /// Each domain of which something runs, and perhaps some more.
    domains: HashMap<String, Domain>,
}

#[derive(Clone)]
struct Domain {
    lookups: Arc<Semaphore>,
    /// Whether it has one of the places of which each domain has at most one.
    spread: Arc<Semaphore>,
}

/// What a look-up holds while it runs: one of the domain's look-ups, and a place.
type Permits = (OwnedSemaphorePermit, Place);

#[expect(dead_code, reason = "they are held")]
enum Place {
    Shared(OwnedSemaphorePermit),
    /// The domain's only one, and one of all.
    Spread(OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl SystemResolver {
    /// Look-ups at a time. The runtime has 512 blocking threads by default.
    pub const MAX_LOOKUPS: usize = 128;
    /// Of these, those of one domain.
    pub const MAX_OF_DOMAIN: usize = 16;
    /// Of these, those of which a domain may have several.
    const SHARED: usize = Self::MAX_LOOKUPS / 2;

    /// One whose look-ups wait so long for others to end. By default that is 2 s.
    #[must_use]
    pub fn with_patience(patience: Duration) -> Self {
        let ask = |name: &str| {
            let addresses = (name, 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        };
        Self::asking(ask, patience)
    }

    fn asking(
        ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
        patience: Duration,
    ) -> Self {
        let lookups = Lookups {
            ask: Box::new(ask),
            shared: Arc::new(Semaphore::new(Self::SHARED)),
            spread: Arc::new(Semaphore::new(Self::MAX_LOOKUPS - Self::SHARED)),
            known: Mutex::default(),
        };
        Self {
            lookups: Arc::new(lookups),
            patience,
        }
    }

    /// First one of the domain's look-ups, for which it waits as long as its caller does, as only the domain itself can
    /// hold it up there.
    async fn permits(&self, name: &str) -> io::Result<Permits> {
        let domain = self.lookups.known().domain(domain(name));
        let of_domain = Arc::clone(&domain.lookups).acquire_owned().await;
        let place = tokio::time::timeout(self.patience, self.lookups.place(domain)).await;
        let place = place.map_err(|_| io::Error::other(NoPermit))?;
        let place = place.map_err(io::Error::other)?;
        Ok((of_domain.map_err(io::Error::other)?, place))
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::with_patience(Duration::from_secs(2))
    }
}

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemResolver")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let running = self.lookups.known().running.get(name).cloned();
        let answer = match running {
            Some(answer) => answer,
            None => self.lookups.begin(name, self.permits(name).await?),
        };
        let answer = answer.await;
        answer.map_err(|error| io::Error::new(error.kind(), error))
    }
}

impl Lookups {
    /// Whichever place comes free first.
    async fn place(&self, domain: Domain) -> Result<Place, AcquireError> {
        let shared = Arc::clone(&self.shared).acquire_owned();
        let spread = async {
            let own = domain.spread.acquire_owned().await?;
            let of_all = Arc::clone(&self.spread).acquire_owned().await?;
            Ok(Place::Spread(own, of_all))
        };
        tokio::select! {
            biased;
            shared = shared => shared.map(Place::Shared),
            spread = spread => spread,
        }
    }

    /// Looks `name` up on a thread of its own, unless that has begun meanwhile.
    fn begin(self: &Arc<Self>, name: &str, permits: Permits) -> Answer {
        let (tell, told) = oneshot::channel();
        let answer = async move {
            let answer = told.await.map_err(io::Error::other);
            answer.flatten().map_err(Arc::new)
        };
        let answer = answer.boxed().shared();
        match self.known().running.entry(name.to_owned()) {
            Entry::Occupied(running) => return running.get().clone(),
            Entry::Vacant(place) => place.insert(answer.clone()),
        };
        let ending = Ending {
            lookups: Arc::clone(self),
            name: name.to_owned(),
            _permits: permits,
        };
        // Not under the lock, for which its end waits: a runtime that shuts down ends it here and now.
        tokio::task::spawn_blocking(move || {
            let answer = (ending.lookups.ask)(&ending.name);
            drop(ending);
            tell.send(answer).ok();
        });
        answer
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// More than this many domains are not remembered if nothing of them runs.
    const MAX_DOMAINS: usize = 2 * SystemResolver::MAX_LOOKUPS;

    fn domain(&mut self, name: &str) -> Domain {
        if let Some(domain) = self.domains.get(name) {
            return domain.clone();
        }
        if self.domains.len() >= Self::MAX_DOMAINS {
            self.domains
                .retain(|_, it| Arc::strong_count(&it.lookups) > 1);
        }
        let domain = Domain {
            lookups: Arc::new(Semaphore::new(SystemResolver::MAX_OF_DOMAIN)),
            spread: Arc::new(Semaphore::new(1)),
        };
        self.domains.insert(name.to_owned(), domain.clone());
        domain
    }
}

/// What is over when a look-up's thread is free again.
struct Ending {
    lookups: Arc<Lookups>,
    name: String,
    _permits: Permits,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.lookups.known().running.remove(&self.name);
    }
}

/// Second labels below which countries let names be registered, as in `co.uk`. That a label is short says nothing: whoever
/// owns `x7q.ch` would have a domain in each of its hosts. Where one is missing here, names only wait for more others.
const REGISTRIES: &[&str] = &[
    "ac", "co", "com", "edu", "go", "gob", "gouv", "gov", "govt", "ltd", "me", "mil", "ne", "net",
    "nhs", "nom", "or", "org", "plc", "sch",
];

/// The part of a name that its owner has registered, or about that: the last two labels, or three where the last ones
/// are as those of `co.uk` are. Nobody is refused by it: names that share one only wait for each other.
fn domain(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let (last, second, third) = (dots.next(), dots.next(), dots.next());
    let start = match (last, second) {
        (Some(last), Some(second))
            if name.len() - last - 1 == 2 && REGISTRIES.contains(&&name[second + 1..last]) =>
        {
            third
        }
        _ => second,
    };
    start.map_or(name, |dot| &name[dot + 1..])
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Servers that answer for names below `.silent` once they are opened, and for all others at once.
    #[derive(Clone, Default)]
    struct Servers(Arc<(Mutex<bool>, Condvar, AtomicUsize)>);

    impl Servers {
        fn open(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }

        fn asked(&self) -> usize {
            self.0.2.load(Ordering::SeqCst)
        }

        /// A resolver that asks them, and what hears of each name when its look-up begins.
        fn resolver(&self, patience: Duration) -> (SystemResolver, UnboundedReceiver<String>) {
            let (begun, begins) = unbounded_channel();
            let servers = self.clone();
            let ask = move |name: &str| {
                let (is_open, opened, asked) = &*servers.0;
                asked.fetch_add(1, Ordering::SeqCst);
                begun.send(name.to_owned()).unwrap();
                if name.ends_with(".silent.") {
                    let waiting = is_open.lock().unwrap();
                    drop(opened.wait_while(waiting, |is_open| !*is_open).unwrap());
                }
                Ok(vec![LOOPBACK])
            };
            (SystemResolver::asking(ask, patience), begins)
        }
    }

    /// Whatever a test does, its threads end.
    impl Drop for Servers {
        fn drop(&mut self) {
            self.open();
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn the_system_resolver_finds_loopback() {
        let found = SystemResolver::default().resolve("localhost").await;
        assert!(found.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[tokio::test]
    async fn a_domain_that_hangs_takes_its_share_and_no_more() {
        let servers = Servers::default();
        let (resolver, mut begins) = servers.resolver(LONG);
        let names = (0..200).map(|n| format!("{n}.evil.silent."));
        let hung = names.map(|name| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&name).await })
        });
        let hung: Vec<_> = hung.collect();
        for _ in 0..SystemResolver::MAX_OF_DOMAIN {
            begins.recv().await.unwrap();
        }
        let found = resolver.resolve("hooks.example.com.").await;
        assert_eq!(found.unwrap(), [LOOPBACK]);
        assert_eq!(servers.asked(), SystemResolver::MAX_OF_DOMAIN + 1);
        servers.open();
        for found in join_all(hung).await {
            assert_eq!(found.unwrap().unwrap(), [LOOPBACK]);
        }
        let known = resolver.lookups.known();
        assert!(known.running.is_empty());
    }

    #[tokio::test]
    async fn several_domains_that_hang_leave_places_to_the_others() {
        let servers = Servers::default();
        let (resolver, mut begins) = servers.resolver(LONG);
        let domains = 2 * SystemResolver::SHARED / SystemResolver::MAX_OF_DOMAIN;
        let names = (0..domains).flat_map(|domain| {
            let names = 0..2 * SystemResolver::MAX_OF_DOMAIN;
            names.map(move |n| format!("{n}.evil{domain}.silent."))
        });
        let hung = names.map(|name| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&name).await })
        });
        let hung: Vec<_> = hung.collect();
        // The first domains have all they may have there; each of the others gets one place.
        let first = SystemResolver::SHARED / SystemResolver::MAX_OF_DOMAIN;
        let taken = SystemResolver::SHARED + domains - first;
        for _ in 0..taken {
            begins.recv().await.unwrap();
        }
        for n in 0..10 {
            let name = format!("hooks.well{n}.example.");
            assert_eq!(resolver.resolve(&name).await.unwrap(), [LOOPBACK]);
        }
        assert_eq!(servers.asked(), taken + 10);
        servers.open();
        for found in join_all(hung).await {
            assert_eq!(found.unwrap().unwrap(), [LOOPBACK]);
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_who_ask_even_when_the_first_has_gone() {
        let servers = Servers::default();
        let (resolver, mut begins) = servers.resolver(LONG);
        let first = tokio::spawn({
            let resolver = resolver.clone();
            async move { resolver.resolve("hooks.silent.").await }
        });
        begins.recv().await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let mut others: Vec<_> = (0..20).map(|_| resolver.resolve("hooks.silent.")).collect();
        for other in &mut others {
            assert!(other.now_or_never().is_none());
        }
        servers.open();
        for found in join_all(others).await {
            assert_eq!(found.unwrap(), [LOOPBACK]);
        }
        assert_eq!(servers.asked(), 1);
    }

    #[test]
    fn a_lookup_that_begins_in_a_runtime_that_is_over_fails_and_leaves_nothing_behind() {
        let servers = Servers::default();
        let (resolver, _begins) = servers.resolver(LONG);
        let over = runtime();
        let handle = over.handle().clone();
        over.shutdown_background();
        {
            let _entered = handle.enter();
            let found = resolver.resolve("hooks.example.com.").now_or_never();
            found.unwrap().unwrap_err();
        }
        assert_eq!(servers.asked(), 0);
        assert!(resolver.lookups.known().running.is_empty());
        let found = runtime().block_on(resolver.resolve("hooks.example.com."));
        assert_eq!(found.unwrap(), [LOOPBACK]);
    }

    #[test]
    fn a_lookup_ends_for_all_who_wait_though_the_runtime_where_it_began_is_over() {
        let servers = Servers::default();
        let (resolver, mut begins) = servers.resolver(LONG);
        let first = runtime();
        let asks = resolver.clone();
        first.spawn(async move { asks.resolve("hooks.silent.").await });
        let other = runtime();
        other.block_on(begins.recv()).unwrap();
        let mut waiting = resolver.resolve("hooks.silent.");
        assert!((&mut waiting).now_or_never().is_none());
        first.shutdown_background();
        servers.open();
        assert_eq!(other.block_on(waiting).unwrap(), [LOOPBACK]);
        assert_eq!(servers.asked(), 1);
        assert!(resolver.lookups.known().running.is_empty());
    }

    fn runtime() -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build();
        runtime.unwrap()
    }

    #[tokio::test]
    async fn a_lookup_that_gets_no_permit_in_time_says_so() {
        let servers = Servers::default();
        let (resolver, _begins) = servers.resolver(Duration::ZERO);
        let Lookups { shared, spread, .. } = &*resolver.lookups;
        let all = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_many_owned(64).unwrap();
        let taken = (all(shared), all(spread));
        let error = resolver.resolve("hooks.example.com.").await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<NoPermit>());
        assert_eq!(servers.asked(), 0);
        drop(taken);
        assert!(resolver.resolve("hooks.example.com.").await.is_ok());
    }

    #[test]
    fn what_is_not_in_use_of_domains_is_forgotten() {
        let mut known = Known::default();
        let _in_use = known.domain("kept.example");
        for n in 0..1_000 {
            known.domain(&format!("{n}.example"));
        }
        assert!(known.domains.len() <= Known::MAX_DOMAINS);
        assert!(known.domains.contains_key("kept.example"));
    }

    #[test]
    fn names_of_one_owner_have_one_domain() {
        for (name, expected) in [
            ("hooks.example.com.", "example.com"),
            ("a.b.c.example.com.", "example.com"),
            ("example.com", "example.com"),
            ("localhost.", "localhost"),
            ("hooks.example.co.uk.", "example.co.uk"),
            ("example.co.uk.", "example.co.uk"),
            ("co.uk.", "co.uk"),
            ("hooks.example.io.", "example.io"),
            ("a.hooks.t.co.", "t.co"),
            ("1.x7q.ch.", "x7q.ch"),
            ("128.x7q.ch.", "x7q.ch"),
            ("a.b.bmw.de.", "bmw.de"),
            ("a.hooks.example.com.au.", "example.com.au"),
            ("hooks.example.or.jp.", "example.or.jp"),
            ("hooks.example.gouv.fr.", "example.gouv.fr"),
            ("hooks.co.example.", "co.example"),
            ("hooks.example.co.", "example.co"),
            (".", ""),
            ("", ""),
        ] {
            assert_eq!(domain(name), expected, "{name}");
        }
    }
}
