//! The error of texts that are not valid identifiers.

/// A text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    /// The beginning of the text, short enough for a log.
    pub text: String,
    /// A description of the expected identifier, such as "a CoValue id (co_z…)".
    pub expected: &'static str,
}

impl InvalidId {
    /// The length of the longest [`text`](Self::text), in bytes.
    const MAX_QUOTED_LEN: usize = 80;

    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: Self::cut(text).to_owned(), expected }
    }

    /// The beginning of the text, short enough for a log.
    pub(crate) fn cut(text: &str) -> &str {
        let mut end = text.len().min(Self::MAX_QUOTED_LEN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        &text[..end]
    }
}
