//! Records for storage: one item behind a version byte.

use bincode::Encode;
use bytes::Bytes;

use crate::binary::VERSION;
use crate::binary::read::Reader;
use crate::binary::write::{Body, VecWriter, write_into};
use crate::error::DecodeError;
use crate::header::Header;
use crate::known_state::KnownState;
use crate::limits::Limits;
use crate::message::SessionContent;

/// Appends a record of a header.
pub fn encode_header(header: &Header, out: &mut Vec<u8>) {
    out.push(VERSION);
    write_into(&&**header.json(), &mut VecWriter(out));
}

/// Reads a record of a header.
pub fn decode_header(record: &Bytes, limits: &Limits) -> Result<Header, DecodeError> {
    decode(record, limits, Reader::header)
}

/// Appends a record of a run of one session's transactions.
pub fn encode_session(session: &SessionContent, out: &mut Vec<u8>) {
    encode(session, out);
}

/// Reads a record of a run of one session's transactions, which will be slices of the record.
pub fn decode_session(record: &Bytes, limits: &Limits) -> Result<SessionContent, DecodeError> {
    decode(record, limits, |reader| reader.session()?.1)
}

/// Appends a record of a known state.
pub fn encode_known_state(state: &KnownState, out: &mut Vec<u8>) {
    encode(state, out);
}

/// Reads a record of a known state.
pub fn decode_known_state(record: &Bytes, limits: &Limits) -> Result<KnownState, DecodeError> {
    decode(record, limits, Reader::known_state)
}

fn encode<'a, T>(item: &'a T, out: &mut Vec<u8>)
where
    Body<'a, T>: Encode,
{
    out.push(VERSION);
    write_into(&Body(item), &mut VecWriter(out));
}

fn decode<'a, T>(
    record: &'a Bytes,
    limits: &'a Limits,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::behind_version(record, limits)?;
    let item = read(&mut reader)?;
    reader.end()?;
    Ok(item)
}
