//! CoValues as plain values: what a CoValue consists of, what someone lacks of it, and whether
//! what somebody sends of it can be true.
//!
//! No files, no sockets, no clock: a sync server is built on this crate, and so is a program that
//! makes, checks or compares CoValues by itself. The flow of a CoValue from its author to somebody
//! else is this:
//!
//! ```
//! use downbeat_core::{CoValue, known_state};
//! use downbeat_crypto::{AgentSecret, random_session_id};
//! use downbeat_protocol::{AgentId, CoValueId, Header, KnownState, Owner, Ruleset, Transaction};
//!
//! // An author makes a CoValue and writes to it.
//! let mut ours = CoValue::new(Header::builder("comap", Ruleset::UnsafeAllowAll).build()?);
//! let secret = AgentSecret::generate()?;
//! let session = random_session_id(&Owner::Agent(secret.agent()))?;
//! let greeting = Transaction::trusting(
//!     r#"[{"key":"greeting","op":"set","value":"hello"}]"#,
//!     1_700_000_000_000,
//!     None,
//! );
//! ours.append(&session, greeting, secret.signer_secret())?;
//!
//! // Somebody says what they have. That is less than ours …
//! let theirs = KnownState::empty(ours.id());
//! let missing = known_state::missing(&ours.known_state().sessions, &theirs.sessions);
//! assert_eq!(missing.get(&session), 1);
//!
//! // … so they get the rest, and check every bit of it. They would look up the agents of
//! // accounts, but here an agent writes by itself.
//! let accounts = |_account: CoValueId| -> Option<AgentId> { None };
//! let messages = ours.content_since(Some(&theirs));
//! let (mut copy, ingested) = CoValue::from_content(&messages[0], &accounts)?;
//! assert_eq!(ingested.refused().count(), 0);
//! assert_eq!(copy.known_state(), ours.known_state());
//!
//! // What was changed on the way is refused.
//! let mut forged = messages[0].clone();
//! forged.sessions[0].after = 1;
//! assert_eq!(copy.ingest(&forged, &accounts)?.refused().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`known_state`] compares and joins what two sides have.
//! - [`SessionLog`] is one author's transactions, verified; [`CoValue`] is the header with all logs.
//!   Content goes in by [`CoValue::ingest`] and out by [`CoValue::content_since`], cut into pieces
//!   at [`Checkpoint`]s.
//! - [`dependencies`] tells which other CoValues are needed first.
//! - [`roles`] tells who was what in a group at any time, parents included, and [`delete`] who may
//!   delete a CoValue.
//!
//! Whatever is decided here is decided as the reference implementation (cojson) decides it; the
//! tests hold real content recorded from it.

mod changes;
mod co_value;
pub mod delete;
pub mod dependencies;
mod ingest;
pub mod known_state;
mod pieces;
pub mod roles;
mod session_log;

pub use co_value::CoValue;
pub use delete::DeleteError;
pub use ingest::{AppendError, Directory, IngestError, Ingested, SessionError};
pub use roles::Roles;
pub use session_log::{Checkpoint, LogError, SessionLog, extend_chain, new_part};
