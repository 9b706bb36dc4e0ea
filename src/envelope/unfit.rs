//! A value that its field's type cannot hold.
//!
//! Comes in: an encoder's field. Goes out: the reason of a dead letter. It names the field, never the value.

use std::fmt;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    pub object: Arc<str>,
    pub field: String,
    pub salesforce_type: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}: field {} holds what is no {}", self.object, self.field, self.salesforce_type)
    }
}
