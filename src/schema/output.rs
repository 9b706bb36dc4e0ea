//! The schemas of one output of an object: what a run registers, and what commands show without one.
//!
//! Comes in: a lineage and an output's settings. Goes out: the texts of value and key. There is one place for both, so that a
//! report cannot differ from the run.

use super::avro;
use super::lineage::SchemaLineage;
use crate::Result;
use crate::config::{EnvelopeKind, KeyFormat, OutputSettings};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSchemas {
    pub value: String,
    /// None: keys are plain text.
    pub key: Option<String>,
}

impl OutputSchemas {
    pub fn new(lineage: &SchemaLineage, output: &OutputSettings) -> Result<Self> {
        let value = match output.envelope {
            EnvelopeKind::ChangeTable => avro::change_table(lineage, output)?,
        };
        let key = match output.key {
            KeyFormat::Record => Some(avro::key(lineage, output)),
            KeyFormat::Text => None,
        };
        Ok(Self { value, key })
    }
}
