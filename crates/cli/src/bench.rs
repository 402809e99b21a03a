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

/// Generate load on a sync server and measure it.
///
/// Content is generated from the seed and signed before the measurement starts. All answers are
/// checked. To fetch uploaded content, use the same seed and sizes for both commands.
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
    /// URL of the server, with `?key=` if it needs an access key.
    #[arg(long, global = true, default_value = "ws://127.0.0.1:4200", value_name = "URL")]
    url: String,
    /// Seed of all content. A server that already has the content of a seed stores nothing new.
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Process of the server on this machine. Its CPU time and memory are measured (Linux).
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,
    /// PEM file with additional certificate authorities for wss:// URLs.
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
    /// Start a server, load a CoValue from it, and stop it (Linux).
    Start {
        /// The CoValue. It must be in the server's store.
        #[arg(long, value_name = "ID")]
        load: CoValueId,
        /// Number of starts.
        #[arg(long, default_value_t = 1, value_name = "N")]
        starts: usize,
        /// The program and its arguments. It must print its URL.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Run a server that neither checks nor stores content, to measure the clients alone.
    NullServer {
        /// Address to listen on.
        #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
        listen: String,
    },
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Upload new CoValues.
    Upload(DataSet),
    /// Fetch the CoValues of `upload` with clients that have none of them.
    Fetch(DataSet),
    /// Ask for the CoValues of `upload` with clients that have all of them.
    UpToDate {
        #[command(flatten)]
        data: DataSet,
        /// How often each CoValue is asked for.
        #[arg(long, default_value_t = 1, value_name = "N")]
        rounds: usize,
    },
    /// Send one transaction at a time from many writers, each to its own CoValue.
    Live {
        /// Number of writers.
        #[arg(long, default_value_t = 100, value_name = "N")]
        writers: usize,
        /// Transactions per writer.
        #[arg(long, default_value_t = 50, value_name = "N")]
        edits: usize,
    },
    /// Edit one CoValue that has many subscribers.
    FanOut {
        /// Number of subscribers.
        #[arg(long, default_value_t = 100, value_name = "N")]
        subscribers: usize,
        /// Number of edits.
        #[arg(long, default_value_t = 200, value_name = "N")]
        edits: usize,
    },
    /// Upload a large binary stream.
    StreamUp {
        /// Size of the stream.
        #[arg(long, default_value_t = 100, value_name = "MB")]
        megabytes: usize,
        /// Chunks in flight without acknowledgement.
        #[arg(long, default_value_t = 16, value_name = "N")]
        window: usize,
    },
    /// Download the stream of `stream-up` with several clients at once.
    StreamDown {
        /// Size of the stream.
        #[arg(long, default_value_t = 100, value_name = "MB")]
        megabytes: usize,
        /// Number of clients.
        #[arg(long, default_value_t = 4, value_name = "N")]
        clients: usize,
    },
    /// Edit a CoValue with very many sessions.
    Sessions {
        /// Number of sessions.
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        sessions: usize,
        /// Number of edits.
        #[arg(long, default_value_t = 2_000, value_name = "N")]
        edits: usize,
        /// Edits in flight without acknowledgement.
        #[arg(long, default_value_t = 16, value_name = "N")]
        window: usize,
    },
    /// Append very many small transactions to one session.
    LongAppend {
        #[command(flatten)]
        log: LongLog,
        /// Messages in flight without acknowledgement.
        #[arg(long, default_value_t = 16, value_name = "N")]
        window: usize,
    },
    /// Load the session of `long-append`.
    LongLoad(LongLog),
    /// Connect many clients at once, as after a restart of the server.
    Storm {
        /// Number of clients.
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        clients: usize,
    },
    /// Open connections that do nothing.
    Idle {
        /// Number of connections.
        #[arg(long, default_value_t = 1_000, value_name = "N")]
        connections: usize,
    },
}

#[derive(Debug, Args)]
struct DataSet {
    /// Number of CoValues.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    co_values: usize,
    /// Private transactions per CoValue.
    #[arg(long, default_value_t = 10, value_name = "N")]
    transactions: usize,
    /// Number of clients that share the CoValues.
    #[arg(long, default_value_t = 4, value_name = "N")]
    connections: usize,
    /// CoValues in flight per client.
    #[arg(long, default_value_t = 64, value_name = "N")]
    window: usize,
}

#[derive(Debug, Args)]
struct LongLog {
    /// Number of transactions.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    transactions: usize,
    /// Transactions per message.
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
        .context("cannot start the async runtime")?;
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
