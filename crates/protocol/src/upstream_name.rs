//! Names of upstream servers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name of an upstream, in bytes. Short enough that every storage can put it into a
/// key.
pub const MAX_UPSTREAM_NAME_LEN: usize = 255;

/// The name of an upstream server: 1 to [`MAX_UPSTREAM_NAME_LEN`] bytes, without NUL. Clones share
/// the text.
///
/// A server has the same name on every connection to it. A storage keeps which CoValues the
/// upstream of a name has not acknowledged, so another name is another upstream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName(Arc<str>);

/// The text is no [`UpstreamName`]: it is empty, too long, or contains a NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upstream's name must have 1 to {MAX_UPSTREAM_NAME_LEN} bytes, none of them NUL")]
pub struct InvalidUpstreamName;

impl UpstreamName {
    /// Checks a text and makes it a name.
    pub fn new(name: &str) -> Result<Self, InvalidUpstreamName> {
        if name.is_empty() || name.len() > MAX_UPSTREAM_NAME_LEN || name.contains('\0') {
            return Err(InvalidUpstreamName);
        }
        Ok(Self(name.into()))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UpstreamName {
    type Err = InvalidUpstreamName;

    fn from_str(text: &str) -> Result<Self, InvalidUpstreamName> {
        Self::new(text)
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
