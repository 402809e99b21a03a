//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::attacks::{self, Attack};
use crate::ground::Sizes;
use crate::trial::{Budget, Plan};

/// Attack the real server as strangers would, with an honest client beside them.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask attack", bin_name = "cargo xtask attack")]
pub struct Arguments {
    /// The binary of the server.
    #[arg(long, required_unless_present = "list")]
    binary: Option<PathBuf>,
    /// List the attacks.
    #[arg(long)]
    list: bool,
    /// Only these attacks.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Memory budget of the server. Can be given several times [default: 128MiB and 1GiB; with
    /// --short, 128MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_budget)]
    memory_budget: Vec<Budget>,
    /// Smaller attacks, and only the selection of the test command, unless --only names others.
    #[arg(long)]
    short: bool,
    /// Multiply the limits of time by this number, for debug builds of the server.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    tolerance: f64,
    /// Print one JSON object for each attack.
    #[arg(long)]
    json: bool,
}

/// Runs the attacks. Fails if the server exceeds a bound.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for attack in attacks::ALL {
            println!("{}: {}", attack.name, attack.what);
        }
        return Ok(());
    }
    let binary = arguments.binary.clone().context("no binary is given")?;
    ensure!(binary.is_file(), "{} is not a file", binary.display());
    let sizes = if arguments.short { Sizes::Short } else { Sizes::Full };
    let plan = Plan { binary, sizes, tolerance: arguments.tolerance };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_all(arguments, &plan))
}

async fn run_all(arguments: &Arguments, plan: &Plan) -> Result<()> {
    let budgets = match &arguments.memory_budget[..] {
        [] if arguments.short => vec![parse_budget("128MiB")?],
        [] => vec![parse_budget("128MiB")?, parse_budget("1GiB")?],
        budgets => budgets.to_vec(),
    };
    let (mut done, mut failed) = (0, Vec::new());
    for attack in arguments.selected()? {
        for budget in &budgets {
            let report = plan.run(attack, budget).await;
            let report = report.with_context(|| format!("{} cannot be run", attack.name))?;
            if arguments.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{report}");
            }
            done += 1;
            if !report.failures.is_empty() {
                failed.push(format!("{} ({})", attack.name, budget.text));
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} of {done} attacks succeed: {}", failed.len(), failed.join(", "));
    }
    if !arguments.json {
        println!("the server withstands all {done} attacks");
    }
    Ok(())
}

impl Arguments {
    fn selected(&self) -> Result<Vec<&'static Attack>> {
        if self.only.is_empty() {
            let all = attacks::ALL.iter();
            return Ok(all.filter(|attack| !self.short || attack.in_short).collect());
        }
        let find = |name: &String| {
            let found = attacks::ALL.iter().find(|attack| attack.name == name);
            found.with_context(|| format!("there is no attack {name}: see --list"))
        };
        self.only.iter().map(find).collect()
    }
}

fn parse_budget(text: &str) -> Result<Budget> {
    let units = [("MiB", 20), ("GiB", 30)];
    let bytes = units.iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_shl(*shift)
    });
    let bytes = bytes.with_context(|| format!("{text} is not like 128MiB or 1GiB"))?;
    Ok(Budget { text: text.to_owned(), bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn budgets_are_sizes() {
        assert_eq!(parse_budget("128MiB").unwrap().bytes, 128 << 20);
        assert_eq!(parse_budget("1GiB").unwrap().bytes, 1 << 30);
        assert!(parse_budget("1").is_err());
    }

    #[test]
    fn the_threat_model_names_each_attack() {
        let document = include_str!("../../../docs/security.md");
        let missing = attacks::ALL.iter().map(|attack| attack.name);
        let missing: Vec<_> =
            missing.filter(|name| !document.contains(&format!("`{name}`"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn the_threat_model_lists_the_attacks_of_the_test_command() {
        let document = include_str!("../../../docs/security.md");
        let words: Vec<_> = document.split_whitespace().collect();
        let selected = attacks::ALL.iter().filter(|attack| attack.in_short);
        let names: Vec<_> = selected.map(|attack| format!("`{}`", attack.name)).collect();
        let list = format!(
            " a short version of these attacks, which takes less than two minutes: {}. It has",
            names.join(", ")
        );
        assert!(words.join(" ").contains(&list), "{list}");
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = attacks::ALL.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), attacks::ALL.len());
    }
}
