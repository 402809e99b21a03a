//! What ends a workload without a figure.

use std::io;
use std::time::Duration;

use downbeat_transport::TransportError;
use downbeat_transport_ws::InvalidUrl;

/// Why a workload has no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The server's URL is none.
    #[error("{url}: {source}")]
    Url {
        /// The URL, without its query.
        url: String,
        /// What is wrong with it.
        source: InvalidUrl,
    },
    /// The server could not be reached, or has broken a connection.
    #[error("the connection to the server failed")]
    Transport(#[from] TransportError),
    /// The server has closed a connection in the middle of a workload.
    #[error("the server has closed the connection while answers were due")]
    Closed,
    /// The server does not answer.
    #[error("no answer for {0:?}: {1}")]
    Silent(Duration, String),
    /// The server has answered what is not so.
    #[error("a wrong answer: {0}")]
    Wrong(String),
    /// The process of the server cannot be looked at.
    #[error("process {pid} cannot be measured")]
    Process {
        /// The process.
        pid: u32,
        /// What failed.
        source: io::Error,
    },
    /// The server cannot be started, or does not run as it should.
    #[error("the server {program}: {problem}")]
    Program {
        /// What was to be started.
        program: String,
        /// What is wrong.
        problem: String,
    },
    /// The null server cannot listen.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// A size of the workload makes no sense.
    #[error("{0}")]
    Size(&'static str),
}
