//! A place in a Pub/Sub stream: bytes that Salesforce gave and nobody else understands.
//!
//! Comes in: bytes of the wire, or the hex of a control record. Goes out: the same. Its length varies (eight bytes in
//! 2022, ten since), so it is never a number; two of them can be told apart, nothing else: which one is later is
//! known only from the order in which they came.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ReplayId(Box<[u8]>);

impl ReplayId {
    /// None if there is nothing: an empty id is no place.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayId({self})")
    }
}

impl FromStr for ReplayId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a replay id is an even number of hex digits, at least two";
        if !text.len().is_multiple_of(2) {
            return Err(WRONG);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes = text.as_bytes().chunks_exact(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        bytes.collect::<Option<Vec<u8>>>().and_then(Self::new).ok_or(WRONG)
    }
}

impl Serialize for ReplayId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReplayId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_as_it_was() {
        for bytes in [&[0, 0, 0, 0, 1, 4, 0xb6, 0x74][..], &[0, 0, 0, 0, 0, 0x17, 0x90, 0x50, 0, 0], &[7]] {
            let id = ReplayId::new(bytes).unwrap();
            assert_eq!(id.to_string().parse(), Ok(id.clone()));
            assert_eq!(id.as_bytes(), bytes);
        }
        let recorded: ReplayId = "00000000001790500000".parse().unwrap();
        assert_eq!(recorded, "00000000001790500000".to_uppercase().parse().unwrap());
        assert_ne!(recorded, "0000000000179050".parse().unwrap(), "the length is part of it");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in ["", "0", "0g", "12 4", "0x12", "é"] {
            assert!(wrong.parse::<ReplayId>().is_err(), "{wrong}");
        }
        assert_eq!(ReplayId::new(Vec::new()), None);
    }
}
