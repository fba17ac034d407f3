//! The environment variables: each with its default, all checked before anything starts.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::Targets;

use crate::value::{Memory, Networks, Schedule, address, log_filter, seconds, whole};

/// The webhook delivery engine as a service of its own: the HTTP API, and the worker that delivers.
///
/// Every setting is an environment variable, or the option of the same name. A wrong one stops the start.
/// This build keeps everything in memory: what is accepted lives as long as the process.
#[derive(Debug, Parser)]
#[command(name = "platform", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Where the API listens; 0 takes a free port, which the first line of the output tells
    #[arg(long, env = "PORT", value_name = "PORT", default_value_t = 8000,
          value_parser = |text: &str| whole(text, 0..=u16::MAX))]
    port: u16,
    /// The address it listens on
    #[arg(long, env = "BIND", value_name = "BIND", default_value = "127.0.0.1",
          value_parser = address)]
    bind: IpAddr,

    /// Where events are kept: `memory:` is all that this build has; the default, a file with SQLite, stops
    /// the start, as other stores do [default: none]
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "DATABASE_URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// The database's host, instead of DATABASE_URL; stops the start of this build [default: none]
    #[arg(long, env = "DB_HOST", value_name = "DB_HOST")]
    db_host: Option<String>,
    /// The database's port, instead of DATABASE_URL; stops the start of this build [default: none]
    #[arg(long, env = "DB_PORT", value_name = "DB_PORT")]
    db_port: Option<String>,
    /// The database's name, instead of DATABASE_URL; stops the start of this build [default: none]
    #[arg(long, env = "DB_NAME", value_name = "DB_NAME")]
    db_name: Option<String>,
    /// The database's user, instead of DATABASE_URL; stops the start of this build [default: none]
    #[arg(long, env = "DB_USER", value_name = "DB_USER")]
    db_user: Option<String>,
    /// That user's password, instead of DATABASE_URL; stops the start of this build [default: none]
    #[arg(
        long,
        env = "DB_PASSWORD",
        value_name = "DB_PASSWORD",
        hide_env_values = true
    )]
    db_password: Option<String>,
    /// A queue beside the store; stops the start of this build [default: none]
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "REDIS_URL",
        hide_env_values = true
    )]
    redis_url: Option<String>,

    /// The bearer token of the API; may be unset on a loopback address only, which leaves the API open
    /// [default: none]
    #[arg(
        long,
        env = "ADMIN_TOKEN",
        value_name = "ADMIN_TOKEN",
        hide_env_values = true
    )]
    admin_token: Option<String>,
    /// What this process does: the API, the deliveries, or both; a worker answers /health and /ready only
    #[arg(long, env = "ROLE", value_name = "ROLE", value_enum, default_value_t = Role::All)]
    role: Role,

    /// The most attempts at once, 1 to 100000
    #[arg(long, env = "MAX_IN_FLIGHT", value_name = "MAX_IN_FLIGHT", default_value_t = 256,
          value_parser = |text: &str| whole(text, 1..=100_000_usize))]
    max_in_flight: usize,
    /// Whether endpoints may be plain http, where payloads travel in the clear
    #[arg(long, env = "ALLOW_HTTP", value_name = "ALLOW_HTTP", default_value_t = false,
          action = clap::ArgAction::Set)]
    allow_http: bool,
    /// Private networks that endpoints may be in, with commas between: `10.1.0.0/16,127.0.0.0/8`
    #[arg(
        long,
        env = "ALLOW_NETWORKS",
        value_name = "ALLOW_NETWORKS",
        default_value = ""
    )]
    allow_networks: Networks,
    /// A proxy for deliveries; stops the start of this build, which would go round it [default: none]
    #[arg(
        long,
        env = "EGRESS_PROXY",
        value_name = "EGRESS_PROXY",
        hide_env_values = true
    )]
    egress_proxy: Option<String>,
    /// Seconds before each further attempt, with commas between; each is spread by 20 %
    #[arg(
        long,
        env = "RETRY_SCHEDULE",
        value_name = "RETRY_SCHEDULE",
        default_value = "5,300,1800,7200,43200"
    )]
    retry_schedule: Schedule,
    /// Seconds that an attempt may take, the response's body included, 1 to 60
    #[arg(long, env = "REQUEST_TIMEOUT", value_name = "REQUEST_TIMEOUT", default_value = "15",
          value_parser = |text: &str| seconds(text, 1.0..=60.0))]
    request_timeout: Duration,

    /// Days that finished events are kept in a database; memory keeps the last 10000 events instead: ignored
    /// with a warning [default: 30]
    #[arg(long, env = "RETENTION_DAYS", value_name = "RETENTION_DAYS",
          value_parser = |text: &str| whole(text, 1..=3_650_u32))]
    retention_days: Option<u32>,
    /// The key that secrets are stored under, or `plaintext`; memory stores nothing: ignored with a warning
    /// [default: none]
    #[arg(
        long,
        env = "ENCRYPTION_KEY",
        value_name = "ENCRYPTION_KEY",
        hide_env_values = true
    )]
    encryption_key: Option<String>,

    /// What is logged to stderr: off, error, warn, info, debug, trace, or by module:
    /// `info,webhook_core=debug`
    #[arg(long, env = "LOG", value_name = "LOG", default_value = "info", value_parser = log_filter)]
    log: Targets,
    /// How it is logged
    #[arg(long, env = "LOG_FORMAT", value_name = "LOG_FORMAT", value_enum,
          default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Where traces go; this build exports none: ignored with a warning [default: none]
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    )]
    otel_exporter_otlp_endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Applies the database's migrations, and exits
    Migrate,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Serves the API and delivers
    All,
    /// Serves the API
    Api,
    /// Delivers
    Worker,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What the process was asked to do.
pub(crate) enum Asked {
    /// Print this.
    Help(String),
    /// Migrate the store.
    Migrate,
    /// Serve.
    Serve(Settings),
}

/// What the variables say, once they are known to make sense together.
pub(crate) struct Settings {
    pub(crate) address: SocketAddr,
    pub(crate) admin_token: Option<String>,
    pub(crate) role: Role,
    pub(crate) max_in_flight: usize,
    pub(crate) allow_http: bool,
    pub(crate) allow_networks: Networks,
    pub(crate) retry_schedule: Schedule,
    pub(crate) request_timeout: Duration,
    pub(crate) log: Targets,
    pub(crate) log_format: LogFormat,
    /// What is set, allowed, and yet not what it seems.
    pub(crate) warnings: Vec<&'static str>,
}

/// A variable whose value stops the start. One line; never the value of one that may hold a secret.
#[derive(Debug)]
pub(crate) struct WrongSetting(String);

impl Settings {
    /// From the environment and the command line.
    pub(crate) fn read() -> Result<Asked, WrongSetting> {
        Self::from(std::env::args_os())
    }

    fn from(args: impl IntoIterator<Item = OsString>) -> Result<Asked, WrongSetting> {
        let arguments = match Arguments::try_parse_from(args) {
            Ok(arguments) => arguments,
            Err(error) if !error.use_stderr() => return Ok(Asked::Help(error.to_string())),
            Err(error) => return Err(WrongSetting::of(&error)),
        };
        arguments.check_store()?;
        match arguments.command {
            Some(Command::Migrate) => Ok(Asked::Migrate),
            None => Ok(Asked::Serve(arguments.settings()?)),
        }
    }
}

impl Arguments {
    fn check_store(&self) -> Result<(), WrongSetting> {
        let parts = [
            ("DB_HOST", &self.db_host),
            ("DB_PORT", &self.db_port),
            ("DB_NAME", &self.db_name),
            ("DB_USER", &self.db_user),
            ("DB_PASSWORD", &self.db_password),
            ("REDIS_URL", &self.redis_url),
        ];
        if let Some((name, _)) = parts.into_iter().find(|(_, value)| is_given(value)) {
            return Err(WrongSetting(format!(
                "{name}: this build has memory only; unset it and use DATABASE_URL=memory:"
            )));
        }
        let url = self.database_url.as_deref().unwrap_or_default();
        url.parse::<Memory>()
            .map(drop)
            .map_err(|wrong| WrongSetting(format!("DATABASE_URL: {wrong}")))
    }

    fn settings(self) -> Result<Settings, WrongSetting> {
        if is_given(&self.egress_proxy) {
            return Err(WrongSetting(
                "EGRESS_PROXY: this build has no proxy support and would connect directly; unset it"
                    .to_owned(),
            ));
        }
        self.check_token()?;
        Ok(Settings {
            warnings: self.warnings(),
            address: SocketAddr::new(self.bind, self.port),
            admin_token: self.admin_token,
            role: self.role,
            max_in_flight: self.max_in_flight,
            allow_http: self.allow_http,
            allow_networks: self.allow_networks,
            retry_schedule: self.retry_schedule,
            request_timeout: self.request_timeout,
            log: self.log,
            log_format: self.log_format,
        })
    }

    /// An API that anybody can reach must not be open to all.
    fn check_token(&self) -> Result<(), WrongSetting> {
        match &self.admin_token {
            None if !self.bind.to_canonical().is_loopback() => Err(WrongSetting(format!(
                "ADMIN_TOKEN: must be set when BIND is {}, which others can reach",
                self.bind
            ))),
            Some(token) => webhook_delivery::Auth::bearer(token.as_str())
                .map(drop)
                .map_err(|invalid| WrongSetting(format!("ADMIN_TOKEN: {invalid}"))),
            None => Ok(()),
        }
    }

    fn warnings(&self) -> Vec<&'static str> {
        let is_key = self
            .encryption_key
            .as_deref()
            .is_some_and(|key| key != "plaintext");
        let warnings = [
            (
                true,
                "events are kept in memory: what is accepted lives as long as this process",
            ),
            (
                self.admin_token.is_none(),
                "ADMIN_TOKEN is not set: the API is open to everybody on this machine",
            ),
            (
                self.role != Role::All,
                "ROLE: memory is not shared between processes: nobody delivers what an api process \
                 accepts, and a worker has nothing to deliver",
            ),
            (
                self.retention_days.is_some(),
                "RETENTION_DAYS is ignored: memory keeps the last 10000 finished events",
            ),
            (
                is_key && is_given(&self.encryption_key),
                "ENCRYPTION_KEY is ignored: memory stores nothing",
            ),
            (
                is_given(&self.otel_exporter_otlp_endpoint),
                "OTEL_EXPORTER_OTLP_ENDPOINT is ignored: this build exports no traces",
            ),
        ];
        let holding = warnings.into_iter().filter(|(holds, _)| *holds);
        holding.map(|(_, warning)| warning).collect()
    }
}

/// An empty variable is how some tools leave one unset.
fn is_given(value: &Option<String>) -> bool {
    value.as_ref().is_some_and(|text| !text.is_empty())
}

impl WrongSetting {
    /// A parser's complaint in one line, with the variable's name in front. Our parsers never repeat a value.
    fn of(error: &clap::Error) -> Self {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        };
        let option = text(ContextKind::InvalidArg).unwrap_or_default();
        let variable = option.split(['<', '>']).nth(1).unwrap_or(&option);
        let complaint = match (error.kind(), error.source()) {
            (ErrorKind::InvalidValue | ErrorKind::ValueValidation, Some(source)) => {
                source.to_string()
            }
            (ErrorKind::InvalidValue, None) => {
                let valid = text(ContextKind::ValidValue).unwrap_or_default();
                format!("must be one of {valid}")
            }
            _ => {
                let rendered = error.to_string();
                let line = rendered.lines().next().unwrap_or_default();
                return Self(line.trim_start_matches("error: ").to_owned());
            }
        };
        Self(format!("{variable}: {complaint}"))
    }
}

impl fmt::Display for WrongSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongSetting {}
