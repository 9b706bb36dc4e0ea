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
