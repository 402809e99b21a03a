//! Canonical JSON: `stableStringify` of the result of `JSON.parse`.

use anyhow::Result;
use downbeat_protocol::Limits;
use downbeat_protocol::json::canonicalize;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json_text::{self, Style};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Json;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    text: String,
}

impl Rule for Json {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let mut text = String::new();
        json_text::value(random, Style::WILD, &mut text);
        if random.percent(2) {
            // Canonical JSON may have 128 levels, including those of the text.
            let depth = 1 + random.index(120);
            text = nested(random, depth, &text);
        }
        if random.percent(15) {
            json_text::damage(random, &mut text);
        }
        Case { text }
    }

    /// The canonical text, or `null` if the text is not JSON.
    fn answer(case: &Case) -> Result<Value> {
        let Ok(canonical) = canonicalize(&case.text.clone().into(), &Limits::unlimited()) else {
            return Ok(Value::Null);
        };
        Ok(str::from_utf8(&canonical)?.into())
    }
}

/// The value inside this number of arrays and objects.
fn nested(random: &mut Random, depth: usize, value: &str) -> String {
    let mut text = value.to_owned();
    for _ in 0..depth {
        text = if random.percent(50) { format!("[{text}]") } else { format!("{{\"a\":{text}}}") };
    }
    text
}
