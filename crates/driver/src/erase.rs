//! Erasing the content of deleted CoValues, part by part.

use std::collections::VecDeque;

use downbeat_protocol::CoValueId;
use downbeat_storage::{Erased, Storage, StorageError};

use crate::failure::is_transient;

/// CoValues that are listed with one call to storage.
const PAGE: usize = 100;

/// Goes through all deleted CoValues whose content is not erased yet. It can be dropped at any
/// time: another one finds the rest.
#[derive(Debug, Default)]
pub struct Eraser {
    found: VecDeque<CoValueId>,
    /// The last CoValue that was listed.
    after: Option<CoValueId>,
    all_listed: bool,
}

/// The result of [`Eraser::step`].
#[derive(Debug)]
pub enum EraseStep {
    /// A part of a CoValue has been erased.
    Erased(CoValueId, Erased),
    /// A CoValue cannot be erased because its stored data is damaged. It is skipped.
    Damaged(CoValueId, StorageError),
    /// Everything has been erased.
    Done,
}

impl Eraser {
    /// Begins with the first deleted CoValue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Erases the next part. After an error, the same step can be tried again.
    pub async fn step(&mut self, storage: &dyn Storage) -> Result<EraseStep, StorageError> {
        if self.found.is_empty() && !self.all_listed {
            let page = storage.erasable(self.after, PAGE).await?;
            self.all_listed = page.len() < PAGE;
            self.after = page.last().copied();
            self.found = page.into();
        }
        let Some(id) = self.found.front().copied() else { return Ok(EraseStep::Done) };
        match storage.erase(id).await {
            Ok(erased) => {
                if !erased.more {
                    self.found.pop_front();
                }
                Ok(EraseStep::Erased(id, erased))
            }
            Err(error) if is_transient(&error) || matches!(error, StorageError::Closed) => {
                Err(error)
            }
            // The others can still be erased.
            Err(error) => {
                self.found.pop_front();
                Ok(EraseStep::Damaged(id, error))
            }
        }
    }
}
