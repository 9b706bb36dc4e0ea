//! Objects that come, go and come back while the program runs.
//!
//! Comes in: the org's list of objects, by the one conditional call that all captures share. Goes out: objects that the
//! configuration's globs choose and that were not there before, for the shards to take up; and the word that an object is
//! back, so that who waits for it need not wait longer. An object that goes is no business of this file: its own calls are
//! refused, and it alone stands. Nothing here ends the program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::chosen::{Chosen, choose_live, count_rows, refuse_shared_topics, select};
use super::supervisor::Context;
use super::topic_names;
use crate::Result;
use crate::publish::topics;
use crate::salesforce::ObjectSummary;

/// What has come since the start.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Objects that were not there when the run began; their topics are.
    pub objects: Vec<Chosen>,
    /// How often an object that was gone was there again.
    returns: BTreeMap<String, u64>,
}

impl Arrivals {
    pub fn returns_of(&self, object: &str) -> u64 {
        self.returns.get(object).copied().unwrap_or(0)
    }
}

pub type Sender = watch::Sender<Arrivals>;
pub type Receiver = watch::Receiver<Arrivals>;

/// Looks after every change of the org's objects, until the run ends.
pub async fn watch(context: Arc<Context>, stop: CancellationToken) {
    let interval = context.client.describe_interval();
    let mut look = Look::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        // Nobody knows yet what is there at the start.
        let Some(plan) = context.plan.get() else { continue };
        match context.client.metadata_changes(interval).await {
            Ok(changes) if look.seen == Some(changes) => continue,
            Ok(changes) => match look.take(&context, plan).await {
                Ok(()) => look.seen = Some(changes),
                Err(error) => {
                    let (code, hint) = (error.kind().code(), error.advice());
                    tracing::warn!(code, %error, hint, "objects that came to the org are not captured yet");
                }
            },
            Err(error) => tracing::debug!(%error, "whether objects came or went is not known"),
        }
    }
}

#[derive(Default)]
struct Look {
    /// `Client::metadata_changes` that was looked at.
    seen: Option<u64>,
    /// Names at the last look; none: there was none.
    there: Option<BTreeSet<String>>,
}

impl Look {
    async fn take(&mut self, context: &Context, plan: &[Chosen]) -> Result<()> {
        let org = context.client.known_objects();
        self.note_returns(context, &org);
        let mut known = plan.to_vec();
        known.extend(context.arrivals.borrow().objects.iter().cloned());
        let mut fresh = select(&org, &context.settings)?;
        fresh.retain(|object| !known.iter().any(|known| known.name == object.name));
        fresh.retain(|object| {
            known.push(object.clone());
            match refuse_shared_topics(&context.settings, &known) {
                Ok(()) => true,
                Err(error) => {
                    known.pop();
                    let (code, hint) = (error.kind().code(), error.advice());
                    tracing::error!(object = %object.name, code, %error, hint, "an object that came is left out");
                    false
                }
            }
        });
        if fresh.is_empty() {
            return Ok(());
        }
        count_rows(&context.client, &mut fresh).await;
        choose_live(&context.pubsub, &mut fresh, false).await?;
        topics::ensure(&context.settings, context.options.topics, &topic_names(&context.settings, &fresh))
            .await?;
        for object in &fresh {
            tracing::info!(object = %object.name, live = object.live, "an object came to the org and is captured");
            if let (status, Some(rows)) = (context.board.object(&object.name), object.estimate) {
                status.expect_rows(rows);
            }
        }
        context.arrivals.send_modify(|arrivals| arrivals.objects.extend(fresh));
        Ok(())
    }

    fn note_returns(&mut self, context: &Context, org: &[ObjectSummary]) {
        let now: BTreeSet<String> = org.iter().map(|object| object.name.clone()).collect();
        let before = self.there.replace(now.clone()).unwrap_or_else(|| now.clone());
        let back: Vec<&String> = now.difference(&before).collect();
        if !back.is_empty() {
            context.arrivals.send_modify(|arrivals| {
                for name in back {
                    *arrivals.returns.entry(name.clone()).or_default() += 1;
                }
            });
        }
    }
}
