//! Members of an object, read in whatever order they come.

use crate::error::DecodeError;
use crate::json::scan::Scanner;

/// What has been read of one member: nothing yet, or its value, or what is wrong with it.
///
/// Of a repeated member the last one counts, as for `JSON.parse`, even if an earlier one is wrong.
pub(crate) struct Slot<T>(Option<Result<T, DecodeError>>);

impl<T> Slot<T> {
    pub(crate) const fn empty() -> Self {
        Self(None)
    }

    /// Reads the value at the scanner, and replaces what was read before.
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

    /// The value of a member that must be there.
    pub(crate) fn required(self, member: &'static str) -> Result<T, DecodeError> {
        self.0.unwrap_or(Err(DecodeError::Missing(member)))
    }

    /// The value, if it is there and right, left where it is.
    pub(crate) fn as_valid(&self) -> Option<&T> {
        self.0.as_ref().and_then(|read| read.as_ref().ok())
    }

    /// The value, if it is there and right.
    pub(crate) fn valid(self) -> Option<T> {
        self.0.and_then(Result::ok)
    }
}
