//! Finds the servers' programs, and installs them where that is ours to do.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::user::User;
use crate::Result;
use crate::process::{line, succeed, works};

/// The packages of Debian and Ubuntu. Redis's has the programs for Sentinel and Cluster, too.
const PACKAGES: [&str; 2] = ["postgresql", "redis-server"];

/// While it is there, Debian's package of Postgres makes and starts no server of its own.
const NO_MAIN_CLUSTER: (&str, &str) = (
    "/etc/postgresql-common/createcluster.d/webhook-tests.conf",
    "create_main_cluster = false",
);

/// Where the programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    /// The folder with `initdb` and `postgres`.
    pub(super) postgres: PathBuf,
    pub(super) redis_server: PathBuf,
    pub(super) redis_cli: PathBuf,
}

/// Finds them, or installs them.
pub(super) fn programs() -> Result<Programs> {
    if let Ok(programs) = find() {
        return Ok(programs);
    }
    let missing = find().err().unwrap_or_default();
    let how = how().ok_or_else(|| remedy(&missing))?;
    println!("{missing} not found");
    install(how)?;
    find().map_err(|missing| remedy(&missing))
}

/// Installs packages of Debian or Ubuntu for others.
pub(crate) fn packages(names: &[&str]) -> Result {
    let how = how().ok_or_else(|| {
        let names = names.join(" ");
        format!("install it (Debian, Ubuntu: `apt-get install {names}`)")
    })?;
    update_and_install(how, names)
}

fn how() -> Option<How> {
    let has_apt = works(Command::new("apt-get").arg("--version"));
    let may_sudo = || works(Command::new("sudo").args(["-n", "true"]));
    decide(has_apt, User::is_root(), may_sudo)
}

/// How programs may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    AsRoot,
    WithSudo,
}

fn decide(has_apt: bool, is_root: bool, may_sudo: impl Fn() -> bool) -> Option<How> {
    match (has_apt, is_root) {
        (false, _) => None,
        (true, true) => Some(How::AsRoot),
        (true, false) => may_sudo().then_some(How::WithSudo),
    }
}

fn remedy(missing: &str) -> String {
    format!(
        "{missing} not found: install PostgreSQL 15 or later and Redis 7 or later (Debian, Ubuntu: `apt-get \
         install {}`), or name running servers in DATABASE_URL, REDIS_URL, REDIS_CLUSTER_URL and \
         REDIS_SENTINEL_URL",
        PACKAGES.join(" ")
    )
}

/// The error is what is missing.
fn find() -> Result<Programs> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut postgres = versions(Path::new("/usr/lib/postgresql"));
    postgres.extend(path.iter().cloned());
    let found = |folders: &[PathBuf], program: &str| {
        let mut folders = folders.iter().map(|folder| folder.join(program));
        folders
            .find(|file| file.is_file())
            .ok_or_else(|| program.to_owned())
    };
    let initdb = found(&postgres, "initdb")?;
    Ok(Programs {
        postgres: initdb.parent().unwrap_or(Path::new("/")).to_owned(),
        redis_server: found(&path, "redis-server")?,
        redis_cli: found(&path, "redis-cli")?,
    })
}

/// The programs' folders of each version of Postgres, the newest first.
fn versions(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path().join("bin")))
    });
    let mut numbered: Vec<(u32, PathBuf)> = numbered.collect();
    numbered.sort_by(|a, b| b.cmp(a));
    numbered.into_iter().map(|(_, folder)| folder).collect()
}

/// Installs the packages, and sees to it that they start nothing.
fn install(how: How) -> Result {
    let (file, text) = NO_MAIN_CLUSTER;
    let script = format!("mkdir -p \"$(dirname {file})\" && echo '{text}' > {file}");
    quietly(&mut how.command("sh", &["-c", &script]))?;
    let installed = update_and_install(how, &PACKAGES);
    quietly(&mut how.command("rm", &["-f", file]))?;
    installed?;
    // Its package starts it where services are started at all.
    let _ = works(&mut how.command("service", &["redis-server", "stop"]));
    Ok(())
}

/// A mirror that hiccups is asked once more.
fn update_and_install(how: How, packages: &[&str]) -> Result {
    let attempt = || {
        quietly(&mut how.command("apt-get", &["update"]))?;
        let mut install = vec!["install", "--yes", "--no-install-recommends"];
        install.extend(packages);
        quietly(&mut how.command("apt-get", &install))
    };
    attempt().or_else(|_| attempt())
}

impl How {
    fn command(self, program: &str, args: &[&str]) -> Command {
        let mut command = match self {
            Self::AsRoot => Command::new("env"),
            Self::WithSudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "env"]);
                sudo
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", program]);
        command.args(args);
        command
    }
}

fn quietly(command: &mut Command) -> Result {
    println!("{}", line(command));
    succeed(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::Temp;

    #[test]
    fn only_root_or_sudo_without_a_password_may_install_and_only_with_apt() {
        let no = || false;
        assert_eq!(decide(true, true, no), Some(How::AsRoot));
        assert_eq!(decide(true, false, || true), Some(How::WithSudo));
        assert_eq!(decide(true, false, no), None);
        assert_eq!(decide(false, true, || true), None);
    }

    #[test]
    fn what_is_missing_is_told_in_one_line_with_what_to_do() {
        let told = remedy("initdb");
        assert!(told.starts_with("initdb not found: install "), "{told}");
        assert!(told.contains("apt-get install postgresql redis-server"));
        assert_eq!(told.lines().count(), 1);
    }

    #[test]
    fn the_newest_postgres_comes_first() {
        let temp = Temp::with(&[
            ("9/bin/initdb", ""),
            ("15/bin/initdb", ""),
            ("other/bin/initdb", ""),
        ]);
        let expected = ["15/bin", "9/bin"].map(|it| temp.path().join(it));
        assert_eq!(versions(temp.path()), expected);
        assert!(versions(&temp.path().join("nowhere")).is_empty());
    }
}
