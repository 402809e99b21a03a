//! Running an act with a server.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::Arguments;
use crate::figures::{self, Figures, Report};
use crate::plan::{Act, Step};
use crate::server::{Contender, Server, command};

/// The number of transactions in each CoValue of a generated store.
const TRANSACTIONS: &str = "5";

/// Runs one act with one server, starting with an empty store.
pub(crate) fn act(
    act: &Act,
    contender: Contender,
    arguments: &Arguments,
    figures: &mut Figures,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let start = || Server::start(contender, arguments, folder);
    let mut server = if act.is_of_starts() { None } else { Some(start()?) };
    // The CoValue that the starts load.
    let mut known = String::new();
    for step in act.steps {
        let (workload, report) = match step {
            Step::Restart => {
                if let Some(server) = server.take() {
                    server.stop()?;
                }
                server = Some(start()?);
                continue;
            }
            Step::Generate => {
                known = generate(contender, arguments, folder)?;
                continue;
            }
            Step::WarmUp(workload) => {
                let server = server.as_ref().context("the act has no server")?;
                bench(arguments, server.url(), None, workload)?;
                continue;
            }
            Step::Play(workload) => {
                let server = server.as_ref().context("the act has no server")?;
                let report =
                    bench(arguments, server.url(), Some(server.pid()), workload.arguments)?;
                (workload, report)
            }
            Step::Start(workload) => {
                let mut bench = Command::new(&arguments.downbeat);
                bench.arg("bench").args(workload.arguments).args(["--json", "--load", &known]);
                let server = command(contender, arguments, folder);
                bench.arg("--").arg(server.get_program()).args(server.get_args());
                (workload, read(&mut bench)?)
            }
        };
        println!("    {:<28} {}", workload.name, report.summary());
        figures.add(workload.name, contender.name(), report);
    }
    match server {
        Some(server) => server.stop(),
        None => Ok(()),
    }
}

/// Runs the workloads of an act against the null server, which measures the limit of the clients.
/// They run in the same order, so that the content of later workloads exists.
pub(crate) fn ceiling(act: &Act, arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let server = Server::start_null(arguments)?;
    for workload in act.workloads() {
        let report = bench(arguments, server.url(), None, workload.arguments)?;
        println!("    {:<28} {}", workload.name, report.summary());
        figures.add(workload.name, figures::CEILING, report);
    }
    server.stop()
}

fn bench(arguments: &Arguments, url: &str, pid: Option<u32>, workload: &[&str]) -> Result<Report> {
    let mut command = Command::new(&arguments.downbeat);
    command.arg("bench").args(workload).args(["--json", "--url", url]);
    if let Some(pid) = pid {
        command.args(["--server-pid", &pid.to_string()]);
    }
    read(&mut command)
}

/// Creates a store of `--co-values` CoValues in the server's format, and returns the id of one
/// CoValue.
fn generate(contender: Contender, arguments: &Arguments, folder: &Path) -> Result<String> {
    let generator = arguments.downbeat.with_file_name("examples").join("generate_store");
    ensure!(generator.exists(), "{} is missing, an example of Downbeat", generator.display());
    let co_values = arguments.co_values.to_string();
    let generated = match contender {
        Contender::Sled => folder.to_owned(),
        // The generator supports only sled; the tools convert the store.
        Contender::Native | Contender::Sqlite | Contender::Reference => folder.join("generated"),
    };
    let mut generate = Command::new(&generator);
    generate.arg(&generated).args(["--co-values", &co_values, "--transactions", TRANSACTIONS]);
    let told = output(&mut generate)?;
    let id = String::from_utf8(told).context("the id is not UTF-8")?.trim().to_owned();
    ensure!(id.starts_with("co_z"), "the generator prints no id: {id:?}");
    if matches!(contender, Contender::Native | Contender::Sqlite) {
        let mut import = Command::new(&arguments.downbeat);
        import.arg("import").arg(format!("sled:{}", generated.display()));
        output(import.arg(contender.storage(folder)))?;
    }
    Ok(id)
}

fn read<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    serde_json::from_slice(&output(command)?).context("the report is not valid")
}

/// The standard output of a command that succeeds.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(output.stdout)
}
