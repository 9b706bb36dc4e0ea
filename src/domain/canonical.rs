//! The one spelling of a value, whichever door it came through: what a hash of it is taken of.
//!
//! Comes in: a cell that is not null, and its field. Goes out: text. Who knows the key can make the same hash of a value of
//! their own, so the spelling is part of what users rely on (docs/configuration.md): it may not change. A cell that does
//! not read by its field's type is taken as it is.

use std::borrow::Cow;

use super::{Field, FieldKind, Stamp, cell};

pub fn canonical<'c>(field: &Field, cell: &'c [u8]) -> Cow<'c, [u8]> {
    let text = match field.source_kind() {
        FieldKind::Int | FieldKind::Long => cell::integer(cell).map(|value| value.to_string()),
        FieldKind::Double | FieldKind::Decimal => cell::double(cell).map(number),
        FieldKind::DateTime => cell::datetime(cell).map(|millis| Stamp(millis).to_string()),
        // As the end of a moment on the first day.
        FieldKind::Time => cell::time(cell)
            .and_then(|millis| Stamp(i64::from(millis)).to_string().get(11..).map(str::to_owned)),
        FieldKind::Text if field.is_any() => return cell::any(cell),
        FieldKind::Text
        | FieldKind::Boolean
        | FieldKind::Date
        | FieldKind::Binary
        | FieldKind::Blob
        | FieldKind::Compound
        | FieldKind::Hashed
        | FieldKind::Masked => None,
    };
    text.map_or(Cow::Borrowed(cell), |text| Cow::Owned(text.into_bytes()))
}

/// The fewest digits that read back as the same double, without an exponent; zero has no sign.
fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(salesforce_type: &str, text: &str) -> String {
        let field = Field {
            name: "F__c".to_owned(),
            label: String::new(),
            help: None,
            salesforce_type: salesforce_type.to_owned(),
            kind: FieldKind::Hashed,
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        };
        String::from_utf8(canonical(&field, text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn all_spellings_of_a_value_are_one_in_every_release() {
        for (salesforce_type, spellings, one) in [
            ("string", ["Müller ", "Müller "].as_slice(), "Müller "),
            ("email", &["A@b.example"], "A@b.example"),
            ("boolean", &["true"], "true"),
            ("int", &["39000", "39000.0", "3.9E4"], "39000"),
            ("long", &["9223372036854775807"], "9223372036854775807"),
            ("double", &["3.0", "3", "3.00", "0.3E1"], "3"),
            ("currency", &["1.0E10", "10000000000", "10000000000.0"], "10000000000"),
            ("percent", &["12.50", "1.25E1"], "12.5"),
            ("double", &["-0.0", "0", "0.00", "0E5"], "0"),
            ("double", &["-1.5E-7", "-0.00000015"], "-0.00000015"),
            ("date", &["2026-05-19"], "2026-05-19"),
            (
                "datetime",
                &["2026-05-19T08:30:00.000+0000", "2026-05-19T08:30:00.000Z", "2026-05-19T08:30:00Z"],
                "2026-05-19T08:30:00.000Z",
            ),
            ("time", &["13:30:00.000Z", "13:30:00Z", "13:30:00.000"], "13:30:00.000Z"),
            ("anyType", &["2026-05-19T08:30:00.000+0000"], "2026-05-19T08:30:00.000Z"),
            ("double", &["what?"], "what?"),
        ] {
            for text in spellings {
                assert_eq!(spelled(salesforce_type, text), one, "{salesforce_type} {text}");
            }
        }
    }
}
