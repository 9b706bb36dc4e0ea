//! Avro's binary encoding, as far as our schemas need it (Avro specification, "Binary Encoding").

/// A zigzag varint, Avro's int and long.
pub fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub fn bytes(value: &[u8], out: &mut Vec<u8>) {
    // Lengths of slices fit an i64 on every machine.
    long(i64::try_from(value.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(value);
}

pub fn double(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The number's bytes of two's complement, highest first, as few as hold it: Avro's decimal.
pub fn decimal(unscaled: i128, out: &mut Vec<u8>) {
    let all = unscaled.to_be_bytes();
    let sign = if unscaled < 0 { 0xff } else { 0 };
    // A byte that only repeats the sign of the next one says nothing.
    let spare = all
        .windows(2)
        .take_while(|pair| matches!(pair, [first, next] if *first == sign && (next ^ sign) & 0x80 == 0));
    bytes(all.get(spare.count()..).unwrap_or(&all), out);
}

/// The branch of `["null", T]`.
pub const NULL: u8 = 0;
pub const PRESENT: u8 = 2;

pub fn optional_text(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => {
            out.push(PRESENT);
            bytes(value, out);
        }
        None => out.push(NULL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_takes_no_more_bytes_than_its_number_and_sign_need() {
        let written = |number: i128| {
            let mut out = Vec::new();
            decimal(number, &mut out);
            out.split_off(1)
        };
        assert_eq!(written(0), [0]);
        assert_eq!((written(127), written(128)), (vec![0x7f], vec![0, 0x80]));
        assert_eq!((written(-1), written(-128), written(-129)), (vec![0xff], vec![0x80], vec![0xff, 0x7f]));
        for number in [i128::MAX, i128::MIN, 1_250, -1_250, 999_999_999_999_999_999] {
            let bytes = written(number);
            let sign = if number < 0 { 0xff } else { 0 };
            let mut all = [sign; 16];
            all[16 - bytes.len()..].copy_from_slice(&bytes);
            assert_eq!(i128::from_be_bytes(all), number);
        }
    }
}
