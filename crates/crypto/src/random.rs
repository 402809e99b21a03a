//! Session ids and keys from random bytes of the operating system or of the caller.

use downbeat_protocol::{Owner, RandomnessError, SessionId};
use zeroize::Zeroizing;

/// A new session id for an account or agent, from random bytes of the operating system.
pub fn random_session_id(owner: &Owner) -> Result<SessionId, RandomnessError> {
    random_bytes().map(|bytes| session_id(owner, *bytes))
}

/// The session id for an account or agent from 8 random bytes: `<owner>_session_z…`.
pub fn session_id(owner: &Owner, random: [u8; 8]) -> SessionId {
    let digits = bs58::encode(random).into_string();
    parse_own(&format!("{owner}_session_z{digits}"))
}

/// The id of a delete session from 7 random bytes: `<owner>_session_d…$`.
pub fn delete_session_id(owner: &Owner, random: [u8; 7]) -> SessionId {
    let digits = bs58::encode(random).into_string();
    parse_own(&format!("{owner}_session_d{digits}$"))
}

pub(crate) fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, RandomnessError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(bytes)
}

fn parse_own(text: &str) -> SessionId {
    SessionId::parse(text).expect("an owner, the separator and digits make a session id")
}
