//! The servers that faults harm: started when the first fault needs them, one of each for all.

use std::path::Path;

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
    SmallDisk,
    /// A Postgres.
    Postgres,
    /// The same, through a [`Proxy`].
    ProxiedPostgres,
    /// A Postgres, and a Redis beside it.
    Redis,
    /// The same, with Redis through a [`Proxy`].
    ProxiedRedis,
    /// A Postgres, and a Redis Cluster beside it.
    Cluster,
    /// A Postgres, and beside it a Redis that Sentinels watch.
    Sentinel,
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite | Self::SmallDisk => "sqlite",
            Self::Postgres | Self::ProxiedPostgres => "postgres",
            Self::Redis | Self::ProxiedRedis => "redis",
            Self::Cluster => "redis cluster",
            Self::Sentinel => "redis sentinel",
        }
    }
}

/// Those that run.
#[derive(Default)]
pub(crate) struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    cluster: Option<Cluster>,
    sentinel: Option<Sentinel>,
    proxy: Option<Proxy>,
    disk: Option<Disk>,
    places: u32,
}

impl Servers {
    /// A new, empty place.
    pub(crate) fn place(&mut self, setting: Setting, folder: &Path) -> Result<Place> {
        self.places += 1;
        let name = format!("place_{}", self.places);
        let store = match setting {
            Setting::Sqlite => format!("sqlite:{}", folder.join(&name).display()),
            Setting::SmallDisk => {
                let disk = self.disk.insert(Disk::mount(folder.join("disk"))?);
                format!("sqlite:{}", disk.folder().join(&name).display())
            }
            _ => {
                let postgres = self.postgres()?;
                postgres.sql(&format!("CREATE DATABASE {name}"))?;
                let mut port = postgres.port();
                if setting == Setting::ProxiedPostgres {
                    port = self.proxy_to(port)?;
                }
                format!("postgres://postgres@127.0.0.1:{port}/{name}")
            }
        };
        let queue = match setting {
            Setting::Redis => Some(self.redis()?.url()),
            Setting::ProxiedRedis => {
                let port = self.redis()?.port();
                Some(format!("redis://127.0.0.1:{}", self.proxy_to(port)?))
            }
            Setting::Cluster => Some(self.cluster()?.url()),
            Setting::Sentinel => Some(self.sentinel()?.url()),
            _ => None,
        };
        Ok(Place {
            store,
            queue,
            key_prefix: name,
            lease_margin: 0,
        })
    }

    /// Ends what was the last place's alone.
    pub(crate) fn leave(&mut self) {
        (self.proxy, self.disk) = (None, None);
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

fn running<T>(
    server: &mut Option<T>,
    start: fn() -> std::result::Result<T, String>,
) -> Result<&mut T> {
    Ok(match server {
        Some(server) => server,
        None => server.insert(start()?),
    })
}
