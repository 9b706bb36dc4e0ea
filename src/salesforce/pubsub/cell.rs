//! One value of an event as the text of a cell.
//!
//! Comes in: a value and the field it belongs to. Goes out: the text that REST or Bulk would have given, in
//! a spelling that reads back to the same value; or that the value does not fit the kind. Dates and times come as
//! milliseconds (`pubsub.md` 3.3): a date is the day they lie in.

use std::io::Write;

use crate::domain::{Field, FieldKind, Stamp, cell};

use super::event::{ChangeEvent, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rendered {
    Fit,
    /// Written, but the decimal may have had more digits than a double holds.
    ManyDigits,
    /// Nothing to go by is written.
    Unfit,
}

/// Digits that every decimal number keeps on its way through a double: no two numbers of so many digits are one double.
const SAFE_DIGITS: u32 = 15;
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;
/// 0000-01-01 to 9999-12-31: years of four digits.
const FOUR_DIGIT_YEARS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;
const DAY: i64 = 86_400_000;

pub(super) fn render(field: &Field, event: &ChangeEvent, value: Value, out: &mut Vec<u8>) -> Rendered {
    match (field.source_kind(), value) {
        (FieldKind::Text, Value::Text(start, end)) => {
            out.extend_from_slice(event.text(start, end));
            Rendered::Fit
        }
        (FieldKind::Boolean, Value::Boolean(value)) => {
            out.extend_from_slice(if value { b"true" } else { b"false" });
            Rendered::Fit
        }
        (FieldKind::Int | FieldKind::Long, Value::Integer(value)) => write(out, format_args!("{value}")),
        (FieldKind::Int | FieldKind::Long, Value::Double(value)) => {
            if value.fract() != 0.0 || value.abs() > LARGEST_WHOLE {
                return Rendered::Unfit;
            }
            write(out, format_args!("{value:.0}"))
        }
        // The shortest spelling that reads back to the same double.
        (FieldKind::Double, Value::Double(value)) if value.is_finite() => {
            write(out, format_args!("{value:?}"))
        }
        (FieldKind::Decimal, Value::Double(value)) if value.is_finite() => {
            let start = out.len();
            let written = write(out, format_args!("{value:?}"));
            let text = out.get(start..).unwrap_or_default();
            // With the field's decimals a larger number has neighbours that are the same double.
            let told = cell::decimal(text).and_then(|number| number.at(SAFE_DIGITS, field.scale)).is_some();
            if told { written } else { Rendered::ManyDigits }
        }
        (FieldKind::Double | FieldKind::Decimal, Value::Integer(value)) => {
            #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is refused")]
            if (value as f64).abs() > LARGEST_WHOLE {
                return Rendered::Unfit;
            }
            write(out, format_args!("{value}.0"))
        }
        (FieldKind::Date, Value::Integer(millis)) if FOUR_DIGIT_YEARS.contains(&millis) => {
            let start = out.len();
            let written = write(out, format_args!("{}", Stamp(millis)));
            out.truncate(start + "YYYY-MM-DD".len());
            written
        }
        (FieldKind::DateTime, Value::Integer(millis)) if FOUR_DIGIT_YEARS.contains(&millis) => {
            write(out, format_args!("{}", Stamp(millis)))
        }
        (FieldKind::Time, Value::Integer(millis)) if (0..DAY).contains(&millis) => {
            let (minutes, millis) = (millis / 60_000, millis % 60_000);
            write(
                out,
                format_args!(
                    "{:02}:{:02}:{:02}.{:03}Z",
                    minutes / 60,
                    minutes % 60,
                    millis / 1_000,
                    millis % 1_000
                ),
            )
        }
        _ => Rendered::Unfit,
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) -> Rendered {
    match out.write_fmt(text) {
        Ok(()) => Rendered::Fit,
        Err(_) => Rendered::Unfit,
    }
}
