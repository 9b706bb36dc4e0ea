//! describeGlobal and describe as JSON, in the key order of recorded answers.
//!
//! Comes in: an object definition and an API version such as `66.0`. Goes out: JSON with the full attribute
//! set (rest.md 2.3, 2.4). Never: a field that field-level security hides.

use serde_json::{Map, Value as Json, json};

use super::field::FieldDef;
use super::object::ObjectDef;
use crate::org::{Id, RECORD_TYPE_PREFIX};

/// The origin that absolute URLs of describe begin with.
const UI_ORIGIN: &str = "https://practice.my.salesforce.com";

impl ObjectDef {
    /// One entry of describeGlobal's `sobjects`.
    pub fn global_json(&self, api_version: &str) -> Json {
        let mut map = self.flag_map();
        let base = format!("/services/data/v{api_version}/sobjects/{}", self.name);
        let mut urls = Map::new();
        self.fill_urls(&base, &mut urls);
        map.insert("urls".into(), Json::Object(urls));
        Json::Object(map)
    }

    /// The whole describe.
    pub fn describe_json(&self, api_version: &str) -> Json {
        let mut map = self.flag_map();
        let base = format!("/services/data/v{api_version}/sobjects/{}", self.name);
        map.insert("actionOverrides".into(), json!([]));
        map.insert("childRelationships".into(), self.child_relationships_json());
        map.insert("compactLayoutable".into(), json!(self.flags.layoutable));
        map.insert("defaultImplementation".into(), Json::Null);
        map.insert("extendedBy".into(), Json::Null);
        map.insert("extendsInterfaces".into(), Json::Null);
        map.insert("fields".into(), self.visible_fields().map(|(_, field)| field.describe_json()).collect());
        map.insert("implementedBy".into(), Json::Null);
        map.insert("implementsInterfaces".into(), Json::Null);
        map.insert("listviewable".into(), Json::Null);
        map.insert("lookupLayoutable".into(), Json::Null);
        map.insert("namedLayoutInfos".into(), json!([]));
        map.insert("networkScopeFieldName".into(), Json::Null);
        map.insert("recordTypeInfos".into(), self.record_types_json(&base));
        map.insert("searchLayoutable".into(), json!(self.flags.searchable));
        map.insert("sobjectDescribeOption".into(), json!("FULL"));
        map.insert(
            "supportedScopes".into(),
            json!([{"label": format!("All {}", self.label_plural.to_lowercase()), "name": "everything"}]),
        );
        let mut urls = Map::new();
        self.fill_urls(&base, &mut urls);
        if self.flags.layoutable {
            urls.insert("uiDetailTemplate".into(), json!(format!("{UI_ORIGIN}/{{ID}}")));
            urls.insert("uiEditTemplate".into(), json!(format!("{UI_ORIGIN}/{{ID}}/e")));
        }
        map.insert("urls".into(), Json::Object(urls));
        Json::Object(map)
    }

    fn flag_map(&self) -> Map<String, Json> {
        let flags = &self.flags;
        let mut map = Map::new();
        let mut put = |key: &str, value: Json| map.insert(key.to_owned(), value);
        put("activateable", json!(false));
        put("associateEntityType", json!(self.associate_entity_type));
        put("associateParentEntity", json!(self.associate_parent_entity));
        put("createable", json!(flags.createable));
        put("custom", json!(flags.custom));
        put("customSetting", json!(flags.custom_setting));
        put("deepCloneable", json!(false));
        put("deletable", json!(flags.deletable));
        put("deprecatedAndHidden", json!(flags.deprecated_and_hidden));
        put("feedEnabled", json!(flags.feed_enabled));
        put("hasSubtypes", json!(false));
        put("isInterface", json!(false));
        put("isSubtype", json!(false));
        put("keyPrefix", json!(self.key_prefix));
        put("label", json!(self.label));
        put("labelPlural", json!(self.label_plural));
        put("layoutable", json!(flags.layoutable));
        put("mergeable", json!(flags.mergeable));
        put("mruEnabled", json!(flags.mru_enabled));
        put("name", json!(self.name));
        put("queryable", json!(flags.queryable));
        put("replicateable", json!(flags.replicateable));
        put("retrieveable", json!(flags.retrieveable));
        put("searchable", json!(flags.searchable));
        put("triggerable", json!(flags.triggerable));
        put("undeletable", json!(flags.undeletable));
        put("updateable", json!(flags.updateable));
        map
    }

    /// Satellites have three entries only (rest.md 2.3).
    fn fill_urls(&self, base: &str, urls: &mut Map<String, Json>) {
        if self.flags.layoutable {
            urls.insert("compactLayouts".into(), json!(format!("{base}/describe/compactLayouts")));
        }
        urls.insert("rowTemplate".into(), json!(format!("{base}/{{ID}}")));
        if self.flags.layoutable {
            urls.insert("approvalLayouts".into(), json!(format!("{base}/describe/approvalLayouts")));
            urls.insert("defaultValues".into(), json!(format!("{base}/defaultValues?recordTypeId&fields")));
            urls.insert("listviews".into(), json!(format!("{base}/listviews")));
        }
        urls.insert("describe".into(), json!(format!("{base}/describe")));
        if self.flags.layoutable {
            urls.insert("quickActions".into(), json!(format!("{base}/quickActions")));
            urls.insert("layouts".into(), json!(format!("{base}/describe/layouts")));
        }
        urls.insert("sobject".into(), json!(base));
    }

    fn child_relationships_json(&self) -> Json {
        self.child_relationships
            .iter()
            .map(|child| {
                json!({
                    "cascadeDelete": child.cascade_delete,
                    "childSObject": child.child,
                    "deprecatedAndHidden": false,
                    "field": child.field,
                    "junctionIdListNames": [],
                    "junctionReferenceTo": [],
                    "relationshipName": child.relationship_name,
                    "restrictedDelete": child.restricted_delete,
                })
            })
            .collect()
    }

    fn record_types_json(&self, base: &str) -> Json {
        self.record_types
            .iter()
            .map(|record_type| {
                let id = match record_type.row {
                    Some(row) => Id::new(RECORD_TYPE_PREFIX, row).to_string(),
                    None => "012000000000000AAA".to_owned(),
                };
                json!({
                    "active": true,
                    "available": true,
                    "defaultRecordTypeMapping": record_type.default,
                    "developerName": record_type.developer_name,
                    "master": record_type.row.is_none(),
                    "name": record_type.name,
                    "recordTypeId": id,
                    "urls": {"layout": format!("{base}/describe/layouts/{id}")},
                })
            })
            .collect()
    }
}

impl FieldDef {
    /// The 57 attributes of a field, in the recorded (alphabetical) order.
    pub fn describe_json(&self) -> Json {
        let picklist: Vec<Json> = self
            .picklist
            .iter()
            .map(|entry| {
                json!({
                    "active": entry.active,
                    "defaultValue": entry.default,
                    "label": entry.value,
                    "validFor": null,
                    "value": entry.value,
                })
            })
            .collect();
        let mut map = Map::with_capacity(57);
        let mut put = |key: &str, value: Json| map.insert(key.to_owned(), value);
        put("aggregatable", json!(self.aggregatable));
        put("aiPredictionField", json!(false));
        put("autoNumber", json!(self.auto_number));
        put("byteLength", json!(self.byte_length()));
        put("calculated", json!(self.is_calculated()));
        put("calculatedFormula", json!(self.formula_text()));
        put("cascadeDelete", json!(self.cascade_delete));
        put("caseSensitive", json!(self.case_sensitive));
        put("compoundFieldName", json!(self.compound_field_name));
        put("controllerName", json!(self.controller_name));
        put("createable", json!(self.createable));
        put("custom", json!(self.custom));
        put("defaultValue", self.default_json());
        put("defaultValueFormula", Json::Null);
        put("defaultedOnCreate", json!(self.defaulted_on_create));
        put("dependentPicklist", json!(self.controller_name.is_some()));
        put("deprecatedAndHidden", json!(self.deprecated_and_hidden));
        put("digits", json!(self.digits));
        put("displayLocationInDecimal", json!(self.display_location_in_decimal));
        put("encrypted", json!(self.encrypted));
        put("externalId", json!(self.external_id));
        put("extraTypeInfo", json!(self.extra_type_info));
        put("filterable", json!(self.filterable));
        put("filteredLookupInfo", Json::Null);
        put("formulaTreatNullNumberAsZero", json!(false));
        put("groupable", json!(self.groupable));
        put("highScaleNumber", json!(self.high_scale_number));
        put("htmlFormatted", json!(self.html_formatted));
        put("idLookup", json!(self.id_lookup));
        put("inlineHelpText", json!(self.inline_help_text));
        put("label", json!(self.label));
        put("length", json!(self.length));
        put("mask", json!(self.mask));
        put("maskType", json!(self.mask_type));
        put("name", json!(self.name));
        put("nameField", json!(self.name_field));
        put("namePointing", json!(self.name_pointing));
        put("nillable", json!(self.nillable));
        put("permissionable", json!(self.permissionable));
        put("picklistValues", Json::Array(picklist));
        put("polymorphicForeignKey", json!(self.reference_to.len() > 1));
        put("precision", json!(self.precision));
        put("queryByDistance", json!(self.query_by_distance));
        put("referenceTargetField", json!(self.reference_target_field));
        put("referenceTo", json!(self.reference_to));
        put("relationshipName", json!(self.relationship_name));
        put("relationshipOrder", json!(self.relationship_order));
        put("restrictedDelete", json!(self.restricted_delete));
        put("restrictedPicklist", json!(self.restricted_picklist));
        put("scale", json!(self.scale));
        put("searchPrefilterable", json!(self.search_prefilterable));
        put("soapType", json!(self.field_type.soap_type()));
        put("sortable", json!(self.sortable));
        put("type", json!(self.field_type.name()));
        put("unique", json!(self.unique));
        put("updateable", json!(self.updateable));
        put("writeRequiresMasterRead", json!(self.write_requires_master_read));
        Json::Object(map)
    }

    /// Three bytes a character for short text; ids, multipicklists and long text count bytes (rest.md 2.4).
    fn byte_length(&self) -> u32 {
        use super::FieldType as T;
        match self.field_type {
            T::Id | T::Reference | T::Multipicklist => self.length,
            T::Textarea if self.is_long_text() => self.length,
            _ => self.length.saturating_mul(3),
        }
    }

    fn default_json(&self) -> Json {
        match (&self.default_value, self.field_type == super::FieldType::Boolean) {
            (Some(text), true) => json!(text == "true"),
            (Some(text), false) => json!(text),
            (None, _) => Json::Null,
        }
    }
}
