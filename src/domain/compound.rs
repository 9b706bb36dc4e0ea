//! Compound fields: addresses and locations as records of the values that their part fields have.
//!
//! Comes in: a describe's field of type `address` or `location`. Goes out: which parts its record has, and what the
//! object's own field for a part is called. No door gives a compound for this: Bulk refuses them, and an event may
//! bring single parts; so the record is put together from the cells of the parts, the same at every door.

use serde::{Deserialize, Serialize};

use super::Field;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompoundShape {
    Address,
    Location,
}

/// A part of a compound's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// As REST calls it inside the compound, and the record too.
    pub name: &'static str,
    /// As the object's own fields and change events call it.
    pub field: &'static str,
    /// A coordinate: a double, with `decimals: decimal` too. Else text.
    pub is_number: bool,
}

const fn text(name: &'static str, field: &'static str) -> Part {
    Part { name, field, is_number: false }
}

const LATITUDE: Part = Part { name: "latitude", field: "Latitude", is_number: true };
const LONGITUDE: Part = Part { name: "longitude", field: "Longitude", is_number: true };

/// All that an address can have: what an org or a user does not see of it is null (`rest.md` 2.5).
const ADDRESS: [Part; 10] = [
    text("street", "Street"),
    text("city", "City"),
    text("state", "State"),
    text("stateCode", "StateCode"),
    text("postalCode", "PostalCode"),
    text("country", "Country"),
    text("countryCode", "CountryCode"),
    LATITUDE,
    LONGITUDE,
    text("geocodeAccuracy", "GeocodeAccuracy"),
];

const LOCATION: [Part; 2] = [LATITUDE, LONGITUDE];

impl CompoundShape {
    /// By the `type` of a describe; a `complexvalue` has no parts of its own.
    pub fn of(salesforce_type: &str) -> Option<Self> {
        match salesforce_type {
            "address" => Some(Self::Address),
            "location" => Some(Self::Location),
            _ => None,
        }
    }

    /// Name of the record's type.
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Address => "Address",
            Self::Location => "Location",
        }
    }

    /// In the order of the record.
    pub fn parts(self) -> &'static [Part] {
        match self {
            Self::Address => &ADDRESS,
            Self::Location => &LOCATION,
        }
    }
}

/// A compound that is published as a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compound {
    pub field: Field,
    pub shape: CompoundShape,
    /// By part of the record: its field among the object's; none: there is none, or it is hidden or excluded.
    pub parts: Vec<Option<usize>>,
}

/// The object's own field for a part: `BillingAddress` has `BillingStreet`, `LastKnownLocation` has
/// `LastKnownLatitude`, `Loc__c` has `Loc__Latitude__s` (`pubsub.md` 3.4).
pub fn part_field_name(compound: &str, part: &str) -> String {
    if let Some(stem) = compound.strip_suffix("__c") {
        return format!("{stem}__{part}__s");
    }
    let stem =
        ["Address", "Location"].into_iter().find_map(|end| compound.strip_suffix(end)).unwrap_or(compound);
    format!("{stem}{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_called_as_salesforce_calls_them() {
        for (compound, part, field) in [
            ("BillingAddress", "Street", "BillingStreet"),
            ("Address", "StateCode", "StateCode"),
            ("LastKnownLocation", "Latitude", "LastKnownLatitude"),
            ("ns__Loc__c", "Longitude", "ns__Loc__Longitude__s"),
            ("Home__c", "City", "Home__City__s"),
        ] {
            assert_eq!(part_field_name(compound, part), field);
        }
    }
}
