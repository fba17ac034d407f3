//! The runner, tried on a small package and mutants of each kind.

use super::*;
use crate::temp::Temp;

const MANIFEST: &str = "[package]\nname = \"tiny\"\nedition = \"2024\"\n[workspace]\n";

const SOURCE: &str = "\
pub fn one() -> u32 {
    1
}
#[test]
fn one_is_one() {
    assert_eq!(one(), 1);
}
#[test]
fn one_is_not_zero() {
    assert_ne!(one(), 0);
}
";

/// A patch that makes `one` return something else.
fn patch(was: &str, now: &str, caught_by: &str) -> String {
    format!(
        "# bug: One is {now}.\n# caught-by: tiny {caught_by}\n\
         diff --git a/src/lib.rs b/src/lib.rs\n--- a/src/lib.rs\n+++ b/src/lib.rs\n\
         @@ -1,3 +1,3 @@\n pub fn one() -> u32 {{\n-    {was}\n+    {now}\n }}\n"
    )
}

fn tiny(patches: &[(&str, &str)]) -> Temp {
    let mut files = vec![
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", SOURCE),
        (".gitignore", "target"),
    ];
    files.extend(patches);
    let temp = Temp::with(&files);
    assert!(
        git(temp.path())
            .args(["init", "-q"])
            .status()
            .unwrap()
            .success()
    );
    temp
}

#[test]
fn only_what_a_named_test_finds_is_caught() {
    let temp = tiny(&[
        (
            "tests/mutants/a-caught.patch",
            &patch("1", "2", "--lib one_is_one"),
        ),
        (
            "tests/mutants/b-survives.patch",
            &patch("1", "3", "--lib one_is_not_zero"),
        ),
        (
            "tests/mutants/d-syntax.patch",
            &patch("1", "\"5\"", "--lib one_is_one"),
        ),
        (
            "tests/mutants/e-aborts.patch",
            &patch("1", "std::process::abort()", "one_is_one"),
        ),
        (
            "tests/mutants/f-caught-too.patch",
            &patch("1", "0", "one_is_not_zero"),
        ),
    ]);
    let error = run(temp.path(), &[], &Environment::new()).unwrap_err();
    for problem in [
        "b-survives: One is 3.\ntiny --lib one_is_not_zero: passed (1 tests)",
        "d-syntax: One is \"5\".\ntiny --lib one_is_one: does not compile",
        "e-aborts: One is std::process::abort().\ntiny one_is_one: broke without a failed test",
    ] {
        assert!(error.contains(problem), "{problem}\n\nis not in:\n{error}");
    }
    assert!(!error.contains("-caught"), "{error}");
    assert_eq!(
        run(
            temp.path(),
            &["a-caught", "f-caught-too"],
            &Environment::new()
        ),
        Ok(())
    );
    assert_eq!(temp.tree().text("src/lib.rs"), SOURCE);
}

#[test]
fn a_stale_patch_is_told_of_even_if_another_is_to_be_planted() {
    let stale = patch("7", "4", "--lib one_is_one");
    let temp = tiny(&[
        ("tests/mutants/a.patch", &patch("1", "2", "one_is_one")),
        ("tests/mutants/b-stale.patch", &stale),
    ]);
    let error = run(temp.path(), &["a"], &Environment::new()).unwrap_err();
    let told = "b-stale: the patch is stale: error: patch failed: src/lib.rs:1";
    assert!(error.starts_with(told), "{error}");
}

#[test]
fn every_mutant_has_its_turn_by_the_commit() {
    let turns = ["0000000f", "00000010", "00000021", "0000003"].map(|it| turn(it).unwrap());
    assert_eq!(turns, [0, 1, 2, 3]);
    assert!(turn("HEAD").is_err());
}

#[test]
fn each_turn_plants_what_the_simulation_is_for_and_all_turns_together_plant_everything() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(PATCHES);
    let all = mutant::load(&folder, &[]).unwrap();
    let mut planted = BTreeSet::new();
    for turn in 0..TURNS {
        let names = chosen(&all, turn);
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(
            EACH_TURN.iter().all(|it| distinct.contains(it)),
            "{names:?}"
        );
        planted.extend(distinct);
    }
    assert_eq!(planted.len(), all.len());
}

#[test]
fn a_check_must_run_and_pass_without_the_patch() {
    let broken = SOURCE.replace("assert_ne!(one(), 0)", "assert_ne!(one(), 1)");
    let temp = tiny(&[
        ("src/lib.rs", &broken),
        (
            "tests/mutants/fails.patch",
            &patch("1", "2", "one_is_not_zero"),
        ),
        (
            "tests/mutants/no-test.patch",
            &patch("1", "2", "one_is_two"),
        ),
    ]);
    let error = run(temp.path(), &["fails"], &Environment::new()).unwrap_err();
    assert_eq!(error, "without any patch, tiny one_is_not_zero: failed");
    let error = run(temp.path(), &["no-test"], &Environment::new()).unwrap_err();
    assert_eq!(
        error,
        "without any patch, tiny one_is_two: no test of that name ran"
    );
}
