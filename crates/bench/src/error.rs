//! The errors of workloads.

use std::io;
use std::time::Duration;

use downbeat_transport::TransportError;
use downbeat_transport_ws::InvalidUrl;

/// Why a workload has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The server's URL is invalid.
    #[error("invalid URL {url}")]
    Url {
        /// The URL, without its query.
        url: String,
        /// The cause.
        source: InvalidUrl,
    },
    /// Connecting to the server failed, or a connection broke.
    #[error("the connection to the server failed")]
    Transport(#[from] TransportError),
    /// The server closed a connection during a workload.
    #[error("the server closed the connection before it sent all answers")]
    Closed,
    /// The server does not answer in time.
    #[error("no answer within {0:?}: {1}")]
    Silent(Duration, String),
    /// The server sent a wrong answer.
    #[error("wrong answer: {0}")]
    Wrong(String),
    /// The server's process cannot be measured.
    #[error("process {pid} cannot be measured")]
    Process {
        /// The process id.
        pid: u32,
        /// The cause.
        source: io::Error,
    },
    /// The server cannot be started, or does not run as expected.
    #[error("the server {program}: {problem}")]
    Program {
        /// The program.
        program: String,
        /// The problem.
        problem: String,
    },
    /// The null server cannot listen.
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    /// A size of the workload is invalid.
    #[error("{0}")]
    Size(&'static str),
}
