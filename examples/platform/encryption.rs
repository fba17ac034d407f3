//! The keys that seal the endpoints' secrets: given, or in a file beside SQLite's.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use webhook_delivery::{EncryptionKey, KeyProvider, StaticKeys};

use crate::serve::Result;

/// Only whoever runs the platform may read a key.
const MODE: u32 = 0o600;

/// What `ENCRYPTION_KEY` says.
pub(crate) enum Keys {
    /// Secrets are stored as they are.
    Plaintext,
    Given(StaticKeys),
    /// In a file beside the database, which is made if it is not there.
    InFile,
}

/// The keys for the database in this file; `None` to store secrets as they are.
pub(crate) fn keys_beside(database: &Path, keys: &Keys) -> Result<Option<StaticKeys>> {
    let file = key_file(database);
    match keys {
        // Then the database cannot be opened either, which says so.
        Keys::InFile if !folder(&file).is_dir() => Ok(None),
        Keys::InFile => {
            if !file.try_exists()? {
                make(&file).map_err(|error| wrong(&file, error))?;
            }
            read(&file).map(|key| Some(StaticKeys::new(key)))
        }
        Keys::Given(keys) if file.try_exists()? => with_older(keys.clone(), read(&file)?).map(Some),
        Keys::Given(keys) => Ok(Some(keys.clone())),
        Keys::Plaintext if file.try_exists()? => {
            let why = "ENCRYPTION_KEY: is `plaintext`, but this file's key sealed what is stored: unset it";
            Err(wrong(&file, why))
        }
        Keys::Plaintext => Ok(None),
    }
}

/// `webhook.db.key` for `webhook.db`.
fn key_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

fn folder(file: &Path) -> &Path {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// What the file's key sealed must open when another is given.
fn with_older(keys: StaticKeys, file: EncryptionKey) -> Result<StaticKeys> {
    if keys.key(file.id()).is_some() {
        return Ok(keys);
    }
    Ok(keys.older(file)?)
}

fn read(file: &Path) -> Result<EncryptionKey> {
    let mode = fs::metadata(file).map_err(|error| wrong(file, error))?;
    if mode.permissions().mode() & !MODE & 0o777 != 0 {
        tracing::warn!(file = %file.display(), "others may read the key that seals the secrets: chmod 600");
    }
    let text = fs::read_to_string(file).map_err(|error| wrong(file, error))?;
    let key = text.trim().parse();
    key.map_err(|error: webhook_delivery::InvalidKey| wrong(file, error))
}

/// In one step, so that of several processes that start at once all read the same key, and a crash leaves no half.
fn make(file: &Path) -> std::io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let mut options = OpenOptions::new();
    let mut writer = options
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&draft)?;
    writeln!(writer, "{}", EncryptionKey::random().expose())?;
    writer.sync_all()?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => {
            // What it seals is lost with it: it must be on the disk first.
            File::open(folder(file))?.sync_all()?;
            tracing::info!(file = %file.display(), "made the key that seals the endpoints' secrets: keep a copy apart from the database's");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn wrong(file: &Path, why: impl std::fmt::Display) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{}: {why}", file.display()).into()
}
