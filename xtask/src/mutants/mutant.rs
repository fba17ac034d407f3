//! Mutants as they are written down: `tests/mutants/README.md` describes the format.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// A bug to plant, and who has to find it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) patch: PathBuf,
    pub(super) bug: String,
    /// Each of them must find it.
    pub(super) caught_by: Vec<Check>,
    /// A test that never ends has found it, too.
    pub(super) may_hang: bool,
}

/// Tests, as arguments for `cargo test`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Check {
    pub(super) package: String,
    pub(super) words: Vec<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.words.join(" "))
    }
}

impl Mutant {
    /// All that have to find it, in one line.
    pub(super) fn checks(&self) -> String {
        let checks: Vec<String> = self.caught_by.iter().map(ToString::to_string).collect();
        checks.join("; ")
    }

    /// What the lines before the diff say.
    fn parse(patch: &Path, text: &str) -> Result<Self> {
        let mut mutant = Self {
            name: name(patch),
            patch: patch.to_owned(),
            bug: String::new(),
            caught_by: Vec::new(),
            may_hang: false,
        };
        for line in text
            .lines()
            .take_while(|line| !line.starts_with("diff --git "))
        {
            let line = line.strip_prefix('#').unwrap_or(line).trim();
            match line.split_once(": ") {
                Some(("bug", sentence)) => sentence.trim().clone_into(&mut mutant.bug),
                Some(("caught-by", words)) => mutant.caught_by.push(Check::parse(words)?),
                Some(("may-hang", "yes")) => mutant.may_hang = true,
                _ if line.is_empty() => {}
                _ => return Err(format!("`{line}` is not a header")),
            }
        }
        if mutant.bug.is_empty() || mutant.caught_by.is_empty() {
            return Err("it needs `# bug: …` and `# caught-by: …` before the diff".to_owned());
        }
        Ok(mutant)
    }
}

impl Check {
    fn parse(words: &str) -> Result<Self> {
        let mut words = words.split_whitespace().map(str::to_owned);
        let package = words.next();
        let words: Vec<String> = words.collect();
        match package {
            Some(package) if !words.is_empty() => Ok(Self { package, words }),
            _ => Err("`caught-by` names a package and its tests".to_owned()),
        }
    }
}

/// The mutants of these names, or all, in the order of their names.
pub(super) fn load(folder: &Path, names: &[&str]) -> Result<Vec<Mutant>> {
    let failed = |path: &Path, error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        if path.extension().is_some_and(|it| it == "patch") {
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            mutants.push(Mutant::parse(&path, &text).map_err(|error| failed(&path, &error))?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));

    let names: Vec<&str> = names
        .iter()
        .map(|it| it.trim_end_matches(".patch"))
        .collect();
    if let Some(name) = names
        .iter()
        .find(|name| mutants.iter().all(|it| it.name != **name))
    {
        return Err(format!("there is no mutant {name}"));
    }
    if !names.is_empty() {
        mutants.retain(|mutant| names.contains(&mutant.name.as_str()));
    }
    if mutants.is_empty() {
        return Err(failed(folder, &"no mutants"));
    }
    Ok(mutants)
}

fn name(patch: &Path) -> String {
    let stem = patch.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::Temp;

    const HEADER: &str = "# bug: It is wrong.\n# caught-by: core --lib a::b\n\
                          # caught-by: axum c\n# may-hang: yes\n\n";
    const DIFF: &str = "diff --git a/x b/x\n+# caught-by: no header\n";

    #[test]
    fn headers_say_what_is_planted_and_who_finds_it() {
        let mutant = Mutant::parse(Path::new("d/a-bug.patch"), &format!("{HEADER}{DIFF}")).unwrap();
        assert_eq!(
            (mutant.name.as_str(), mutant.bug.as_str()),
            ("a-bug", "It is wrong.")
        );
        assert_eq!(mutant.checks(), "core --lib a::b; axum c");
        assert!(mutant.may_hang);
    }

    #[test]
    fn a_header_that_is_missing_or_misspelt_is_an_error() {
        for header in [
            "# bug: b\n",
            "# caught-by: core a\n",
            "# bug: b\n# caught-by: core\n",
            "# bug: b\n# caught-by: core a\n# may-hnag: yes\n",
        ] {
            let parsed = Mutant::parse(Path::new("x.patch"), &format!("{header}{DIFF}"));
            assert!(parsed.is_err(), "{header}");
        }
    }

    #[test]
    fn names_choose_mutants_and_none_chooses_all() {
        let text = format!("{HEADER}{DIFF}");
        let temp = Temp::with(&[("b.patch", &text), ("a.patch", &text), ("README.md", "")]);
        let names = |chosen: &[&str]| {
            let mutants = load(temp.path(), chosen)?;
            Ok(mutants
                .into_iter()
                .map(|it| it.name)
                .collect::<Vec<_>>()
                .join(" "))
        };
        assert_eq!(names(&[]), Ok("a b".to_owned()));
        assert_eq!(names(&["b.patch"]), Ok("b".to_owned()));
        assert_eq!(names(&["a", "c"]), Err("there is no mutant c".to_owned()));
        assert!(load(Temp::with(&[]).path(), &[]).is_err());
    }
}
