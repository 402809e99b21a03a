//! A model of canonical JSON, with the parser of `serde_json` and numbers of the standard library.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Whether a text is JSON.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The canonical form of a JSON text. `None` if the model does not apply: the text is not JSON, or
/// has lone surrogates.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let mut out = String::new();
    write(serde_json::from_str(text).ok()?, &mut out)?;
    Some(out)
}

/// Whether a canonical text may have a string without the escapes that it needs. Then it is not
/// JSON, or it is the JSON of another value.
pub(crate) fn may_be_no_json(canonical: &str) -> bool {
    canonical.contains("\"encrypted_U") || canonical.contains("\"binary_U")
}

fn write(value: &RawValue, out: &mut String) -> Option<()> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quote(&name, out);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
        b'[' => {
            out.push('[');
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            for (index, value) in elements.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(value, out)?;
            }
            out.push(']');
        }
        b'"' => {
            let string: String = serde_json::from_str(text).ok()?;
            if string.starts_with("encrypted_U") || string.starts_with("binary_U") {
                out.push('"');
                out.push_str(&string);
                out.push('"');
            } else {
                quote(&string, out);
            }
        }
        b'-' | b'0'..=b'9' => out.push_str(&number(text.parse().ok()?)),
        _ => out.push_str(text),
    }
    Some(())
}

/// `serde_json` writes the same escapes as JavaScript.
fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The shortest digits that identify the number, in scientific notation. Of several equally short
/// ones, the nearest; of two equally near ones, the even one. The standard library chooses
/// differently in these cases.
fn shortest(value: f64) -> String {
    let shortest = format!("{value:e}");
    let digits =
        shortest.bytes().take_while(|&byte| byte != b'e').filter(u8::is_ascii_digit).count();
    let nearest = format!("{value:.*e}", digits - 1);
    if nearest.parse() == Ok(value) { nearest } else { shortest }
}

/// A number by the rules of ECMAScript's `Number::toString`.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = shortest(value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("the notation has an exponent");
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().expect("the exponent is a number") + 1;
    let len = i32::try_from(digits.len()).expect("at most 17 digits");
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let text = if len <= point && point <= 21 {
        digits + &zeros(point - len)
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{fraction}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{:+}", point - 1)
    };
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_in_javascript() {
        for (number, expected) in [
            ("1e21", "1e+21"),
            ("123456789012345678901", "123456789012345680000"),
            ("1.5e300", "1.5e+300"),
            ("0.000001", "0.000001"),
            ("1.25e-7", "1.25e-7"),
            ("-0", "0"),
            ("-12.50", "-12.5"),
            ("1e400", "null"),
            ("922337203685470.3", "922337203685470.2"),
            ("5.6843418860808015e-14", "5.684341886080802e-14"),
        ] {
            assert_eq!(canonical(number).as_deref(), Some(expected));
        }
    }
}
