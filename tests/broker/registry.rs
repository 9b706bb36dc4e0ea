//! The schema registry's client against the real registry: ids, evolution, refusal, levels.

use sf2kafka::config::RegistrySettings;
use sf2kafka::error::Kind;
use sf2kafka::schema::{Registry, Subject};
use url::Url;

use crate::services::{registry_url, unique};

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"A","namespace":"salesforce.test","fields":[{fields}]}}"#)
}

const ID: &str = r#"{"name":"Id","type":"string","salesforce.type":"id"}"#;

fn registry() -> (Registry, RegistrySettings) {
    sf2kafka::salesforce::install_tls();
    let settings = RegistrySettings::new(registry_url().parse().unwrap());
    (Registry::new(&settings).unwrap(), settings)
}

async fn get(path: &[&str]) -> (u16, serde_json::Value) {
    let mut url: Url = registry_url().parse().unwrap();
    url.path_segments_mut().unwrap().pop_if_empty().extend(path);
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn versions_follow_one_another_under_our_level_and_keep_their_ids() {
    let (client, settings) = registry();
    client.ping().await.unwrap();
    let topic = unique("registry");
    let subject = Subject::value(&topic);
    let optional =
        |name: &str| format!(r#"{ID},{{"name":"{name}","type":["null","string"],"default":null}}"#);
    let (first, second) = (record(ID), record(&optional("Name")));

    let id = client.register(&subject, &first).await.unwrap();
    let (status, level) = get(&["config", &subject.0]).await;
    assert_eq!((status, level["compatibilityLevel"].as_str()), (200, Some("BACKWARD")), "{level}");

    let wider = client.register(&subject, &second).await.unwrap();
    assert_ne!(id, wider);
    // Another instance, which knows nothing yet.
    let other = Registry::new(&RegistrySettings { auto_register: false, ..settings }).unwrap();
    assert_eq!(other.register(&subject, &first).await.unwrap(), id);
    assert_eq!(other.register(&subject, &second).await.unwrap(), wider);
    assert_eq!(get(&["subjects", &subject.0, "versions"]).await.1, serde_json::json!([1, 2]));

    // What a consumer gets for the id in the record: all of it, our properties too.
    let (_, stored) = get(&["schemas", "ids", &wider.to_string()]).await;
    let text: serde_json::Value = serde_json::from_str(stored["schema"].as_str().unwrap()).unwrap();
    assert_eq!(text, serde_json::from_str::<serde_json::Value>(&second).unwrap());
}

#[tokio::test]
async fn a_schema_that_old_readers_data_does_not_fit_is_refused_and_leaves_no_version() {
    let (client, _) = registry();
    let subject = Subject::value(&unique("registry"));
    client.register(&subject, &record(ID)).await.unwrap();
    let required = format!(r#"{ID},{{"name":"Name","type":"int"}}"#);
    let error = client.register(&subject, &record(&required)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryRefused);
    let text = error.to_string();
    assert!(text.contains("not compatible with the newest version"), "{text}");
    assert!(!text.contains("no reason given") && text.contains("Name"), "{text}");
    assert_eq!(get(&["subjects", &subject.0, "versions"]).await.1, serde_json::json!([1]));
}

#[tokio::test]
async fn without_auto_register_a_missing_subject_stays_missing() {
    let (_, settings) = registry();
    let client = Registry::new(&RegistrySettings { auto_register: false, ..settings }).unwrap();
    let subject = Subject::value(&unique("registry"));
    let error = client.register(&subject, &record(ID)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryRefused);
    assert!(error.to_string().contains("auto_register is false"), "{error}");
    assert_eq!(get(&["subjects", &subject.0, "versions"]).await.0, 404);
}
