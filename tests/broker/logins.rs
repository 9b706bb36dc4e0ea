//! A login that is kept in the control topic: shared by instances, rotated once at a time, readable with the key only.

use serde_json::json;

use crate::json_schema::{misfits, of_key};
use crate::services::settings;
use crate::stage::Stage;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SEED: &str = "5AepSimulatorRefreshToken";

async fn stage() -> Stage {
    let stage = Stage::new("[ Account ]").await;
    stage.control("logins/app", json!({"rotation": true})).await;
    stage.rewrite(
        "auth: client-credentials,",
        &format!("auth: refresh-token, refresh_token: {SEED}, token_store: kafka, token_key: '{KEY}',"),
    );
    stage
}

async fn refreshes(stage: &Stage) -> u64 {
    let url = format!("{}/logins", stage.simulator.control_url());
    let logins: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    logins["refreshes"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_the_control_topic_is_shared_sealed_and_does_not_disturb_the_shards() {
    let stage = stage().await;
    let (code, data, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(0), "{words}");
    assert!(
        data.contains(&format!("kept in topic {}.control, sealed with the token key", stage.name)),
        "{data}"
    );
    stage.completes().await;
    stage.equals_the_org("Account").await;
    assert_eq!(refreshes(&stage).await, 1, "the run went on with the session that was kept");
    let (code, report, words) = stage.run(&["check"]).await;
    assert_eq!(code, Some(0), "{report}\n{words}");
    assert!(report.contains("✓ login: "), "{report}");

    let records = sf2kafka::publish::read_control(&settings(&stage.name, 2)).await.unwrap();
    let mut kinds = Vec::new();
    for record in &records {
        let text = String::from_utf8_lossy(&record.value);
        assert!(!text.contains("5Aep") && !text.contains("refresh_token"), "{}: {text}", record.key);
        if record.key.starts_with('t') {
            kinds.push(record.key.clone());
            assert_eq!(misfits(&of_key(&record.key), &serde_json::from_str(&text).unwrap()), [""; 0]);
        }
    }
    kinds.sort();
    assert_eq!(kinds, [format!("token/{}", stage.name), format!("turn/{}", stage.name)]);

    stage.rewrite(KEY, &KEY.replace("00112233", "99999999"));
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(1));
    assert!(
        words.contains("error[token-store-failed]") && words.contains("sealed with another key"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_instances_that_meet_an_expired_session_one_refreshes_and_the_others_use_what_it_got() {
    let stage = stage().await;
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(0), "{words}");
    for round in 1..=3 {
        stage.control("sessions/expire", json!({})).await;
        // The refresh takes its time, so that the others come while it is under way.
        stage.control("logins/pause", json!({"beforeMillis": 200, "afterMillis": 200})).await;
        let instances = (0..4).map(|_| stage.run(&["discover", "--object", "Account"]));
        for (code, _, words) in futures_util::future::join_all(instances).await {
            assert_eq!(code, Some(0), "{words}");
        }
        assert_eq!(refreshes(&stage).await, 1 + round);
    }
}
