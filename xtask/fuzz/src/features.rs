//! What was special about a case: a poor man's coverage.

use std::hash::{DefaultHasher, Hash, Hasher};

use downbeat_protocol::DecodeError;

/// What a target saw of an input. An input that shows something that none before it did is kept,
/// and others are made from it.
#[derive(Debug, Default)]
pub struct Features(Vec<u64>);

impl Features {
    /// Notes something that happened.
    pub fn note(&mut self, what: impl Hash) {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        self.0.push(hasher.finish());
    }

    /// Notes how much of something there was, roughly.
    pub fn amount(&mut self, what: &str, amount: usize) {
        self.note((what, amount.checked_ilog2()));
    }

    /// Notes why something was refused, and roughly where.
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
                // Numbers in it are as good as positions.
                let words: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
                self.note((context, words));
            }
            DecodeError::UnknownAction(_) | DecodeError::Id(_) => self.note(context),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.0
    }
}
