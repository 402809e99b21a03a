//! Carries out the actions of Downbeat's sync machine over any storage.
//!
//! The machine ([`downbeat_sync::Machine`]) decides what has to happen, and does no I/O. This crate
//! does the I/O for it, as `async fn`s over a [`Storage`](downbeat_storage::Storage) that need no
//! particular runtime:
//!
//! | action | carried out by | completed by |
//! |---|---|---|
//! | `Load` | [`LookUp`] | `Loaded` |
//! | `ListUnsynced`, `ListStored` | [`list_unsynced`], [`list_stored`] | `Unsynced`, `Listed` |
//! | `Verify` | [`Verification`], [`verify()`] | `Verified` |
//! | `Store`, `Track` | [`WriteBatch`] | `Stored` |
//! | `Turn` | [`Turn`] | `TurnDone` |
//!
//! Besides, [`Eraser`] erases what deletions leave in storage, and [`load_family`] reads a group to
//! find roles in it. Content that is not durable yet, or has been stored a moment ago, is read from
//! a [`ContentStore`]'s memory.
//!
//! A runtime adds tasks, threads, queues, retries and statistics: `downbeat-node` is one over
//! tokio. A simulation needs none of that. It runs the same functions with [`block_on`], so that it
//! tests the code that servers run:
//!
//! ```
//! use std::sync::Arc;
//!
//! use downbeat_driver::{ContentStore, LookUp, Turn, TurnLimits, block_on};
//! use downbeat_protocol::{CoValueId, KnownState, Message};
//! use downbeat_storage::MemoryStorage;
//! use downbeat_sync::{Action, Config, Event, Machine, PeerId, PeerRole};
//!
//! let content = ContentStore::new(Arc::new(MemoryStorage::new()), 1 << 20);
//! let mut machine = Machine::new(Config::default());
//! let (now, peer) = (0, PeerId(1));
//! machine.handle(now, Event::Connected { peer, role: PeerRole::Client });
//! let message = Message::Load(KnownState::empty(CoValueId::parse("co_z1")?));
//! machine.handle(now, Event::Received { peer, message });
//!
//! let (mut actions, mut answers) = (Vec::new(), Vec::new());
//! loop {
//!     machine.poll(&mut actions);
//!     if actions.is_empty() {
//!         break;
//!     }
//!     for action in actions.drain(..) {
//!         match action {
//!             Action::Load(id) => {
//!                 let mut look_up = LookUp::new(vec![id]);
//!                 while let Some((id, found)) = block_on(look_up.next(&**content.storage())) {
//!                     machine.handle(now, Event::Loaded { id, result: Ok(found?) });
//!                 }
//!             }
//!             Action::Turn { peer, items } => {
//!                 let mut turn = Turn::new(items, TurnLimits::default());
//!                 while let Some(messages) = block_on(turn.next(&content)) {
//!                     answers.extend_from_slice(messages);
//!                 }
//!                 let progress = turn.finish().progress;
//!                 machine.handle(now, Event::TurnDone { peer, progress });
//!             }
//!             other => panic!("this client causes no other action: {other:?}"),
//!         }
//!     }
//! }
//! assert!(matches!(&answers[..], [Message::Known(known)] if !known.state.header));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod block_on;
mod bugs;
mod chunker;
mod content;
mod erase;
mod failure;
mod lookup;
mod recent;
mod roles;
mod turn;
mod verify;
mod write;

pub use block_on::block_on;
#[cfg(feature = "faults")]
pub use bugs::DriverBug;
pub use chunker::{ContentChunker, ReadRequest};
pub use content::ContentStore;
pub use erase::{EraseStep, Eraser};
pub use failure::is_transient;
pub use lookup::{LOOK_UP_BATCH, LookUp, list_stored, list_unsynced};
pub use recent::RecentContent;
pub use roles::{Family, load_family};
pub use turn::{Turn, TurnLimits, TurnReport};
pub use verify::{Ed25519, Failure, SignatureCheck, Verification, VerifyLimits, verify};
pub use write::{WRITE_LIMITS, WriteBatch, WriteJob, Written};
