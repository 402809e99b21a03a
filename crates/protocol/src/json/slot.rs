//! The members of an object, which may be in any order.

use crate::error::DecodeError;
use crate::json::scan::Scanner;

/// One member: not read yet, its value, or the error of its value.
///
/// The last of repeated members counts, as for `JSON.parse`, even if an earlier one is invalid.
pub(crate) struct Slot<T>(Option<Result<T, DecodeError>>);

impl<T> Slot<T> {
    pub(crate) const fn empty() -> Self {
        Self(None)
    }

    /// Reads the next value, and replaces the current one.
    pub(crate) fn fill<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        read: impl FnOnce(&mut Scanner<'a>) -> Result<T, DecodeError>,
    ) -> Result<(), DecodeError> {
        self.0 = Some(scanner.attempt(read)?);
        Ok(())
    }

    /// The value of a member that may be absent.
    pub(crate) fn optional(self) -> Result<Option<T>, DecodeError> {
        self.0.transpose()
    }

    /// The value of a required member.
    pub(crate) fn required(self, member: &'static str) -> Result<T, DecodeError> {
        self.0.unwrap_or(Err(DecodeError::Missing(member)))
    }

    /// The value, if present and valid, by reference.
    pub(crate) fn as_valid(&self) -> Option<&T> {
        self.0.as_ref().and_then(|read| read.as_ref().ok())
    }

    /// The value, if present and valid.
    pub(crate) fn valid(self) -> Option<T> {
        self.0.and_then(Result::ok)
    }
}
