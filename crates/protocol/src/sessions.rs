//! The sessions of a content message during decoding, for both codecs.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::DecodeError;
use crate::invalid_id::InvalidId;
use crate::message::{MalformedSession, SessionContent};

/// The decoded sessions of a content message.
pub(crate) struct Sessions {
    pub(crate) valid: Vec<SessionContent>,
    pub(crate) malformed: Vec<MalformedSession>,
}

/// Keeps the last of the sessions with the same id, as `JSON.parse` does.
pub(crate) fn last_of_each(
    sessions: Vec<(Cow<'_, str>, Result<SessionContent, DecodeError>)>,
) -> Sessions {
    let mut last: HashMap<String, usize> = HashMap::new();
    if sessions.len() > 1 {
        last = sessions.iter().enumerate().map(|(at, (id, _))| (id.to_string(), at)).collect();
    }
    let mut result = Sessions { valid: Vec::with_capacity(sessions.len()), malformed: Vec::new() };
    for (at, (id, session)) in sessions.into_iter().enumerate() {
        if last.get(&*id).is_some_and(|&last| last != at) {
            continue;
        }
        match session {
            Ok(session) => result.valid.push(session),
            Err(error) => {
                let session = InvalidId::cut(&id).to_owned();
                result.malformed.push(MalformedSession { session, error });
            }
        }
    }
    result
}
