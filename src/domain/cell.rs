//! Cells as values: what a text means under its field's kind, whichever door it came through.
//!
//! Comes in: the bytes of a cell that is not null. Goes out: typed values, or nothing if the text does not fit; whoever
//! asks decides what becomes of that. REST spells datetimes with `+0000`, Bulk with `Z`; both mean one value here.

use std::borrow::Cow;

use super::decimal::Decimal;
use super::stamp::{Stamp, parse_date};

pub fn boolean(cell: &[u8]) -> Option<bool> {
    match cell {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// An integer; a decimal spelling without a fraction (`39000.0`) is one too.
pub fn integer(cell: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(cell).ok()?;
    // `parse` would take a leading `+`.
    if let (Ok(value), false) = (text.parse(), text.starts_with('+')) {
        return Some(value);
    }
    let value: f64 = number(text)?;
    // Beyond 2^53 a double may have been rounded on its way.
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
}

/// A finite number in plain or exponent form. Zero has no sign: what a formula makes of it is another thing at every
/// door, and no two readers agree whether `-0.0` equals `0.0`.
pub fn double(cell: &[u8]) -> Option<f64> {
    number(std::str::from_utf8(cell).ok()?).map(|value| value + 0.0)
}

/// The same number, exact.
pub fn decimal(cell: &[u8]) -> Option<Decimal> {
    Decimal::parse(cell)
}

fn number(text: &str) -> Option<f64> {
    // Rust also reads `inf`, `nan` and a leading `+`; numbers of Salesforce begin otherwise.
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || first == b'-' || first == b'.') {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Days since the epoch. A datetime is not a date.
pub fn date(cell: &[u8]) -> Option<i32> {
    parse_date(cell).and_then(|days| i32::try_from(days).ok())
}

/// Milliseconds since the epoch.
pub fn datetime(cell: &[u8]) -> Option<i64> {
    Stamp::parse(cell).map(|stamp| stamp.0)
}

/// Milliseconds of the day, from `13:30:00.000Z`; the zone, if any, is UTC, in the spelling of either door.
pub fn time(cell: &[u8]) -> Option<i32> {
    let text = cell.strip_suffix(b"Z").or_else(|| cell.strip_suffix(b"+0000")).unwrap_or(cell);
    // Read as a moment of the first day. What is longer than the buffer is no time.
    let mut moment = *b"1970-01-01T00:00:00.000000000Z";
    let clock = moment.get_mut(11..)?;
    clock.get_mut(..text.len())?.copy_from_slice(text);
    *clock.get_mut(text.len())? = b'Z';
    i32::try_from(Stamp::parse(moment.get(..12 + text.len())?)?.0).ok()
}

/// The text of a value whose type is not known beforehand (`anyType`): a moment is spelled alike, whichever door it
/// came through.
pub fn any(cell: &[u8]) -> Cow<'_, [u8]> {
    let moment = cell.strip_suffix(b"+0000").and_then(|_| Stamp::parse(cell));
    moment.map_or(Cow::Borrowed(cell), |moment| Cow::Owned(moment.to_string().into_bytes()))
}

/// The path of a blob (`/services/data/v66.0/sobjects/…`) behind the version of the API in it.
pub fn path_behind_version(cell: &[u8]) -> &[u8] {
    let behind = cell.strip_prefix(b"/services/data/v");
    let slash = behind.and_then(|rest| rest.iter().position(|byte| *byte == b'/'));
    behind.zip(slash).and_then(|(rest, slash)| rest.get(slash..)).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_spelling_are_read_and_others_refused() {
        assert_eq!(double(b"1.0E10"), Some(1e10));
        for zero in ["0", "-0", "0.0", "-0.0", "-0E0"] {
            assert_eq!(double(zero.as_bytes()).map(f64::to_bits), Some(0), "{zero}");
            assert_eq!(integer(zero.as_bytes()), Some(0), "{zero}");
        }
        assert_eq!(integer(b"39000.0"), Some(39_000));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        for wrong in ["", "inf", "NaN", "+1", "1,5", "0x1", "1e999", "abc", "nan"] {
            assert_eq!(double(wrong.as_bytes()), None, "{wrong}");
            assert_eq!(integer(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(integer(b"1.5"), None);
    }

    #[test]
    fn a_moment_of_unknown_type_is_spelled_alike_and_everything_else_stays() {
        assert_eq!(&*any(b"2026-05-19T08:30:00.000+0000"), b"2026-05-19T08:30:00.000Z");
        for text in ["2026-05-19T08:30:00.000Z", "1+0000", "+0000", "", "2026-05-19", "true", "1.0"] {
            assert_eq!(&*any(text.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn dates_and_times_are_counted_from_their_origins() {
        assert_eq!(date(b"1969-12-31"), Some(-1));
        assert_eq!(date(b"2026-05-19T00:00:00Z"), None);
        assert_eq!(time(b"13:30:00.000Z"), Some(48_600_000));
        assert_eq!(time(b"00:00:00.001"), Some(1));
        assert_eq!(time(b"13:30:00.000+0000"), Some(48_600_000));
        assert_eq!(time(b"23:59:59Z"), Some(86_399_000));
        assert_eq!(time(b"23:59:59.9999Z"), Some(86_399_999));
        for wrong in [
            "24:00:00.000Z",
            "23:59:60Z",
            "",
            "Z",
            "13:30",
            "13:30:00.000+0100",
            "13:30:00.0000000000Z",
            "13:30:00ZZ",
        ] {
            assert_eq!(time(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(datetime(b"2026-05-19T08:30:00.000+0000"), datetime(b"2026-05-19T08:30:00.000Z"));
    }
}
