//! Load tests for servers of the Jazz sync protocol over WebSocket.
//!
//! A workload is a struct of sizes. Its `run` method connects clients to the server at a [`Target`]
//! and returns a [`Report`]: operations per second, percentiles of the latency, and, if the server
//! is a process on this machine, its CPU time and memory. All content has valid signatures and is
//! created from a seed before the clock starts. The same seed creates the same CoValues, so one
//! workload can fetch the uploads of another. Every answer is checked, and a wrong answer is an
//! error.
//!
//! ```
//! use downbeat_bench::{NullServer, Target, Upload};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! // A server that neither verifies nor stores content, instead of a real one.
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
//! [`NullServer`] measures the upper limit of the clients.

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

pub use downbeat_transport::TransportError;
pub use downbeat_transport::tls::ClientTls;
pub use downbeat_transport_ws::InvalidUrl;
pub use error::BenchError;
pub use null_server::NullServer;
pub use process::ServerProcess;
pub use report::{Latency, Report, ServerCost};
pub use target::Target;
pub use workloads::{
    FanOut, Fetch, Idle, LiveEdits, LongAppend, LongLoad, ManySessions, Starts, Storm, StreamDown,
    StreamUp, UpToDate, Upload,
};
