//! What events say of an object's fields: values, nulls, and what they cannot say.

use super::recorded::recorded_event;
use super::*;
use crate::domain::FieldSet;
use crate::salesforce::pubsub::{EventCells, EventPlan};

fn cells(schema: &Arc<EventSchema>, object: &Arc<ObjectDescription>, event: &ChangeEvent) -> EventCells {
    EventPlan::compile(schema, object).cells(event).unwrap()
}

fn names<'a>(object: &'a ObjectDescription, fields: &FieldSet) -> Vec<&'a str> {
    fields.iter().map(|field| object.fields[field].name.as_str()).collect()
}

/// Name and text of every field that has a cell.
fn carried<'a>(object: &'a ObjectDescription, cells: &'a EventCells) -> Vec<(&'a str, &'a str)> {
    let text = |field| std::str::from_utf8(cells.cell(field).unwrap()).unwrap();
    cells.carried().map(|field| (object.fields[field].name.as_str(), text(field))).collect()
}

fn account() -> Arc<ObjectDescription> {
    described(&[
        ("IsDeleted", "boolean"),
        ("Name", "string"),
        ("FirstName", "string"),
        ("LastName", "string"),
        ("BillingStreet", "textarea"),
        ("BillingCountry", "string"),
        ("BillingCountryCode", "picklist"),
        ("BillingLatitude", "double"),
        ("ShippingStreet", "textarea"),
        ("ShippingLatitude", "double"),
        ("ShippingLongitude", "double"),
        ("phone", "phone"),
        ("NumberOfEmployees", "int"),
        ("CreatedDate", "datetime"),
        ("LastModifiedDate", "datetime"),
        ("SystemModstamp", "datetime"),
        ("Amount_Owed__c", "currency"),
        ("Some_Date__c", "date"),
        ("Some_Time__c", "time"),
        ("Some_Geolocation__Latitude__s", "double"),
        ("Some_Geolocation__Longitude__s", "double"),
        ("Some_Check_Box__c", "boolean"),
        ("Added_Later__c", "string"),
    ])
}

fn recorded(file: &str, index: usize, schema: &str) -> (Arc<EventSchema>, ChangeEvent) {
    let raw = recorded_event(file, index);
    let schema = Arc::new(EventSchema::parse(&raw.schema_id, &recorded_schema(schema)).unwrap());
    let event = schema.decode(raw).unwrap();
    (schema, event)
}

const I8WG: &str = "AccountChangeEvent.i8wgJwwM-AVcDbFkbRl5Nw.avsc";

#[test]
fn a_created_record_is_whole_but_for_what_events_never_carry() {
    let (schema, event) =
        recorded("AccountCreationEvents.json", 0, "AccountChangeEvent.4egfTTaxua4Y39nYlBXfNg.avsc");
    let object = account();
    let plan = EventPlan::compile(&schema, &object);
    let cells = plan.cells(&event).unwrap();
    assert_eq!(
        carried(&object, &cells),
        [
            ("Name", "Bulk Acc1"),
            ("FirstName", ""),
            ("LastName", ""),
            ("BillingStreet", ""),
            ("BillingCountry", "United States"),
            ("BillingCountryCode", "US"),
            ("BillingLatitude", ""),
            ("ShippingStreet", ""),
            ("ShippingLatitude", ""),
            ("ShippingLongitude", ""),
            ("phone", "9283921923"),
            ("NumberOfEmployees", ""),
            ("CreatedDate", "2023-07-29T21:57:23.000Z"),
            ("LastModifiedDate", "2023-07-29T21:57:23.000Z"),
            ("Amount_Owed__c", ""),
            ("Some_Date__c", ""),
            ("Some_Time__c", ""),
            ("Some_Geolocation__Latitude__s", ""),
            ("Some_Geolocation__Longitude__s", ""),
            ("Some_Check_Box__c", "true"),
        ]
    );
    assert_eq!(names(&object, plan.absent()), ["IsDeleted", "SystemModstamp", "Added_Later__c"]);
    assert!(cells.changed.is_empty() && cells.nulled.is_empty() && cells.unexpressed.is_empty());
    assert!(!cells.name_is_due);

    let rows = cells.rows(&object, &["001A", "001B"]).unwrap();
    assert_eq!(rows.len(), 2);
    let second = rows.row(1).unwrap();
    let name = object.field_index("Name").unwrap();
    assert_eq!(
        (second.cell(0), second.cell(name)),
        (Some(b"001B".as_slice()), Some(b"Bulk Acc1".as_slice()))
    );
    assert_eq!(second.cell(object.field_index("SystemModstamp").unwrap()), None);
}

#[test]
fn an_update_carries_what_its_bitmaps_name_and_nothing_else() {
    let object = account();
    let (schema, event) = recorded("AccountAddressUpdateEvent.json", 0, I8WG);
    let street = cells(&schema, &object, &event);
    assert_eq!(
        carried(&object, &street),
        [("ShippingStreet", "101 California St"), ("LastModifiedDate", "2026-02-17T04:03:15.000Z")]
    );
    assert_eq!(names(&object, &street.changed), ["ShippingStreet", "LastModifiedDate"]);
    assert!(street.unexpressed.is_empty() && street.nulled.is_empty());

    // Geocoding: no top-level bitmap at all, and no LastModifiedDate.
    let (schema, event) = recorded("AccountAddressUpdateEvent.json", 1, I8WG);
    let located = cells(&schema, &object, &event);
    assert_eq!(names(&object, &located.changed), ["ShippingLatitude", "ShippingLongitude"]);
    let latitude = carried(&object, &located)[0];
    assert_eq!(latitude.0, "ShippingLatitude");
    assert!((37.0..38.0).contains(&latitude.1.parse::<f64>().unwrap()), "San Francisco");

    let (schema, event) = recorded("AccountUpdateEvents.json", 0, I8WG);
    let amount = cells(&schema, &object, &event);
    assert_eq!(names(&object, &amount.changed), ["LastModifiedDate", "Amount_Owed__c"]);
    assert_eq!(carried(&object, &amount)[1], ("Amount_Owed__c", "3233.0"));

    let (schema, event) =
        recorded("AccountNameUpdateEvent.json", 0, "AccountChangeEvent.S3-K_S0GYegWTRZnKLjeag.avsc");
    let name = cells(&schema, &object, &event);
    assert_eq!(names(&object, &name.changed), ["Name", "LastModifiedDate"]);
    assert_eq!(carried(&object, &name)[0], ("Name", "Burlington Textiles Corp of AmeAa"));
    assert!(!name.name_is_due);
}

const CONTACT: &str = "ContactChangeEvent.YHKH1xWTqwF24lvYNGguGA.avsc";

fn contact() -> Arc<ObjectDescription> {
    described(&[
        ("Name", "string"),
        ("Salutation", "picklist"),
        ("FirstName", "string"),
        ("LastName", "string"),
        ("MailingStreet", "textarea"),
        ("MailingState", "string"),
        ("MailingGeocodeAccuracy", "picklist"),
        ("Email", "email"),
        ("HasOptedOutOfEmail", "boolean"),
        ("Description", "textarea"),
        ("LastModifiedDate", "datetime"),
    ])
}

/// The element that names this field, or part of a field, of a recorded schema.
fn bit(schema: &str, path: &str) -> String {
    let json: Json = serde_json::from_str(schema).unwrap();
    let place = |fields: &Json, name: &str| {
        fields.as_array().unwrap().iter().position(|field| field["name"] == name).unwrap()
    };
    let bitmap = |position: usize| format!("0x{:02X}", 1u128 << position);
    match path.split_once('.') {
        None => bitmap(place(&json["fields"], path)),
        Some((field, part)) => {
            let position = place(&json["fields"], field);
            let branches = json["fields"][position]["type"].as_array().unwrap();
            let record = branches.iter().find(|branch| branch.is_object()).unwrap();
            format!("{position}-{}", bitmap(place(&record["fields"], part)))
        }
    }
}

/// The definition of a record, wherever it stands.
fn defined<'a>(json: &'a Json, name: &str) -> Option<&'a Json> {
    match json {
        Json::Object(object)
            if object.get("name").is_some_and(|have| have == name) && object.contains_key("fields") =>
        {
            Some(json)
        }
        Json::Object(object) => object.values().find_map(|inner| defined(inner, name)),
        Json::Array(items) => items.iter().find_map(|inner| defined(inner, name)),
        _ => None,
    }
}

/// A recorded schema's compound with these parts, the others null.
fn compound(schema: &str, record: &str, parts: &[(&str, &str)]) -> Avro {
    let json: Json = serde_json::from_str(schema).unwrap();
    let values = defined(&json, record).unwrap()["fields"].as_array().unwrap().iter().map(|part| {
        let name = part["name"].as_str().unwrap();
        let given = parts.iter().find(|(have, _)| *have == name);
        (name.to_owned(), given.map_or_else(null, |(_, text)| some(1, Avro::String((*text).to_owned()))))
    });
    some(1, Avro::Record(values.collect()))
}

#[test]
fn a_persons_name_comes_in_parts_and_is_read_as_a_whole() {
    let (text, object) = (recorded_schema(CONTACT), contact());
    let schema = compiled(&text);
    let name = compound(&text, "PersonName", &[("FirstName", "Anna"), ("LastName", "Bo")]);
    let created = decode(&schema, payload(&text, &Says::create(), &[("Name", name.clone())])).unwrap();
    let created = cells(&schema, &object, &created);
    assert_eq!(
        names(&object, &created.unexpressed),
        ["Name", "HasOptedOutOfEmail"],
        "a null checkbox is no value"
    );
    assert!(created.name_is_due);
    assert!(carried(&object, &created).starts_with(&[
        ("Salutation", ""),
        ("FirstName", "Anna"),
        ("LastName", "Bo")
    ]));

    let says = Says::update(&[&bit(&text, "Name.FirstName")], &[]);
    let event = decode(&schema, payload(&text, &says, &[("Name", name)])).unwrap();
    let renamed = cells(&schema, &object, &event);
    assert_eq!(carried(&object, &renamed), [("FirstName", "Anna")]);
    assert_eq!(names(&object, &renamed.changed), ["Name", "FirstName"]);
    assert_eq!(names(&object, &renamed.unexpressed), ["Name"]);
    assert!(renamed.name_is_due);
}

#[test]
fn set_to_null_is_null_and_null_without_that_is_not_known() {
    let (text, object) = (recorded_schema(CONTACT), contact());
    let schema = compiled(&text);
    let email = bit(&text, "Email");
    let event = decode(&schema, payload(&text, &Says::update(&[&email], &[&email]), &[])).unwrap();
    let nulled = cells(&schema, &object, &event);
    assert_eq!(carried(&object, &nulled), [("Email", "")]);
    assert_eq!(names(&object, &nulled.nulled), ["Email"]);

    let event = decode(&schema, payload(&text, &Says::update(&[&email], &[]), &[])).unwrap();
    let hidden = cells(&schema, &object, &event);
    assert_eq!(
        (names(&object, &hidden.changed), names(&object, &hidden.unexpressed)),
        (vec!["Email"], vec!["Email"])
    );
    assert!(carried(&object, &hidden).is_empty());

    // An enriched field has a value though nothing changed it.
    let value = some(1, Avro::String("a@example.com".to_owned()));
    let event =
        decode(&schema, payload(&text, &Says::update(&[], &[]), &[("Email", value.clone())])).unwrap();
    assert!(carried(&object, &cells(&schema, &object, &event)).is_empty());

    // Null and a value at once cannot both be true.
    let says = Says::update(&[&email], &[&email]);
    let event = decode(&schema, payload(&text, &says, &[("Email", value)])).unwrap();
    let both = cells(&schema, &object, &event);
    assert_eq!(names(&object, &both.unexpressed), ["Email"]);

    // A checkbox is true or false; null is no answer.
    let switch = bit(&text, "HasOptedOutOfEmail");
    let event = decode(&schema, payload(&text, &Says::update(&[&switch], &[&switch]), &[])).unwrap();
    assert_eq!(names(&object, &cells(&schema, &object, &event).unexpressed), ["HasOptedOutOfEmail"]);
}

#[test]
fn a_compound_set_to_null_in_one_go_empties_its_parts() {
    let (text, object) = (recorded_schema(CONTACT), contact());
    let schema = compiled(&text);
    let parts = ["MailingStreet", "MailingState", "MailingGeocodeAccuracy"];
    // All parts in a nested map, as the computed vector has it; or by the compound's own bit.
    for bitmap in ["5-0x03FF".to_owned(), bit(&text, "MailingAddress")] {
        for value in [null(), compound(&text, "Address", &[])] {
            let says = Says::update(&[], &[&bitmap]);
            let event = decode(&schema, payload(&text, &says, &[("MailingAddress", value)])).unwrap();
            let cells = cells(&schema, &object, &event);
            assert_eq!(carried(&object, &cells), parts.map(|part| (part, "")), "{bitmap}");
            assert_eq!(names(&object, &cells.nulled), parts);
        }
    }
    // Its own bit among the changed ones stands for all parts: those that are null may be hidden.
    let says = Says::update(&[&bit(&text, "MailingAddress")], &[]);
    let value = compound(&text, "Address", &[("Street", "Main"), ("State", "CA")]);
    let event = decode(&schema, payload(&text, &says, &[("MailingAddress", value)])).unwrap();
    let cells = cells(&schema, &object, &event);
    assert_eq!(carried(&object, &cells), [("MailingStreet", "Main"), ("MailingState", "CA")]);
    assert_eq!(names(&object, &cells.unexpressed), ["MailingGeocodeAccuracy"]);
}

#[test]
fn a_difference_of_a_long_text_is_never_taken_for_the_text() {
    let (text, object) = (recorded_schema(CONTACT), contact());
    let schema = compiled(&text);
    let description = bit(&text, "Description");
    let says = Says { diff: vec![description.clone()], ..Says::update(&[&description], &[]) };
    let value = some(1, Avro::String("--- \n+++ 00\n@@ -2,1 +2,1 @@".to_owned()));
    let event = decode(&schema, payload(&text, &says, &[("Description", value)])).unwrap();
    let cells = cells(&schema, &object, &event);
    assert!(carried(&object, &cells).is_empty());
    assert_eq!(names(&object, &cells.changed), ["Description"]);
    assert_eq!(names(&object, &cells.unexpressed), ["Description"]);
    assert_eq!(event.diff().collect::<Vec<_>>(), ["Description"]);
}

#[test]
fn deletes_and_gaps_say_nothing_of_fields() {
    let (text, object) = (recorded_schema(CONTACT), contact());
    let schema = compiled(&text);
    for kind in ["DELETE", "GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE", "GAP_OVERFLOW"] {
        // An enriched field may come along.
        let value = some(1, Avro::String("a@example.com".to_owned()));
        let payload = payload(&text, &Says { kind, ..Says::create() }, &[("Email", value)]);
        let event = decode(&schema, payload).unwrap();
        let cells = cells(&schema, &object, &event);
        assert_eq!(cells.carried().count(), 0, "{kind}");
        assert!(cells.changed.is_empty() && cells.unexpressed.is_empty(), "{kind}");
    }
}

#[test]
fn custom_geolocations_addresses_and_lists_of_switches_find_their_fields() {
    let location = json!({"type": "record", "name": "Location", "fields": [
        {"name": "Latitude", "type": ["null", "double"]}, {"name": "Longitude", "type": ["null", "double"]}]});
    let address = json!({"type": "record", "name": "Address", "fields": [
        {"name": "Street", "type": ["null", "string"]}, {"name": "City", "type": ["null", "string"]}]});
    let switches = json!(["null", {"type": "array", "items": "string"}]);
    let fields = [
        ("ns__Loc__c", json!(["null", location])),
        ("LastKnownLocation", json!(["null", "Location"])),
        ("Address", json!(["null", address])),
        ("Home__c", json!(["null", "Address"])),
        ("UserPreferences", switches),
    ]
    .map(|(name, of)| (name.to_owned(), of));
    let text = schema_of(&fields);
    let schema = compiled(&text);
    let object = described(&[
        ("ns__Loc__Latitude__s", "double"),
        ("LastKnownLongitude", "double"),
        ("Street", "textarea"),
        ("City", "string"),
        ("Home__City__s", "string"),
        ("UserPreferencesReminders", "boolean"),
        ("UserPreferencesNote", "string"),
    ]);
    let pair = |names: [&str; 2], value: Avro| {
        some(1, Avro::Record(names.map(|name| (name.to_owned(), some(1, value.clone()))).to_vec()))
    };
    let at = pair(["Latitude", "Longitude"], Avro::Double(1.5));
    let place = pair(["Street", "City"], Avro::String("x".to_owned()));
    let values = [
        ("ns__Loc__c", at.clone()),
        ("LastKnownLocation", at),
        ("Address", place.clone()),
        ("Home__c", place),
        ("UserPreferences", some(1, Avro::Array(vec![Avro::String("Reminders".to_owned())]))),
    ];
    let says = Says::update(&["0x20", "1-0x03", "2-0x02", "3-0x03", "4-0x02"], &[]);
    let event = decode(&schema, payload(&text, &says, &values)).unwrap();
    let plan = EventPlan::compile(&schema, &object);
    let cells = plan.cells(&event).unwrap();
    assert_eq!(
        carried(&object, &cells),
        [
            ("ns__Loc__Latitude__s", "1.5"),
            ("LastKnownLongitude", "1.5"),
            ("Street", "x"),
            ("City", "x"),
            ("Home__City__s", "x")
        ]
    );
    assert_eq!(names(&object, &cells.unexpressed), ["UserPreferencesReminders"]);
    assert_eq!(names(&object, plan.absent()), ["UserPreferencesReminders", "UserPreferencesNote"]);
}

#[test]
fn values_that_do_not_fit_their_fields_are_read_from_the_record() {
    let types = ["long", "long", "long", "long", "double", "double", "double", "string", "boolean", "double"];
    let fields: Vec<_> =
        types.iter().enumerate().map(|(place, of)| (format!("F{place}__c"), json!(["null", of]))).collect();
    let text = schema_of(&fields);
    let schema = compiled(&text);
    let object = described(&[
        ("F0__c", "date"),
        ("F1__c", "datetime"),
        ("F2__c", "time"),
        ("F3__c", "string"),
        ("F4__c", "double"),
        ("F5__c", "int"),
        ("F6__c", "int"),
        ("F7__c", "boolean"),
        ("F8__c", "string"),
        ("F9__c", "currency"),
    ]);
    let values = [
        Avro::Long(253_402_300_800_000),
        Avro::Long(i64::MIN),
        Avro::Long(86_400_000),
        Avro::Long(1),
        Avro::Double(f64::INFINITY),
        Avro::Double(39_000.0),
        Avro::Double(1.5),
        Avro::String("true".to_owned()),
        Avro::Boolean(true),
        Avro::Double(1_234_567_890_123_456.0),
    ];
    let names_of: Vec<String> = (0..10).map(|place| format!("F{place}__c")).collect();
    let given: Vec<_> =
        names_of.iter().zip(values).map(|(name, value)| (name.as_str(), some(1, value))).collect();
    let event = decode(&schema, payload(&text, &Says::create(), &given)).unwrap();
    let plain = cells(&schema, &object, &event);
    assert_eq!(carried(&object, &plain), [("F5__c", "39000"), ("F9__c", "1234567890123456.0")]);
    let mut unfit = vec!["F0__c", "F1__c", "F2__c", "F3__c", "F4__c", "F6__c", "F7__c", "F8__c"];
    assert_eq!(names(&object, &plain.unexpressed), unfit);
    let exact = cells(&schema, &with_decimals(&object, 2), &event);
    unfit.push("F9__c");
    assert_eq!(names(&object, &exact.unexpressed), unfit);
    assert!(exact.cell(10).is_some(), "the rounded value is there all the same");
}

/// The same object with its amounts as decimals.
fn with_decimals(object: &ObjectDescription, scale: u32) -> Arc<ObjectDescription> {
    let mut object = object.clone();
    for field in object.fields.iter_mut().filter(|field| field.salesforce_type == "currency") {
        (field.kind, field.precision, field.scale) = (FieldKind::Decimal, 18, scale);
    }
    Arc::new(object)
}

#[test]
fn a_decimal_that_a_double_cannot_tell_from_its_neighbours_is_read_from_the_record() {
    let text = schema_of(&[("F__c".to_owned(), json!(["null", "double"]))]);
    let schema = compiled(&text);
    for (value, scale, told) in [
        (0.0, 2, true),
        (-0.0, 2, true),
        (-12.5, 2, true),
        (9_999_999_999_999.99, 2, true),
        (12_345_678_901_234.56, 2, false),
        // One digit, and yet 1000000000000000001 is the same double.
        (1e18, 0, false),
        (1e14, 0, true),
        (1e14, 2, false),
        // Not what anybody entered.
        (0.1 + 0.2, 2, false),
        (0.001, 2, false),
        (37.793_91, 15, false),
        (0.125, 15, true),
    ] {
        let object = with_decimals(&described(&[("F__c", "currency")]), scale);
        let given = [("F__c", some(1, Avro::Double(value)))];
        let event = decode(&schema, payload(&text, &Says::create(), &given)).unwrap();
        let cells = cells(&schema, &object, &event);
        assert_eq!(cells.unexpressed.is_empty(), told, "{value:?} with {scale} decimals");
    }
}

#[test]
fn formulas_that_are_null_in_a_new_record_are_not_taken_for_empty() {
    let text = schema_of(&[("Sum__c".to_owned(), json!(["null", "double"]))]);
    let schema = compiled(&text);
    let mut object = (*described(&[("Sum__c", "double")])).clone();
    object.fields[1].calculated = true;
    let object = Arc::new(object);
    let event = decode(&schema, payload(&text, &Says::create(), &[])).unwrap();
    assert!(carried(&object, &cells(&schema, &object, &event)).is_empty());
    let value = some(1, Avro::Double(2.0));
    let event = decode(&schema, payload(&text, &Says::create(), &[("Sum__c", value)])).unwrap();
    assert_eq!(carried(&object, &cells(&schema, &object, &event)), [("Sum__c", "2.0")]);
}

#[test]
fn a_plan_is_for_one_schema_and_one_description() {
    let (schema, event) = recorded("AccountUpdateEvents.json", 0, I8WG);
    let object = account();
    let plan = EventPlan::compile(&schema, &object);
    assert!(plan.is_for(&schema, &object));
    let mut later = (*object).clone();
    later.revision += 1;
    let other = compiled(&recorded_schema(I8WG));
    assert!(!plan.is_for(&schema, &later) && !plan.is_for(&other, &object));
    let error = EventPlan::compile(&other, &object).cells(&event).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Internal);
}
