//! A kept value in the type that its field has since.
//!
//! Comes in: a value as it was saved, and the field's type of now. Goes out: the value that Salesforce shows then. Numbers
//! stay what they are, as text too; a text that is no number is lost, as are a date where a number is wanted and the
//! like. Never: an error, for a type is changed over all records at once.

use super::calendar::MS_PER_DAY;
use super::value::Value;
use crate::catalog::FieldType;

pub(super) fn converted(value: Value, to: &FieldType) -> Value {
    use FieldType as T;
    match to {
        T::Boolean => Value::Bool(value == Value::Bool(true)),
        _ if value.is_null() => value,
        T::Int | T::Long => match number_of(&value) {
            Some(number) if *to == T::Int && number.round().abs() > f64::from(i32::MAX) => Value::Null,
            Some(number) => Value::Int(number.round() as i64),
            None => exact_integer(value),
        },
        to if to.is_decimal() => match value {
            Value::Int(number) => Value::Double(number as f64),
            value => number_of(&value).map_or(Value::Null, Value::Double),
        },
        T::Date => match value {
            Value::Date(_) => value,
            Value::DateTime(ms) => i32::try_from(ms.div_euclid(MS_PER_DAY)).map_or(Value::Null, Value::Date),
            _ => Value::Null,
        },
        T::DateTime => match value {
            Value::DateTime(_) => value,
            Value::Date(days) => Value::DateTime(i64::from(days) * MS_PER_DAY),
            _ => Value::Null,
        },
        T::Time => match value {
            Value::Time(_) => value,
            _ => Value::Null,
        },
        to if to.is_textual() => match value {
            Value::Text(_) => value,
            Value::Id(id) => Value::text(id.as_str().to_owned()),
            Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Date(_)
            | Value::DateTime(_)
            | Value::Time(_) => {
                let mut text = Vec::new();
                value.write_bulk_text(&mut text);
                let text = String::from_utf8_lossy(&text).into_owned();
                Value::text(text.strip_suffix(".0").map_or(text.clone(), str::to_owned))
            }
            _ => Value::Null,
        },
        _ => value,
    }
}

/// A decimal or a text that is one; none for whole numbers, which a double would not hold.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn exact_integer(value: Value) -> Value {
    match value {
        Value::Int(_) => value,
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_what_they_are_and_what_is_none_is_lost() {
        for (value, to, wanted) in [
            (Value::Int(5), FieldType::Double, Value::Double(5.0)),
            (Value::Double(2.5), FieldType::String, Value::text("2.5")),
            (Value::Double(3.0), FieldType::String, Value::text("3")),
            (Value::text(" 12.5 "), FieldType::Currency, Value::Double(12.5)),
            (Value::text("NaN"), FieldType::Double, Value::Null),
            (Value::text("say"), FieldType::Double, Value::Null),
            (Value::Double(2.6), FieldType::Int, Value::Int(3)),
            (Value::Double(1e12), FieldType::Int, Value::Null),
            (Value::Int(9_007_199_254_740_993), FieldType::Long, Value::Int(9_007_199_254_740_993)),
            (Value::Date(3), FieldType::DateTime, Value::DateTime(3 * MS_PER_DAY)),
            (Value::DateTime(-1), FieldType::Date, Value::Date(-1)),
            (Value::Date(3), FieldType::Double, Value::Null),
            (Value::Bool(true), FieldType::String, Value::text("true")),
            (Value::Null, FieldType::Boolean, Value::Bool(false)),
            (Value::text("x"), FieldType::Picklist, Value::text("x")),
        ] {
            assert_eq!(converted(value.clone(), &to), wanted, "{value:?} as {}", to.name());
        }
    }
}
