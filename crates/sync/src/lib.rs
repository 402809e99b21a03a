//! The sync machine of the Jazz protocol: events in, actions out, with no I/O, no clock and no
//! async.

mod action;
mod config;
mod content;
mod covalue;
mod deletion;
mod dependencies;
mod event;
mod faults;
mod holding;
mod machine;
mod peer;
mod reconcile;
mod report;
mod turn;
mod upstream;
mod walk;

pub use action::{Action, ContentItem, Item, StoreJob, VerifyJob};
pub use config::Config;
pub use content::{content_bytes, content_credit};
pub use event::{
    Event, Loaded, Millis, PeerId, Progress, Role, StorageFailed, Stored, UpstreamName, Verified,
};
#[cfg(feature = "faults")]
pub use faults::Fault;
pub use machine::Machine;
pub use report::{Rejection, Report};
