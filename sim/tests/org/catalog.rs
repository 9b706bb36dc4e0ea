//! The catalogue: describes like recorded ones, and fields that come and go.

use std::collections::BTreeSet;

use sf2kafka_sim::catalog::{Catalog, FieldDef, FieldType, QueryRule};
use sf2kafka_sim::org::{Change, EditError, Value};

use crate::{START_MS, first_id, get, one, org, row, seconds};

/// The 57 attributes of rest.md 2.4, as recorded describes have them.
const ATTRIBUTES: &str = "aggregatable aiPredictionField autoNumber byteLength calculated calculatedFormula \
    cascadeDelete caseSensitive compoundFieldName controllerName createable custom defaultValue \
    defaultValueFormula defaultedOnCreate dependentPicklist deprecatedAndHidden digits displayLocationInDecimal \
    encrypted externalId extraTypeInfo filterable filteredLookupInfo formulaTreatNullNumberAsZero groupable \
    highScaleNumber htmlFormatted idLookup inlineHelpText label length mask maskType name nameField namePointing \
    nillable permissionable picklistValues polymorphicForeignKey precision queryByDistance referenceTargetField \
    referenceTo relationshipName relationshipOrder restrictedDelete restrictedPicklist scale searchPrefilterable \
    soapType sortable type unique updateable writeRequiresMasterRead";

#[test]
fn every_field_has_the_full_attribute_set() {
    let expected: BTreeSet<&str> = ATTRIBUTES.split_whitespace().collect();
    assert_eq!(expected.len(), 57);
    for object in Catalog::standard().objects() {
        let describe = object.describe_json("66.0");
        for field in describe["fields"].as_array().unwrap() {
            let keys: BTreeSet<&str> = field.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, expected, "{}.{}", object.name, field["name"]);
        }
        let global = object.global_json("66.0");
        for (key, value) in global.as_object().unwrap().iter().filter(|(key, _)| *key != "urls") {
            assert_eq!(&describe[key], value, "{} {key}", object.name);
        }
        assert_eq!(
            global["urls"]["describe"],
            format!("/services/data/v66.0/sobjects/{}/describe", object.name)
        );
    }
}

#[test]
fn attributes_are_those_of_the_recorded_describe() {
    let catalog = Catalog::standard();
    let describe = catalog.object("account").unwrap().describe_json("48.0");
    let field = |name: &str| {
        let fields = describe["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let check = |name: &str, expected: &[(&str, &str)]| {
        for (key, value) in expected {
            assert_eq!(field(name)[*key].to_string(), *value, "{name}.{key}");
        }
    };
    check(
        "Id",
        &[
            ("byteLength", "18"),
            ("length", "18"),
            ("nillable", "false"),
            ("idLookup", "true"),
            ("soapType", "\"tns:ID\""),
        ],
    );
    check(
        "Name",
        &[("byteLength", "765"), ("extraTypeInfo", "\"switchablepersonname\""), ("nameField", "true")],
    );
    check(
        "AnnualRevenue",
        &[("precision", "18"), ("scale", "0"), ("groupable", "false"), ("type", "\"currency\"")],
    );
    check("NumberOfEmployees", &[("digits", "8"), ("soapType", "\"xsd:int\""), ("precision", "0")]);
    check(
        "BillingAddress",
        &[
            ("type", "\"address\""),
            ("sortable", "false"),
            ("filterable", "true"),
            ("queryByDistance", "true"),
            ("createable", "false"),
        ],
    );
    check(
        "BillingLatitude",
        &[("precision", "18"), ("scale", "15"), ("compoundFieldName", "\"BillingAddress\"")],
    );
    check(
        "Description",
        &[("filterable", "false"), ("length", "32000"), ("extraTypeInfo", "\"plaintextarea\"")],
    );
    check(
        "CreatedDate",
        &[
            ("aggregatable", "true"),
            ("groupable", "false"),
            ("defaultedOnCreate", "true"),
            ("updateable", "false"),
        ],
    );
    check(
        "IsDeleted",
        &[("aggregatable", "false"), ("defaultedOnCreate", "true"), ("defaultValue", "false")],
    );
    check(
        "OwnerId",
        &[("referenceTo", "[\"User\"]"), ("relationshipName", "\"Owner\""), ("nillable", "false")],
    );
    assert_eq!(describe["keyPrefix"], "001");
    assert!(describe["childRelationships"].as_array().unwrap().iter().any(|child| {
        child["childSObject"] == "Contact"
            && child["relationshipName"] == "Contacts"
            && child["cascadeDelete"] == true
    }));
}

#[test]
fn satellites_and_special_families_say_what_they_are() {
    let catalog = Catalog::standard();
    let flags = |name: &str| {
        let global = catalog.object(name).unwrap().global_json("66.0");
        ["queryable", "replicateable", "undeletable", "retrieveable"].map(|key| global[key] == true)
    };
    assert_eq!(flags("Account"), [true, true, true, true]);
    assert_eq!(flags("AccountHistory"), [true, true, false, true]);
    assert_eq!(flags("AccountShare"), [true, false, false, true]);
    assert_eq!(flags("UserRecordAccess"), [true, false, false, false]);
    assert_eq!(flags("User"), [true, true, false, true]);
    assert!(!flags("AccountChangeEvent")[0] && !flags("Order_Event__e")[0]);
    let share = catalog.object("AccountShare").unwrap().global_json("66.0");
    assert_eq!((share["associateEntityType"].as_str(), share["keyPrefix"].as_str()), (Some("Share"), None));
    let cursor = |name: &str| catalog.object(name).unwrap().cursor_field().map(|field| field.name.clone());
    for (object, expected) in [
        ("Account", Some("SystemModstamp")),
        ("AccountFeed", Some("SystemModstamp")),
        ("AccountShare", Some("LastModifiedDate")),
        ("AccountHistory", Some("CreatedDate")),
        ("LoginHistory", Some("LoginTime")),
        ("ContentDocumentLink", Some("SystemModstamp")),
        ("Account_Setting__mdt", Some("SystemModstamp")),
        ("Phone__x", None),
        ("AppDefinition", None),
    ] {
        assert_eq!(cursor(object).as_deref(), expected, "{object}");
    }
    assert!(catalog.object("User").unwrap().field("IsDeleted").is_none());
    assert!(catalog.object("Order_Event__e").unwrap().field("Id").is_none());
    for bulk_refused in ["CaseStatus", "Attachment", "AccountFeed", "KnowledgeArticleVersion"] {
        assert!(catalog.object(bulk_refused).unwrap().rules.bulk_refused, "{bulk_refused}");
    }
    for needs in [
        "Vote",
        "ContentDocumentLink",
        "IdeaComment",
        "FieldDefinition",
        "ContentFolderItem",
        "FlexQueueItem",
    ] {
        let object = catalog.object(needs).unwrap();
        let QueryRule::Needs(need) = &object.rules.query else { panic!("{needs}") };
        for column in need.columns.iter().filter(|column| !column.path.contains('.')) {
            assert!(object.field(&column.path).is_some(), "{needs}.{}", column.path);
        }
    }
}

#[test]
fn a_new_field_is_empty_on_what_was_there_and_moves_no_stamp() {
    let org = org();
    let id = first_id(&org, "Account");
    let before = row(&org, "Account", id).unwrap();
    org.clock().advance(seconds(10));
    org.add_field("account", FieldDef::new("Note__c", FieldType::String).with_length(80)).unwrap();
    let added = FieldDef::new("NOTE__C", FieldType::String);
    assert!(matches!(org.add_field("Account", added), Err(EditError::FieldExists { .. })));
    let object = org.object("Account").unwrap();
    assert_eq!(object.last_modified_ms, START_MS + 10_000);
    assert_eq!(org.object("Contact").unwrap().last_modified_ms, START_MS);
    assert_eq!(org.catalog().last_modified_ms(), START_MS + 10_000);
    assert_eq!(get(&org, "Account", id, "Note__c"), Value::Null);
    let after = row(&org, "Account", id).unwrap();
    assert_eq!(after.cursor_ms(), before.cursor_ms());
    let mut json = after.to_json();
    json.shift_remove("Note__c");
    assert_eq!(json, before.to_json());
    org.commit(one(Change::update("Account", id, vec![("Note__c".into(), Value::text("x"))]))).unwrap();
    assert_eq!(get(&org, "Account", id, "Note__c"), Value::text("x"));
    assert!(before.get_by_name("Note__c").is_none());
}

#[test]
fn a_hidden_field_keeps_its_values_and_a_removed_one_does_not_return() {
    let org = org();
    let id = first_id(&org, "Account");
    let industry = get(&org, "Account", id, "Industry");
    org.hide_field("Account", "industry").unwrap();
    let object = org.object("Account").unwrap();
    assert!(object.field("Industry").is_none());
    let describe = object.describe_json("66.0").to_string();
    assert!(!describe.contains("\"Industry\""));
    assert!(!row(&org, "Account", id).unwrap().to_json().contains_key("Industry"));
    org.show_field("Account", "Industry").unwrap();
    assert_eq!(get(&org, "Account", id, "Industry"), industry);
    org.remove_field("Account", "Industry").unwrap();
    assert!(org.show_field("Account", "Industry").is_err());
    org.add_field("Account", FieldDef::new("Industry", FieldType::String)).unwrap();
    assert_eq!(get(&org, "Account", id, "Industry"), Value::Null);
    assert!(matches!(org.remove_field("Account", "SystemModstamp"), Err(EditError::SystemField { .. })));
}

#[test]
fn a_type_nobody_knows_can_appear() {
    let org = org();
    org.change_field("Account", "Site", |field| field.field_type = FieldType::from_name("floatarray"))
        .unwrap();
    let describe = org.object("Account").unwrap().describe_json("66.0");
    let site = describe["fields"].as_array().unwrap().iter().find(|field| field["name"] == "Site").unwrap();
    assert_eq!((site["type"].as_str(), site["soapType"].as_str()), (Some("floatarray"), Some("xsd:string")));
}

#[test]
fn an_object_can_be_added_while_the_org_runs() {
    let org = org();
    let template = org.object("Campaign").unwrap();
    let fields = template.all_fields().to_vec();
    let object = sf2kafka_sim::catalog::ObjectDef::new("Late__c", *b"a9Z", template.flags, fields);
    org.add_object(object, 25).unwrap();
    assert_eq!(
        crate::rows(&org, "late__c", false).len() as u64,
        org.snapshot().count("Late__c", false).unwrap()
    );
    let created = org.commit(one(Change::insert("Late__c", Vec::new()))).unwrap().ids[0];
    assert_eq!(created.sequence(), Some(25));
}

/// A custom object with one field, and a value in it for each of its records.
fn with_numbers(
    values: &[&'static str],
) -> (std::sync::Arc<sf2kafka_sim::org::Org>, Vec<sf2kafka_sim::org::Id>) {
    let org = org();
    let field = FieldDef::new("Code__c", FieldType::String);
    let object = sf2kafka_sim::catalog::ObjectDef::custom("Parcel__c", *b"a9Z", vec![field]);
    org.add_object(object, 300).unwrap();
    let ids = values
        .iter()
        .map(|value| {
            let fields = vec![("Code__c".to_owned(), Value::text(*value))];
            org.commit(one(Change::insert("Parcel__c", fields))).unwrap().ids[0]
        })
        .collect();
    (org, ids)
}

#[test]
fn another_type_takes_the_values_along_as_far_as_it_can_hold_them() {
    let (org, ids) = with_numbers(&["12.5", "say"]);
    let before = row(&org, "Parcel__c", ids[0]).unwrap().cursor_ms();
    org.change_field("Parcel__c", "Code__c", |field| *field = field.clone().retyped(FieldType::Double))
        .unwrap();
    assert_eq!(get(&org, "Parcel__c", ids[0], "Code__c"), Value::Double(12.5));
    assert_eq!(get(&org, "Parcel__c", ids[1], "Code__c"), Value::Null);
    assert_eq!(row(&org, "Parcel__c", ids[0]).unwrap().cursor_ms(), before, "no stamp moves");
    let made = org.commit(one(Change::insert("Parcel__c", Vec::new()))).unwrap().ids[0];
    assert!(matches!(get(&org, "Parcel__c", made, "Code__c"), Value::Double(_) | Value::Null));
    org.change_field("Parcel__c", "Code__c", |field| *field = field.clone().retyped(FieldType::String))
        .unwrap();
    assert_eq!(get(&org, "Parcel__c", ids[0], "Code__c"), Value::text("12.5"));
}

#[test]
fn what_is_no_type_changes_no_value() {
    let (org, _) = with_numbers(&[]);
    let values = || {
        let rows = crate::rows(&org, "Parcel__c", false);
        rows.iter().map(|row| row.get_by_name("Code__c").unwrap()).collect::<Vec<_>>()
    };
    let before = values();
    assert!(before.contains(&Value::Null), "some are empty");
    org.change_field("Parcel__c", "Code__c", |field| *field = field.clone().with_length(3)).unwrap();
    org.change_field("Parcel__c", "Code__c", |field| field.nillable = false).unwrap();
    org.change_field("Parcel__c", "Code__c", |field| field.label = "Other".to_owned()).unwrap();
    assert_eq!(values(), before);
    let describe = org.object("Parcel__c").unwrap().describe_json("66.0");
    let code =
        describe["fields"].as_array().unwrap().iter().find(|field| field["name"] == "Code__c").unwrap();
    assert_eq!(
        (&code["length"], &code["nillable"], &code["label"]),
        (&3.into(), &false.into(), &"Other".into())
    );
    for _ in 0..40 {
        let made = org.commit(one(Change::insert("Parcel__c", Vec::new()))).unwrap().ids[0];
        let value = get(&org, "Parcel__c", made, "Code__c");
        assert!(value.as_str().is_some_and(|text| text.chars().count() <= 3), "{value:?}");
    }
}

#[test]
fn a_renamed_field_keeps_its_values_and_what_others_name_is_not_renamed() {
    let (org, ids) = with_numbers(&["kept"]);
    let rest = crate::rows(&org, "Parcel__c", false)[0].get_by_name("Code__c").unwrap();
    org.rename_field("Parcel__c", "code__C", "Sign__c").unwrap();
    assert_eq!(get(&org, "Parcel__c", ids[0], "Sign__c"), Value::text("kept"));
    assert_eq!(crate::rows(&org, "Parcel__c", false)[0].get_by_name("Sign__c").unwrap(), rest);
    assert!(org.object("Parcel__c").unwrap().field("Code__c").is_none());
    let needed = org.rename_field("Invoice__c", "Amount__c", "Sum__c");
    assert!(matches!(needed, Err(EditError::Needed { .. })), "{needed:?}");
    let standard = org.rename_field("Account", "Industry", "Trade__c");
    assert!(matches!(standard, Err(EditError::NotCustom(_))), "{standard:?}");
}

#[test]
fn a_renamed_object_keeps_its_records_and_a_removed_one_takes_what_belongs_to_it_along() {
    let org = org();
    let id = first_id(&org, "Invoice__c");
    let name = get(&org, "Invoice__c", id, "Name");
    org.rename_object("Invoice__c", "Bill__c").unwrap();
    assert_eq!((first_id(&org, "Bill__c"), get(&org, "Bill__c", id, "Name")), (id, name));
    assert!(org.object("Invoice__c").is_err() && org.object("Invoice__Share").is_err());
    assert!(!crate::rows(&org, "Bill__Share", false).is_empty());
    let line = org.object("InvoiceLine__c").unwrap();
    assert_eq!(line.field("Invoice__c").unwrap().1.reference_to, ["Bill__c"]);
    let count = get(&org, "Bill__c", id, "Line_Count__c");
    assert!(count.as_f64().is_some_and(|count| count > 0.0), "{count:?}");
    assert!(matches!(org.remove_object("Bill__c"), Err(EditError::Needed { .. })), "it has details");
    org.remove_object("InvoiceLine__c").unwrap();
    org.remove_object("Bill__c").unwrap();
    let global = org.catalog().global_json("66.0").to_string();
    assert!(!global.contains("\"Bill__c\"") && !global.contains("\"Bill__Share\""));
    assert!(org.snapshot().scan("Bill__c", sf2kafka_sim::org::ScanRange::default()).is_err());
    assert!(matches!(org.remove_object("Account"), Err(EditError::NotCustom(_))));
}
