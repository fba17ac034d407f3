//! The workspace's packages and their features, read from the manifests.

use std::fs;
use std::path::Path;

use crate::Result;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Without a `default` that names none.
    pub(crate) features: Vec<String>,
}

/// The root package and the members, in the order of the manifest.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let members = values(&manifest, "workspace", "members");
    if let Some(pattern) = members.iter().find(|member| member.contains('*')) {
        return Err(format!("Cargo.toml: name each member instead of {pattern}"));
    }
    let mut packages = vec![package(&manifest)?];
    for member in members {
        let manifest = read(&root.join(&member).join("Cargo.toml"))?;
        packages.push(package(&manifest).map_err(|error| format!("{member}: {error}"))?);
    }
    Ok(packages)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn package(manifest: &str) -> Result<Package> {
    let mut name = values(manifest, "package", "name");
    let features = entries(manifest)
        .filter(|(table, key, value)| table == "features" && !(key == "default" && value == "[]"));
    Ok(Package {
        name: name.pop().ok_or("the manifest names no package")?,
        features: features.map(|(_, key, _)| key).collect(),
    })
}

/// The strings in one key's value.
fn values(manifest: &str, table: &str, key: &str) -> Vec<String> {
    let mut found = entries(manifest).filter(|(t, k, _)| t == table && k == key);
    let value = found.next().map(|(.., value)| value).unwrap_or_default();
    let quoted = value.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// A manifest's entries as (table, key, value): as much of TOML as cargo's own formatting needs, with
/// arrays over several lines.
fn entries(manifest: &str) -> impl Iterator<Item = (String, String, String)> {
    let mut table = String::new();
    let lines = manifest.lines().map(|line| match line.split_once('#') {
        Some((before, _)) => before.trim(),
        None => line.trim(),
    });
    let mut lines = lines.filter(|line| !line.is_empty());
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            let Some((key, value)) = line.split_once('=') else {
                table = line.trim_matches(['[', ']']).to_owned();
                continue;
            };
            let mut value = value.trim().to_owned();
            while value.starts_with('[') && !value.ends_with(']') {
                value.push_str(lines.next()?);
            }
            return Some((table.clone(), key.trim().to_owned(), value));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::Temp;

    #[test]
    fn packages_are_those_of_the_manifests() {
        let root = "[workspace]\nmembers = [\n  \"core\", # first\n  \"axum\",\n]\n\n\
                    [package]\nname = \"whole\"\nversion = \"1\"\n";
        let core = "[package]\nname = \"the-core\"\n[features]\ndefault = []\n## doc\n\
                    tls = [\n  \"dep:rustls\",\n]\n[dependencies]\nbytes = \"1\"\n";
        let temp = Temp::with(&[
            ("Cargo.toml", root),
            ("core/Cargo.toml", core),
            ("axum/Cargo.toml", "[package]\nname = \"axum\"\n"),
        ]);
        let package = |name: &str, features: &[&str]| Package {
            name: name.to_owned(),
            features: features.iter().map(|it| (*it).to_owned()).collect(),
        };
        let expected = [
            package("whole", &[]),
            package("the-core", &["tls"]),
            package("axum", &[]),
        ];
        assert_eq!(packages(temp.path()).unwrap(), expected);
    }

    #[test]
    fn a_member_that_is_a_pattern_is_not_forgotten_in_silence() {
        let temp = Temp::with(&[("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n")]);
        assert!(packages(temp.path()).is_err());
    }
}
