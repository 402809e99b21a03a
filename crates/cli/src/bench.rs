//! `downbeat bench`: load for any server that speaks the protocol.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use downbeat_bench::{
    BenchError, FanOut, Fetch, Idle, LiveEdits, LongAppend, LongLoad, ManySessions, NullServer,
    Report, ServerProcess, Starts, Storm, StreamDown, StreamUp, Target, UpToDate, Upload,
};
use downbeat_protocol::CoValueId;
use downbeat_transport::tls::ClientTls;

/// Puts load on a sync server and tells what it made of it.
///
/// Content is made from the seed and signed before the clock starts; all answers are checked. To
/// fetch what was uploaded, give both commands the same seed and sizes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  downbeat bench upload
  downbeat bench fetch --url 'ws://sync.example:4200/?key=KEY'
  downbeat bench live --writers 20 --edits 100 --server-pid \"$(pidof downbeat)\" --json
  downbeat bench start --load co_zID -- downbeat serve --port 0 --storage sled:DIR")]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    command: Command,
    /// The server, with `?key=` if it wants one.
    #[arg(long, global = true, default_value = "ws://127.0.0.1:4200", value_name = "URL")]
    url: String,
    /// What all content is made from. A server that has been given the content of a seed before
    /// has nothing new to store.
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The server's process on this machine, whose CPU time and memory are to be measured (Linux).
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,
    /// Authorities whose certificates are trusted at a wss:// URL, besides the built-in ones (PEM).
    #[arg(long, global = true, value_name = "FILE")]
    authorities: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Play(Workload),
    /// A server is started, asked for a CoValue, and stopped (Linux).
    Start {
        /// The CoValue, which the server's store has.
        #[arg(long, value_name = "ID")]
        load: CoValueId,
        /// How often.
        #[arg(long, default_value_t = 1, value_name = "N")]
        starts: usize,
        /// The program and its arguments. It prints the URL at which it listens.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// A server that neither checks nor stores anything, to see what the clients
    /// could do at most. Runs until it is ended.
    NullServer {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
        listen: String,
    },
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// New CoValues are uploaded.
    Upload(DataSet),
    /// What `upload` has uploaded is fetched by clients that have nothing of it.
    Fetch(DataSet),
    /// What `upload` has uploaded is asked about by clients that have all of it.
    UpToDate {
        #[command(flatten)]
        data: DataSet,
        /// How often everything is asked about.
        #[arg(long, default_value_t = 1, value_name = "N")]
        rounds: usize,
    },
    /// Writers send one transaction at a time, each to a CoValue of their own.
    Live {
        /// How many writers.
        #[arg(long, default_value_t = 100, value_name = "N")]
        writers: usize,
        /// Transactions of each.
        #[arg(long, default_value_t = 50, value_name = "N")]
        edits: usize,
    },
    /// One CoValue is edited before many subscribers.
    FanOut {
        /// How many subscribers.
        #[arg(long, default_value_t = 100, value_name = "N")]
        subscribers: usize,
        /// How many edits.
        #[arg(long, default_value_t = 200, value_name = "N")]
        edits: usize,
    },
    /// A large binary stream is uploaded.
    StreamUp {
        /// Its size.
        #[arg(long, default_value_t = 100, value_name = "MB")]
        megabytes: usize,
        /// Chunks sent ahead of the acknowledgements.
        #[arg(long, default_value_t = 16, value_name = "N")]
        window: usize,
    },
    /// The stream of `stream-up` is downloaded by several clients at once.
    StreamDown {
        /// Its size.
        #[arg(long, default_value_t = 100, value_name = "MB")]
        megabytes: usize,
        /// How many clients.
        #[arg(long, default_value_t = 4, value_name = "N")]
        clients: usize,
    },
    /// A CoValue that has very many sessions is edited.
    Sessions {
        /// How many sessions.
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        sessions: usize,
        /// How many edits.
        #[arg(long, default_value_t = 2_000, value_name = "N")]
        edits: usize,
        /// Edits sent ahead of the acknowledgements.
        #[arg(long, default_value_t = 16, value_name = "N")]
        window: usize,
    },
    /// Very many small transactions are appended to one session.
    LongAppend {
        #[command(flatten)]
        log: LongLog,
        /// Messages sent ahead of the acknowledgements.
        #[arg(long, default_value_t = 16, value_name = "N")]
        window: usize,
    },
    /// What `long-append` has appended is loaded.
    LongLoad(LongLog),
    /// Clients connect all at once, each once, as after a restart of the server.
    Storm {
        /// How many.
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        clients: usize,
    },
    /// Connections that do nothing.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        connections: usize,
    },
}

#[derive(Debug, Args)]
struct DataSet {
    /// How many CoValues.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    co_values: usize,
    /// Private transactions in each.
    #[arg(long, default_value_t = 10, value_name = "N")]
    transactions: usize,
    /// Clients that have a part of them each.
    #[arg(long, default_value_t = 4, value_name = "N")]
    connections: usize,
    /// CoValues that each client is ahead of the answers.
    #[arg(long, default_value_t = 64, value_name = "N")]
    window: usize,
}

#[derive(Debug, Args)]
struct LongLog {
    /// How many transactions.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    transactions: usize,
    /// How many in each message.
    #[arg(long, default_value_t = 10, value_name = "N")]
    per_message: usize,
}

pub(crate) fn run(options: &BenchOptions) -> anyhow::Result<()> {
    #[cfg(unix)]
    crate::open_files::allow_for(match &options.command {
        Command::Play(Workload::Idle { connections }) => *connections,
        Command::Play(Workload::Storm { clients }) => *clients,
        Command::Play(Workload::FanOut { subscribers, .. }) => *subscribers,
        _ => 0,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(async {
        let process = options.server_pid.map(ServerProcess::new).transpose()?;
        let mut client_tls = ClientTls::new();
        if let Some(path) = &options.authorities {
            client_tls = client_tls.with_authorities(path)?;
        }
        let target = Target { url: options.url.clone(), process, seed: options.seed, client_tls };
        let report = match &options.command {
            Command::Play(workload) => play(workload, &target).await,
            Command::Start { load, starts, command } => {
                let starts = Starts { command: command.clone(), load: *load, starts: *starts };
                return print(&starts.run().await?, options.json);
            }
            Command::NullServer { listen } => return serve_null(listen).await,
        };
        print(&report.with_context(|| target.address().to_owned())?, options.json)
    })
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

async fn serve_null(listen: &str) -> anyhow::Result<()> {
    let server = NullServer::bind(listen).await.with_context(|| listen.to_owned())?;
    println!("{}", server.url());
    Ok(server.run().await?)
}

async fn play(workload: &Workload, target: &Target) -> Result<Report, BenchError> {
    match *workload {
        Workload::Upload(DataSet { co_values, transactions, connections, window }) => {
            Upload { co_values, transactions, connections, window }.run(target).await
        }
        Workload::Fetch(DataSet { co_values, transactions, connections, window }) => {
            Fetch { co_values, transactions, connections, window }.run(target).await
        }
        Workload::UpToDate {
            data: DataSet { co_values, transactions, connections, window },
            rounds,
        } => UpToDate { co_values, transactions, connections, window, rounds }.run(target).await,
        Workload::Live { writers, edits } => LiveEdits { writers, edits }.run(target).await,
        Workload::FanOut { subscribers, edits } => FanOut { subscribers, edits }.run(target).await,
        Workload::StreamUp { megabytes, window } => {
            StreamUp { megabytes, window }.run(target).await
        }
        Workload::StreamDown { megabytes, clients } => {
            StreamDown { megabytes, clients }.run(target).await
        }
        Workload::Sessions { sessions, edits, window } => {
            ManySessions { sessions, edits, window }.run(target).await
        }
        Workload::LongAppend { log: LongLog { transactions, per_message }, window } => {
            LongAppend { transactions, per_message, window }.run(target).await
        }
        Workload::LongLoad(LongLog { transactions, per_message }) => {
            LongLoad { transactions, per_message }.run(target).await
        }
        Workload::Storm { clients } => Storm { clients }.run(target).await,
        Workload::Idle { connections } => Idle { connections }.run(target).await,
    }
}
