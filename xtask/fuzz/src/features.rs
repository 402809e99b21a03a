//! The features of a case, which replace coverage.

use std::hash::{DefaultHasher, Hash, Hasher};

use downbeat_protocol::DecodeError;

/// The features that a target observed. The fuzzer keeps an input with a new feature, and mutates
/// it.
#[derive(Debug, Default)]
pub struct Features(Vec<u64>);

impl Features {
    /// Records a feature.
    pub fn note(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        self.0.push(hasher.finish());
    }

    /// Records the magnitude of an amount.
    pub fn amount(&mut self, what: &str, amount: usize) {
        self.note((what, amount.checked_ilog2()));
    }

    /// Records an error and the magnitude of its position.
    pub fn error(&mut self, context: &str, error: &DecodeError) {
        let context = (context, std::mem::discriminant(error));
        match error {
            DecodeError::Syntax { reason, offset } => {
                self.note((context, reason, offset.checked_ilog2()));
            }
            DecodeError::Missing(member) => self.note((context, member)),
            DecodeError::Invalid { member, expected } => self.note((context, member, expected)),
            DecodeError::LimitExceeded { limit, .. } => self.note((context, format!("{limit:?}"))),
            DecodeError::Binary(text) => {
                // Without numbers, which are mostly positions.
                let words: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
                self.note((context, words));
            }
            // Other errors contain parts of the input.
            _ => self.note(context),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.0
    }
}
