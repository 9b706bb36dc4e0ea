//! The bytes of binary fields, beside the rows whose cells are the paths that they were fetched by.
//!
//! Comes in: from `capture`, for records that are about to be published. Goes out: bytes by row and field, or why a record
//! cannot be published with its own. Never: a byte in a log; what is shown of them is how many.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::Error;

#[derive(Default)]
pub struct Blobs {
    bytes: HashMap<(u32, usize), Bytes>,
    refused: HashMap<u32, Error>,
    /// Given back once nothing is held any more: more bytes are fetched then.
    room: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Blobs({} with {} bytes, {} refused)",
            self.bytes.len(),
            self.byte_size(),
            self.refused.len()
        )
    }
}

impl Blobs {
    pub fn put(&mut self, row: u32, field: usize, bytes: Bytes) {
        self.bytes.insert((row, field), bytes);
    }

    /// The bytes of a field of a row, if they were fetched.
    pub fn get(&self, row: u32, field: usize) -> Option<&[u8]> {
        self.bytes.get(&(row, field)).map(Bytes::as_ref)
    }

    /// This row's record cannot be published, and goes where it is kept with the reason.
    pub fn refuse(&mut self, row: u32, error: Error) {
        self.bytes.retain(|(other, _), _| *other != row);
        self.refused.insert(row, error);
    }

    pub fn refusal(&self, row: u32) -> Option<&Error> {
        self.refused.get(&row)
    }

    pub fn hold(&mut self, room: OwnedSemaphorePermit) {
        self.room = Some(room);
    }

    pub fn has_room(&self) -> bool {
        self.room.is_some()
    }

    pub fn byte_size(&self) -> usize {
        self.bytes.values().map(Bytes::len).sum()
    }
}
