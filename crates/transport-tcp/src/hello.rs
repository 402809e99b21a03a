//! The bytes of the hellos. `docs/transport-tcp.md` describes the layout.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use downbeat_transport::{AdmissionRefusal, ApiKey, RefusalKind};

/// The start of both hellos. No text and no TLS record begins with its first byte, and the line
/// break shows whether a proxy changes text.
pub(crate) const MAGIC: [u8; 8] = *b"\xD0BEAT\r\n\0";
/// The only version so far.
pub(crate) const VERSION: u8 = 1;
/// The part of fixed length: the magic, two bytes, the length of the body.
pub(crate) const HEAD_BYTES: usize = 12;
/// The longest body. Our longest has a name of 255 bytes and a key of 2 KiB.
const MAX_BODY_BYTES: usize = 4 << 10;
/// The longest name that we send.
const MAX_NAME_BYTES: usize = 255;
/// The longest key that we send; longer than any URL that a proxy accepts.
pub(crate) const MAX_KEY_BYTES: usize = 2 << 10;
/// The longest reason for a refusal that we send.
const MAX_REASON_BYTES: usize = 512;

/// The role of a client: so far the only one.
const ROLE_CLIENT: u8 = 0;

/// The client's hello.
#[derive(Debug, PartialEq)]
pub(crate) struct ClientHello {
    /// The lowest and the highest version that the client speaks.
    pub(crate) versions: (u8, u8),
    /// The interval at which the client wants keepalives; none if zero.
    pub(crate) keep_alive: Duration,
    pub(crate) name: String,
    pub(crate) key: Option<ApiKey>,
}

/// The server's hello, which answers the client's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ServerHello {
    Welcome { version: u8, keep_alive: Duration, name: String },
    Refused(Denial),
}

/// A server's refusal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Denial {
    pub(crate) status: Status,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) reason: Cow<'static, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Version,
    Malformed,
    Refused(RefusalKind),
}

/// An error in a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHello {
    #[error("the peer did not send the hello of this transport")]
    Magic,
    #[error("a hello that announces {0} bytes")]
    TooLarge(usize),
    #[error("a hello that ends early")]
    Short,
    #[error("a name that is not UTF-8")]
    Name,
    #[error("a key that is not UTF-8")]
    Key,
    #[error("the unknown role {0}")]
    Role(u8),
    #[error("an answer of the unknown status {0}")]
    Status(u8),
}

/// Reads a head: its two bytes that differ, and the length of the body.
pub(crate) fn parse_head(head: &[u8; HEAD_BYTES]) -> Result<([u8; 2], usize), BadHello> {
    let mut reader = Reader(head);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(BadHello::Magic);
    }
    let pair = reader.array()?;
    let length = usize::from(u16::from_be_bytes(reader.array()?));
    if length > MAX_BODY_BYTES { Err(BadHello::TooLarge(length)) } else { Ok((pair, length)) }
}

fn with_head(pair: [u8; 2], body: &[u8]) -> Vec<u8> {
    // All bodies of ours fit into the limit, and so into two bytes.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&MAGIC[..], &pair, &length.to_be_bytes(), body].concat()
}

impl ClientHello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let name = truncated(&self.name, MAX_NAME_BYTES);
        let key = self.key.as_ref().map(ApiKey::expose).unwrap_or_default();
        let mut body = vec![ROLE_CLIENT];
        body.extend(millis(self.keep_alive).to_be_bytes());
        put_name(&mut body, name);
        body.extend(u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend(key.as_bytes());
        with_head(self.versions.into(), &body)
    }

    pub(crate) fn decode([lowest, highest]: [u8; 2], body: &[u8]) -> Result<Self, BadHello> {
        let mut reader = Reader(body);
        let [role] = reader.array()?;
        if role != ROLE_CLIENT {
            return Err(BadHello::Role(role));
        }
        let keep_alive = Duration::from_millis(u32::from_be_bytes(reader.array()?).into());
        let name = reader.name()?;
        let length = usize::from(u16::from_be_bytes(reader.array()?));
        let key = std::str::from_utf8(reader.take(length)?).map_err(|_| BadHello::Key)?;
        let key = (!key.is_empty()).then(|| ApiKey::new(key));
        Ok(Self { versions: (lowest, highest), keep_alive, name, key })
    }
}

impl ServerHello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Welcome { version, keep_alive, name } => {
                body.extend(millis(*keep_alive).to_be_bytes());
                put_name(&mut body, truncated(name, MAX_NAME_BYTES));
                with_head([0, *version], &body)
            }
            Self::Refused(Denial { status, retry_after, reason }) => {
                let seconds = retry_after.map_or(0, |wait| wait.as_secs().max(1));
                body.extend(u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
                body.extend(truncated(reason, MAX_REASON_BYTES).as_bytes());
                with_head([status.byte(), VERSION], &body)
            }
        }
    }

    pub(crate) fn decode([status, version]: [u8; 2], body: &[u8]) -> Result<Self, BadHello> {
        let mut reader = Reader(body);
        if status == 0 {
            let keep_alive = Duration::from_millis(u32::from_be_bytes(reader.array()?).into());
            return Ok(Self::Welcome { version, keep_alive, name: reader.name()? });
        }
        let status = Status::from_byte(status).ok_or(BadHello::Status(status))?;
        let seconds = u32::from_be_bytes(reader.array()?);
        let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let text = String::from_utf8_lossy(reader.0);
        let reason: String = text.chars().filter(|c| !c.is_control()).collect();
        Ok(Self::Refused(Denial { status, retry_after, reason: reason.into() }))
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.status {
            Status::Version => "no common version",
            Status::Malformed => "malformed hello",
            Status::Refused(RefusalKind::Unauthorized) => "unauthorized",
            Status::Refused(RefusalKind::Forbidden) => "forbidden",
            Status::Refused(RefusalKind::TooMany) => "too many",
            Status::Refused(_) => "unavailable",
        };
        write!(f, "{kind}: {}", self.reason)
    }
}

impl Status {
    fn byte(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Malformed => 2,
            Self::Refused(RefusalKind::Unauthorized) => 3,
            Self::Refused(RefusalKind::Forbidden) => 4,
            Self::Refused(RefusalKind::TooMany) => 5,
            // Clients of this version do not know later kinds.
            Self::Refused(_) => 6,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Version,
            2 => Self::Malformed,
            3 => Self::Refused(RefusalKind::Unauthorized),
            4 => Self::Refused(RefusalKind::Forbidden),
            5 => Self::Refused(RefusalKind::TooMany),
            6 => Self::Refused(RefusalKind::Unavailable),
            _ => return None,
        })
    }
}

impl From<AdmissionRefusal> for Denial {
    fn from(refusal: AdmissionRefusal) -> Self {
        let status = Status::Refused(refusal.kind);
        Self { status, retry_after: refusal.retry_after, reason: refusal.reason }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The start of a text that fits into `max` bytes and ends between two characters.
fn truncated(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

fn put_name(body: &mut Vec<u8>, name: &str) {
    body.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    body.extend(name.as_bytes());
}

/// The bytes that are not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadHello> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadHello::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadHello> {
        let (array, rest) = self.0.split_first_chunk().ok_or(BadHello::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    /// Removes control characters, with which a name could forge log lines.
    fn name(&mut self) -> Result<String, BadHello> {
        let [length] = self.array()?;
        let name = std::str::from_utf8(self.take(length.into())?).map_err(|_| BadHello::Name)?;
        Ok(name.chars().filter(|c| !c.is_control()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two bytes of a head, and the body.
    fn parts(bytes: &[u8]) -> ([u8; 2], &[u8]) {
        let (head, body) = bytes.split_first_chunk().unwrap();
        let (pair, length) = parse_head(head).unwrap();
        assert_eq!(body.len(), length);
        (pair, body)
    }

    #[test]
    fn a_client_hello_has_the_documented_bytes() {
        let hello = ClientHello {
            versions: (1, 2),
            keep_alive: Duration::from_secs(5),
            name: "edge".to_owned(),
            key: Some(ApiKey::new("abc")),
        };
        let expected = [
            &[0xD0, 0x42, 0x45, 0x41, 0x54, 0x0D, 0x0A, 0x00, 1, 2, 0, 15, 0][..],
            &[0, 0, 0x13, 0x88, 4, b'e', b'd', b'g', b'e', 0, 3, b'a', b'b', b'c'],
        ]
        .concat();
        let bytes = hello.encode();
        assert_eq!(bytes, expected);
        let (pair, body) = parts(&bytes);
        assert_eq!(ClientHello::decode(pair, body), Ok(hello));
    }

    #[test]
    fn server_hellos_have_the_documented_bytes() {
        let welcome = ServerHello::Welcome {
            version: 1,
            keep_alive: Duration::ZERO,
            name: "core".to_owned(),
        };
        let expected = [&MAGIC[..], &[0, 1, 0, 9, 0, 0, 0, 0, 4], b"core"].concat();
        assert_eq!(welcome.encode(), expected);
        let denial = |kind| Denial {
            status: Status::Refused(kind),
            retry_after: Some(Duration::from_millis(300)),
            reason: "no".into(),
        };
        let refused = ServerHello::Refused(denial(RefusalKind::TooMany));
        let expected = [&MAGIC[..], &[5, 1, 0, 6, 0, 0, 0, 1], b"no"].concat();
        assert_eq!(refused.encode(), expected);
        let (pair, body) = parts(&expected);
        let mut read = denial(RefusalKind::TooMany);
        read.retry_after = Some(Duration::from_secs(1));
        assert_eq!(ServerHello::decode(pair, body), Ok(ServerHello::Refused(read)));
    }

    #[test]
    fn every_status_is_read_as_written() {
        for (byte, status) in [
            (1, Status::Version),
            (2, Status::Malformed),
            (3, Status::Refused(RefusalKind::Unauthorized)),
            (4, Status::Refused(RefusalKind::Forbidden)),
            (5, Status::Refused(RefusalKind::TooMany)),
            (6, Status::Refused(RefusalKind::Unavailable)),
        ] {
            assert_eq!((status.byte(), Status::from_byte(byte)), (byte, Some(status)));
        }
        assert_eq!(Status::from_byte(7), None);
        assert_eq!(ServerHello::decode([7, 1], &[0; 4]), Err(BadHello::Status(7)));
    }

    #[test]
    fn long_names_are_truncated_and_long_bodies_refused() {
        let hello = ClientHello {
            versions: (1, 1),
            keep_alive: Duration::MAX,
            name: "ä".repeat(1_000),
            key: Some(ApiKey::new("k".repeat(MAX_KEY_BYTES))),
        };
        let bytes = hello.encode();
        let (pair, body) = parts(&bytes);
        let read = ClientHello::decode(pair, body).unwrap();
        assert_eq!(read.name, "ä".repeat(127));
        assert_eq!(read.key, hello.key);
        let mut head = [0; HEAD_BYTES];
        head.copy_from_slice(&bytes[..HEAD_BYTES]);
        head[10..].copy_from_slice(&[0x10, 0x01]);
        assert_eq!(parse_head(&head), Err(BadHello::TooLarge(4_097)));
    }

    #[test]
    fn every_cut_of_a_body_is_too_short() {
        let hello = ClientHello {
            versions: (1, 1),
            keep_alive: Duration::ZERO,
            name: "name".to_owned(),
            key: Some(ApiKey::new("key")),
        };
        let bytes = hello.encode();
        let (pair, body) = parts(&bytes);
        for end in 0..body.len() {
            assert_eq!(ClientHello::decode(pair, &body[..end]), Err(BadHello::Short), "{end}");
        }
    }
}
