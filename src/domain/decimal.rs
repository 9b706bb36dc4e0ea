//! Decimal numbers: exactly what a text says, whatever its spelling.
//!
//! Comes in: the bytes of a cell (`950000000.0`, `1.0E10`, `-12.5`). Goes out: digits and their place. Nothing is ever
//! rounded here: what does not fit a precision and scale is told. Zero has no sign.

/// `unscaled` × 10^`exponent`, without trailing zeros: two spellings of one number are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    unscaled: i128,
    exponent: i32,
}

/// Any number of so many digits fits an `i128`.
pub const MOST_DIGITS: u32 = 38;

impl Decimal {
    /// Refuses what is no number, and what has more digits than an `i128` holds.
    pub fn parse(cell: &[u8]) -> Option<Self> {
        let (negative, rest) = match cell {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let end = rest.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(rest.len());
        let (digits, power) = rest.split_at_checked(end)?;
        let mut exponent = match power.split_first() {
            Some((_, power)) => power_of_ten(power)?,
            None => 0,
        };
        let (mut unscaled, mut zeros) = (0_i128, 0_u32);
        let (mut any, mut fraction) = (false, false);
        for byte in digits {
            match byte {
                b'.' if !fraction => {
                    fraction = true;
                    continue;
                }
                b'0' => zeros += u32::from(unscaled != 0),
                b'1'..=b'9' => {
                    let shift = 10_i128.checked_pow(zeros + 1)?;
                    unscaled = unscaled.checked_mul(shift)?.checked_add(i128::from(byte - b'0'))?;
                    zeros = 0;
                }
                _ => return None,
            }
            any = true;
            if fraction {
                exponent = exponent.checked_sub(1)?;
            }
        }
        if !any {
            return None;
        }
        if unscaled == 0 {
            return Some(Self { unscaled: 0, exponent: 0 });
        }
        let exponent = exponent.checked_add(i32::try_from(zeros).ok()?)?;
        Some(Self { unscaled: if negative { -unscaled } else { unscaled }, exponent })
    }

    /// The number as an integer of 10^-`scale`; none if it has more digits before or behind the point than that holds.
    pub fn at(self, precision: u32, scale: u32) -> Option<i128> {
        if self.unscaled == 0 {
            return Some(0);
        }
        let shift = u32::try_from(self.exponent.checked_add(i32::try_from(scale).ok()?)?).ok()?;
        let unscaled = self.unscaled.checked_mul(10_i128.checked_pow(shift)?)?;
        let bound = 10_u128.checked_pow(precision.min(MOST_DIGITS))?;
        (unscaled.unsigned_abs() < bound).then_some(unscaled)
    }

    /// Digits and place as bytes, for hashes.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let (digits, place) = bytes.split_at_mut(16);
        digits.copy_from_slice(&self.unscaled.to_be_bytes());
        place.copy_from_slice(&self.exponent.to_be_bytes());
        bytes
    }
}

/// `10`, `+10`, `-7`: what stands behind the `E`.
fn power_of_ten(text: &[u8]) -> Option<i32> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str, precision: u32, scale: u32) -> Option<i128> {
        Decimal::parse(text.as_bytes())?.at(precision, scale)
    }

    #[test]
    fn every_spelling_of_a_number_is_one_value() {
        let spellings =
            ["12.5", "12.50", "1.25E1", "1.25e+1", "125E-1", "0012.5", "12.5000000000000000000000000000"];
        for text in spellings {
            assert_eq!(Decimal::parse(text.as_bytes()), Decimal::parse(b"12.5"), "{text}");
            assert_eq!(at(text, 18, 2), Some(1_250), "{text}");
        }
        for zero in ["0", "-0", "0.0", "-0.0", "0E5", ".0", "0e-400"] {
            assert_eq!(Decimal::parse(zero.as_bytes()), Decimal::parse(b"0"), "{zero}");
            assert_eq!(at(zero, 18, 2), Some(0), "{zero}");
        }
        assert_eq!(at("950000000.0", 18, 0), Some(950_000_000));
        assert_eq!(at("1.0E10", 18, 0), Some(10_000_000_000));
        assert_eq!(at("-0.01", 18, 2), Some(-1));
    }

    #[test]
    fn what_would_have_to_be_rounded_or_is_too_large_does_not_fit() {
        assert_eq!(at("0.1", 18, 0), None);
        assert_eq!(at("12.345", 18, 2), None);
        assert_eq!(at("0.30000000000000004", 18, 2), None);
        assert_eq!((at("999.99", 5, 2), at("1000", 5, 2), at("-1000", 5, 2)), (Some(99_999), None, None));
        assert_eq!(at("99999999999999999999999999999999999999", 38, 0), Some(10_i128.pow(38) - 1));
        for beyond in ["1e400", "1e38", "1e-400", "100000000000000000000000000000000000000"] {
            assert_eq!(at(beyond, 38, 0), None, "{beyond}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let wrong = [
            "", "-", ".", "+1", "1,5", "1.2.3", "NaN", "Infinity", "1e", "e5", "1e5.0", "1e+", "0x1", " 1",
            "1 ",
        ];
        for text in wrong {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
        let long = "1".repeat(40);
        assert_eq!(Decimal::parse(long.as_bytes()), None);
        assert_eq!(Decimal::parse(b"1e99999999999"), None);
    }

    proptest! {
        #[test]
        fn digits_and_point_come_back(unscaled in -999_999_999_999_999_999_i64..=999_999_999_999_999_999, scale in 0_u32..=18) {
            let digits = format!("{:019}", unscaled.unsigned_abs());
            let (whole, fraction) = digits.split_at(19 - scale as usize);
            let sign = if unscaled < 0 { "-" } else { "" };
            prop_assert_eq!(at(&format!("{sign}{whole}.{fraction}"), 18, scale), Some(i128::from(unscaled)));
            prop_assert_eq!(at(&format!("{unscaled}e-{scale}"), 18, scale), Some(i128::from(unscaled)));
        }

        #[test]
        fn foreign_bytes_never_panic(text in "[-+.eE0-9]{0,60}", precision in 0_u32..100, scale in 0_u32..100) {
            let _ = at(&text, precision, scale);
        }
    }
}
