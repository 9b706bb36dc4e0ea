//! Describes in company: objects that are taken up at the same time share calls.
//!
//! Comes in: names of objects, each from a task of its own. Goes out: to each its own describe. Up to 25 go as one composite
//! call, which counts as one; who meets nobody within a moment asks alone, and then only for what has changed. What is
//! wrong with one object is its own; a call that is refused as a whole is asked again one by one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::survey::SUBREQUESTS_PER_CALL;
use super::{Client, Describe};
use crate::error::{Error, Kind, Reaction, Result};

/// How long an object waits for others. All objects of a claimed shard are taken up at once.
const WAIT: Duration = Duration::from_millis(50);

/// Who waits for a describe now.
#[derive(Default)]
pub(super) struct Describing {
    waiting: Mutex<Vec<Guest>>,
}

struct Guest {
    name: String,
    /// None: to be asked for alone.
    answer: oneshot::Sender<Option<Result<Describe>>>,
}

impl Describing {
    fn waiting(&self) -> MutexGuard<'_, Vec<Guest>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Guest> {
        std::mem::take(&mut *self.waiting())
    }
}

impl Client {
    /// As [`Self::describe`], in one call with others that ask at the same time; then it is not left out for being
    /// unchanged.
    pub async fn describe_in_company(
        &self,
        name: &str,
        if_modified_since: Option<&str>,
    ) -> Result<Option<Describe>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.describing().waiting();
            waiting.push(Guest { name: name.to_owned(), answer });
            let client = self.clone();
            if waiting.len() >= SUBREQUESTS_PER_CALL {
                let guests = std::mem::take(&mut *waiting);
                tokio::spawn(async move { serve(&client, guests).await });
            } else if waiting.len() == 1 {
                // Not by the one that came first: it may be dropped while others wait.
                tokio::spawn(async move {
                    tokio::time::sleep(WAIT).await;
                    let guests = client.describing().take();
                    serve(&client, guests).await;
                });
            }
        }
        match answered.await.unwrap_or(None) {
            Some(described) => described.map(Some),
            None => self.describe(name, if_modified_since).await,
        }
    }
}

async fn serve(client: &Client, mut guests: Vec<Guest>) {
    // Whoever was dropped meanwhile asks again later.
    guests.retain(|guest| !guest.answer.is_closed());
    if guests.len() < 2 {
        for guest in guests {
            let _ = guest.answer.send(None);
        }
        return;
    }
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    let described = client.describe_together(&names).await;
    for (guest, described) in guests.into_iter().zip(described) {
        let answer = match described {
            // By the plain call it may be answered, or its own words tell more.
            Err(error) if is_for_the_plain_call(&error) => None,
            described => Some(described),
        };
        let _ = guest.answer.send(answer);
    }
}

fn is_for_the_plain_call(error: &Error) -> bool {
    error.reaction() == Reaction::StopObject || error.kind() == Kind::ReplyUnreadable
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::scripted::{Org, refuse, reply};
    use super::*;

    fn described(name: &str, place: usize) -> serde_json::Value {
        let object = json!({"name": name, "queryable": true, "fields": [{"name": "Id", "type": "id"}]});
        json!({"body": object, "httpHeaders": {}, "httpStatusCode": 200, "referenceId": format!("q{place}")})
    }

    #[tokio::test]
    async fn objects_that_are_taken_up_at_once_share_a_call_and_a_lonely_one_asks_for_what_has_changed() {
        let org = Org::start().await;
        let gone = json!([{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]);
        let answers = json!({"compositeResponse": [
            described("Account", 0), described("Contact", 1),
            {"body": gone, "httpHeaders": {}, "httpStatusCode": 404, "referenceId": "q2"}]});
        org.on("/composite", [reply(200, answers.to_string())]);
        org.on(
            "/sobjects/Gone__c/describe",
            [refuse(404, "NOT_FOUND", "The requested resource does not exist")],
        );
        org.on("/sobjects/Account/describe", [reply(304, "")]);
        let client = org.client().await;
        let (account, contact, gone) = tokio::join!(
            client.describe_in_company("Account", Some("Mon, 02 Nov 2026 08:00:00 GMT")),
            client.describe_in_company("Contact", None),
            client.describe_in_company("Gone__c", None),
        );
        assert!(account.unwrap().is_some() && contact.unwrap().is_some());
        assert_eq!(gone.unwrap_err().kind(), Kind::ObjectUnknown);
        assert_eq!(org.requests("/composite").len(), 1);
        let alone = client.describe_in_company("Account", Some("Mon, 02 Nov 2026 08:00:00 GMT")).await;
        assert!(alone.unwrap().is_none(), "nothing has changed");
        assert_eq!(org.requests("/composite").len(), 1);
    }

    #[tokio::test]
    async fn where_composite_calls_are_refused_each_object_is_described_alone() {
        let org = Org::start().await;
        org.on("/composite", [refuse(404, "NOT_FOUND", "The requested resource does not exist")]);
        let account = json!({"name": "Account", "queryable": true, "fields": [{"name": "Id", "type": "id"}]});
        org.on("/sobjects/Account/describe", [reply(200, account.to_string())]);
        let contact = json!({"name": "Contact", "queryable": true, "fields": [{"name": "Id", "type": "id"}]});
        org.on("/sobjects/Contact/describe", [reply(200, contact.to_string())]);
        let client = org.client().await;
        let (account, contact) = tokio::join!(
            client.describe_in_company("Account", None),
            client.describe_in_company("Contact", None)
        );
        assert!(account.unwrap().is_some() && contact.unwrap().is_some());
    }
}
