//! The servers that faults harm: started when the first fault needs them, one of each for all.

use std::path::Path;

use xtask::services::Postgres;

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
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite | Self::SmallDisk => "sqlite",
            Self::Postgres | Self::ProxiedPostgres => "postgres",
        }
    }
}

/// Those that run.
#[derive(Default)]
pub(crate) struct Servers {
    postgres: Option<Postgres>,
    proxy: Option<Proxy>,
    disk: Option<Disk>,
    places: u32,
}

impl Servers {
    /// A new, empty place.
    pub(crate) fn place(&mut self, setting: Setting, folder: &Path) -> Result<Place> {
        self.places += 1;
        let file = format!("place-{}.db", self.places);
        let store = match setting {
            Setting::Sqlite => sqlite(&folder.join(file)),
            Setting::SmallDisk => {
                let disk = Disk::mount(folder.join("disk"))?;
                sqlite(&self.disk.insert(disk).folder().join(file))
            }
            Setting::Postgres => {
                let port = self.postgres()?.port();
                self.database(port)?
            }
            Setting::ProxiedPostgres => {
                let proxy = Proxy::start(self.postgres()?.port())?;
                let port = self.proxy.insert(proxy).port();
                self.database(port)?
            }
        };
        Ok(Place {
            store,
            queue: None,
            lease_margin: 2,
        })
    }

    pub(crate) fn postgres(&mut self) -> Result<&mut Postgres> {
        if self.postgres.is_none() {
            self.postgres = Some(Postgres::start()?);
        }
        Ok(self.postgres.as_mut().ok_or("no Postgres")?)
    }

    /// What a proxied place is reached through.
    pub(crate) fn proxy(&self) -> Result<&Proxy> {
        Ok(self.proxy.as_ref().ok_or("nothing goes through a proxy")?)
    }

    /// What a small disk's place is on.
    pub(crate) fn disk(&self) -> Result<&Disk> {
        Ok(self.disk.as_ref().ok_or("nothing is on a small disk")?)
    }

    /// The URL of a new database, at this port.
    fn database(&mut self, port: u16) -> Result<String> {
        let name = format!("place_{}", self.places);
        self.postgres()?.sql(&format!("CREATE DATABASE {name}"))?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }
}

fn sqlite(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}
