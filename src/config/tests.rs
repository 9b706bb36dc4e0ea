//! The configuration as users meet it: what is taken, what is refused, and at which line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{load_with, read};
use super::reader::Context;
use super::*;
use crate::error::Kind;

const MINIMAL: &str = "\
name: crm
salesforce:
  login_domain: acme.my.salesforce.com
  auth: client-credentials
  client_id: ${SF_CLIENT_ID}
  client_secret: ${SF_CLIENT_SECRET}
kafka:
  bootstrap_servers: localhost:9092
schema_registry:
  url: http://localhost:8081
objects:
  - Account
";

fn environment(name: &str) -> Option<String> {
    match name {
        "SF_CLIENT_ID" => Some("the-client".to_owned()),
        "SF_CLIENT_SECRET" => Some("the-secret".to_owned()),
        _ => None,
    }
}

fn load_text(text: &str) -> Result<Settings, crate::Error> {
    read(text, &Context::new("crm.yaml".to_owned(), PathBuf::new(), &environment))
}

fn with(more: &str) -> Result<Settings, crate::Error> {
    load_text(&format!("{MINIMAL}{more}"))
}

/// The message and the advice of a file that must be refused.
fn refused(text: &str) -> (String, String) {
    let error = load_text(text).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid, "{error}");
    (error.to_string(), error.advice().to_owned())
}

#[test]
fn the_smallest_file_gets_all_defaults() {
    let settings = with("").unwrap();
    assert_eq!(settings.name, "crm");
    assert_eq!(settings.salesforce.login_origin.as_str(), "https://acme.my.salesforce.com/");
    assert!(matches!(&settings.salesforce.auth, Auth::ClientCredentials { client_id, client_secret }
        if client_id == "the-client" && client_secret.expose() == "the-secret"));
    assert_eq!(settings.kafka.control_partitions, 8);
    assert_eq!(settings.kafka.topics.partitions, 6);
    assert_eq!(settings.http_listen, "127.0.0.1:8180".parse().ok());
    let [account] = settings.objects.as_slice() else { panic!("one object") };
    assert_eq!((account.name.as_str(), account.method), ("Account", Method::Cdc));
    assert_eq!(account.poll, PollSettings::default());
    assert_eq!(account.outputs, [OutputSettings::change_table("crm")]);
    assert!(!format!("{settings:?}").contains("the-secret"));
}

#[test]
fn an_object_takes_the_defaults_and_overrides_them() {
    let text = MINIMAL.replace(
        "  - Account\n",
        "  - Account\n  - { name: 'et4ae5__*__c', method: full-load, poll: { interval: 5m } }\n",
    );
    let settings = load_text(&format!(
        "{text}defaults:\n  poll: {{ interval: 1m, look_back: 20m }}\n  outputs: [ {{ envelope: change-table, topic: \"x.{{object}}\", key: string }} ]\nexclude: ['*Share']\n"
    ))
    .unwrap();
    let [account, marketing] = settings.objects.as_slice() else { panic!("two objects") };
    assert_eq!(account.poll.interval, Duration::from_secs(60));
    assert_eq!((marketing.method, marketing.poll.interval), (Method::FullLoad, Duration::from_secs(300)));
    assert_eq!(marketing.poll.look_back, Duration::from_secs(20 * 60));
    assert_eq!(marketing.outputs[0].topic_for("crm", "A"), "x.A");
    assert_eq!(marketing.outputs[0].key, KeyFormat::Text);
    assert!(matches_object(&marketing.name, "et4ae5__SendDefinition__c"));
    assert!(matches_object(&settings.exclude[0], "AccountShare") && !matches_object("*Share", "Account"));
}

#[test]
fn a_wrong_key_or_value_names_its_line_and_what_was_probably_meant() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("objectz: [A]\n", "13:1", "unknown key `objectz`", "did you mean `objects`?"),
        ("http:\n  listn: off\n", "14:3", "unknown key `http.listn`", "did you mean `listen`?"),
        ("http: { listen: here }\n", "13:17", "`http.listen`: `here` is not an address", ""),
        ("defaults: { method: cdd }\n", "13:21", "knows no value `cdd`", "did you mean `cdc`?"),
        ("defaults:\n  poll:\n    interval: 30\n", "15:15", "`30` is not a duration", ""),
        ("defaults:\n  initial_load: yes\n", "14:17", "`yes` is not `true` or `false`", ""),
        ("defaults: [a]\n", "13:11", "`defaults` holds keys with values, not a list", ""),
        ("exclude: Account\n", "13:10", "`exclude` is a list, not a single value", "write `[a, b]`"),
        ("exclude: [Acc*]\n", "13:11", "leaves out `Account`, which is listed", "take one"),
        ("defaults: { outputs: [ { topic: a } ] }\n", "13:24", "`envelope` is missing", "change-table"),
        (
            "defaults: { outputs: [ { envelope: change-table, topic: '{nam}.x' } ] }\n",
            "13:57",
            "unknown `{nam}`",
            "did you mean `{name}`?",
        ),
        (
            "defaults:\n  outputs:\n    - { envelope: change-table }\n    - { envelope: change-table }\n",
            "16:7",
            "two outputs with one topic",
            "{object}__ct",
        ),
        (
            "defaults: { outputs: [ { envelope: change-table, topic: '{name}.control' } ] }\n",
            "12:5",
            "topic `crm.control` of `Account` is also used by the program itself",
            "",
        ),
        ("name: again\n", "13:1", "key `name` stands twice, first in line 1", ""),
    ];
    for (more, place, message, hint) in cases {
        let (error, advice) = refused(&format!("{MINIMAL}{more}"));
        assert!(error.starts_with(&format!("crm.yaml:{place}: ")), "{more}\n{error}");
        assert!(error.contains(message), "{more}\n{error}");
        assert!(advice.contains(hint), "{more}\n{advice}");
    }
}

#[test]
fn a_change_to_one_line_of_a_good_file_is_refused_at_that_line() {
    let cases: &[(&str, &str, usize, &str)] = &[
        ("name: crm", "name: \"a b\"", 1, "cannot name topics"),
        ("name: crm", "name:", 1, "`name` is empty"),
        ("name: crm\n", "", 1, "`name` is missing"),
        ("login_domain: acme.my.salesforce.com", "login_domain: http://acme.com", 3, "plain http"),
        ("login_domain: acme.my.salesforce.com", "login_domain: acme", 3, "`acme` is no host"),
        ("auth: client-credentials", "auth: jwt_bearer", 4, "knows no value"),
        ("auth: client-credentials", "auth: client_credentials", 4, "knows no value"),
        ("  auth: client-credentials\n", "", 2, "`auth` is missing in `salesforce`"),
        ("  client_id: ${SF_CLIENT_ID}\n", "", 2, "`client_id` is missing in `salesforce`"),
        ("  client_secret: ${SF_CLIENT_SECRET}\n", "", 2, "`client_secret` is missing"),
        ("client_secret: ${SF_CLIENT_SECRET}", "client_secret: ''", 6, "`salesforce.client_secret` is empty"),
        ("client_id: ${SF_CLIENT_ID}", "client_id: ${SF CLIENT}", 5, "no variable reference"),
        ("client_id: ${SF_CLIENT_ID}", "client_id: [a]", 5, "a single value belongs here, not a list"),
        ("  bootstrap_servers: localhost:9092\n", "  topics: {}\n", 7, "`bootstrap_servers` is missing"),
        ("  url: http://localhost:8081", "  url: localhost:8081", 10, "`schema_registry.url` is no http URL"),
        ("schema_registry:\n  url: http://localhost:8081\n", "", 1, "`url` is missing in `schema_registry`"),
        ("  - Account\n", "  []\n", 11, "`objects` is empty"),
        ("  - Account", "  - Acc ount", 12, "no API name and no glob"),
        ("  - Account", "  - Account\n  - account", 13, "listed twice, first in line 12"),
        ("  - Account", "  - { method: cdc }", 12, "`name` is missing in `objects[]`"),
        (
            "  bootstrap_servers: localhost:9092",
            "  bootstrap_servers: localhost:9092\n  properties: { enable.idempotence: false }",
            9,
            "`kafka.properties.enable.idempotence` is set by the program",
        ),
    ];
    for (old, new, line, message) in cases {
        let (error, _) = refused(&MINIMAL.replacen(old, new, 1));
        assert!(error.starts_with(&format!("crm.yaml:{line}:")), "{new}\n{error}");
        assert!(error.contains(message), "{new}\n{error}");
    }
}

#[test]
fn what_a_later_version_brings_is_refused_by_name_and_never_ignored() {
    for more in [
        "defaults: { state: full }",
        "defaults: { method: reload }",
        "defaults: { compare: '0 3 * * *' }",
        "defaults: { formulas: follow }",
        "defaults: { outputs: [ { envelope: upsert } ] }",
        "defaults: { outputs: [ { envelope: change-table, format: json } ] }",
    ] {
        let (error, _) = refused(&format!("{MINIMAL}{more}\n"));
        assert!(error.starts_with("crm.yaml:13:"), "{error}");
        assert!(error.contains("is not available in this version"), "{error}");
    }
    let (error, _) = refused(&MINIMAL.replace("- Account", "- { name: Account, schedule: '* * * * *' }"));
    assert!(error.starts_with("crm.yaml:12:") && error.contains("not available"), "{error}");
}

/// The file with this entry for an object.
fn with_entry(entry: &str, more: &str) -> Result<Settings, crate::Error> {
    load_text(&format!("{}{more}", MINIMAL.replace("- Account", &format!("- {{ {entry} }}"))))
}

#[test]
fn an_entry_says_which_fields_are_hidden_and_which_records_fit() {
    let entry = "name: Contact, fields: { include: [Name], hash: [Email, Salary__c], mask: [Phone] }, \
        where: \" IsPersonAccount = false AND Name != 'a) LIMIT 1' \"";
    let settings = with_entry(entry, "hash_key: 'sixteen bytes it is'\n").unwrap();
    let [contact] = settings.objects.as_slice() else { panic!("one object") };
    assert_eq!(contact.condition.as_deref(), Some("IsPersonAccount = false AND Name != 'a) LIMIT 1'"));
    assert_eq!(contact.fields.hash, ["Email", "Salary__c"]);
    assert_eq!(contact.fields.named().collect::<Vec<_>>(), ["Name", "Email", "Salary__c", "Phone"]);
    assert_eq!(settings.hash_key.as_ref().map(Secret::expose), Some("sixteen bytes it is"));
    assert!(!format!("{settings:?}").contains("sixteen"), "a key never shows");
    let settings = with_entry("name: Contact, fields: { mask: [Phone] }", "").unwrap();
    assert!(settings.hash_key.is_none() && settings.objects[0].condition.is_none());
}

#[test]
fn a_rule_that_hides_nothing_or_too_much_is_refused_at_its_line() {
    let key = "hash_key: sixteen-bytes-it-is\n";
    for (entry, more, place, message) in [
        ("fields: { hash: [Email] }", "", "12:13", "`fields.hash` of `Contact` needs a `hash_key`"),
        ("fields: { hash: [Email] }", "hash_key: short\n", "13:1", "`hash_key` has fewer than 16 characters"),
        (
            "fields: { hash: [id] }",
            key,
            "12:32",
            "field `id` is the key of each record: it stands under `hash`",
        ),
        ("fields: { mask: [Id] }", "", "12:32", "it stands under `mask`"),
        ("fields: { exclude: [Id] }", "", "12:32", "it stands under `exclude`"),
        (
            "fields: { exclude: [Email], mask: [email] }",
            "",
            "12:50",
            "field `email` stands under `exclude` and under `mask`",
        ),
        (
            "fields: { hash: [Email], mask: [Phone, Email] }",
            key,
            "12:47",
            "stands under `hash` and under `mask`",
        ),
        ("fields: { mask: ['Ph one'] }", "", "12:39", "is no field's API name"),
        ("where: \"A = 'x') OR (A = 'y'\"", "", "12:29", "`where`: a `)` closes what was not opened"),
        ("where: \"A = 1 LIMIT 5\"", "", "12:29", "`where`: `LIMIT` is no part of a condition"),
        ("where: ''", "", "12:29", "`where`: it names no field"),
        (
            "where: A = 1, after: changed-only",
            "",
            "12:22",
            "`where` with `after: changed-only`: of a record that comes to fit",
        ),
        ("where: [a]", "", "12:29", "a single value belongs here"),
    ] {
        let error = with_entry(&format!("name: Contact, {entry}"), more).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("crm.yaml:{place}: ")), "{entry}\n{error}");
        assert!(error.contains(message), "{entry}\n{error}");
        assert!(!error.contains("short") || !more.contains("short"), "a key never shows: {error}");
    }
    assert!(with_entry("name: A, where: A = 1, after: changed-only, capture: poll", "").is_ok());
    // A variable that is missing is one problem, not two.
    let error = with_entry("name: Contact, fields: { hash: [Email] }", "hash_key: ${HASH_KEY}\n");
    let error = error.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::SecretMissing);
    assert!(!error.to_string().contains("problems"), "{error}");
}

#[test]
fn clouds_bring_their_objects_behind_the_entries_of_objects_which_go_before_them() {
    let settings = with("clouds: [ sales, service, sales ]\ndefaults: { poll: { interval: 7s } }\n").unwrap();
    let (own, starters) = settings.wanted();
    assert_eq!(own, ["Account"]);
    assert!(starters.contains(&"Opportunity") && starters.contains(&"Case"), "{starters:?}");
    assert!(!starters.contains(&"Account"), "it has an entry of its own");
    let twice: Vec<_> = starters.iter().filter(|name| **name == "Contact").collect();
    assert_eq!(twice.len(), 1, "it belongs to both clouds");
    let case = settings.objects.iter().find(|entry| entry.name == "Case").unwrap();
    assert_eq!((case.cloud, &*case.place), (Some(Cloud::Service), "crm.yaml:13:18"));
    assert_eq!(case.poll.interval, Duration::from_secs(7));

    let alone = MINIMAL.replace("objects:\n  - Account", "clouds: [ marketing ]\nexclude: [ Account ]");
    let settings = load_text(&alone).unwrap();
    let (own, starters) = settings.wanted();
    assert!(own.is_empty() && starters.contains(&"et4ae5__*__c"));
    assert!(crate::config::is_glob(starters.last().unwrap()), "names go before globs");

    for (list, message, hint) in [
        ("[ Service, sales ]", "`Service` is no cloud", "did you mean `service`?"),
        ("[ sale ]", "`sale` is no cloud", "did you mean `sales`?"),
        ("[ health ]", "`health` is no cloud", "there are `sales`, `service`, `marketing` and `commerce`"),
    ] {
        let (error, advice) = refused(&format!("{MINIMAL}clouds: {list}\n"));
        assert!(error.contains(message), "{error}");
        assert!(format!("{error}{advice}").contains(hint), "{error}{advice}");
    }
}

#[test]
fn platform_events_are_named_one_by_one_and_may_stand_alone() {
    let settings = with("platform_events: [ Shipment__e, 'ns__Order__e', LoginEventStream ]\n").unwrap();
    let names: Vec<_> = settings.platform_events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["Shipment__e", "ns__Order__e", "LoginEventStream"]);
    assert_eq!(settings.platform_events[1].place, "crm.yaml:13:33");
    assert_eq!(settings.event_topic("Shipment__e"), "crm.Shipment__e");
    let alone = MINIMAL.replace("objects:\n  - Account", "platform_events: [ Shipment__e ]");
    let settings = load_text(&alone).unwrap();
    assert!(settings.objects.is_empty() && settings.platform_events.len() == 1);
    assert_eq!(settings.event_namespace(), "salesforce.crm");

    for (list, place, message, hint) in [
        ("[Shipment__c]", "13:19", "`Shipment__c` is no platform event's API name", "for example"),
        ("['*__e']", "13:19", "is no platform event's API name", "globs are not taken"),
        ("[/event/Shipment__e]", "13:19", "is no platform event's API name", "without `/event/`"),
        ("[AccountChangeEvent]", "13:19", "is no platform event's API name", "by `objects`"),
        ("Shipment__e", "13:18", "`platform_events` is a list, not a single value", "write `[a, b]`"),
        ("[A__e, a__e]", "13:25", "platform event `a__e` is listed twice, first in line 13", "keep one"),
        ("[Account]", "13:19", "`Account` is listed under `objects` too", "take one of the two away"),
    ] {
        let (error, advice) = refused(&format!("{MINIMAL}platform_events: {list}\n"));
        assert!(error.starts_with(&format!("crm.yaml:{place}: ")), "{list}\n{error}");
        assert!(error.contains(message), "{list}\n{error}");
        assert!(advice.contains(hint), "{list}\n{advice}");
    }
    // An object's output in the way.
    let text = MINIMAL.replace(
        "- Account",
        "- { name: Account, outputs: [ { envelope: change-table, topic: '{name}.Shipment__e' } ] }",
    );
    let (error, _) = refused(&format!("{text}platform_events: [Shipment__e]\n"));
    let message = "topic `crm.Shipment__e` of `Shipment__e` is also used by Account";
    assert!(error.starts_with("crm.yaml:13:19: ") && error.contains(message), "{error}");
    let (error, _) =
        refused(&format!("{}platform_events: []\n", MINIMAL.replace("objects:\n  - Account\n", "")));
    assert!(error.contains("`objects` is missing"), "{error}");
}

#[test]
fn what_means_the_same_as_this_version_does_is_taken() {
    let settings = with(
        "naming: { fields: keep }\ndefaults: { method: cdc, capture: auto, after: full, state: none, formulas: ignore, on_new_field: backfill, decimals: double }\n",
    );
    settings.unwrap();
}

#[test]
fn rows_from_before_a_new_field_are_read_for_it_unless_somebody_says_otherwise() {
    let of = |more: &str| with(more).unwrap().objects[0].on_new_field;
    assert_eq!(of(""), OnNewField::Backfill);
    assert_eq!(of("defaults: { on_new_field: ignore }\n"), OnNewField::Ignore);
}

#[test]
fn how_values_are_published_is_chosen_for_all_or_for_one_object() {
    let text = MINIMAL.replace(
        "- Account",
        "- Account\n  - { name: Case, decimals: double, compounds: none, blobs: include, fields: { exclude: [Origin] } }",
    );
    let text = format!("{text}defaults: {{ decimals: decimal, compounds: record, blobs: reference }}\n");
    let settings = load_text(&text).unwrap();
    let all =
        ValueRules { decimals: Decimals::Decimal, compounds: Compounds::Record, blobs: Blobs::Reference };
    let one = ValueRules { blobs: Blobs::Include, ..ValueRules::default() };
    assert_eq!([0, 1].map(|index| settings.objects[index].fields.values), [all, one]);
    assert_eq!(settings.objects[1].fields.exclude, ["Origin"]);
    let (error, hint) = refused(&format!("{MINIMAL}defaults: {{ blobs: bytes }}\n"));
    assert!(error.contains("`defaults.blobs"), "{error}");
    assert!(hint.contains("`none`, `reference`, `include`"), "{hint}");
}

#[test]
fn all_problems_of_a_file_are_named_at_once_in_its_order() {
    let text = MINIMAL.replace("auth: client-credentials", "auht: client-credentials");
    let (error, _) = refused(&format!("{text}http: {{ listen: nowhere }}\n"));
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "3 problems in the configuration");
    assert!(lines[1].trim_start().starts_with("crm.yaml:2:1: `auth` is missing"), "{error}");
    assert!(
        lines[2].contains("crm.yaml:4:3: unknown key `salesforce.auht` (did you mean `auth`?)"),
        "{error}"
    );
    assert!(lines[3].contains("crm.yaml:13:17: "), "{error}");
}

#[test]
fn the_value_of_a_variable_never_shows_in_a_message_wherever_it_was_put() {
    for (old, new) in [
        ("name: crm", "name: \"{}!\""),
        ("acme.my.salesforce.com", "http://{}.com"),
        ("acme.my.salesforce.com", "{}"),
        ("auth: client-credentials", "auth: {}"),
        ("- Account", "- \"{} x\""),
        ("- Account", "- { name: Account, method: {} }"),
        ("- Account", "- { name: Account, poll: { interval: {} } }"),
        ("- Account", "- { name: Account, outputs: [ { envelope: change-table, topic: '{} x' } ] }"),
        ("url: http://localhost:8081", "url: {}"),
    ] {
        let (error, advice) = refused(&MINIMAL.replacen(old, &new.replace("{}", "${SF_CLIENT_SECRET}"), 1));
        assert!(!error.contains("the-secret") && !advice.contains("the-secret"), "{error}");
    }
}

#[test]
fn a_missing_variable_is_named_with_its_line() {
    let error = load_text(&MINIMAL.replace("${SF_CLIENT_ID}", "${NO_SUCH}")).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::SecretMissing);
    assert_eq!(error.to_string(), "crm.yaml:5:14: environment variable NO_SUCH is not set");
    assert!(error.advice().contains("${NO_SUCH:-…}"));
}

#[test]
fn a_secret_file_is_read_without_its_last_newline_and_must_hold_something() {
    let directory = std::env::temp_dir().join(format!("sf2kafka-secret-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("crm.yaml");
    let text = MINIMAL.replace("client_secret: ${SF_CLIENT_SECRET}", "client_secret_file: secret");
    std::fs::write(
        &file,
        text.replace("localhost:9092", "x:1\n  properties: { sasl.password_file: secret }"),
    )
    .unwrap();
    let load = || load_with(&file, &environment);

    let missing = load().map(|_| ()).unwrap_err();
    assert_eq!(missing.kind(), Kind::SecretMissing);
    assert!(missing.to_string().contains("crm.yaml:6:23: secret file "), "{missing}");

    std::fs::write(directory.join("secret"), "\n").unwrap();
    assert!(load().map(|_| ()).unwrap_err().to_string().contains("it is empty"));

    std::fs::write(directory.join("secret"), " two words \n").unwrap();
    let settings = load().unwrap();
    let Auth::ClientCredentials { client_secret, .. } = settings.salesforce.auth else {
        panic!("another auth")
    };
    assert_eq!(client_secret.expose(), " two words ");
    assert_eq!(settings.kafka.properties["sasl.password"].expose(), " two words ");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_secret_given_twice_is_refused() {
    let text = MINIMAL.replace("  client_secret:", "  client_secret_file: x\n  client_secret:");
    assert!(refused(&text).0.contains("are both given"));
}

#[test]
fn an_access_token_needs_its_instance_and_nothing_else() {
    let text = MINIMAL
        .replace("client-credentials", "access-token")
        .replace("  client_id: ${SF_CLIENT_ID}\n", "")
        .replace("client_secret", "access_token");
    let (error, _) = refused(&text);
    assert!(error.contains("`instance` is missing in `salesforce`"), "{error}");
    let text = text.replace("login_domain: acme.my.salesforce.com", "instance: um1");
    let settings = load_text(&text).unwrap().salesforce;
    assert_eq!(settings.instance_label.as_deref(), Some("UM1"));
    assert_eq!(settings.login_origin.as_str(), "https://um1.salesforce.com/");
    let (error, _) = refused(&text.replace("  instance", "  client_id: x\n  instance"));
    assert!(error.contains("`salesforce.client_id` has no use with `auth: access-token`"), "{error}");
}

/// The minimal file with another login.
fn login(auth: &str, more: &str) -> Result<SalesforceSettings, crate::Error> {
    let text = MINIMAL.replace("client-credentials", auth).replace("kafka:\n", &format!("{more}kafka:\n"));
    let home = |name: &str| if name == "HOME" { Some("/home/me".to_owned()) } else { environment(name) };
    read(&text, &Context::new("crm.yaml".to_owned(), PathBuf::from("/etc/sf2kafka"), &home))
        .map(|settings| settings.salesforce)
}

#[test]
fn a_login_by_browser_is_kept_in_the_home_directory_unless_a_file_is_named() {
    let Auth::AuthorizationCode { app, callback_url: None, pkce: true, token_store } =
        login("authorization-code", "").unwrap().auth
    else {
        panic!("another auth")
    };
    assert_eq!(app.client_secret.unwrap().expose(), "the-secret");
    assert_eq!(token_store, TokenPlace::File("/home/me/.config/sf2kafka/crm.json".into()));
    let given = "  token_store: tokens/crm.json\n  pkce: false\n  callback_url: http://localhost:1717/OauthRedirect\n";
    let Auth::AuthorizationCode { callback_url: Some(url), pkce: false, token_store, .. } =
        login("authorization-code", given).unwrap().auth
    else {
        panic!("another auth")
    };
    assert_eq!(url, "http://localhost:1717/OauthRedirect");
    assert_eq!(token_store, TokenPlace::File("/etc/sf2kafka/tokens/crm.json".into()));
    // Nowhere to keep it.
    let (error, hint) = refused(&MINIMAL.replace("client-credentials", "authorization-code"));
    assert!(error.contains("there is no home directory to keep it in"), "{error}");
    assert!(hint.contains("outlives the program"), "{hint}");
}

#[test]
fn a_file_of_the_token_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let path = std::env::temp_dir().join(format!("sf2kafka-token-key-{}", std::process::id()));
    std::fs::write(&path, "0f".repeat(32)).unwrap();
    let more = format!("  token_store: kafka\n  token_key_file: {}\n", path.display());
    let with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        login("authorization-code", &more)
    };
    let (fine, open) = (with_mode(0o600), [0o640, 0o604].map(with_mode));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(fine.unwrap().auth.token_store(), Some(TokenPlace::Kafka { .. })));
    for refused in open {
        let error = refused.map(drop).unwrap_err();
        assert!(
            error.to_string().contains("`salesforce.token_key_file` can be read by other users"),
            "{error}"
        );
    }
}

#[test]
fn each_login_takes_its_own_keys() {
    let refresh = login("refresh-token", "  refresh_token: r\n  token_store: none\n").unwrap().auth;
    assert!(matches!(&refresh, Auth::RefreshToken { refresh_token, token_store: None, .. }
        if refresh_token.expose() == "r"));
    let kept = login("refresh-token", "  refresh_token: r\n").unwrap().auth;
    assert_eq!(kept.token_store(), Some(&TokenPlace::File("/home/me/.config/sf2kafka/crm.json".into())));
    for key in [
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=",
    ] {
        let more = format!("  token_store: kafka\n  token_key: '{key}'\n");
        let Some(TokenPlace::Kafka { key }) =
            login("authorization-code", &more).unwrap().auth.token_store().cloned()
        else {
            panic!("another place")
        };
        assert_eq!(key_bytes(&key).unwrap()[..3], [0, 0x11, 0x22]);
    }
    let jwt = |more: &str| {
        let text = MINIMAL
            .replace("client-credentials", "jwt-bearer")
            .replace("  client_secret: ${SF_CLIENT_SECRET}\n", more);
        load_text(&text).map(|settings| settings.salesforce.auth)
    };
    let auth = jwt("  username: me@acme.example\n  private_key: k\n").unwrap();
    assert!(
        matches!(&auth, Auth::JwtBearer { username, audience: None, .. } if username == "me@acme.example")
    );
    let password = "  username: me\n  password: p\n  security_token: t\n";
    let Auth::Password { security_token, .. } = login("password", password).unwrap().auth else {
        panic!("another auth")
    };
    assert_eq!(security_token.unwrap().expose(), "t");
    assert!(!format!("{:?}", login("password", password).unwrap()).contains("\"t\""));

    for (auth, more, message) in [
        ("refresh-token", "", "`refresh_token` is missing in `salesforce`"),
        ("jwt-bearer", "", "`username` is missing in `salesforce`"),
        ("jwt-bearer", "  username: me\n", "`private_key` is missing in `salesforce`"),
        ("password", "  username: me\n", "`password` is missing in `salesforce`"),
        (
            "client-credentials",
            "  username: me\n",
            "`salesforce.username` has no use with `auth: client-credentials`",
        ),
        ("authorization-code", "  refresh_token: r\n", "`salesforce.refresh_token` has no use with"),
        ("client-credentials", "  token_store: x\n", "`salesforce.token_store` has no use with"),
        ("authorization-code", "  token_store: none\n", "the login would be lost at once"),
        ("authorization-code", "  token_store: kafka\n", "`token_key` is missing in `salesforce`"),
        ("authorization-code", "  token_store: kafka\n  token_key: short\n", "is no key of 32 bytes"),
        (
            "authorization-code",
            "  token_store: kafka\n  token_key: '+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f+f'\n",
            "is no key of 32 bytes",
        ),
        ("authorization-code", "  token_key: short\n", "has no use without `token_store: kafka`"),
        ("authorization-code", "  callback_url: oob\n", "`oob` is no http address"),
        ("authorization-code", "  callback_url: http://acme.example/cb\n", "by plain http"),
        ("authorization-code", "  pkce: no\n", "`no` is not `true` or `false`"),
    ] {
        let error = login(auth, more).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("crm.yaml:") && error.contains(message), "{auth} {more}\n{error}");
    }
}

#[test]
fn change_events_come_from_salesforces_endpoint_unless_another_is_given() {
    let pubsub = |more: &str| {
        load_text(&MINIMAL.replace("kafka:\n", &format!("{more}kafka:\n")))
            .map(|settings| settings.salesforce.pubsub)
    };
    let settings = |endpoint: &str, tls| PubsubSettings { endpoint: endpoint.to_owned(), tls };
    assert_eq!(pubsub("").unwrap(), settings("api.pubsub.salesforce.com:7443", true));
    let given = pubsub("  pubsub: { endpoint: api.deu.pubsub.salesforce.com, tls: true }\n").unwrap();
    assert_eq!(given, settings("api.deu.pubsub.salesforce.com:7443", true));
    let local = pubsub("  pubsub: { endpoint: 127.0.0.1:7011, tls: false }\n").unwrap();
    assert_eq!(local, settings("127.0.0.1:7011", false));

    for (line, place, message) in [
        ("{ tls: false }", "7:13", "the access token would travel unprotected"),
        ("{ endpoint: api.example.com:7443, tls: false }", "7:45", "would travel unprotected"),
        ("{ endpoint: 'https://api.pubsub.salesforce.com' }", "7:23", "is an address with a scheme"),
        ("{ endpoint: api }", "7:23", "`api` is no host and port"),
        ("{ endpoint: '${SF_CLIENT_SECRET}' }", "7:23", "${SF_CLIENT_SECRET} holds no host or origin"),
        ("{ tls: maybe }", "7:18", "`maybe` is not `true` or `false`"),
        ("{ port: 443 }", "7:13", "unknown key `salesforce.pubsub.port`"),
    ] {
        let error = pubsub(&format!("  pubsub: {line}\n")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("crm.yaml:{place}: ")), "{line}\n{error}");
        assert!(error.contains(message), "{line}\n{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("no/such.yaml")).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("configuration no/such.yaml cannot be read: "), "{error}");
}

#[test]
fn every_example_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    // What docker-compose.yml sets.
    let environment = |name: &str| match name {
        "SF_LOGIN_DOMAIN" => Some("login.salesforce.com".to_owned()),
        "KAFKA_BOOTSTRAP" => Some("kafka:9092".to_owned()),
        "SCHEMA_REGISTRY_URL" => Some("http://registry:8080/apis/ccompat/v7".to_owned()),
        "HASH_KEY" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        other => environment(other),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            load_with(&path, &environment).unwrap_or_else(|error| panic!("{}", error.report()));
            names.push(path);
        }
    }
    assert!(names.len() >= 3, "{names:?}");
}

/// Keys in the first column of the tables of `docs/configuration.md`, by the heading they stand under.
fn documented() -> (BTreeSet<String>, BTreeSet<String>) {
    let text = include_str!("../../docs/configuration.md");
    let (available, later) = text.split_once("## Not available in this version").unwrap();
    let keys = |part: &str| {
        let first_cells = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        first_cells.map(|(key, _)| key.to_owned()).collect()
    };
    (keys(available), keys(later))
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let context = Context::new("crm.yaml".to_owned(), PathBuf::new(), &environment);
    let text = MINIMAL.replace("- Account", "- { name: Account, outputs: [ { envelope: change-table } ] }")
        + "defaults: { outputs: [ { envelope: change-table } ] }\n";
    read(&text, &context).unwrap();
    let (mut asked, mut refused) = context.asked_and_refused();
    // What `defaults` and an object's entry have in common is described once, under `defaults`.
    for keys in [&mut asked, &mut refused] {
        let of_objects: Vec<_> = keys.iter().filter(|key| key.starts_with("objects[].")).cloned().collect();
        for key in of_objects {
            if keys.contains(&key.replace("objects[].", "defaults.")) {
                keys.remove(&key);
            }
        }
    }
    // Maps whose keys are described one by one.
    for map in [
        "salesforce",
        "salesforce.pubsub",
        "salesforce.budget",
        "kafka",
        "kafka.control",
        "kafka.topics",
        "schema_registry",
    ]
    .into_iter()
    .chain(["http", "naming", "defaults", "defaults.poll", "objects[].fields"])
    {
        assert!(asked.remove(map), "{map}");
    }
    let (available, later) = documented();
    assert_eq!(available, asked);
    assert_eq!(later, refused);
}

proptest::proptest! {
    /// Whatever stands in a file: it is taken or refused with a place, and no secret of the environment shows.
    #[test]
    fn any_text_put_into_a_good_file_is_taken_or_refused_with_its_place(
        line in 0usize..13,
        text in "[ -~\\n]{0,24}|\\PC{0,8}|[-{}\\[\\]:,*&!|>'\"%@` ]{1,12}|\\$\\{[A-Z_:a-z-]{0,20}\\}?",
    ) {
        let mut lines: Vec<&str> = MINIMAL.lines().collect();
        lines.insert(line, &text);
        if let Err(error) = load_text(&lines.join("\n")) {
            let message = error.to_string();
            proptest::prop_assert!(message.contains("crm.yaml:"), "{}", message);
            proptest::prop_assert!(!message.contains("the-secret"), "{}", message);
        }
    }
}
