//! The sync machine of the Jazz protocol: events in, actions out, with no I/O, no clock and no
//! async.
//!
//! A [`Machine`] is the state of a sync server: the connected peers, what each has of each
//! CoValue, and what each still has to get. It takes [`Event`]s (a message has arrived, content
//! has been verified, a store is durable, a peer has room) and returns [`Action`]s (verify this,
//! store that, write these messages to a peer). The runtime carries the actions out and reports
//! their completion as further events. The crate `downbeat-driver` has the steps for that, and
//! `downbeat-node` runs them with tokio.
//!
//! ```
//! use downbeat_protocol::{CoValueId, Known, KnownState, Message};
//! use downbeat_sync::{Action, Config, Event, Item, Machine, PeerId, PeerRole};
//!
//! let mut machine = Machine::new(Config::default());
//! let mut actions = Vec::new();
//! let (now, peer) = (0, PeerId(1));
//! machine.handle(now, Event::Connected { peer, role: PeerRole::Client });
//!
//! // A client asks for a CoValue, so storage is asked for it.
//! let id: CoValueId = "co_zUDSRYTQXbXDNirdvoWLHy4jnFj".parse()?;
//! let load = Message::Load(KnownState::empty(id));
//! machine.handle(now, Event::Received { peer, message: load });
//! machine.poll(&mut actions);
//! assert!(matches!(actions[..], [Action::Load(asked)] if asked == id));
//! actions.clear();
//!
//! // Storage does not have it, and there is no upstream to ask: the client gets that answer.
//! machine.handle(now, Event::Loaded { id, result: Ok(None) });
//! machine.poll(&mut actions);
//! let [Action::Turn { items, .. }] = &actions[..] else { panic!("one peer has a turn") };
//! let not_found = Known {
//!     state: KnownState::empty(id),
//!     is_correction: false,
//!     as_dependency_of: None,
//! };
//! assert!(matches!(&items[..], [Item::Message(Message::Known(known))] if *known == not_found));
//! # Ok::<(), downbeat_protocol::InvalidId>(())
//! ```
//!
//! # What is kept in memory
//!
//! For each CoValue: the header, the verified and durable counts, the dependencies, and the hash
//! chains of sessions that were written recently. Content passes through on its way to the
//! verifier and to storage, and is not kept. Beyond a bound ([`Config::warm_bytes`], or
//! [`Config::warm_co_values`] by number), CoValues without work in progress are forgotten, and
//! loaded from storage again when they are needed. CoValues with work in progress are not looked at
//! then, however many there are.
//!
//! For each peer: subscriptions, claimed counts, content that waits for dependencies, and reconcile
//! batches. Their bytes are summed as they change, with the figures of [`cost`]. A client that
//! keeps too much is disconnected ([`Action::Close`]). [`Machine::memory`] tells what the memory is
//! used for.
//!
//! Each peer has a set of CoValues to send, and not a queue of messages. When the peer has room
//! ([`Event::TurnDone`]), the machine computes the messages from the state of that moment, and
//! gives them to the runtime as one [`Action::Turn`], in the order of their priorities. So updates
//! are combined, and a slow peer needs no memory.
//!
//! The crate `downbeat-driver` carries the actions out over a storage, for any runtime.
//!
//! # What one event costs
//!
//! An event is not handled in one go when it causes much: the entries of a reconcile message, the
//! subscriptions of a client that leaves, held content that can go on, expired timers, very many
//! subscribers and very many turns are worked off in portions, one with each [`Machine::poll`].
//! [`Machine::deadline`] is now while some are left, so other events come between. The runtime
//! draws the rates of peers from [`cost::work`], the number of small messages that a message counts
//! as.
//!
//! # Guarantees
//!
//! - A KNOWN has durable counts only, so acknowledged content is never lost.
//! - Content is stored and sent to subscribers only after it is verified.
//! - The same events at the same times give the same actions.
//! - The completion of an action that is no longer in progress is ignored.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod action;
mod config;
pub mod cost;
mod credit;
mod event;
mod injected_bug;
mod machine;
mod memory_use;
mod overuse;
mod rejection;
mod report;
mod state;

pub use action::{Action, ContentItem, Item, StoreJob, VerifyJob};
pub use config::Config;
pub use downbeat_protocol::UpstreamName;
pub use event::{
    Event, Loaded, Millis, PeerId, PeerRole, Progress, Refusal, StorageFailed, Stored, Verified,
};
#[cfg(feature = "faults")]
pub use injected_bug::InjectedBug;
pub use machine::Machine;
pub use memory_use::MemoryUse;
pub use overuse::Overuse;
pub use rejection::Rejection;
pub use report::Report;
