//! The headers in the file.

use bytes::Bytes;
use downbeat_crypto::header_id;
use downbeat_protocol::{CoValueId, Header, Limits};

use crate::error::{FileError, in_co_value};

/// The program that wrote the file has accepted its content, so only nesting is bounded.
pub(crate) fn limits() -> Limits {
    Limits { message_bytes: usize::MAX, header_bytes: usize::MAX, ..Limits::default() }
}

/// The text to store. Outside of tests the id is always the hash of the header. Other headers get a
/// mark: the reference's table refuses equal texts, and [`decode`] must not take them for damaged.
pub(crate) fn encode(id: CoValueId, header: &Header) -> Result<String, FileError> {
    let mut text =
        str::from_utf8(header.json()).map_err(|error| in_co_value(id, &error))?.to_owned();
    if header_id(header) != id {
        text.push_str(&mark(id));
    }
    Ok(text)
}

/// Reads a header, and checks that its hash is the id.
pub(crate) fn decode(id: CoValueId, text: &str) -> Result<Header, FileError> {
    let header = Header::parse(&Bytes::copy_from_slice(text.as_bytes()), &limits())
        .map_err(|error| in_co_value(id, &format_args!("the header cannot be read: {error}")))?;
    if header_id(&header) != id && !text.ends_with(&mark(id)) {
        return Err(in_co_value(id, &"the header does not match the id"));
    }
    Ok(header)
}

/// The bits of an id as white space, which JSON ignores at its end.
fn mark(id: CoValueId) -> String {
    let bits = id.as_str().bytes().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
    bits.map(|bit| if bit == 0 { ' ' } else { '\t' }).collect()
}

#[cfg(test)]
mod tests {
    use downbeat_protocol::Ruleset;

    use super::*;

    #[test]
    fn a_header_is_stored_as_its_json_and_read_from_any_other() {
        let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
        let id = header_id(&header);
        let text = encode(id, &header).unwrap();
        assert_eq!(text.as_bytes(), &header.json()[..]);
        assert_eq!(decode(id, &text).unwrap(), header);
        let other = text.replace(',', " ,\n").replace("\"type\"", "\"t\\u0079pe\"");
        assert_eq!(decode(id, &other).unwrap(), header);
    }

    #[test]
    fn a_header_of_another_id_is_damage_unless_it_was_written_so() {
        let header = Header::builder("comap", Ruleset::UnsafeAllowAll).build().unwrap();
        let id = CoValueId::parse("co_z1").unwrap();
        let text = encode(id, &header).unwrap();
        assert_eq!(decode(id, &text).unwrap(), header);
        assert!(matches!(decode(id, text.trim_end()), Err(FileError::Damage(_))));
        assert!(matches!(
            decode(CoValueId::parse("co_z2").unwrap(), &text),
            Err(FileError::Damage(_))
        ));
        let cut = &text[..20];
        assert!(matches!(decode(id, cut), Err(FileError::Damage(_))));
    }
}
