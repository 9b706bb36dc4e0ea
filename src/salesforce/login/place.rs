//! What keeps a login: a file of this machine, or something that instances everywhere share.
//!
//! Comes in: the place that the configuration names. Goes out: reading, and writing under a lock. What is shared lies
//! above this room: it is handed in as a [`SharedStore`]. All of it blocks: not for async code.

use std::sync::Arc;
use std::time::Duration;

use crate::config::TokenPlace;
use crate::error::{Kind, Reaction, Result};

use super::super::fault::{Cure, Fault};
use super::store::{FileLock, FileStore, Kept};

/// From sending a request for a token to its answer, at most. A clean stop waits for it, and a shared store's turn.
pub const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// A store that the instances of a pipeline have in common.
pub trait SharedStore: Send + Sync {
    /// As messages name it.
    fn place(&self) -> String;

    /// What was written last, by anybody; none: nothing yet.
    fn read(&self) -> Result<Option<Vec<u8>>>;

    /// Waits until nobody else holds it. From then on nobody else gets it until the value is dropped or its time is up.
    fn lock(&self) -> Result<Box<dyn SharedLock>>;
}

pub trait SharedLock: Send {
    /// As the store's, from where the last reading ended.
    fn read(&mut self) -> Result<Option<Vec<u8>>>;

    /// Writes what must stand there before a request is sent. False: the lock is not ours any more, or not for long
    /// enough for a request and its answer; nothing may be sent.
    fn mark(&mut self, contents: &[u8]) -> Result<bool>;

    /// Durable when it returns, and seen by all who read from then on. It asks for no lock: what Salesforce gave must not
    /// be lost.
    fn write(&mut self, contents: &[u8]) -> Result<()>;
}

pub(super) enum TokenStore {
    File(FileStore),
    Shared(Arc<dyn SharedStore>),
}

pub(super) enum Lock {
    File(FileLock),
    Shared(Box<dyn SharedLock>),
}

impl TokenStore {
    /// None if the login keeps nothing.
    pub fn of(
        place: Option<&TokenPlace>,
        shared: Option<Arc<dyn SharedStore>>,
    ) -> Result<Option<Self>, Fault> {
        match (place, shared) {
            (None, _) => Ok(None),
            (Some(TokenPlace::File(path)), _) => Ok(Some(Self::File(FileStore::at(path)))),
            (Some(TokenPlace::Kafka { .. }), Some(shared)) => Ok(Some(Self::Shared(shared))),
            (Some(TokenPlace::Kafka { .. }), None) => {
                Err(Fault::new(Kind::Internal, Cure::None, "nobody opened the control topic for the login"))
            }
        }
    }

    pub fn place(&self) -> String {
        match self {
            Self::File(store) => store.path().display().to_string(),
            Self::Shared(store) => store.place(),
        }
    }

    pub fn read(&self) -> Result<Option<Kept>, Fault> {
        match self {
            Self::File(store) => store.read(),
            Self::Shared(store) => self.understood(store.read()),
        }
    }

    /// The same, by who holds the lock.
    pub fn read_held(&self, lock: &mut Lock) -> Result<Option<Kept>, Fault> {
        match lock {
            Lock::File(_) => self.read(),
            Lock::Shared(lock) => self.understood(lock.read()),
        }
    }

    /// What stands there although the lock was taken: a file's holder is alone, but the time of a shared lock can end.
    pub fn found_meanwhile(&self, lock: &mut Lock) -> Result<Option<Kept>, Fault> {
        match lock {
            Lock::File(_) => Ok(None),
            Lock::Shared(lock) => self.understood(lock.read()),
        }
    }

    fn understood(&self, read: Result<Option<Vec<u8>>>) -> Result<Option<Kept>, Fault> {
        let Some(contents) = read.map_err(told)? else { return Ok(None) };
        Kept::from_bytes(&contents).map(Some).map_err(|why| {
            let message = format!("the login in {} {why}", self.place());
            Fault::new(Kind::TokenStoreFailed, Cure::None, message)
        })
    }

    /// Before a request is sent. False: it may not be sent, and what is kept must be read again.
    pub fn mark(&self, lock: &mut Lock, kept: &Kept) -> Result<bool, Fault> {
        match lock {
            Lock::File(_) => self.write(lock, kept).map(|()| true),
            Lock::Shared(lock) => lock.mark(&kept.to_bytes()).map_err(told),
        }
    }

    pub fn lock(&self) -> Result<Lock, Fault> {
        match self {
            Self::File(store) => store.lock().map(Lock::File),
            Self::Shared(store) => store.lock().map(Lock::Shared).map_err(told),
        }
    }

    pub fn write(&self, lock: &mut Lock, kept: &Kept) -> Result<(), Fault> {
        match (self, lock) {
            (Self::File(store), Lock::File(lock)) => store.write(lock, kept),
            (Self::Shared(_), Lock::Shared(lock)) => lock.write(&kept.to_bytes()).map_err(told),
            _ => Err(Fault::new(Kind::Internal, Cure::None, "the lock of another store")),
        }
    }
}

fn told(error: crate::Error) -> Fault {
    let passing = matches!(error.reaction(), Reaction::RetryLater | Reaction::ReleaseShard);
    let cure = if passing { Cure::Again } else { Cure::None };
    Fault::new(error.kind(), cure, error.to_string()).hint(error.advice().to_owned())
}
