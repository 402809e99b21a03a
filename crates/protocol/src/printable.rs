//! Texts of peers and files, made safe for logs and terminals.

use std::fmt::{self, Write};

/// The most characters that are shown of one text. The longest ids and error messages are shorter.
const MAX_CHARS: usize = 1_024;

/// Shows a text of a peer or file in one line: for logs, error messages and terminals.
///
/// A stranger chooses such a text. Line breaks in it could forge log lines, escape sequences could
/// control a terminal, and invisible characters or overrides of the writing direction could make it
/// look like another text. They are shown as escapes. A text of more than 1,024 characters is cut,
/// and ends with "…".
///
/// ```
/// use downbeat_protocol::Printable;
///
/// let id = "co_z1\n2026-01-01 ERROR forged \u{1b}[2J";
/// assert_eq!(Printable(id).to_string(), r"co_z1\n2026-01-01 ERROR forged \u{1b}[2J");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Cleaner { out: f, left: MAX_CHARS }, "{}", self.0)
    }
}

/// Whether a character is shown as an escape: controls, line and paragraph separators, invisible
/// characters, and those that change the writing direction.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

struct Cleaner<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    /// The characters that may still be written.
    left: usize,
}

impl Write for Cleaner<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match self.left {
                // The end of a long text is dropped.
                0 => return Ok(()),
                1 => self.out.write_char('…')?,
                _ if is_unprintable(c) => write!(self.out, "{}", c.escape_default())?,
                _ => self.out.write_char(c)?,
            }
            self.left -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        Printable(text).to_string()
    }

    #[test]
    fn usual_text_of_any_language_is_unchanged() {
        let text = r#"C:\data "é" 日本 שלום 🎉 {"a": [1, 2]}"#;
        assert_eq!(printed(text), text);
    }

    #[test]
    fn nothing_can_begin_a_line_or_control_a_terminal() {
        for c in ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain(['\u{2028}', '\u{2029}']) {
            let shown = printed(&format!("a{c}b"));
            assert!(shown.chars().all(|c| c.is_ascii_graphic()), "{shown:?}");
            assert!(shown.starts_with("a\\") && shown.ends_with('b'), "{shown:?}");
        }
    }

    #[test]
    fn hidden_characters_and_other_writing_directions_are_shown() {
        assert_eq!(
            printed("a\u{202e}b\u{2066}c\u{200b}d\u{feff}"),
            r"a\u{202e}b\u{2066}c\u{200b}d\u{feff}"
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(printed(&"é".repeat(MAX_CHARS - 1)), "é".repeat(MAX_CHARS - 1));
        let cut = printed(&"\n".repeat(1_000_000));
        assert_eq!(cut, format!("{}…", r"\n".repeat(MAX_CHARS - 1)));
        // Parts of a text count together.
        let parts = format_args!("{}{}", "a".repeat(1_000), "b".repeat(1_000)).to_string();
        assert_eq!(
            Printable(format_args!("{parts}{parts}")).to_string().chars().count(),
            MAX_CHARS
        );
    }
}
