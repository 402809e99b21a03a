//! The valid content of one CoValue, on its way to the writer.

use downbeat_protocol::{CoValueId, Header};
use downbeat_storage::Write;

use crate::check::Extension;
use crate::writer::{Stopped, Writer};

/// Passes the valid content of one CoValue to the writer.
pub(crate) struct Outgoing<'a> {
    pub writer: &'a Writer<'a>,
    pub id: CoValueId,
    /// The header, until it is sent.
    pub header: Option<Header>,
}

impl Outgoing<'_> {
    /// Sends extensions, with the header if they are the first.
    pub(crate) fn send(&mut self, extensions: Vec<Extension>) -> Result<(), Stopped> {
        let mut sessions = Vec::with_capacity(extensions.len());
        let mut tombstones = Vec::new();
        for Extension { content, deletes } in extensions {
            if deletes { tombstones.push(content) } else { sessions.push(content) }
        }
        if !sessions.is_empty() || (self.header.is_some() && !tombstones.is_empty()) {
            let header = self.header.take();
            self.writer.push(Write::Append { id: self.id, header, sessions })?;
        }
        for session in tombstones {
            self.writer.push(Write::Tombstone { id: self.id, session })?;
        }
        Ok(())
    }

    /// Sends the header, if it is not sent yet.
    pub(crate) fn finish(&mut self) -> Result<(), Stopped> {
        match self.header.take() {
            Some(header) => {
                let sessions = Vec::new();
                self.writer.push(Write::Append { id: self.id, header: Some(header), sessions })
            }
            None => Ok(()),
        }
    }
}
