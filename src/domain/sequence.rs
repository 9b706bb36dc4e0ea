//! `header__change_seq`: 35 digits that rise strictly within an object, restarts included.
//!
//! Sixteen digits of time (YYYYMMDDHHmmSShh, UTC, hundredths) and a 19-digit number. The time part never falls,
//! the number always rises, so that text order is publishing order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stamp::{Stamp, civil};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeSequence {
    /// Decimal digits YYYYMMDDHHmmSShh as a number.
    time: u64,
    number: u64,
}

impl ChangeSequence {
    /// Before the first.
    pub const NONE: Self = Self { time: 0, number: 0 };

    /// The next number of the object for something that happened at `at`.
    #[must_use]
    pub fn next(self, at: Stamp) -> Self {
        Self { time: self.time.max(time_digits(at)), number: self.number + 1 }
    }

    pub fn number(self) -> u64 {
        self.number
    }

    /// The 35 digits, without a detour over formatting: every record holds them.
    pub fn digits(self) -> [u8; 35] {
        let mut text = [b'0'; 35];
        let (time, number) = text.split_at_mut(16);
        for (half, mut rest) in [(time, self.time), (number, self.number)] {
            for digit in half.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        text
    }
}

/// What follows must have 19 digits too. No object gets so far.
const LARGEST: u64 = i64::MAX.cast_unsigned();

fn time_digits(at: Stamp) -> u64 {
    let (year, month, day) = civil(at.0.div_euclid(86_400_000));
    let hundredths = at.0.rem_euclid(86_400_000) / 10;
    let (year, month, day) = (year.clamp(0, 9_999), month, day);
    let date = (year * 100 + month) * 100 + day;
    let clock = ((hundredths / 360_000) * 100 + hundredths / 6_000 % 60) * 100 + hundredths / 100 % 60;
    u64::try_from((date * 1_000_000 + clock) * 100 + hundredths % 100).unwrap_or(0)
}

impl fmt::Display for ChangeSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}{:019}", self.time, self.number)
    }
}

impl FromStr for ChangeSequence {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a change_seq has 35 digits";
        if text.len() != 35 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WRONG);
        }
        let (time, number) = text.split_at(16);
        let (time, number) = (time.parse().map_err(|_| WRONG)?, number.parse().map_err(|_| WRONG)?);
        if number > LARGEST {
            return Err("a change_seq whose number has no room for those that follow");
        }
        Ok(Self { time, number })
    }
}

impl Serialize for ChangeSequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChangeSequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_leaves_no_room_for_the_next_is_refused() {
        let read = |number: &str| format!("2026051908300712{number}").parse::<ChangeSequence>();
        let last = read("9223372036854775807").unwrap();
        assert_eq!(last.next(Stamp(0)).to_string(), "20260519083007129223372036854775808");
        assert!(read("9999999999999999999").is_err());
    }

    #[test]
    fn time_never_falls_and_the_number_always_rises() {
        let at = Stamp::parse(b"2026-05-19T08:30:07.120Z").unwrap();
        let first = ChangeSequence::default().next(at);
        assert_eq!(first.to_string(), "20260519083007120000000000000000001");
        let second = first.next(at.minus(std::time::Duration::from_secs(5)));
        assert_eq!(second.to_string(), "20260519083007120000000000000000002");
        assert!(second > first && second.to_string() > first.to_string());
        assert_eq!(second.to_string().parse(), Ok(second));
        assert_eq!(second.digits().as_slice(), second.to_string().as_bytes());
    }
}
