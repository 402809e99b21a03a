//! The suites, one for each rule.

mod deletes;
mod hashes;
mod headers;
mod json;
mod known_states;
mod pieces;
mod roles;
mod signatures;
mod transactions;

use crate::suite::Suite;

/// All suites, cheap ones first.
pub(crate) const SUITES: &[Suite] = &[
    Suite::new::<json::Json>("json", 1, 60),
    Suite::new::<headers::Headers>("headers", 1, 60),
    Suite::new::<hashes::Hashes>("hashes", 1, 10),
    Suite::new::<transactions::Transactions>("transactions", 1, 60),
    Suite::new::<known_states::KnownStates>("known-states", 1, 20),
    Suite::new::<signatures::Signatures>("signatures", 5, 20),
    Suite::new::<roles::Roles>("roles", 4, 12),
    Suite::new::<deletes::Deletes>("deletes", 8, 16),
    Suite::new::<pieces::Pieces>("pieces", 20, 10),
];
