//! Configures and connects a queue.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use webhook_core::Result;

use crate::client::{Client, InvalidConfig, Timeouts, rejected};
use crate::queue::RedisQueue;
use crate::shard::Shards;

/// The shards of a cluster, unless set.
const CLUSTER_SHARDS: usize = 16;
const MAX_SHARDS: usize = 1_024;

/// The settings of a [`RedisQueue`]; from [`RedisQueue::builder`].
#[derive(Clone)]
#[must_use]
pub struct RedisQueueBuilder {
    url: String,
    prefix: String,
    shards: Option<usize>,
    idle_poll: Duration,
    timeouts: Timeouts,
}

/// Does not show the URL, which may hold a password.
impl fmt::Debug for RedisQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueueBuilder")
            .field("prefix", &self.prefix)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl RedisQueueBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "webhook".to_owned(),
            shards: None,
            idle_poll: Duration::from_secs(30),
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                command: Duration::from_secs(2),
            },
        }
    }

    /// The beginning of the names of all keys, and of the channel: `webhook` unless set. Processes that share a store must use
    /// the same prefix. Engines with other stores need other prefixes.
    pub fn key_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The number of shards, 1..=1,024, each in one slot of a cluster. Unless set, it is 1, or 16 in a cluster.
    ///
    /// With more shards, more nodes of a cluster are used. Claims go round the tenants within each shard, and give each shard
    /// that has something to claim the same share. So with more shards, fairness among tenants is coarser. All processes must
    /// use the same number. With a new number the queue begins empty, and the store fills it.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// How long a command may take, connecting included: 2 s unless set.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.command = timeout;
        self
    }

    /// How long an attempt to connect may take, and how long [`connect`](Self::connect) waits for the first one to
    /// succeed: 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect = timeout;
        self
    }

    /// How often an idle process asks Redis although nothing was announced, one shard at a time: 30 s unless set.
    pub fn idle_poll(mut self, every: Duration) -> Self {
        self.idle_poll = every;
        self
    }

    /// Connects. Returns once it is connected, or after the connect timeout. It then goes on to connect in the background.
    ///
    /// # Errors
    /// When the settings cannot work, whatever the server does.
    pub async fn connect(self) -> Result<RedisQueue> {
        self.check()?;
        let mut client = Client::new(&self.url, self.timeouts)?;
        let default_shards = if client.is_clustered() {
            CLUSTER_SHARDS
        } else {
            1
        };
        let count = self.shards.unwrap_or(default_shards);
        let shards = Arc::new(Shards::new(
            &self.prefix,
            count,
            self.idle_poll,
            client.name(),
        ));
        let heard = client.subscription(shards.channel().to_owned());
        client.connect(self.timeouts.connect).await?;
        Ok(RedisQueue::start(Arc::new(client), shards, heard))
    }

    fn check(&self) -> Result<()> {
        let is_plain = |c: char| c.is_ascii_graphic() && !"{}".contains(c);
        if self.prefix.is_empty() || !self.prefix.chars().all(is_plain) {
            let what = "a key prefix is of visible ASCII characters, without braces";
            return Err(rejected(InvalidConfig(what)));
        }
        if !(1..=MAX_SHARDS).contains(&self.shards.unwrap_or(1)) {
            return Err(rejected(InvalidConfig("there are 1 to 1,024 shards")));
        }
        if self.timeouts.command.is_zero() || self.timeouts.connect.is_zero() {
            return Err(rejected(InvalidConfig("a timeout is longer than nothing")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::RedisQueue;

    #[test]
    fn debug_shows_no_password() {
        let builder = RedisQueue::builder("redis://app:s3cret@localhost:6379").key_prefix("shop");
        let shown = format!("{builder:?}");
        assert!(
            shown.contains("shop") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
