//! The environment variables: each with its default, all checked before anything starts.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::Targets;
use url::Url;
use webhook_delivery::ProxyUrl;

use crate::encryption::Keys;
use crate::value::{
    Database, Networks, Schedule, address, log_filter, postgres_url, seconds, whole,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The webhook delivery engine as a service of its own: the HTTP API, and the worker that delivers.
///
/// Every setting is an environment variable, or the option of the same name. A wrong one stops the start.
/// DATABASE_URL says where events are kept; processes on one Postgres database share the work.
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

    /// Where events are kept: `sqlite:PATH`, `postgres://…`, or `memory:`, which ends with the process
    /// [default: sqlite:webhook.db]
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "DATABASE_URL",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// The host of a Postgres server, instead of DATABASE_URL [default: none]
    #[arg(long, env = "DB_HOST", value_name = "DB_HOST")]
    db_host: Option<String>,
    /// That server's port [default: 5432]
    #[arg(long, env = "DB_PORT", value_name = "DB_PORT",
          value_parser = |text: &str| whole(text, 1..=u16::MAX))]
    db_port: Option<u16>,
    /// The database on that server [default: none]
    #[arg(long, env = "DB_NAME", value_name = "DB_NAME")]
    db_name: Option<String>,
    /// That database's user [default: none]
    #[arg(long, env = "DB_USER", value_name = "DB_USER")]
    db_user: Option<String>,
    /// That user's password [default: none]
    #[arg(
        long,
        env = "DB_PASSWORD",
        value_name = "DB_PASSWORD",
        hide_env_values = true
    )]
    db_password: Option<String>,
    /// A Redis in which deliveries wait, for many processes on one Postgres [default: none]
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "REDIS_URL",
        hide_env_values = true
    )]
    redis_url: Option<String>,

    /// The bearer token of the API; may be unset on a loopback address only, which leaves the API open to all programs
    /// that ask for localhost, 127.0.0.0/8 or [::1] [default: none]
    #[arg(
        long,
        env = "ADMIN_TOKEN",
        value_name = "ADMIN_TOKEN",
        hide_env_values = true
    )]
    admin_token: Option<String>,
    /// What this process does: the API, the deliveries, or both; a worker answers /health, /ready and /metrics only
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
    /// Networks that endpoints may not be in, whatever ALLOW_NETWORKS says: public addresses of yours, a NAT64 prefix;
    /// not for what lies behind EGRESS_PROXY
    #[arg(
        long,
        env = "DENY_NETWORKS",
        value_name = "DENY_NETWORKS",
        default_value = ""
    )]
    deny_networks: Networks,
    /// A proxy that deliveries go through, `http://USER:PASSWORD@HOST:PORT`; may be in any network [default: none]
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

    /// Days that finished events are kept, 8 to 3650: a delivery may wait for 7. Memory keeps the last 10000
    /// events instead: ignored with a warning [default: 30]
    #[arg(long, env = "RETENTION_DAYS", value_name = "RETENTION_DAYS",
          value_parser = |text: &str| whole(text, 8..=3_650_u32))]
    retention_days: Option<u32>,
    /// The key that seals the endpoints' secrets, as `openssl rand -base64 32` makes it, and after a comma each older
    /// one; `plaintext` stores them as they are. Must be set on Postgres; in memory it is ignored with a warning
    /// [default: on SQLite a key that is made, in a file beside the database]
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
    /// The collector that traces go to, by OTLP over HTTP, `http://localhost:4318`; docs/tracing.md says which other
    /// OTEL_ variables hold [default: none]
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true
    )]
    otel_exporter_otlp_endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Asks the platform that listens at BIND and PORT whether it is alive, and exits: for health checks
    Health,
    /// Applies the database's migrations, and exits
    Migrate,
    /// Seals what was stored with an older key, or with none, with the current ENCRYPTION_KEY, and exits
    Rekey,
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

impl Role {
    /// The word of the setting.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }
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
    /// Ask whoever listens here whether it is alive.
    Health(SocketAddr),
    /// Migrate this store.
    Migrate(Database),
    /// Seal this store's secrets anew.
    Rekey(Box<Settings>),
    /// Serve.
    Serve(Box<Settings>),
}

/// What the variables say, once they are known to make sense together.
pub(crate) struct Settings {
    pub(crate) database: Database,
    /// Beside Postgres only.
    #[cfg(feature = "redis")]
    pub(crate) redis_url: Option<String>,
    pub(crate) address: SocketAddr,
    pub(crate) admin_token: Option<String>,
    pub(crate) role: Role,
    pub(crate) max_in_flight: usize,
    pub(crate) allow_http: bool,
    pub(crate) allow_networks: Networks,
    pub(crate) deny_networks: Networks,
    pub(crate) retry_schedule: Schedule,
    pub(crate) request_timeout: Duration,
    pub(crate) retention: Duration,
    pub(crate) keys: Keys,
    pub(crate) egress_proxy: Option<ProxyUrl>,
    pub(crate) collector: Option<Url>,
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
        let database = arguments.database()?;
        match arguments.command {
            Some(Command::Health) => Ok(Asked::Health(arguments.listens())),
            Some(Command::Migrate) => Ok(Asked::Migrate(database)),
            Some(Command::Rekey) => {
                let settings = arguments.settings(database)?;
                settings.check_rekey()?;
                Ok(Asked::Rekey(Box::new(settings)))
            }
            None => Ok(Asked::Serve(Box::new(arguments.settings(database)?))),
        }
    }
}

impl Arguments {
    fn listens(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    fn database(&self) -> Result<Database, WrongSetting> {
        let parts = [
            ("DB_HOST", is_given(&self.db_host)),
            ("DB_PORT", self.db_port.is_some()),
            ("DB_NAME", is_given(&self.db_name)),
            ("DB_USER", is_given(&self.db_user)),
            ("DB_PASSWORD", is_given(&self.db_password)),
        ];
        let part = parts.into_iter().find(|(_, given)| *given);
        let parsed = match (&self.database_url, part) {
            (None, None) => return Ok(Database::default()),
            (Some(_), Some((part, _))) => {
                return Err(wrong(
                    part,
                    "unset it, or DATABASE_URL: they are two ways to say one thing",
                ));
            }
            (Some(url), None) => url.parse(),
            (None, Some(_)) => self.database_of_parts()?.parse(),
        };
        parsed.map_err(|why| wrong("DATABASE_URL", why))
    }

    fn database_of_parts(&self) -> Result<String, WrongSetting> {
        let needed = |name, value: &'_ Option<String>| match value {
            Some(value) if !value.is_empty() => Ok(value.clone()),
            _ => Err(wrong(
                name,
                "must be set, as DB_HOST, DB_NAME and DB_USER go together",
            )),
        };
        let host = needed("DB_HOST", &self.db_host)?;
        let name = needed("DB_NAME", &self.db_name)?;
        let user = needed("DB_USER", &self.db_user)?;
        let password = self.db_password.as_deref().filter(|it| !it.is_empty());
        let port = self.db_port.unwrap_or(5432);
        postgres_url(&host, port, &name, &user, password).map_err(|why| wrong("DB_HOST", why))
    }

    fn settings(self, database: Database) -> Result<Settings, WrongSetting> {
        let address = self.listens();
        let egress_proxy = self.egress_proxy()?;
        let collector = self.collector()?;
        self.check_queue(&database)?;
        let keys = self.keys(&database)?;
        self.check_token()?;
        Ok(Settings {
            warnings: self.warnings(&database),
            database,
            #[cfg(feature = "redis")]
            redis_url: self.redis_url.filter(|url| !url.is_empty()),
            address,
            admin_token: self.admin_token,
            role: self.role,
            max_in_flight: self.max_in_flight,
            allow_http: self.allow_http,
            allow_networks: self.allow_networks,
            deny_networks: self.deny_networks,
            retry_schedule: self.retry_schedule,
            request_timeout: self.request_timeout,
            retention: DAY * self.retention_days.unwrap_or(30),
            keys,
            egress_proxy,
            collector,
            log: self.log,
            log_format: self.log_format,
        })
    }

    fn egress_proxy(&self) -> Result<Option<ProxyUrl>, WrongSetting> {
        let given = self.egress_proxy.as_deref().filter(|it| !it.is_empty());
        let parsed = given.map(str::parse).transpose();
        parsed.map_err(|invalid| WrongSetting(format!("EGRESS_PROXY: {invalid}")))
    }

    fn collector(&self) -> Result<Option<Url>, WrongSetting> {
        const COLLECTOR: &str =
            "must be the http or https URL of a collector, such as http://localhost:4318";
        let given = self.otel_exporter_otlp_endpoint.as_deref();
        let Some(text) = given.filter(|it| !it.is_empty()) else {
            return Ok(None);
        };
        let why = match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => COLLECTOR,
            Ok(url)
                if !url.username().is_empty()
                    || url.password().is_some()
                    || url.query().is_some() =>
            {
                "must have no credentials and no query: OTEL_EXPORTER_OTLP_HEADERS is for what is secret"
            }
            Ok(url) => return Ok(Some(url)),
            Err(_) => COLLECTOR,
        };
        Err(wrong("OTEL_EXPORTER_OTLP_ENDPOINT", why))
    }

    /// Redis is for processes that share a Postgres.
    fn check_queue(&self, database: &Database) -> Result<(), WrongSetting> {
        let why = match database {
            _ if !is_given(&self.redis_url) => return Ok(()),
            Database::Memory | Database::Sqlite(_) => {
                "goes with Postgres only: memory and SQLite are quicker queues themselves; unset it"
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(_) if cfg!(feature = "redis") => return Ok(()),
            #[cfg(feature = "postgres")]
            Database::Postgres(_) => {
                "this build has no Redis: build it with --features postgres,redis"
            }
        };
        Err(wrong("REDIS_URL", why))
    }

    /// Nobody may believe that secrets are encrypted which are not.
    fn keys(&self, database: &Database) -> Result<Keys, WrongSetting> {
        match (database, self.encryption_key.as_deref()) {
            (Database::Memory, _) | (_, Some("plaintext")) => Ok(Keys::Plaintext),
            (Database::Sqlite(_), None | Some("")) => Ok(Keys::InFile),
            #[cfg(feature = "postgres")]
            (Database::Postgres(_), None | Some("")) => Err(wrong(
                "ENCRYPTION_KEY",
                "must be set on Postgres: to a key, as `openssl rand -base64 32` makes it, or to `plaintext`",
            )),
            (_, Some(text)) => match text.parse() {
                Ok(keys) => Ok(Keys::Given(keys)),
                Err(invalid) => Err(WrongSetting(format!("ENCRYPTION_KEY: {invalid}"))),
            },
        }
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

    fn warnings(&self, database: &Database) -> Vec<&'static str> {
        let in_memory = matches!(database, Database::Memory);
        let is_key = self.encryption_key.as_deref() != Some("plaintext");
        let warnings = [
            (
                in_memory,
                "events are kept in memory: what is accepted lives as long as this process",
            ),
            (
                self.admin_token.is_none(),
                "ADMIN_TOKEN is not set: the API is open to everybody on this machine",
            ),
            (
                in_memory && self.role != Role::All,
                "ROLE: memory is not shared between processes: nobody delivers what an api process \
                 accepts, and a worker has nothing to deliver",
            ),
            (
                in_memory && self.retention_days.is_some(),
                "RETENTION_DAYS is ignored: memory keeps the last 10000 finished events",
            ),
            (
                in_memory && is_key && is_given(&self.encryption_key),
                "ENCRYPTION_KEY is ignored: memory stores nothing",
            ),
        ];
        let holding = warnings.into_iter().filter(|(holds, _)| *holds);
        holding.map(|(_, warning)| warning).collect()
    }
}

impl Settings {
    /// Only what is stored can be sealed, and only with a key.
    fn check_rekey(&self) -> Result<(), WrongSetting> {
        match (&self.database, &self.keys) {
            (Database::Memory, _) => Err(wrong("DATABASE_URL", "memory has nothing to seal")),
            (_, Keys::Plaintext) => Err(wrong("ENCRYPTION_KEY", "rekey needs a key to seal with")),
            _ => Ok(()),
        }
    }
}

fn wrong(variable: &str, why: &str) -> WrongSetting {
    WrongSetting(format!("{variable}: {why}"))
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
