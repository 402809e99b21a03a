//! Transactions: the canonical JSON of the reference's native core, which is hashed.

use anyhow::Result;
use downbeat_protocol::{Limits, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json_text::{self, Style, quoted};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Transactions;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    text: String,
}

impl Rule for Transactions {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let mut members = Vec::new();
        let is_private = random.percent(40);
        let mut add = |random: &mut Random, name: &str, mut text: String| {
            if random.percent(3) {
                text = String::new();
                json_text::value(random, Style::WILD, &mut text);
            }
            if !random.percent(2) {
                members.push((name.to_owned(), text));
            }
        };
        let privacy = quoted(random, if is_private { "private" } else { "trusting" });
        add(random, "privacy", privacy);
        let made_at = made_at(random);
        add(random, "madeAt", made_at);
        if is_private || random.percent(5) {
            let digits = random.base58(10);
            let changes = format!("encrypted_U{digits}");
            let changes = text(random, &changes);
            add(random, "encryptedChanges", changes);
            let key_used = text(random, "key_z3bQ");
            add(random, "keyUsed", key_used);
        }
        if !is_private || random.percent(5) {
            let changes = text(random, r#"[{"op":"set","key":"é","value":"\"\u0007"}]"#);
            add(random, "changes", changes);
        }
        if random.percent(30) {
            let meta = if random.percent(10) { "null".into() } else { text(random, r#"{"a":1}"#) };
            add(random, "meta", meta);
        }
        if random.percent(5) {
            let name = random.pick(&["extra", "madeAt", "meta", "changes", "privacy"]);
            add(random, name, "1".to_owned());
        }
        let mut text = String::new();
        json_text::object_of(random, members, &mut text);
        Case { text }
    }

    /// The canonical text, or `null` if the text is not a transaction.
    fn answer(case: &Case) -> Result<Value> {
        let Ok(transaction) = Transaction::parse(&case.text.clone().into(), &Limits::unlimited())
        else {
            return Ok(Value::Null);
        };
        Ok(str::from_utf8(transaction.json())?.into())
    }
}

/// A JSON string: the usual text, or a random one.
fn text(random: &mut Random, usual: &str) -> String {
    if random.percent(60) {
        return quoted(random, usual);
    }
    let style = if random.percent(10) { Style::WILD } else { Style::TAME };
    let mut text = String::new();
    json_text::string(random, style, &mut text);
    text
}

fn made_at(random: &mut Random) -> String {
    if random.percent(70) {
        return (1_700_000_000_000 + random.below(1_000_000_000)).to_string();
    }
    let mut text = String::new();
    json_text::number(random, &mut text);
    text
}
