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
    /// How often closed and expired connections are looked for, at least.
    const SWEEP: Duration = Duration::from_secs(5);

    pub(super) fn new(idle_timeout: Duration, max_per_host: usize) -> Self {
        Self {
            idle_timeout,
            max_per_host,
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
        let _closed_unlocked = shared.push(origin, Idle { connection, since }, self.max_per_host);
        self.keep_swept(&mut shared);
        drop(shared);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_swept(self: &Arc<Self>, shared: &mut Shared) {
        // One that ended with its runtime has left connections behind.
        let is_alive = |it: &JoinHandle<()>| !it.is_finished();
        if !shared.sweeper.as_ref().is_some_and(is_alive) {
            let every = self.idle_timeout.min(Self::SWEEP);
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

    /// Answers what has to go for it.
    fn push(&mut self, origin: &str, idle: Idle, max_per_host: usize) -> Option<Idle> {
        let host = self.hosts.entry_ref(origin).or_default();
        host.push_back(idle);
        self.connections += 1;
        let goes = if host.len() > max_per_host {
            host.pop_front()
        } else if self.connections > Pool::MAX_CONNECTIONS {
            let some = self.hosts.values_mut().filter(|host| !host.is_empty());
            let oldest = some
                .take(Pool::LOOKED_AT)
                .min_by_key(|host| host.front().map(|idle| idle.since));
            oldest.and_then(VecDeque::pop_front)
        } else {
            None
        };
        self.connections -= usize::from(goes.is_some());
        goes
    }
}
