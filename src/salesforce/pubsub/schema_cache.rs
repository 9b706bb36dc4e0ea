//! Event schemas by their ids: each asked for once, by one call at a time, and kept for ever.
//!
//! Comes in: ids, and how to ask. Goes out: schemas. A schema never changes under its id. Many may ask at once when a
//! burst of events brings a new id: the first one asks, the others wait for what it gets. A failure is not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::error::Result;

/// `S`: what a schema is compiled to.
pub(super) struct SchemaCache<S> {
    by_id: Mutex<HashMap<String, Arc<OnceCell<Arc<S>>>>>,
}

impl<S> Default for SchemaCache<S> {
    fn default() -> Self {
        Self { by_id: Mutex::default() }
    }
}

impl<S> SchemaCache<S> {
    pub async fn get<F: Future<Output = Result<S>>>(
        &self,
        id: &str,
        ask: impl FnOnce() -> F,
    ) -> Result<Arc<S>> {
        let cell = {
            let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(by_id.entry(id.to_owned()).or_default())
        };
        cell.get_or_try_init(|| async { ask().await.map(Arc::new) }).await.cloned()
    }
}
