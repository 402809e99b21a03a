//! The sync machine of the Jazz protocol: events in, actions out, with no I/O, no clock and no
//! async.
//!
//! A [`Machine`] is what a sync server knows: which peers are connected, what each has of which
//! CoValue, and what each is owed. It is fed [`Event`]s (a message has come, content has been
//! verified, a store is durable, a peer has room) and answers with [`Action`]s (verify this, store
//! that, write these to a peer). Whoever runs it carries the actions out, in its own way and time,
//! and reports their completion as further events; the crate `downbeat-node` does so with tokio.
//!
//! ```
//! use downbeat_protocol::{CoValueId, Known, KnownState, Message};
//! use downbeat_sync::{Action, Config, Event, Item, Machine, PeerId, Role};
//!
//! let mut machine = Machine::new(Config::default());
//! let mut actions = Vec::new();
//! let (now, peer) = (0, PeerId(1));
//! machine.handle(now, Event::Connected { peer, role: Role::Client });
//!
//! // A client asks for a CoValue, so storage is asked for it.
//! let id: CoValueId = "co_zUDSRYTQXbXDNirdvoWLHy4jnFj".parse()?;
//! let load = Message::Load(KnownState::empty(id));
//! machine.handle(now, Event::Received { peer, message: load });
//! machine.poll(&mut actions);
//! assert!(matches!(actions[..], [Action::Load(asked)] if asked == id));
//! actions.clear();
//!
//! // Storage does not have it, and there is no upstream to ask: so the client is told.
//! machine.handle(now, Event::Loaded { id, result: Ok(None) });
//! machine.poll(&mut actions);
//! let [Action::Turn { items, .. }] = &actions[..] else { panic!("one peer has a turn") };
//! let nobody_has_it = Known {
//!     state: KnownState::empty(id),
//!     is_correction: false,
//!     as_dependency_of: None,
//! };
//! assert!(matches!(&items[..], [Item::Message(Message::Known(known))] if *known == nobody_has_it));
//! # Ok::<(), downbeat_protocol::InvalidId>(())
//! ```
//!
//! # What it keeps, and what it does not
//!
//! Per CoValue: the header, the counts that are verified and durable, dependencies, and hash chains
//! of sessions that were written lately. Content passes through on its way to the verifier and to
//! storage and is not kept. Entries that nothing is going on with are forgotten beyond a bound
//! ([`Config::warm_co_values`]) and come back from storage.
//!
//! What a peer is owed is a set of CoValues, not a queue of messages. When the peer has room
//! ([`Event::TurnDone`]), what it lacks is worked out from the state of that moment and handed to
//! the runtime as one [`Action::Turn`], the most urgent first. So updates coalesce, and a slow peer
//! costs nothing.
//!
//! The crate `downbeat-driver` carries the actions out over a storage, for any runtime.
//!
//! # Rules that hold always
//!
//! - KNOWN carries durable counts only: what is acknowledged is never lost.
//! - Content goes to subscribers when it is verified, and to storage likewise; unverified content
//!   goes nowhere.
//! - The same events at the same times give the same actions.
//! - A completion that nobody waits for is ignored.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod action;
mod agreement;
mod answer;
mod config;
mod content;
mod covalue;
mod deletion;
mod dependencies;
mod event;
mod faults;
mod holding;
mod load;
mod machine;
mod peer;
mod reconcile;
mod report;
mod storing;
mod subscription;
mod turn;
mod upstream;
mod values;
mod verifying;
mod walk;

pub use action::{Action, ContentItem, Item, StoreJob, VerifyJob};
pub use config::Config;
pub use content::{content_bytes, content_credit};
pub use event::{
    Event, Loaded, Millis, PeerId, Progress, Refusal, Role, StorageFailed, Stored, UpstreamName,
    Verified,
};
#[cfg(feature = "faults")]
pub use faults::Fault;
pub use machine::Machine;
pub use report::{Rejection, Report};
