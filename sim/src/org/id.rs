//! Salesforce record ids: 15 case-sensitive characters and 3 check characters.
//!
//! Comes in: a key prefix and a sequence number, or text of 15 or 18 characters from outside.
//! Goes out: the 18-character form. Ids of one object ascend with their sequence number, in ASCII order too.

use std::fmt;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CHECK: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// Characters 4 to 6: the instance the org was born on, and a reserved zero.
const INSTANCE: &[u8; 3] = b"5g0";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 18]);

impl Id {
    /// What virtual objects and big objects answer for every row (rest.md 3.7, 6.4).
    pub const CONSTANT: Id = Id(*b"000000000000000AAA");

    pub fn new(prefix: [u8; 3], sequence: u64) -> Id {
        let mut text = [b'0'; 18];
        text[..3].copy_from_slice(&prefix);
        text[3..6].copy_from_slice(INSTANCE);
        let mut rest = sequence;
        for slot in text[6..15].iter_mut().rev() {
            *slot = DIGITS[(rest % 62) as usize];
            rest /= 62;
        }
        Id(with_check(text))
    }

    /// Accepts the 15- and the 18-character form; wrong check characters are refused.
    pub fn parse(text: &str) -> Option<Id> {
        let bytes = text.as_bytes();
        if !(bytes.len() == 15 || bytes.len() == 18) || !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut full = [b'0'; 18];
        full[..15].copy_from_slice(bytes.get(..15)?);
        let full = with_check(full);
        match bytes.get(15..) {
            Some(check) if !check.is_empty() && !check.eq_ignore_ascii_case(&full[15..]) => None,
            _ => Some(Id(full)),
        }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8; 18] {
        &self.0
    }

    pub fn prefix(&self) -> [u8; 3] {
        [self.0[0], self.0[1], self.0[2]]
    }

    /// The sequence number, when this org could have given the id out.
    pub fn sequence(&self) -> Option<u64> {
        if self.0[3..6] != INSTANCE[..] {
            return None;
        }
        self.0[6..15].iter().try_fold(0u64, |value, byte| {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'A'..=b'Z' => byte - b'A' + 10,
                b'a'..=b'z' => byte - b'a' + 36,
                _ => return None,
            };
            Some(value * 62 + u64::from(digit))
        })
    }
}

/// Each check character stands for five characters: bit n is set when the n-th is an upper-case letter.
fn with_check(mut text: [u8; 18]) -> [u8; 18] {
    for block in 0..3 {
        let mut bits = 0usize;
        for position in 0..5 {
            if text[block * 5 + position].is_ascii_uppercase() {
                bits |= 1 << position;
            }
        }
        text[15 + block] = CHECK[bits];
    }
    text
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_characters_are_those_of_recorded_ids() {
        for recorded in
            ["01254000001upcKAAQ", "012000000000000AAA", "0055g00000XyZzzAAF", "00D5g00000AbCdEEAV"]
        {
            assert_eq!(Id::parse(&recorded[..15]).unwrap().as_str(), recorded);
            assert!(Id::parse(recorded).is_some());
        }
        assert_eq!(Id::parse("01254000001upcKAAA"), None);
        assert_eq!(Id::parse("01254000001upc"), None);
        assert_eq!(Id::parse("01254000001upc'"), None);
    }

    #[test]
    fn ids_ascend_with_their_sequence_and_give_it_back() {
        let mut last = Id::new(*b"001", 0);
        assert_eq!(last.sequence(), Some(0));
        for step in 1..200_000u64 {
            let id = Id::new(*b"001", step * 17);
            assert!(id > last);
            assert_eq!(id.sequence(), Some(step * 17));
            assert_eq!(Id::parse(id.as_str()), Some(id));
            last = id;
        }
    }
}
