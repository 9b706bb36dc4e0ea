//! A moment in Salesforce's or our own time: milliseconds since the epoch, UTC.
//!
//! Comes in: the two datetime spellings of Salesforce's doors (`+0000` in REST, `Z` in Bulk) and RFC 3339.
//! Goes out: RFC 3339 and SOQL literals, always with milliseconds and `Z`. Foreign text never panics.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 0000-01-01 to 9999-12-31.
const FOUR_DIGIT_YEARS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub i64);

impl Stamp {
    /// Parses `YYYY-MM-DDTHH:MM:SS[.fff](Z|±HHMM|±HH:MM)`; more fraction digits than three are cut.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let days = parse_date(date)?;
        let (separator, rest) = rest.split_first()?;
        if *separator != b'T' {
            return None;
        }
        let (clock, rest) = rest.split_at_checked(8)?;
        let (hour, minute, second) = match clock {
            [h1, h2, b':', m1, m2, b':', s1, s2] => {
                (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?, two_digits(*s1, *s2)?)
            }
            _ => return None,
        };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (millis, zone) = match rest.strip_prefix(b".") {
            Some(fraction) => {
                let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (digits, zone) = fraction.split_at_checked(length)?;
                let mut millis = 0i64;
                for place in 0..3 {
                    millis = millis * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
                }
                (millis, zone)
            }
            None => (0, rest),
        };
        let offset_minutes = match zone {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
                let minutes = match rest {
                    [b':', m1, m2] | [m1, m2] => two_digits(*m1, *m2)?,
                    [] => 0,
                    _ => return None,
                };
                let total = two_digits(*h1, *h2)? * 60 + minutes;
                if *sign == b'-' { -total } else { total }
            }
            _ => return None,
        };
        let seconds = days * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
        // By its zone it can lie in a year that nobody spells with four digits.
        Some(Self(seconds * 1_000 + millis)).filter(|stamp| FOUR_DIGIT_YEARS.contains(&stamp.0))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The second this moment lies in.
    #[must_use]
    pub fn floor_second(self) -> Self {
        Self(self.0 - self.0.rem_euclid(1_000))
    }

    /// Minutes since the epoch.
    pub fn minute(self) -> i64 {
        self.0.div_euclid(60_000)
    }
}

/// Days since the epoch of `YYYY-MM-DD`, proleptic Gregorian calendar.
pub fn parse_date(text: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let year = two_digits(*y1, *y2)? * 100 + two_digits(*y3, *y4)?;
    let (month, day) = (two_digits(*m1, *m2)?, two_digits(*d1, *d2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // Days from civil: years begin in March, so that the leap day is the last one.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of a number of days since the epoch.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(86_400_000));
        let millis = self.0.rem_euclid(86_400_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            millis / 3_600_000,
            millis / 60_000 % 60,
            millis / 1_000 % 60,
            millis % 1_000
        )
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_doors_spell_the_same_moment() {
        let rest = Stamp::parse(b"2026-05-19T08:30:00.000+0000");
        assert_eq!(rest, Stamp::parse(b"2026-05-19T08:30:00.000Z"));
        assert_eq!(rest, Stamp::parse(b"2026-05-19T10:30:00+02:00"));
        assert_eq!(rest.map(|stamp| stamp.to_string()).as_deref(), Some("2026-05-19T08:30:00.000Z"));
    }

    #[test]
    fn every_day_of_eight_centuries_survives_the_round_trip() {
        for days in -98_615..193_556 {
            let stamp = Stamp(days * 86_400_000 + 1);
            assert_eq!(Stamp::parse(stamp.to_string().as_bytes()), Some(stamp));
        }
    }

    #[test]
    fn what_reads_is_written_so_that_it_reads_again() {
        for text in ["0000-01-01T00:00:00+0000", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59+9959"] {
            let stamp = Stamp::parse(text.as_bytes());
            assert_eq!(stamp.and_then(|stamp| Stamp::parse(stamp.to_string().as_bytes())), stamp);
            assert!(stamp.is_some(), "{text}");
        }
        for text in ["0000-01-01T00:00:00+0001", "9999-12-31T23:59:59-0001"] {
            assert_eq!(Stamp::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "2026-05-19", "2026-02-30T00:00:00Z", "2026-05-19T24:00:00Z", "2026-05-19T08:30:00", "x"]
        {
            assert_eq!(Stamp::parse(text.as_bytes()), None, "{text}");
        }
    }
}
