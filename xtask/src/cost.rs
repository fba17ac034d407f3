//! `cargo xtask cost`: what the hot path costs, in instructions and allocations, by ratios that have limits.
//!
//! The program `benches/cost/` does the work, says what is compared with what, and counts what it allocates;
//! valgrind's callgrind counts its instructions. No time is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::Result;
use crate::process::{cargo, line, succeed, works};
use crate::services::install;

/// The package of Debian and Ubuntu.
const PACKAGE: &str = "valgrind";

/// Where callgrind writes.
const DUMPS: &str = "target/tmp/cost";

/// The function of the program whose instructions are counted, each time anew.
const COUNTED: &str = "cost::count::counted";

pub(crate) fn run(root: &Path) -> Result {
    if !works(Command::new("valgrind").arg("--version")) {
        println!("valgrind not found");
        install::packages(&[PACKAGE])?;
    }
    let mut build = cargo(root);
    // With the features of the step before it in CI, so that nothing is compiled twice.
    build.args(["build", "--workspace", "--all-features", "--locked"]);
    succeed(build.args(["--example", "cost"]))?;
    let dumps = Dumps::anew(root.join(DUMPS))?;
    let said = count(&root.join("target/debug/examples/cost"), &dumps)?;
    let rows = said.lines().map(str::parse).collect::<Result<Vec<Row>>>()?;
    let table = Table::of(&rows, |dump| dumps.instructions(dump))?;
    print!("{}", table.text);
    if table.exceeded.is_empty() {
        return Ok(());
    }
    Err(format!(
        "above the limit: {}. If it has to cost that, say so beside the limit in benches/cost/run.rs",
        table.exceeded.join(", ")
    ))
}

/// What the program says, while callgrind counts.
fn count(program: &Path, dumps: &Dumps) -> Result<String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]);
    valgrind.arg(format!("--zero-before={COUNTED}"));
    valgrind.arg(format!("--dump-after={COUNTED}"));
    let out = dumps.0.join("out");
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(program);
    println!("{}", line(&valgrind));
    let output = valgrind.output();
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("`{}`: {}\n{said}", line(&valgrind), output.status))
}

/// The folder of what callgrind wrote, one file each time.
struct Dumps(PathBuf);

impl Dumps {
    fn anew(folder: PathBuf) -> Result<Self> {
        let failed = |error| format!("{}: {error}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self(folder))
    }

    fn instructions(&self, dump: u32) -> Result<u64> {
        let file = self.0.join(format!("out.{dump}"));
        let text = fs::read_to_string(&file);
        let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
        instructions(&text).ok_or_else(|| format!("{}: no sum of instructions", file.display()))
    }
}

/// The sum in a file of callgrind's.
fn instructions(text: &str) -> Option<u64> {
    let sum = text
        .lines()
        .find_map(|line| line.strip_prefix("summary:"))?;
    sum.trim().parse().ok()
}

/// A comparison, as a line of the program's output has it.
#[derive(Debug, PartialEq)]
struct Row {
    operation: String,
    unit: String,
    cost: Cost,
    yardstick: String,
    base: Cost,
    limit: f64,
}

/// A number, or so many times what a dump has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    Known(u64),
    Counted { times: u64, dump: u32 },
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let fields: Vec<&str> = text.split('\t').collect();
            let [operation, unit, cost, yardstick, base, limit] = fields[..] else {
                return None;
            };
            Some(Self {
                operation: operation.to_owned(),
                unit: unit.to_owned(),
                cost: Cost::parse(cost)?,
                yardstick: yardstick.to_owned(),
                base: Cost::parse(base)?,
                limit: limit.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("`{text}` is no comparison"))
    }
}

impl Cost {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.split_once('@') {
            None => Self::Known(text.parse().ok()?),
            Some((times, dump)) => Self::Counted {
                times: times.parse().ok()?,
                dump: dump.parse().ok()?,
            },
        })
    }

    fn resolve(self, counted: impl Fn(u32) -> Result<u64>) -> Result<u64> {
        match self {
            Self::Known(number) => Ok(number),
            Self::Counted { times, dump } => Ok(times * counted(dump)?),
        }
    }
}

/// The comparisons, and which of them are above their limits.
struct Table {
    text: String,
    exceeded: Vec<String>,
}

impl Table {
    fn of(rows: &[Row], counted: impl Fn(u32) -> Result<u64>) -> Result<Self> {
        if rows.is_empty() {
            return Err("nothing was compared".to_owned());
        }
        let mut table = Self {
            text: format!(
                "{:<24} {:<12} {:>12}   {:<22} {:>12} {:>8} {:>6}\n",
                "operation", "of", "cost", "yardstick", "cost", "ratio", "limit"
            ),
            exceeded: Vec::new(),
        };
        for row in rows {
            let (cost, base) = (row.cost.resolve(&counted)?, row.base.resolve(&counted)?);
            let ratio = cost as f64 / base as f64;
            // A yardstick of nothing gives no number, which is not below any limit either.
            let is_fine = ratio <= row.limit;
            table.text += &format!(
                "{:<24} {:<12} {cost:>12} ÷ {:<22} {base:>12} {ratio:>8.3} {:>6}{}\n",
                row.operation,
                row.unit,
                row.yardstick,
                row.limit,
                if is_fine { "" } else { "  ABOVE" },
            );
            if !is_fine {
                table
                    .exceeded
                    .push(format!("{} ({})", row.operation, row.unit));
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: &str) -> Row {
        line.parse().unwrap()
    }

    #[test]
    fn a_line_is_a_comparison_of_numbers_or_of_dumps() {
        let read = row("sign\tinstructions\t1@3\tan HMAC\t64@12\t1.3");
        assert_eq!(read.cost, Cost::Counted { times: 1, dump: 3 });
        let base = Cost::Counted {
            times: 64,
            dump: 12,
        };
        assert_eq!((read.base, read.limit), (base, 1.3));
        let read = row("deliver\tbytes\t700\ta copy\t350\t2");
        assert_eq!((read.cost, read.base), (Cost::Known(700), Cost::Known(350)));
    }

    #[test]
    fn what_is_no_comparison_is_refused_and_so_is_none() {
        for line in ["", "a\tb\t1\tc\t2", "a\tb\tx\tc\t2\t3", "a\tb\t1@\tc\t2\t3"] {
            assert!(line.parse::<Row>().is_err(), "{line}");
        }
        assert!(Table::of(&[], |_| Ok(1)).is_err());
    }

    #[test]
    fn the_sum_is_what_callgrind_calls_the_summary() {
        let text = "version: 1\nevents: Ir\nfn=(1) main\n0 4\nsummary: 1234\n\ntotals: 1200\n";
        assert_eq!(instructions(text), Some(1234));
        assert_eq!(instructions("events: Ir\n"), None);
    }

    #[test]
    fn only_what_is_above_its_limit_is_told() {
        let rows = [
            row("at\tbytes\t3\tx\t2\t1.5"),
            row("above\tinstructions\t1@1\tx\t2@2\t1.5"),
            row("no yardstick\tbytes\t0\tx\t0\t9"),
        ];
        let counted = |dump| Ok(if dump == 1 { 31 } else { 10 });
        let table = Table::of(&rows, counted).unwrap();
        let expected = ["above (instructions)", "no yardstick (bytes)"];
        assert_eq!(table.exceeded, expected);
        assert_eq!(table.text.matches("ABOVE").count(), 2);
        assert_eq!(table.text.lines().count(), 4);
    }

    #[test]
    fn a_dump_that_is_not_there_is_an_error() {
        let rows = [row("a\tinstructions\t1@7\tx\t1\t2")];
        let counted = |dump| Err(format!("no dump {dump}"));
        assert_eq!(Table::of(&rows, counted).err().unwrap(), "no dump 7");
    }
}
