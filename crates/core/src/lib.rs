//! CoValues in memory: their content, the content that a peer lacks, and the verification of
//! content from peers.
//!
//! This crate does no I/O and reads no clock. Sync servers are built on it, and so are programs
//! that create, verify or compare CoValues. This is how a CoValue gets from its author to a peer:
//!
//! ```
//! use downbeat_core::{CoValue, known_state};
//! use downbeat_crypto::{AgentSecret, random_session_id};
//! use downbeat_protocol::{AgentId, CoValueId, Header, KnownState, Owner, Ruleset, Transaction};
//!
//! // An author creates a CoValue and writes to it.
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
//! // A peer sends its known state. It lacks one transaction …
//! let theirs = KnownState::empty(ours.id());
//! let missing = known_state::missing(&ours.known_state().sessions, &theirs.sessions);
//! assert_eq!(missing.get(&session), 1);
//!
//! // … so it receives that content and verifies it. Accounts would be looked up to find their
//! // agents, but this session belongs to an agent.
//! let accounts = |_account: CoValueId| -> Option<AgentId> { None };
//! let messages = ours.content_since(Some(&theirs));
//! let (mut copy, ingested) = CoValue::from_content(&messages[0], &accounts)?;
//! assert_eq!(ingested.refused().count(), 0);
//! assert_eq!(copy.known_state(), ours.known_state());
//!
//! // Content that was changed on the way is refused.
//! let mut forged = messages[0].clone();
//! forged.sessions[0].after = 1;
//! assert_eq!(copy.ingest(&forged, &accounts)?.refused().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`known_state`] compares and merges known states.
//! - [`SessionLog`] holds the verified transactions of one session; [`CoValue`] holds the header
//!   and all logs. [`CoValue::ingest`] takes content, and [`CoValue::content_since`] returns
//!   content, cut into messages at [`Checkpoint`]s.
//! - [`dependencies`] lists the CoValues that must be loaded first.
//! - [`roles`] computes the role of a member of a group at any time, with parent groups, and
//!   [`delete`] decides who may delete a CoValue.
//!
//! All rules are those of the reference implementation (cojson). The tests hold content recorded
//! from it.

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
