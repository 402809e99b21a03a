//! Load for any server that speaks the Jazz sync protocol over WebSocket, and a report of what the
//! server made of it.
//!
//! A workload is a struct with the sizes that matter to it; its `run` plays clients against the
//! server at a [`Target`] and returns a [`Report`]: operations a second as the clients see them,
//! percentiles of how long each waited, and, if the server is a process on this machine, its CPU
//! time and memory. All content is authored before the clock starts, with real signatures, from a
//! seed: the same seed makes the same CoValues, so that one workload can fetch what another has
//! uploaded. Every answer is checked; a server that answers wrongly is an error and not a figure.
//!
//! ```
//! use downbeat_bench::{NullServer, Target, Upload};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! // In place of a real server: one that neither checks nor stores anything.
//! let server = NullServer::bind("127.0.0.1:0").await?;
//! let target = Target::new(&server.url());
//! tokio::spawn(server.run());
//!
//! let upload = Upload { co_values: 20, ..Upload::default() };
//! let report = upload.run(&target).await?;
//! assert_eq!(report.operations, 20);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [`NullServer`] shows what the clients themselves could do at most.

mod author;
mod client;
mod data_set;
mod error;
mod measurement;
mod null_server;
mod process;
mod report;
mod target;
mod workloads;

pub use error::BenchError;
pub use null_server::NullServer;
pub use process::ServerProcess;
pub use report::{Latency, Report, ServerCost};
pub use target::Target;
pub use workloads::{
    FanOut, Fetch, Idle, LiveEdits, LongAppend, LongLoad, ManySessions, Starts, Storm, StreamDown,
    StreamUp, UpToDate, Upload,
};
