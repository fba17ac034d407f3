//! Connections, scripts and the subscription. Only this file knows the Redis client.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client as FredClient, SubscriberClient};
use fred::error::{Error as FredError, ErrorKind as FredErrorKind};
use fred::interfaces::{ClientLike, EventInterface, LuaInterface, PubsubInterface};
use fred::socket2::TcpKeepalive;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, TcpConfig,
    UnresponsiveConfig,
};
use fred::types::{InfoKind, Message, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, JoinHandle};
use webhook_core::{Error, ErrorKind, Result};

use crate::reply::{Answer, Reply, UnexpectedReply};
use crate::script::Script;

/// The longest pause between two attempts to connect.
const MAX_RECONNECT_DELAY_MS: u32 = 5_000;
/// How many commands may wait for a connection; those beyond fail at once.
const MAX_WAITING_COMMANDS: usize = 8_192;
/// A command whose connection broke is sent once more: every script may run twice.
const ATTEMPTS: u32 = 2;
/// When a connection on which nothing happens is asked by the operating system whether it still is one.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How many commands in a row may stay without an answer before their connection is given up.
const SILENCES: u32 = 2;

/// When a subscription that failed is tried again.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(5);

/// Codes of server errors that pass: while it loads, fails over, is full or busy.
const PASSING: [&str; 10] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
];

/// Where to connect to, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) command: Duration,
}

/// Connections to one server, to the primary behind sentinels, or to a cluster.
///
/// They are kept, however often they break, until this is dropped.
pub(crate) struct Client {
    commands: FredClient,
    subscriber: SubscriberClient,
    connections: Vec<AbortHandle>,
    /// Commands without an answer since the last that had one, by their first key.
    silences: Mutex<HashMap<String, u32>>,
}

/// What a [`Subscription`] tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message.
    Message(Bytes),
    /// Messages may have been missed: the connection is lost or new, or they came too fast.
    Gap,
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidConfig(pub(crate) &'static str);

impl Client {
    /// Neither connects nor needs a server.
    pub(crate) fn new(url: &str, timeouts: Timeouts) -> Result<Self> {
        let config = config(url)?;
        warn_of_plaintext(&config, url);
        let (performance, connection) = (performance(timeouts), connection(timeouts));
        let policy = ReconnectPolicy::new_exponential(0, 100, MAX_RECONNECT_DELAY_MS, 2);
        let commands = FredClient::new(
            config.clone(),
            Some(performance.clone()),
            Some(connection.clone()),
            Some(policy.clone()),
        );
        let subscriber =
            SubscriberClient::new(config, Some(performance), Some(connection), Some(policy));
        Ok(Self {
            commands,
            subscriber,
            connections: Vec::new(),
            silences: Mutex::default(),
        })
    }

    pub(crate) fn is_clustered(&self) -> bool {
        self.commands.is_clustered()
    }

    /// A name that no other client has.
    pub(crate) fn name(&self) -> &str {
        self.commands.id()
    }

    /// Connects, and goes on trying in the background when `patience` is over.
    pub(crate) async fn connect(&mut self, patience: Duration) -> Result<()> {
        let (commands, subscriber) = (self.commands.clone(), self.subscriber.clone());
        // Waits are polled first, so that they hear of what the tasks then do.
        let both = async {
            tokio::try_join!(
                commands.wait_for_connect(),
                subscriber.wait_for_connect(),
                async {
                    let tasks = [
                        tokio::spawn(keep_connected(self.commands.clone())),
                        tokio::spawn(keep_connected(self.subscriber.clone())),
                    ];
                    self.connections
                        .extend(tasks.iter().map(JoinHandle::abort_handle));
                    Ok(())
                }
            )
        };
        match tokio::time::timeout(patience, both).await {
            Ok(Err(error)) if *error.kind() == FredErrorKind::Config => Err(rejected(error)),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "Redis cannot be reached yet");
                Ok(())
            }
            Err(_) => {
                tracing::warn!("Redis cannot be reached yet");
                Ok(())
            }
        }
    }

    /// Runs a script. A server that does not know it, after a restart or a failover, is sent its text.
    pub(crate) async fn run(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Bytes>,
    ) -> Result<Answer> {
        let first = keys.first().cloned().unwrap_or_default();
        let known: Result<Value, FredError> = self
            .commands
            .evalsha(script.sha1.as_str(), keys.clone(), args.clone())
            .await;
        let reply = match known {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                self.commands.eval(script.text, keys, args).await
            }
            reply => reply,
        };
        self.hear(first, &reply);
        let reply = reply.map_err(|error| failed(script.name, error))?;
        Answer::try_from(Reply::from(reply)).map_err(|error| broken(script.name, error))
    }

    /// Has connections made anew whose server does not answer any more. The client does so by itself only where
    /// nothing is sent for a while, and where there is work something always is.
    fn hear(&self, key: String, reply: &Result<Value, FredError>) {
        let is_silent = reply
            .as_ref()
            .is_err_and(|error| *error.kind() == FredErrorKind::Timeout);
        let mut silences = self.silences.lock().unwrap_or_else(PoisonError::into_inner);
        // While there is no connection, commands wait for one.
        if !is_silent || !self.commands.is_connected() {
            silences.remove(&key);
            return;
        }
        let silent = silences.entry(key).or_default();
        *silent += 1;
        if *silent >= SILENCES {
            silences.clear();
            tracing::warn!("Redis does not answer: connecting anew");
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.force_reconnection().await.ok() });
        }
    }

    /// Listens to a channel. Must be called before `connect`, so that it hears of the first connection.
    pub(crate) fn subscription(&self, channel: String) -> Subscription {
        Subscription {
            subscriber: self.subscriber.clone(),
            commands: self.commands.clone(),
            messages: self.subscriber.message_rx(),
            subscriber_connects: self.subscriber.reconnect_rx(),
            command_connects: self.commands.reconnect_rx(),
            failures: self.commands.error_rx(),
            channel,
            subscribed: true,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.abort();
        }
    }
}

/// Messages of a channel, and gaps in them.
pub(crate) struct Subscription {
    subscriber: SubscriberClient,
    commands: FredClient,
    messages: Receiver<Message>,
    subscriber_connects: Receiver<Server>,
    command_connects: Receiver<Server>,
    failures: Receiver<(FredError, Option<Server>)>,
    channel: String,
    /// Whether the last attempt to subscribe succeeded.
    subscribed: bool,
}

impl Subscription {
    /// The next thing heard; `None` when the client is gone.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        let received = tokio::select! {
            message = self.messages.recv() => message.map(|message| {
                Heard::Message(message.value.into_bytes().unwrap_or_default())
            }),
            connected = self.subscriber_connects.recv() => {
                self.subscribe().await;
                connected.map(|_| Heard::Gap)
            }
            () = tokio::time::sleep(SUBSCRIBE_PAUSE), if !self.subscribed => {
                self.subscribe().await;
                Ok(Heard::Gap)
            }
            connected = self.command_connects.recv() => {
                if let Ok(server) = &connected {
                    self.check_eviction(server).await;
                }
                connected.map(|_| Heard::Gap)
            }
            failure = self.failures.recv() => failure.map(|(error, _)| {
                tracing::warn!(%error, "the connection to Redis failed");
                Heard::Gap
            }),
        };
        match received {
            Ok(heard) => Some(heard),
            Err(RecvError::Lagged(_)) => Some(Heard::Gap),
            Err(RecvError::Closed) => None,
        }
    }

    async fn subscribe(&mut self) {
        let subscribed = self.subscriber.subscribe(self.channel.as_str()).await;
        if let Err(error) = &subscribed {
            tracing::warn!(%error, "Redis refuses the subscription; ready jobs are found by polling");
        }
        self.subscribed = subscribed.is_ok();
    }

    /// Warns of a server that is told to forget.
    async fn check_eviction(&self, server: &Server) {
        let info: Result<String, FredError> = if self.commands.is_clustered() {
            let node = self.commands.with_cluster_node(server);
            node.info(Some(InfoKind::Memory)).await
        } else {
            self.commands.info(Some(InfoKind::Memory)).await
        };
        match info.as_deref().map(evicts) {
            Ok(Some(policy)) => tracing::warn!(
                %server,
                policy,
                "Redis may evict waiting jobs: set maxmemory-policy to noeviction"
            ),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%server, %error, "cannot tell whether Redis may evict waiting jobs");
            }
        }
    }
}

/// Keeps a client's connections alive. The client reconnects by itself; should it ever give up, it is told to
/// begin again.
async fn keep_connected(client: impl ClientLike) {
    loop {
        let mut connection = AbortOnDrop(client.connect());
        let ended = (&mut connection.0).await;
        tracing::warn!(?ended, "the connection to Redis ended; connecting again");
        tokio::time::sleep(Duration::from_millis(MAX_RECONNECT_DELAY_MS.into())).await;
    }
}

struct AbortOnDrop(JoinHandle<Result<(), FredError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn warn_of_plaintext(config: &Config, url: &str) {
    if !without_tls(url).1
        && let Some(server) = config.server.hosts().iter().find(|it| !is_local(&it.host))
    {
        tracing::warn!(
            %server,
            "the password, tenants and limits go to Redis unencrypted: use a rediss URL"
        );
    }
}

fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let is_loopback = |ip: IpAddr| ip.is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

fn config(url: &str) -> Result<Config> {
    let (plain, uses_tls) = without_tls(url);
    let mut config = Config::from_url(&plain).map_err(rejected)?;
    config.fail_fast = false;
    if uses_tls {
        secure(&mut config)?;
    }
    Ok(config)
}

/// A URL as if it were one without TLS, and whether it is one with: the client's own way to set up TLS would need
/// a default crypto provider in the process.
fn without_tls(url: &str) -> (Cow<'_, str>, bool) {
    for (secure, plain) in [("rediss", "redis"), ("valkeys", "valkey")] {
        if let Some(rest) = url.strip_prefix(secure) {
            return (format!("{plain}{rest}").into(), true);
        }
    }
    (url.into(), false)
}

#[cfg(feature = "tls-rustls")]
fn secure(config: &mut Config) -> Result<()> {
    config.tls = Some(crate::tls::config().map_err(rejected)?);
    Ok(())
}

#[cfg(not(feature = "tls-rustls"))]
fn secure(_: &mut Config) -> Result<()> {
    let what = "a URL with TLS needs the feature `tls-rustls`";
    Err(rejected(InvalidConfig(what)))
}

fn performance(timeouts: Timeouts) -> PerformanceConfig {
    PerformanceConfig {
        default_command_timeout: timeouts.command,
        broadcast_channel_capacity: 1_024,
        ..PerformanceConfig::default()
    }
}

fn connection(timeouts: Timeouts) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: timeouts.connect,
        internal_command_timeout: timeouts.command,
        max_command_attempts: ATTEMPTS,
        max_command_buffer_len: MAX_WAITING_COMMANDS,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(timeouts.command.saturating_mul(2)),
            interval: timeouts.command,
        },
        tcp: TcpConfig {
            nodelay: Some(true),
            keepalive: Some(TcpKeepalive::new().with_time(KEEPALIVE)),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    }
}

/// The eviction policy of a server that may forget; from what `INFO memory` says.
fn evicts(info: &str) -> Option<&str> {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
    field("maxmemory_policy").filter(|policy| limited && *policy != "noeviction")
}

pub(crate) fn rejected(source: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Rejected, "connect").with_source(source)
}

pub(crate) fn broken(operation: &'static str, source: UnexpectedReply) -> Error {
    Error::new(ErrorKind::Internal, operation).with_source(source)
}

fn failed(operation: &'static str, error: FredError) -> Error {
    let passes = match error.kind() {
        FredErrorKind::IO
        | FredErrorKind::Timeout
        | FredErrorKind::Canceled
        | FredErrorKind::Cluster
        | FredErrorKind::Sentinel
        | FredErrorKind::Routing
        | FredErrorKind::Backpressure
        | FredErrorKind::Protocol => true,
        FredErrorKind::Unknown => server_code(&error).is_none_or(|code| PASSING.contains(&code)),
        _ => false,
    };
    let kind = if passes {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Internal
    };
    Error::new(kind, operation).with_source(error)
}

/// The code with which a server begins an error; `None` for one that the client found.
fn server_code(error: &FredError) -> Option<&str> {
    let code = error.details().split(' ').next()?;
    let is_code = code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then_some(code)
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(int) => Self::Int(int),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::String(text) => Self::Bytes(text.into_inner()),
            Value::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_evicts_is_recognised() {
        let info = |bytes, policy| {
            format!("# Memory\r\nmaxmemory:{bytes}\r\nmaxmemory_policy:{policy}\r\n")
        };
        assert_eq!(evicts(&info(1_000, "allkeys-lru")), Some("allkeys-lru"));
        assert_eq!(evicts(&info(1_000, "noeviction")), None);
        assert_eq!(evicts(&info(0, "allkeys-lru")), None);
        assert_eq!(evicts(""), None);
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_do_not() {
        let kind = |kind, text| failed("claim", FredError::new(kind, text)).kind();
        for text in [
            "Failed to route command.",
            "OOM command not allowed",
            "LOADING Redis is loading",
            "READONLY You can't write",
        ] {
            assert_eq!(
                kind(FredErrorKind::Unknown, text),
                ErrorKind::Unavailable,
                "{text}"
            );
        }
        assert_eq!(kind(FredErrorKind::Timeout, ""), ErrorKind::Unavailable);
        assert_eq!(
            kind(FredErrorKind::Unknown, "ERR user_script:1"),
            ErrorKind::Internal
        );
        assert_eq!(
            kind(FredErrorKind::InvalidArgument, "WRONGTYPE"),
            ErrorKind::Internal
        );
    }
}
