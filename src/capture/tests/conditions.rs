//! Only records that fit a condition: loaded, polled, by events; what leaves, what comes, what was never there.

use super::polls::{ids_of, live_at, rows, scripted};
use super::streams::live;
use super::*;
use crate::capture::condition;
use crate::capture::ledger::RecordId;
use crate::salesforce::Purpose;
use crate::salesforce::scripted::{refuse, reply};

const HOT: &str = "Rating = 'Hot'";

fn hot(settings: CaptureSettings) -> CaptureSettings {
    CaptureSettings { condition: Some(HOT.to_owned()), ..settings }
}

impl Practice {
    fn rate(&self, id: &str, rating: &str) -> Change {
        let fields = vec![("Rating".to_owned(), Value::text(rating.to_owned()))];
        Change::Update { object: "Account".to_owned(), id: parsed(id), fields }
    }

    fn new_rated(&self, name: &str, rating: &str) -> Change {
        let field = |name: &str, text: &str| (name.to_owned(), Value::text(text.to_owned()));
        let fields = vec![field("Name", name), field("Rating", rating)];
        Change::Insert { object: "Account".to_owned(), fields, id: None, fill: true }
    }

    /// Ids of live records by whether they fit.
    fn by_fit(&self) -> (Vec<String>, Vec<String>) {
        let ratings = self.truth("Rating");
        let (hot, cold): (Vec<_>, Vec<_>) = ratings.into_iter().partition(|(_, rating)| rating == "Hot");
        let ids = |rated: Vec<(String, String)>| rated.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let (hot, cold) = (ids(hot), ids(cold));
        assert!(hot.len() > 5 && cold.len() > 5, "{} and {}", hot.len(), cold.len());
        (hot, cold)
    }

    fn fitting(&self) -> BTreeMap<String, String> {
        let ratings = self.truth("Rating");
        let mut names = self.truth("Name");
        names.retain(|id, _| ratings[id] == "Hot");
        names
    }

    fn assert_holds_what_fits(&self) {
        assert_eq!(self.stage.folded("Name"), self.fitting());
    }

    /// Nothing was published of a record that does not fit but its id.
    fn assert_nothing_else_is_seen(&self) {
        for one in &self.stage.published {
            match one.operation {
                Operation::Delete => {}
                _ => assert_eq!(one.cells.get("Rating").map(String::as_str), Some("Hot"), "{}", one.id),
            }
        }
    }
}

#[tokio::test]
async fn what_another_condition_leaves_out_is_deleted_and_what_it_takes_in_is_loaded() {
    const BEFORE: &str = "Rating = 'Warm' OR Rating = 'Hot'";
    for before in [Some(BEFORE), None, Some("NoSuchField__c = 1")] {
        // The last one was true of a field that is gone since: nobody can ask by it.
        let asked = before.filter(|condition| *condition == BEFORE).map(str::to_owned);
        let started = CaptureSettings { condition: asked, ..settings() };
        let mut org = Practice::start("Account", 5_000, started).await;
        org.catch_up().await;
        let loaded = org.stage.published.len();
        let (hot, cold) = org.by_fit();
        let was_there = usize::from(!org.stage.of(&cold[0]).is_empty());
        org.pass(40 * 60);
        org.stage.settings.condition = Some(HOT.to_owned());
        org.stage.restart().await;
        let left = Some(before.unwrap_or_default().to_owned());
        org.stage.capture.load_anew(vec![Need { left, ..Need::of(ReloadReason::Condition) }]);
        org.stage.step().await;
        org.save(vec![org.rate(&cold[0], "Hot"), org.delete(&hot[0]), org.rate(&hot[1], "Cold")]);
        let mut runs = 0;
        while org.stage.position().reload.is_some() {
            // No time passes: a run that is ended at its first step would never get beyond a poll.
            org.stage.step().await;
            org.stage.restart().await;
            runs += 1;
            assert!(runs < 500, "{:?} {:?}", org.stage.position(), org.stage.errors);
        }
        org.catch_up().await;
        org.assert_holds_what_fits();
        let deletes = |id: &str| org.stage.of(id).matches('D').count();
        assert!(cold.iter().all(|id| deletes(id) <= 1), "each once");
        let gone = cold[1..].iter().filter(|id| org.stage.of(id).starts_with('R')).count();
        assert_eq!(gone, loaded - hot.len() - was_there);
        let seen = org.stage.published[loaded..].iter().filter(|one| one.operation == Operation::Delete);
        assert!(seen.clone().count() >= gone);
        assert!(seen.filter(|one| cold.contains(&one.id)).all(|one| one.cells.keys().eq(["Id"])));
    }
}

#[tokio::test]
async fn of_two_conditions_of_before_all_that_fitted_either_is_deleted_once_and_nothing_else() {
    let warm = || Some("Rating = 'Warm'".to_owned());
    let mut org = Practice::start("Account", 400, CaptureSettings { condition: warm(), ..settings() }).await;
    org.catch_up().await;
    let was_deleted = org.ids().into_iter().find(|id| org.stage.of(id) == "R").unwrap();
    org.pass(5);
    org.save(vec![org.delete(&was_deleted)]);
    // So long ago that nothing remembers it.
    org.catch_up().await;
    for _ in 0..3 {
        org.pass(60 * 60);
        org.catch_up().await;
    }
    assert_eq!(org.stage.of(&was_deleted), "RD");
    let published: BTreeSet<String> = org.stage.published.iter().map(|one| one.id.clone()).collect();
    let loaded = org.stage.published.len();

    org.stage.settings.condition = Some(HOT.to_owned());
    org.stage.restart().await;
    let left = |half: &str| Some(format!("Rating = 'Warm' AND {half}"));
    let need = |half: &str| Need { left: left(half), ..Need::of(ReloadReason::Condition) };
    org.stage.capture.load_anew(vec![need("Name != 'x'"), need("Name = 'x'")]);
    while org.stage.position().reload.is_some_and(|reload| reload.leaving.is_some())
        || org.stage.published.len() == loaded
    {
        org.stage.step().await;
    }
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    let (_, cold) = org.by_fit();
    for id in &cold {
        assert_eq!(org.stage.of(id), if published.contains(id) { "RD" } else { "" }, "{id}");
    }
    assert_eq!(org.stage.of(&was_deleted), "RD", "it was gone already");
    let mut deletes = org.stage.published[loaded..].iter().filter(|one| one.operation == Operation::Delete);
    assert!(deletes.clone().count() > 20 && deletes.all(|one| one.source == Source::Refetch));
    org.assert_holds_what_fits();
}

#[tokio::test]
async fn a_condition_of_before_that_salesforce_refuses_leaves_nothing_behind() {
    for before in ["NoSuchField__c = 1", "Rating = 'Warm' OR"] {
        let mut org = Practice::start("Account", 60, settings()).await;
        org.catch_up().await;
        org.stage.settings.condition = Some(HOT.to_owned());
        org.stage.restart().await;
        let left = Some(before.to_owned());
        org.stage.capture.load_anew(vec![Need { left, ..Need::of(ReloadReason::Condition) }]);
        org.stage.step().await;
        while org.stage.position().reload.is_some() {
            org.pass(1);
            org.stage.step().await;
        }
        assert!(org.stage.errors.is_empty(), "{before}: {:?}", org.stage.errors);
        org.assert_holds_what_fits();
    }
}

#[tokio::test]
async fn what_fits_is_read_to_the_last_page_of_the_answer() {
    let mut org = Practice::start_with("Account", 200, |client| hot(live(client, true))).await;
    let (hot, _) = org.by_fit();
    org.arrives(|org| org.stage.published.len() >= hot.len()).await;
    assert!(hot.len() > 20, "{}", hot.len());
    // Of as many records as come together it is asked at once.
    org.control("settings", json!({"pageCap": 5})).await;
    org.pass(1);
    org.save(hot.iter().map(|id| org.rename(id, "new")).collect());
    org.arrives(|org| hot.iter().all(|id| org.stage.of(id).len() > 1)).await;
    for id in &hot {
        assert_eq!(org.stage.of(id), "RU", "{id}");
    }
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
}

#[tokio::test]
async fn a_deleted_record_that_fits_arrives_with_all_its_fields() {
    let mut org = Practice::start("Account", 60, hot(settings())).await;
    org.catch_up().await;
    let (hot, _) = org.by_fit();
    org.pass(60 * 60);
    org.save(vec![org.delete(&hot[0])]);
    org.catch_up().await;
    assert_eq!(org.stage.of(&hot[0]), "RD");
    let deleted = org.stage.published.iter().rfind(|one| one.id == hot[0]).unwrap();
    assert!(
        deleted.cells.contains_key("Phone"),
        "it fits, so that all of it may be seen: {:?}",
        deleted.cells
    );
}

#[tokio::test]
async fn only_records_that_fit_are_loaded_by_either_door() {
    for estimate in [None, Some(1)] {
        let mut org = Practice::start("Account", 700, hot(CaptureSettings { estimate, ..settings() })).await;
        org.control("settings", json!({"pageCap": 200})).await;
        org.catch_up().await;
        assert_eq!(org.stage.position().load.unwrap().job.is_some(), estimate.is_none());
        assert_eq!(org.stage.letters(), "R".repeat(org.fitting().len()));
        org.assert_holds_what_fits();
        org.assert_nothing_else_is_seen();
    }
}

#[tokio::test]
async fn a_record_that_leaves_by_polls_is_a_delete_of_its_id_and_one_that_was_never_there_is_nothing() {
    let mut org = Practice::start("Account", 60, hot(settings())).await;
    org.catch_up().await;
    let (hot, cold) = org.by_fit();
    org.pass(60 * 60);
    org.save(vec![org.rate(&hot[0], "Cold"), org.rate(&cold[0], "Hot"), org.rename(&hot[1], "new")]);
    let made = org.save(vec![org.new_rated("cold", "Cold"), org.new_rated("hot", "Hot")]);
    org.save(vec![org.delete(&hot[2]), org.delete(&cold[1])]);
    org.catch_up().await;
    let of = |org: &Practice, id: &str| org.stage.of(id);
    assert_eq!(
        (of(&org, &hot[0]), of(&org, &hot[1]), of(&org, &hot[2])),
        ("RD".into(), "RU".into(), "RD".into())
    );
    assert_eq!(of(&org, &cold[0]), "U", "nobody knows that it was not there");
    assert_eq!((of(&org, made[0].as_str()), of(&org, made[1].as_str())), (String::new(), "I".to_owned()));
    let left = org.stage.published.iter().find(|one| one.id == hot[0] && one.operation == Operation::Delete);
    assert_eq!(left.unwrap().cells.keys().collect::<Vec<_>>(), ["Id"], "nothing of what does not fit");
    org.assert_holds_what_fits();

    // Again, and once, also after a restart.
    org.stage.restart().await;
    org.pass(5);
    org.save(vec![org.rename(&hot[0], "unseen"), org.rename(made[0].as_str(), "unseen")]);
    org.catch_up().await;
    assert_eq!((of(&org, &hot[0]), of(&org, made[0].as_str())), ("RD".to_owned(), String::new()));
    org.pass(5);
    org.save(vec![org.rate(&hot[0], "Hot"), org.rate(made[0].as_str(), "Hot")]);
    org.catch_up().await;
    assert_eq!((of(&org, &hot[0]), of(&org, made[0].as_str())), ("RDI".to_owned(), "I".to_owned()));
    org.pass(5);
    org.save(vec![org.hard_delete(&hot[0])]);
    // getDeleted is asked when a run begins, and cuts to the minute.
    for _ in 0..5 {
        org.pass(120);
        org.stage.restart().await;
        org.catch_up().await;
    }
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    org.assert_holds_what_fits();
    org.assert_nothing_else_is_seen();
}

#[tokio::test]
async fn records_that_leave_while_they_are_loaded_are_gone_when_the_load_is_done() {
    let mut org = Practice::start("Account", 3_000, hot(settings())).await;
    org.control("settings", json!({"bulkPageCap": 100})).await;
    let (hot, cold) = org.by_fit();
    for round in 0..60 {
        org.stage.step().await;
        if round % 10 == 9 {
            let at = round / 10 * 20;
            org.pass(1);
            org.save(hot[at..at + 20].iter().map(|id| org.rate(id, "Cold")).collect());
            org.save(cold[at..at + 20].iter().map(|id| org.rate(id, "Hot")).collect());
        }
    }
    org.pass(60);
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    org.assert_holds_what_fits();
    org.assert_nothing_else_is_seen();
}

#[tokio::test]
async fn by_events_too_what_leaves_is_a_delete_and_what_never_fitted_is_nothing() {
    let mut org = Practice::start_with("Account", 60, |client| hot(live(client, false))).await;
    let (hot, cold) = org.by_fit();
    org.arrives(|org| org.stage.published.len() >= hot.len()).await;
    org.pass(1);
    let made = org.save(vec![org.new_rated("cold", "Cold"), org.new_rated("hot", "Hot")]);
    org.save(vec![org.rate(&hot[0], "Cold"), org.rate(&cold[0], "Hot"), org.rename(&hot[1], "new")]);
    org.save(vec![org.delete(&hot[2])]);
    org.arrives(|org| org.stage.of(&hot[2]) == "RD" && org.stage.of(&hot[0]) == "RD").await;
    org.arrives(|org| !org.stage.of(&cold[0]).is_empty()).await;
    assert_eq!((org.stage.of(&hot[1]), org.stage.of(&cold[0])), ("RU".to_owned(), "U".to_owned()));
    let of_made = (org.stage.of(made[0].as_str()), org.stage.of(made[1].as_str()));
    assert_eq!(of_made, (String::new(), "I".to_owned()));
    let left = org.stage.published.iter().find(|one| one.id == hot[0] && one.operation == Operation::Delete);
    assert_eq!(left.unwrap().cells.keys().collect::<Vec<_>>(), ["Id"]);
    let came = org.stage.published.iter().find(|one| one.id == cold[0]).unwrap();
    assert!(came.cells.contains_key("Phone"), "whole, whatever is asked for");

    // Out and in again before anybody looks: what it was meanwhile is not seen.
    org.save(vec![org.rate(&hot[3], "Cold")]);
    org.save(vec![org.rate(&hot[3], "Hot")]);
    org.arrives(|org| org.stage.of(&hot[3]).len() > 1).await;

    // What is out stays out: changed, deleted, told twice, after a restart.
    org.pass(1);
    org.save(vec![org.rename(&hot[0], "unseen"), org.rename(made[0].as_str(), "unseen")]);
    org.pubsub("events", json!({"duplicate": "last"})).await;
    org.settle(300).await;
    org.stage.restart().await;
    org.save(vec![org.delete(&hot[0])]);
    org.save(vec![org.rate(made[0].as_str(), "Hot")]);
    org.arrives(|org| org.stage.of(made[0].as_str()) == "I").await;
    org.settle(200).await;
    assert_eq!(org.stage.of(&hot[0]), "RD");
    org.assert_holds_what_fits();
    org.assert_nothing_else_is_seen();
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
}

#[tokio::test]
async fn a_stretch_that_is_read_again_keeps_to_the_condition() {
    let mut org = Practice::start_with("Account", 60, |client| hot(live(client, true))).await;
    let (hot, cold) = org.by_fit();
    org.arrives(|org| org.stage.published.len() >= hot.len()).await;
    org.pubsub("selection", json!({"deselect": ["Account"]})).await;
    org.pass(30);
    org.save(vec![org.rate(&hot[0], "Cold"), org.rate(&cold[0], "Hot"), org.new_rated("cold", "Cold")]);
    org.save(vec![org.rate(&hot[1], "Cold"), org.rate(&cold[1], "Hot"), org.rename(&hot[2], "new")]);
    org.pubsub("selection", json!({"select": ["Account"]})).await;
    // Of two ids it is only told that they changed, of the rest that there was too much to tell.
    let ordered = json!({"object": "Account", "changeType": "GAP_UPDATE", "ids": [hot[1], cold[1]]});
    org.pubsub("events", ordered).await;
    org.arrives(|org| org.stage.of(&hot[1]) == "RD" && !org.stage.of(&cold[1]).is_empty()).await;
    org.pubsub("events", json!({"object": "Account", "changeType": "GAP_OVERFLOW"})).await;
    org.pass(5);
    org.repairs().await;
    assert_eq!((org.stage.of(&hot[0]), org.stage.of(&hot[1])), ("RD".to_owned(), "RD".to_owned()));
    org.assert_holds_what_fits();
    org.assert_nothing_else_is_seen();
    let left = org.stage.published.iter().find(|one| one.id == hot[0] && one.operation == Operation::Delete);
    assert_eq!(left.unwrap().source, Source::Refetch);
}

const STAMP: &str = "2026-05-19T08:59:30.000+0000";
const NOW: Stamp = Stamp(1_779_181_200_000);
/// A question by id, as it stands in an address; before the window that it follows.
const QUESTION: &str = "Id+IN+";

#[tokio::test]
async fn a_window_that_shows_nothing_new_costs_no_question() {
    let (org, mut stage) = scripted(hot(settings())).await;
    org.on(QUESTION, [rows(&["001A"], Some(STAMP), None)]);
    org.on("/queryAll?q=", [rows(&["001A", "001B"], Some(STAMP), None)]);
    live_at(&mut stage, "2026-05-19T08:59:00Z");
    stage.restart().await;
    stage.catch_up(NOW).await;
    assert_eq!((ids_of(&stage), stage.letters()), (vec!["001A", "001B"], "UD".to_owned()));
    let questions = org.requests(QUESTION);
    let [question] = questions.as_slice() else { panic!("{questions:?}") };
    let bare = question.line.split_whitespace().nth(1).unwrap().to_owned();
    let text: String =
        url::Url::parse(&format!("http://org{bare}")).unwrap().query_pairs().next().unwrap().1.into();
    assert_eq!(
        text,
        "SELECT Id,SystemModstamp FROM Account WHERE Id IN ('001A','001B') AND (Rating = 'Hot')"
    );
    for window in org.requests("/queryAll?q=").iter().filter(|request| !request.line.contains(QUESTION)) {
        assert!(!window.line.contains("Rating"), "a window shows what leaves too: {}", window.line);
    }
    org.set_date("Tue, 19 May 2026 09:01:00 GMT");
    stage.client.fetch_server_time().await.unwrap();
    stage.catch_up(NOW.plus(Duration::from_secs(60))).await;
    assert_eq!((stage.letters(), org.requests(QUESTION).len()), ("UD".to_owned(), 1));
    assert!(stage.client.billed_calls()[&Purpose::Poll] >= 3);
}

#[tokio::test]
async fn a_page_whose_question_fails_waits_and_nothing_of_it_is_lost() {
    let (org, mut stage) = scripted(hot(settings())).await;
    org.on(
        QUESTION,
        [
            refuse(400, "INVALID_FIELD", "No such column 'Rating' on entity 'Account'."),
            refuse(400, "MALFORMED_QUERY", "unexpected token: 'Hot'"),
            rows(&["001A", "001B"], Some(STAMP), None),
        ],
    );
    org.on("/queryAll?q=", [rows(&["001A", "001B"], Some(STAMP), None)]);
    live_at(&mut stage, "2026-05-19T08:59:00Z");
    stage.restart().await;
    stage.catch_up(NOW).await;
    assert_eq!(ids_of(&stage), ["001A", "001B"]);
    let [unknown, refused] = stage.errors.as_slice() else { panic!("{:?}", stage.errors) };
    for (error, sentence) in [(unknown, "No such column"), (refused, "unexpected token")] {
        assert_eq!(error.kind(), Kind::ObjectMisconfigured, "{error}");
        let text = error.to_string();
        assert!(text.contains("refuses its `where`") && text.contains(sentence), "{text}");
    }
}

#[tokio::test]
async fn a_record_that_is_saved_between_reading_and_question_is_published_as_it_is_then() {
    let (org, mut stage) = scripted(hot(settings())).await;
    const LATER: &str = "2026-05-19T09:00:30.000+0000";
    org.on(QUESTION, [rows(&["001A"], Some(LATER), None)]);
    org.on("/queryAll?q=", [rows(&["001A"], Some(STAMP), None), rows(&["001A"], Some(LATER), None)]);
    live_at(&mut stage, "2026-05-19T08:59:00Z");
    stage.restart().await;
    stage.catch_up(NOW).await;
    assert_eq!(stage.letters(), "");
    org.set_date("Tue, 19 May 2026 09:01:00 GMT");
    stage.client.fetch_server_time().await.unwrap();
    stage.catch_up(NOW.plus(Duration::from_secs(60))).await;
    assert_eq!(stage.letters(), "U");
    assert_eq!(stage.published[0].cells["SystemModstamp"], LATER);
}

#[tokio::test]
async fn more_records_than_one_question_takes_are_asked_in_several() {
    let ids: Vec<RecordId> = (0..2_500)
        .map(|number| RecordId::new(format!("0015g0000{number:06}AAA").as_bytes()).unwrap())
        .collect();
    let (org, stage) = scripted(settings()).await;
    let answer = json!({"compositeResponse": [{"body": {"totalSize": 0, "done": true, "records": []},
        "httpHeaders": {}, "httpStatusCode": 200, "referenceId": "q0"}]});
    org.on("/composite", [reply(200, answer.to_string())]);
    let object = stage.capture.description().clone();
    condition::fitting(&stage.client, &object, HOT, &ids).await.unwrap();
    let asked: Vec<usize> =
        org.requests("/composite").iter().map(|request| request.body.matches("0015g0000").count()).collect();
    assert_eq!(asked, [1_000, 1_000, 500]);
}
