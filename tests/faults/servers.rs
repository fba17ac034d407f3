//! The servers that faults harm: started when the first fault needs them, one of each for all.

use std::path::Path;
use std::process::Command;

use xtask::services::{Cluster, Postgres, Redis, Sentinel};

use crate::Result;
use crate::disk::Disk;
use crate::node::Place;
use crate::proxy::Proxy;

/// What a fault's nodes keep things in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// A file.
    Sqlite,
    /// A file on a [`Disk`] of its own.
    SmallSqlite,
    /// A Postgres.
    Postgres,
    /// The same, on a [`Disk`] of its own.
    SmallPostgres,
    /// The same, through a [`Proxy`].
    ProxiedPostgres,
    /// A Postgres, and a Redis beside it.
    Redis,
    /// The same, with Redis through a [`Proxy`].
    ProxiedRedis,
    /// The same, with Postgres through a [`Proxy`].
    ProxiedStore,
    /// A Postgres, and a Redis Cluster beside it.
    Cluster,
    /// A Postgres, and beside it a Redis that Sentinels watch.
    Sentinel,
}

impl Setting {
    /// As the README's table has it, with what of it is harmed where both could be.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite | Self::SmallSqlite => "SQLite",
            Self::Postgres | Self::SmallPostgres | Self::ProxiedPostgres => "Postgres",
            Self::Redis => "+ Redis",
            Self::ProxiedRedis => "+ Redis: Redis's",
            Self::ProxiedStore => "+ Redis: Postgres's",
            Self::Cluster => "+ Cluster",
            Self::Sentinel => "+ Sentinel",
        }
    }
}

/// Where a fault happens.
pub(crate) struct Site {
    /// For the nodes.
    pub(crate) place: Place,
    /// For us: the same without a proxy.
    pub(crate) direct: Place,
}

/// The machine lacks what a fault needs. Nothing is proven, and nothing is wrong.
#[derive(Debug)]
pub(crate) struct Impossible(pub(crate) String);

impl std::fmt::Display for Impossible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Impossible {}

/// Those that run.
#[derive(Default)]
pub(crate) struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    cluster: Option<Cluster>,
    sentinel: Option<Sentinel>,
    proxy: Option<Proxy>,
    disk: Option<Disk>,
    /// What is to be done before the disk can go.
    on_disk: Vec<String>,
    places: u32,
}

impl Servers {
    /// A new, empty place.
    pub(crate) fn site(&mut self, setting: Setting, folder: &Path) -> Result<Site> {
        self.places += 1;
        let name = format!("place_{}", self.places);
        let store = match setting {
            Setting::Sqlite => format!("sqlite:{}", folder.join(&name).display()),
            Setting::SmallSqlite => {
                let disk = self.disk.insert(Disk::new(folder.join("disk"))?);
                format!("sqlite:{}", disk.folder().join(&name).display())
            }
            Setting::SmallPostgres => {
                self.mount_for_postgres(folder, &name)?;
                self.database(&format!("{name} TABLESPACE {name}"))?;
                database(self.postgres()?.port(), &name)
            }
            _ => {
                self.database(&name)?;
                database(self.postgres()?.port(), &name)
            }
        };
        let queue = match setting {
            Setting::Redis | Setting::ProxiedRedis | Setting::ProxiedStore => {
                Some(self.redis()?.url())
            }
            Setting::Cluster => Some(self.cluster()?.url()),
            Setting::Sentinel => Some(self.sentinel()?.url()),
            _ => None,
        };
        let direct = Place {
            store,
            queue,
            key_prefix: name.clone(),
            lease_margin: 1,
        };
        let mut place = direct.clone();
        match setting {
            Setting::ProxiedPostgres | Setting::ProxiedStore => {
                let port = self.postgres()?.port();
                place.store = database(self.proxy_to(port)?, &name);
            }
            Setting::ProxiedRedis => {
                let port = self.redis()?.port();
                place.queue = Some(format!("redis://127.0.0.1:{}", self.proxy_to(port)?));
            }
            _ => {}
        }
        Ok(Site { place, direct })
    }

    fn database(&mut self, text: &str) -> Result {
        self.postgres()?.sql(&format!("CREATE DATABASE {text}"))?;
        Ok(())
    }

    /// A tablespace of this name on a small disk: a full one is an error to Postgres, while a log that cannot
    /// be written would be its end.
    fn mount_for_postgres(&mut self, folder: &Path, name: &str) -> Result {
        let disk = Disk::mount(folder.join("disk"));
        let disk = disk.map_err(|error| Impossible(error.to_string()))?;
        let folder = disk.folder().join("tables");
        std::fs::create_dir(&folder)?;
        self.disk = Some(disk);
        // Only root can mount, and then Postgres is another user.
        let owned = Command::new("chown")
            .arg("postgres")
            .arg(&folder)
            .status()?;
        if !owned.success() {
            return Err("the small disk cannot be given to Postgres".into());
        }
        let text = format!("CREATE TABLESPACE {name} LOCATION '{}'", folder.display());
        self.postgres()?.sql(&text)?;
        self.on_disk = vec![
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("DROP TABLESPACE {name}"),
        ];
        Ok(())
    }

    /// Ends what was the last place's alone.
    pub(crate) fn leave(&mut self) -> Result {
        self.proxy = None;
        for text in std::mem::take(&mut self.on_disk) {
            self.postgres()?.sql(&text)?;
        }
        self.disk = None;
        Ok(())
    }

    fn proxy_to(&mut self, port: u16) -> Result<u16> {
        Ok(self.proxy.insert(Proxy::start(port)?).port())
    }

    pub(crate) fn postgres(&mut self) -> Result<&mut Postgres> {
        running(&mut self.postgres, Postgres::start)
    }

    pub(crate) fn redis(&mut self) -> Result<&mut Redis> {
        running(&mut self.redis, Redis::start)
    }

    pub(crate) fn cluster(&mut self) -> Result<&mut Cluster> {
        running(&mut self.cluster, Cluster::start)
    }

    pub(crate) fn sentinel(&mut self) -> Result<&mut Sentinel> {
        running(&mut self.sentinel, Sentinel::start)
    }

    /// What a proxied place is reached through.
    pub(crate) fn proxy(&self) -> Result<&Proxy> {
        Ok(self.proxy.as_ref().ok_or("nothing goes through a proxy")?)
    }

    /// What a small disk's place is on.
    pub(crate) fn disk(&self) -> Result<&Disk> {
        Ok(self.disk.as_ref().ok_or("nothing is on a small disk")?)
    }
}

fn database(port: u16, name: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{name}")
}

fn running<T>(
    server: &mut Option<T>,
    start: fn() -> std::result::Result<T, String>,
) -> Result<&mut T> {
    Ok(match server {
        Some(server) => server,
        None => server.insert(start()?),
    })
}
