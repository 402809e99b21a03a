//! Headers: whether the reference's native core accepts them, and their ids.

use anyhow::Result;
use downbeat_crypto::header_id;
use downbeat_protocol::{Header, Limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json_text::{self, Style, quoted};
use crate::random::Random;
use crate::suite::Rule;

pub(crate) struct Headers;

#[derive(Serialize, Deserialize)]
pub(crate) struct Case {
    text: String,
}

impl Rule for Headers {
    type Case = Case;

    fn case(random: &mut Random) -> Case {
        let mut members = Vec::new();
        let mut add = |random: &mut Random, name: &str, text: String| {
            // Sometimes a member is missing. `uniqueness` may be absent in the protocol and here,
            // but not in the native core.
            if name == "uniqueness" || !random.percent(3) {
                members.push((name.to_owned(), text));
            }
        };
        let co_type = co_type(random);
        add(random, "type", co_type);
        let ruleset = ruleset(random);
        add(random, "ruleset", ruleset);
        let meta = meta(random);
        add(random, "meta", meta);
        let uniqueness = uniqueness(random);
        add(random, "uniqueness", uniqueness);
        if random.percent(70) {
            let created_at = created_at(random);
            add(random, "createdAt", created_at);
        }
        if random.percent(5) {
            let text = anything(random);
            let name = random.pick(&["extra", "id", "type", "meta", "uniqueness", "createdAt"]);
            add(random, name, text);
        }
        let mut text = String::new();
        json_text::object_of(random, members, &mut text);
        Case { text }
    }

    /// The id, or `null` if the text is not a header.
    fn answer(case: &Case) -> Result<Value> {
        let header = Header::parse(&case.text.clone().into(), &Limits::unlimited());
        Ok(header.map_or(Value::Null, |header| header_id(&header).as_str().into()))
    }
}

fn co_type(random: &mut Random) -> String {
    if random.percent(5) {
        return anything(random);
    }
    let co_type = random.pick(&["comap", "colist", "coplaintext", "costream", "é\n"]);
    quoted(random, co_type)
}

fn ruleset(random: &mut Random) -> String {
    let mut members = Vec::new();
    let mut add = |random: &mut Random, name: &str, value: &str| {
        let text = quoted(random, value);
        members.push((name.to_owned(), text));
    };
    match random.below(3) {
        0 => {
            add(random, "type", "group");
            let admin = if random.percent(50) { agent(random) } else { co_value(random) };
            if !random.percent(3) {
                add(random, "initialAdmin", &admin);
            }
        }
        1 => {
            add(random, "type", "ownedByGroup");
            let group = co_value(random);
            if !random.percent(3) {
                add(random, "group", &group);
            }
            if random.percent(20) {
                let text = random.pick(&["true", "false", "null", "0", "\"true\""]);
                members.push(("restrictDeletion".to_owned(), text.to_owned()));
            }
        }
        _ => add(random, "type", "unsafeAllowAll"),
    }
    if random.percent(4) {
        let name = random.pick(&["extra", "restrictDeletion", "type"]);
        members.push((name.to_owned(), anything(random)));
    }
    let mut text = String::new();
    json_text::object_of(random, members, &mut text);
    text
}

fn meta(random: &mut Random) -> String {
    match random.below(6) {
        0 | 1 => "null".to_owned(),
        2 => r#"{"type":"account"}"#.to_owned(),
        3 => r#"{"type":"binary"}"#.to_owned(),
        4 => {
            let mut text = String::new();
            let style = style(random);
            json_text::object(random, style, &mut text);
            text
        }
        _ => anything(random),
    }
}

fn created_at(random: &mut Random) -> String {
    match random.below(10) {
        0 => "null".to_owned(),
        1 => anything(random),
        _ => quoted(random, "2024-05-01T12:00:00.000Z"),
    }
}

fn uniqueness(random: &mut Random) -> String {
    let mut text = String::new();
    match random.below(10) {
        0 => text.push_str(random.pick(&["true", "false", "null"])),
        1 | 2 => json_text::number(random, &mut text),
        3 => json_text::object(random, Style { depth: 1, ..Style::TAME }, &mut text),
        4 => {
            let mut members = Vec::new();
            for _ in 0..random.below(4) {
                let name = (random.pick(&["a", "b", "é", "\u{10000}", "\u{ffff}", ""])).to_owned();
                let mut text = String::new();
                json_text::string(random, Style::TAME, &mut text);
                members.push((name, text));
            }
            json_text::object_of(random, members, &mut text);
        }
        5 => return anything(random),
        6 => {
            let style = style(random);
            json_text::string(random, style, &mut text);
        }
        _ => {
            let digits = random.base58(16);
            text = quoted(random, &format!("z{digits}"));
        }
    }
    text
}

fn anything(random: &mut Random) -> String {
    let mut text = String::new();
    let style = style(random);
    json_text::value(random, style, &mut text);
    text
}

/// A style with few lone surrogates, because each of them makes the whole header invalid.
fn style(random: &mut Random) -> Style {
    if random.percent(10) { Style::WILD } else { Style::TAME }
}

/// A valid id. The native core also accepts other ids, which this crate refuses because no such
/// CoValue can exist.
fn co_value(random: &mut Random) -> String {
    format!("co_z{}", random.base58(25))
}

fn agent(random: &mut Random) -> String {
    use downbeat_protocol::{AgentId, SealerId, SignerId};
    let (sealer, signer) = (random.bytes(), random.bytes());
    AgentId::new(SealerId::from_bytes(sealer), SignerId::from_bytes(signer)).to_string()
}
