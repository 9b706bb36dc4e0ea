//! Masks of fields: hex of little-endian bytes, bit n for the n-th data field, trailing zero bytes left off.

#[derive(Clone, Debug, Default)]
pub struct Mask(Vec<u8>);

impl Mask {
    pub fn of(fields: impl IntoIterator<Item = usize>) -> Self {
        let mut bytes = Vec::new();
        for field in fields {
            let byte = field / 8;
            if bytes.len() <= byte {
                bytes.resize(byte + 1, 0);
            }
            if let Some(byte) = bytes.get_mut(byte) {
                *byte |= 1 << (field % 8);
            }
        }
        Self(bytes)
    }

    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_count_from_the_low_end_of_the_first_byte() {
        assert_eq!(Mask::of([0, 1, 3]).hex(), "0B");
        assert_eq!(Mask::of(0..10).hex(), "FF03");
        assert_eq!(Mask::of([16]).hex(), "000001");
        assert_eq!(Mask::of([]).hex(), "");
    }
}
