//! Fields that are hashed, masked or left out: the same at every door, and their values nowhere.

use super::streams::live;
use super::*;
use crate::domain::FieldKind;

fn rules() -> FieldRules {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    FieldRules {
        include: Vec::new(),
        exclude: names(&["Description", "ShippingAddress"]),
        // Those too that capture goes by.
        hash: names(&[
            "AnnualRevenue",
            "NumberOfEmployees",
            "IsPartner",
            "Phone",
            "LastModifiedDate",
            "SystemModstamp",
            "CreatedDate",
            "IsDeleted",
        ]),
        mask: names(&["Fax", "Site"]),
        ..FieldRules::default()
    }
}

fn hidden(settings: CaptureSettings) -> CaptureSettings {
    let hash_key = Some(Secret::new("a key of more than sixteen bytes"));
    CaptureSettings { fields: rules(), hash_key, ..settings }
}

const PHONE: &str = "+49 30 5550 1234";
const HASHED: [&str; 5] = ["AnnualRevenue", "NumberOfEmployees", "IsPartner", "Phone", "LastModifiedDate"];

impl Practice {
    fn change_hidden(&self, id: &str) -> Change {
        let fields = vec![
            ("AnnualRevenue".to_owned(), Value::Double(12_000_000_000.0)),
            ("NumberOfEmployees".to_owned(), Value::Int(4_200)),
            ("IsPartner".to_owned(), Value::Bool(true)),
            ("Phone".to_owned(), Value::text(PHONE)),
            ("Fax".to_owned(), Value::text(PHONE)),
            ("Site".to_owned(), Value::Null),
            ("Description".to_owned(), Value::text(PHONE)),
        ];
        Change::Update { object: "Account".to_owned(), id: parsed(id), fields }
    }

    /// A second in which all of these orgs save.
    fn until_the_moment(&self) {
        let past = u64::try_from(self.simulator.org().now_ms() - START_MS).unwrap();
        self.simulator.org().clock().advance(Duration::from_millis(600_000 - past));
    }

    /// A record of which every value is another then.
    fn other(&self) -> String {
        let mut rows = self.simulator.org().truth_rows("Account").unwrap();
        let row = rows.find(|row| row["IsPartner"] == false && row["NumberOfEmployees"] != 4_200).unwrap();
        row["Id"].as_str().unwrap().to_owned()
    }

    /// The newest of a record, by the fields that are hidden.
    fn newest(&self, id: &str) -> BTreeMap<String, String> {
        let newest = self.stage.published.iter().rfind(|one| one.id == id).unwrap();
        newest.cells.clone()
    }

    fn assert_nothing_shows(&self) {
        for one in &self.stage.published {
            assert!(one.cells.values().all(|cell| !cell.contains("5550")), "{:?}", one.cells);
            let absent = ["Description", "ShippingCity", "ShippingStreet"];
            assert!(absent.iter().all(|name| !one.cells.contains_key(*name)), "{:?}", one.cells.keys());
        }
    }
}

#[tokio::test]
async fn a_hidden_value_has_one_hash_whichever_door_it_came_through() {
    let mut found = Vec::new();
    // Loaded by Bulk and by REST.
    for estimate in [None, Some(1)] {
        let settings = hidden(CaptureSettings { estimate, ..settings() });
        let mut org = Practice::start("Account", 10, settings).await;
        let id = org.other();
        org.until_the_moment();
        org.save(vec![org.change_hidden(&id)]);
        org.catch_up().await;
        assert_eq!(org.stage.of(&id), "R");
        org.assert_nothing_shows();
        found.push(org.newest(&id));
    }
    // Polled.
    let mut org = Practice::start("Account", 10, hidden(settings())).await;
    let id = org.other();
    org.catch_up().await;
    org.until_the_moment();
    org.save(vec![org.change_hidden(&id)]);
    org.catch_up().await;
    assert_eq!(org.stage.of(&id), "RU", "the values themselves decide, though they are hidden");
    org.assert_nothing_shows();
    found.push(org.newest(&id));
    // By an event alone.
    let mut org = Practice::start_with("Account", 10, |client| hidden(live(client, false))).await;
    let id = org.other();
    org.arrives(|org| org.stage.published.len() >= 10).await;
    org.until_the_moment();
    org.save(vec![org.change_hidden(&id)]);
    org.arrives(|org| org.stage.of(&id) == "RU").await;
    org.assert_nothing_shows();
    found.push(org.newest(&id));

    let [bulk, rest, poll, event] = found.as_slice() else { panic!("four doors") };
    for name in HASHED {
        let hash = &bulk[name];
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {hash}");
        assert_eq!((rest.get(name), poll.get(name)), (Some(hash), Some(hash)), "{name}");
        // The one checkbox that accounts have is in no event.
        let told = event.get(name).is_some_and(|told| told == hash);
        assert_eq!(told, name != "IsPartner", "{name}: {:?}", event.get(name));
    }
    for (door, cells) in [("Bulk", bulk), ("REST", rest), ("a poll", poll), ("an event", event)] {
        assert_eq!(cells["Fax"], "****", "{door}");
        assert!(cells.get("Site").is_none_or(String::is_empty), "{door}: null stays null");
    }
    assert!(["SystemModstamp", "CreatedDate", "IsDeleted"].iter().all(|name| poll[*name].len() == 64));
}

#[tokio::test]
async fn who_saved_a_record_has_one_hash_in_its_header_and_in_its_field() {
    let user = |rules: FieldRules| async move {
        let of_client = |client: &Client| CaptureSettings { fields: rules, ..hidden(live(client, true)) };
        let mut org = Practice::start_with("Account", 10, of_client).await;
        let id = org.ids().swap_remove(0);
        org.arrives(|org| org.stage.published.len() >= 10).await;
        org.save(vec![org.change_hidden(&id)]);
        org.arrives(|org| org.stage.of(&id) == "RU").await;
        let newest = org.stage.published.iter().rfind(|one| one.id == id).unwrap();
        (newest.commit_user.clone(), newest.cells.get("LastModifiedById").cloned())
    };
    let saved_by = || vec!["LastModifiedById".to_owned()];
    let (header, field) = user(FieldRules::default()).await;
    assert!(header.is_some() && header == field, "{header:?} {field:?}");
    let (header, field) = user(FieldRules { hash: saved_by(), ..FieldRules::default() }).await;
    assert!(header.as_ref().is_some_and(|hash| hash.len() == 64) && header == field, "{header:?} {field:?}");
    let (header, field) = user(FieldRules { exclude: saved_by(), ..FieldRules::default() }).await;
    assert_eq!((header, field), (None, None));
}

#[tokio::test]
async fn a_field_that_is_left_out_is_not_even_asked_for_and_no_change_is_made_of_it() {
    let mut org = Practice::start_with("Account", 10, |client| hidden(live(client, true))).await;
    let described = org.stage.capture.description();
    assert!(
        described.field_index("Description").is_none() && described.field_index("ShippingCity").is_none()
    );
    let phone = described.field_index("Phone").unwrap();
    assert_eq!(described.fields[phone].kind, FieldKind::Hashed);
    for asked in ["Description", "ShippingCity"] {
        org.refuse(asked, 1_000, 400, "INVALID_FIELD").await;
    }
    let ids = org.ids();
    org.arrives(|org| org.stage.published.len() >= 10).await;
    org.save(vec![org.change_hidden(&ids[0])]);
    org.arrives(|org| org.stage.of(&ids[0]) == "RU").await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    org.assert_nothing_shows();
    org.stage.restart().await;
    org.settle(100).await;
    assert_eq!(org.stage.of(&ids[0]), "RU");
}

#[tokio::test]
async fn a_dead_letter_shows_what_stands_for_a_value_and_not_the_value() {
    let mut org = Practice::start("Account", 3, hidden(settings())).await;
    let ids = org.ids();
    org.save(vec![org.change_hidden(&ids[0])]);
    let batch = loop {
        org.pass(1);
        if let Some(Step::Batch { batch, .. }) = org.stage.step().await
            && !batch.changes.is_empty()
        {
            break batch;
        }
    };
    let everything = format!(
        "{:?}",
        batch
            .rows
            .iter()
            .map(|row| {
                let cells = (0..batch.object.fields.len()).filter_map(move |field| row.cell(field));
                cells.map(|cell| String::from_utf8_lossy(cell).into_owned()).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    );
    assert!(everything.contains("****") && !everything.contains("5550"), "{everything}");
}
