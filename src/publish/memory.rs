//! A publisher that keeps committed transactions in memory, for tests and quick looks. It panics on misuse.

use std::sync::{Arc, Mutex, PoisonError};

use super::Publisher;
use crate::domain::ControlRecord;
use crate::error::Kind;
use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRecord {
    pub topic: String,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub records: Vec<MemoryRecord>,
    pub control: Vec<ControlRecord>,
}

#[derive(Clone, Debug, Default)]
pub struct MemoryPublisher {
    committed: Arc<Mutex<Vec<Transaction>>>,
    open: Option<Vec<MemoryRecord>>,
    /// Values longer than this are refused, as a broker does.
    pub longest_value: Option<usize>,
}

impl MemoryPublisher {
    pub fn transactions(&self) -> Vec<Transaction> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Publisher for MemoryPublisher {
    fn begin(&mut self) -> Result<()> {
        assert!(self.open.is_none(), "a transaction is open");
        self.open = Some(Vec::new());
        Ok(())
    }

    fn send(&mut self, topic: &str, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if let (Some(longest), Some(value)) = (self.longest_value, value)
            && value.len() > longest
        {
            return Err(Error::new(Kind::RecordTooLarge, format!("topic {topic}: record not sent")));
        }
        let record =
            MemoryRecord { topic: topic.to_owned(), key: key.to_vec(), value: value.map(<[u8]>::to_vec) };
        self.open.as_mut().expect("send comes behind begin").push(record);
        Ok(())
    }

    fn commit(&mut self, control: &[ControlRecord]) -> Result<()> {
        let records = self.open.take().expect("commit comes behind begin");
        let transaction = Transaction { records, control: control.to_vec() };
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).push(transaction);
        Ok(())
    }
}
