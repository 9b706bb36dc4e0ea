//! What becomes of an object on its way into a run, against the simulator and without a broker.

use std::sync::Arc;

use ::simulator::{Simulator, SimulatorConfig};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Chosen;
use super::chosen::select;
use super::encoders::EncoderFactory;
use super::object::{Ended, ObjectTask};
use super::opening::{Opening, Stored};
use crate::capture::CaptureSettings;
use crate::config::{
    Auth, KafkaSettings, ObjectSettings, RegistrySettings, SalesforceSettings, Secret, Settings,
};
use crate::domain::Stamp;
use crate::error::Kind;
use crate::salesforce::Client;
use crate::schema::Registry;
use crate::status::Board;

#[test]
fn objects_are_chosen_anew_whatever_became_of_those_that_are_named() {
    let listed = |name: &str| {
        let object = serde_json::json!({"name": name, "queryable": true, "retrieveable": true});
        serde_json::from_value::<crate::salesforce::ObjectSummary>(object).unwrap()
    };
    let auth = Auth::AccessToken { access_token: Secret::new("unused") };
    let origin = url::Url::parse("https://x").unwrap();
    let settings =
        Settings::new("crm", SalesforceSettings::new(origin, auth), KafkaSettings::new("x:1"), None)
            .with_objects(["Gone__c", "Account", "Inv*"]);
    let names = |org: &[&str]| {
        let org: Vec<_> = org.iter().map(|name| listed(name)).collect();
        let chosen = select(&org, &settings).unwrap();
        chosen
            .iter()
            .map(|object| (object.name.to_string(), object.settings.name.clone()))
            .collect::<Vec<_>>()
    };
    let entry = |name: &str, of: &str| (name.to_owned(), of.to_owned());
    assert_eq!(
        names(&["Account", "Invoice__c", "Contact"]),
        [entry("Account", "Account"), entry("Invoice__c", "Inv*")]
    );
    assert_eq!(names(&["Invoice__c", "Gone__c"]), [entry("Gone__c", "Gone__c"), entry("Invoice__c", "Inv*")]);
    assert_eq!(names(&["Contact"]), [], "nothing is no error while others run");
}

#[tokio::test]
async fn an_object_that_only_a_glob_asks_for_and_that_nobody_can_read_whole_is_left_out() {
    let config = SimulatorConfig::default();
    let auth = Auth::ClientCredentials {
        client_id: config.client_id.clone(),
        client_secret: Secret::new(config.client_secret.clone()),
    };
    let simulator = Simulator::start(config).await.unwrap();
    let origin = url::Url::parse(&simulator.origin()).unwrap();
    let settings =
        Settings::new("crm", SalesforceSettings::new(origin.clone(), auth), KafkaSettings::new("x:1"), None);
    let client = Client::connect(&settings.salesforce).await.unwrap();
    let registry = Registry::new(&RegistrySettings::new(origin)).unwrap();
    let name: Arc<str> = "AppDefinition".into();
    for by_name in [true, false] {
        let object = ObjectSettings::new("crm", &name);
        let capture = CaptureSettings {
            method: object.method,
            initial_load: true,
            poll: object.poll.clone(),
            fields: object.fields.clone(),
            hash_key: None,
            condition: None,
            estimate: None,
            parents: None,
            largest_record: 1_000_000,
            loads: Arc::new(Semaphore::new(1)),
            until: Some(Stamp::default()),
            live: None,
        };
        let (estimate, parents) = (None, None);
        let chosen = Chosen { name: name.clone(), settings: object, by_name, estimate, parents, live: false };
        let (queue, _parcels) = mpsc::channel(1);
        let task = ObjectTask {
            opening: Opening {
                client: client.clone(),
                name: name.clone(),
                by_name,
                settings: capture,
                stored: Stored::default(),
            },
            factory: EncoderFactory::restore(&settings, &registry, &chosen, None).unwrap(),
            queue,
            status: Board::new().object(&name),
            stop: CancellationToken::new(),
            optional: !by_name,
            until: Some(Stamp::default()),
            arrivals: tokio::sync::watch::Sender::new(Default::default()).subscribe(),
        };
        match task.run().await {
            Ended::Done => assert!(!by_name),
            Ended::Failed(error) => {
                assert!(by_name && error.kind() == Kind::ObjectUnsupported, "{error}")
            }
            Ended::Stopped => panic!("nobody stopped it"),
        }
    }
}
