//! Connections that wait for their next request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::Connection;

/// Unused connections by origin (`https://host:port`), the last used one first out.
pub(super) struct Pool {
    idle_timeout: Duration,
    max_per_host: usize,
    max_connections: usize,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    hosts: HashMap<Box<str>, VecDeque<Idle>>,
    /// Of all hosts.
    connections: usize,
    /// Closes what nobody asks for any more. There is one while there are connections.
    sweeper: Option<JoinHandle<()>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Connections of all hosts. Without such a bound many hosts could use up the process's file descriptors.
    const MAX_CONNECTIONS: usize = 1024;
    /// Hosts of which the one with the oldest connection gives that up for a newer one.
    const LOOKED_AT: usize = 16;
    /// How often closed and expired connections are looked for, at most and at least.
    const SWEEPS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

    pub(super) fn new(idle_timeout: Duration, max_per_host: usize) -> Self {
        Self {
            idle_timeout,
            max_per_host,
            max_connections: Self::MAX_CONNECTIONS,
            shared: Mutex::default(),
        }
    }

    /// A connection that would take a request now.
    pub(super) fn take(&self, origin: &str) -> Option<Connection> {
        loop {
            let mut idle = self.shared().pop(origin)?;
            if idle.since.elapsed() >= self.idle_timeout {
                // All others of this host are older.
                let _closed_unlocked = self.shared().remove(origin);
                return None;
            }
            if idle.connection.is_unused() {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection, unless something of its last exchange is left. The oldest ones go if there are too many.
    pub(super) fn put(self: &Arc<Self>, origin: &str, mut connection: Connection) {
        if self.max_per_host == 0 || self.idle_timeout.is_zero() || !connection.is_unused() {
            return;
        }
        let since = Instant::now();
        let mut shared = self.shared();
        let _closed_unlocked = self.push(&mut shared, origin, Idle { connection, since });
        self.keep_swept(&mut shared);
        drop(shared);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what has to go for it.
    fn push(&self, shared: &mut Shared, origin: &str, idle: Idle) -> Option<Idle> {
        let host = shared.hosts.entry_ref(origin).or_default();
        host.push_back(idle);
        shared.connections += 1;
        let goes = if host.len() > self.max_per_host {
            host.pop_front()
        } else if shared.connections > self.max_connections {
            let some = shared.hosts.values_mut().filter(|host| !host.is_empty());
            let oldest = some
                .take(Self::LOOKED_AT)
                .min_by_key(|host| host.front().map(|idle| idle.since));
            oldest.and_then(VecDeque::pop_front)
        } else {
            None
        };
        shared.connections -= usize::from(goes.is_some());
        goes
    }

    fn keep_swept(self: &Arc<Self>, shared: &mut Shared) {
        // One that ended with its runtime has left connections behind.
        let is_alive = |it: &JoinHandle<()>| !it.is_finished();
        if !shared.sweeper.as_ref().is_some_and(is_alive) {
            let [shortest, longest] = Self::SWEEPS;
            let every = self.idle_timeout.clamp(shortest, longest);
            let sweeping = sweep_until_empty(Arc::downgrade(self), every);
            shared.sweeper = Some(tokio::spawn(sweeping));
        }
    }

    /// Closes what is expired or was closed by its receiver, and answers whether anything is left.
    fn sweep(&self) -> bool {
        let mut shared = self.shared();
        let Shared {
            hosts, connections, ..
        } = &mut *shared;
        hosts.retain(|_, host| {
            host.retain_mut(|idle| {
                idle.since.elapsed() < self.idle_timeout && idle.connection.is_unused()
            });
            !host.is_empty()
        });
        *connections = hosts.values().map(VecDeque::len).sum();
        if *connections == 0 {
            shared.sweeper = None;
        }
        shared.connections > 0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = self.shared().sweeper.take() {
            sweeper.abort();
        }
    }
}

async fn sweep_until_empty(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

impl Shared {
    fn pop(&mut self, origin: &str) -> Option<Idle> {
        let newest = self.hosts.get_mut(origin)?.pop_back()?;
        self.connections -= 1;
        Some(newest)
    }

    fn remove(&mut self, origin: &str) -> Option<VecDeque<Idle>> {
        let all = self.hosts.remove(origin)?;
        self.connections -= all.len();
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::super::stream::Stream;
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A connection, and its other end.
    async fn connection() -> (Connection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let near = Connection::over(Stream::Tcp(near.unwrap())).await;
        (near.unwrap(), far.unwrap().0)
    }

    /// Puts one connection of each of these hosts into it, and answers their other ends.
    async fn fill(pool: &Arc<Pool>, origins: &[&str]) -> Vec<TcpStream> {
        let mut others = Vec::new();
        for origin in origins {
            let (near, far) = connection().await;
            pool.put(origin, near);
            others.push(far);
        }
        others
    }

    fn taken(pool: &Pool, origin: &str) -> usize {
        std::iter::from_fn(|| pool.take(origin)).count()
    }

    #[tokio::test]
    async fn a_connection_is_given_out_once_and_to_its_host() {
        let pool = Arc::new(Pool::new(LONG, 9));
        let _open = fill(&pool, &["a", "a", "b"]).await;
        assert_eq!(["a", "b", "c"].map(|it| taken(&pool, it)), [2, 1, 0]);
        assert_eq!(taken(&pool, "a"), 0);
        assert_eq!(pool.shared().connections, 0);
    }

    #[tokio::test]
    async fn no_more_than_so_many_of_a_host_are_kept() {
        for max in [0, 1, 2] {
            let pool = Arc::new(Pool::new(LONG, max));
            let _open = fill(&pool, &["a", "a", "a", "b"]).await;
            assert_eq!(taken(&pool, "a"), max);
            assert_eq!(taken(&pool, "b"), max.min(1));
        }
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_kept_in_all_and_the_oldest_go() {
        let mut pool = Pool::new(LONG, 9);
        pool.max_connections = 3;
        let pool = Arc::new(pool);
        let _open = fill(&pool, &["a", "b", "b", "c", "d"]).await;
        assert_eq!(pool.shared().connections, 3);
        assert_eq!(
            ["a", "b", "c", "d"].map(|it| taken(&pool, it)),
            [0, 1, 1, 1]
        );
    }

    #[tokio::test]
    async fn what_has_expired_is_not_given_out() {
        let mut pool = Pool::new(LONG, 9);
        let (near, _far) = connection().await;
        let since = Instant::now();
        let idle = Idle {
            connection: near,
            since,
        };
        let mut shared = Shared::default();
        pool.push(&mut shared, "a", idle);
        pool.shared = Mutex::new(shared);
        pool.idle_timeout = since.elapsed();
        assert_eq!(taken(&pool, "a"), 0);
        assert_eq!(pool.shared().connections, 0);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_closed() {
        let pool = Arc::new(Pool::new(LONG, 9));
        let mut open = fill(&pool, &["a", "a", "b"]).await;
        assert!(pool.sweep());
        // The receivers close theirs, and that is noticed with the next new one.
        open.truncate(1);
        open.append(&mut fill(&pool, &["c"]).await);
        assert!(pool.sweep());
        assert_eq!(pool.shared().connections, 2);
        drop(open);
        let _noticed = connection().await;
        assert!(!pool.sweep());
        assert!(pool.shared().hosts.is_empty() && pool.shared().sweeper.is_none());
    }
}
