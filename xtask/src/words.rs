//! `cargo xtask words`: words that make sentences hard to read, in sources, docs and help texts.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::workspace::root;

/// Words and phrases that plain technical English does not need. Write the noun ("the client"), the
/// active voice ("the server stores"), or the usual word ("again", "recently").
const WORDS: &[&str] = &[
    "whoever",
    "whomever",
    "nobody",
    "somebody",
    "everybody",
    "of which",
    "lately",
    "anew",
    "at hand",
    "is to be",
    "are to be",
    "be told",
    "its affair",
];

/// Files that may contain such words, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[("xtask/src/words.rs", "the list of the words")];

/// The kinds of files that hold prose.
const SUFFIXES: &[&str] = &[
    ".css",
    ".html",
    ".js",
    ".md",
    ".mjs",
    ".rs",
    ".service",
    ".toml",
    ".yaml",
    ".yml",
    "Dockerfile",
];

/// Find words that make sentences hard to read, in sources, docs and help texts.
#[derive(Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<()> {
    let mut found = 0;
    for path in files()? {
        // A tracked file may be deleted in the working tree.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (line, word) in occurrences(&text) {
            println!("    {path}:{line}: \"{word}\"");
            found += 1;
        }
    }
    if found > 0 {
        bail!("{found} hard words; write the noun, the active voice, or the usual word instead");
    }
    Ok(())
}

/// The files of the repository that hold prose, relative to its root.
fn files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.current_dir(root()).output().context("cannot start git")?;
    ensure!(output.status.success(), "git ls-files failed: {}", output.status);
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let holds_prose = |path: &&str| {
        let is_excepted =
            EXCEPTIONS.iter().any(|(excepted, _)| Path::new(excepted) == Path::new(path));
        SUFFIXES.iter().any(|suffix| path.ends_with(suffix)) && !is_excepted
    };
    Ok(text.split('\0').filter(holds_prose).map(str::to_owned).collect())
}

/// The hard words of a text, each with its line. A phrase may continue on the next line of a
/// comment.
fn occurrences(text: &str) -> Vec<(usize, &'static str)> {
    let phrases: Vec<(&'static str, Vec<&str>)> =
        WORDS.iter().map(|phrase| (*phrase, phrase.split(' ').collect())).collect();
    let tokens = tokens(text);
    let mut found = Vec::new();
    for (start, first) in tokens.iter().enumerate() {
        for (phrase, words) in &phrases {
            let Some(candidate) = tokens.get(start..start + words.len()) else { continue };
            let mut pairs = candidate.iter().zip(words);
            if pairs.all(|(token, word)| token.word.eq_ignore_ascii_case(word)) {
                found.push((first.line, *phrase));
            }
        }
    }
    found
}

/// A word of a text. Empty for punctuation, which ends a phrase.
struct Token<'a> {
    word: &'a str,
    line: usize,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || "_-'".contains(c);
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        // The markers of comments, lists and quotes.
        let mut rest = line.trim_start_matches([' ', '\t', '/', '!', '*', '#', '>']);
        while let Some(first) = rest.chars().next() {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(first.len_utf8());
            let (word, after) = rest.split_at(len);
            rest = after;
            if !first.is_whitespace() {
                let word = if is_word(first) { word } else { "" };
                tokens.push(Token { word, line: line_number });
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_with_their_line() {
        let text = "fine\n/// Nobody reads this, and it is to\n/// be told.\n";
        assert_eq!(occurrences(text), [(2, "nobody"), (2, "is to be"), (3, "be told")]);
    }

    #[test]
    fn names_and_separate_sentences_are_no_words() {
        for text in ["a_nobody_b", "co_zNobody", "as it is. To be sure", "of\n", "at", "is to"] {
            assert_eq!(occurrences(text), [], "{text}");
        }
    }
}
