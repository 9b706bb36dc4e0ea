//! Values, and how each door spells them.
//!
//! Comes in: a seed and a Salesforce type. Goes out: a value as somebody entered it, its text in REST's JSON and in Bulk's
//! CSV, and its Avro value in an event (`rest.md` 2.5, `pubsub.md` 3.3). Values at the edges are made more often than they are met.

use apache_avro::types::Value as Avro;

use super::object::Seed;
use crate::domain::Stamp;

/// What somebody entered.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    /// Digits, and how many of them stand behind the point.
    Number(i64, u32),
    /// A double that no digits were entered for: a formula's.
    Double(f64),
    /// Days since the epoch.
    Date(i64),
    /// Milliseconds since the epoch.
    Moment(i64),
    /// Milliseconds of the day.
    Time(i64),
    Text(String),
}

/// By field of the object: the value.
pub type Spelled = Vec<Value>;

const TEXTS: [&str; 14] = [
    "A",
    "NA",
    "null",
    "false",
    "0",
    " leading and trailing ",
    "two\r\nlines",
    "quoted \"twice\" and, comma",
    "\"",
    "tab\tback\\slash / \u{8}",
    "Ünïcödé 🧾 𐍈 e\u{301}",
    "=1+1;'--",
    "2026-05-19T08:30:00.000+0000",
    "\n",
];

/// A value of a type; `exact`: of so many digits and decimals, or any double.
pub fn value(seed: &mut Seed, of: &str, (precision, scale): (u32, u32), exact: bool) -> Value {
    if of != "boolean" && seed.one_in(7) {
        return Value::Null;
    }
    match of {
        "boolean" => Value::Boolean(seed.one_in(2)),
        "int" => match seed.below(6) {
            0 => Value::Int(0),
            1 => Value::Int(i32::MAX),
            2 => Value::Int(i32::MIN),
            _ => Value::Int(seed.draw() as i32),
        },
        "long" => match seed.below(6) {
            0 => Value::Long(0),
            1 => Value::Long(i64::MAX),
            2 => Value::Long(i64::MIN),
            _ => Value::Long((seed.draw() as i64) >> seed.below(60)),
        },
        "double" | "currency" | "percent" => {
            if !exact && seed.one_in(3) {
                return Value::Double(match seed.below(8) {
                    0 => -0.0,
                    1 => f64::MAX,
                    2 => f64::MIN_POSITIVE,
                    3 => 0.1 + 0.2,
                    _ => Some(f64::from_bits(seed.draw())).filter(|value| value.is_finite()).unwrap_or(1e300),
                });
            }
            let bound = 10_i64.pow(precision.min(18));
            let digits = match seed.below(6) {
                0 => 0,
                1 => bound - 1,
                2 => 1 - bound,
                // Zeros at the end.
                3 => (seed.below(1_000) as i64 * 1_000) % bound,
                _ => (seed.draw() as i64 % bound) / 10_i64.pow(seed.below(precision.min(18) as usize) as u32),
            };
            Value::Number(digits, scale)
        }
        // The years of Salesforce, and the ends of those of four digits.
        "date" => Value::Date(match seed.below(6) {
            0 => -1,
            1 => -719_528,
            2 => 2_932_896,
            3 => seed.below(30_000) as i64 - 98_615,
            _ => seed.below(60_000) as i64 - 20_000,
        }),
        "datetime" => Value::Moment(match seed.below(6) {
            0 => -1,
            1 => 0,
            2 => -8_520_336_000_000,
            3 => 64_092_211_199_999,
            _ => (seed.below(8_000_000_000_000) as i64) - 4_000_000_000_000,
        }),
        "time" => Value::Time(match seed.below(5) {
            0 => 0,
            1 => 86_399_999,
            _ => seed.below(86_400_000) as i64,
        }),
        // Never sorted: the order is that of the picklist.
        "multipicklist" => Value::Text(["b;a", "a;c;b", "red", "Ü;ä"][seed.below(4)].to_owned()),
        _ => match seed.below(3) {
            0 => Value::Text(TEXTS[seed.below(TEXTS.len())].to_owned()),
            _ => Value::Text(seed.text()),
        },
    }
}

impl Value {
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Digits with their point; at least one decimal, as Salesforce spells numbers.
    pub fn digits(&self) -> String {
        let Self::Number(digits, scale) = self else { return String::new() };
        let sign = if *digits < 0 { "-" } else { "" };
        let width = *scale as usize + 1;
        let text = format!("{:0width$}", digits.unsigned_abs());
        let (whole, decimals) = text.split_at(text.len() - *scale as usize);
        let decimals = decimals.trim_end_matches('0');
        format!("{sign}{whole}.{}", if decimals.is_empty() { "0" } else { decimals })
    }

    /// A number in either of the spellings that are seen.
    fn number(&self, seed: &mut Seed) -> String {
        match self {
            Self::Number(digits, 0) if seed.one_in(3) => digits.to_string(),
            Self::Number(digits, scale) if seed.one_in(4) => format!("{digits}E-{scale}"),
            Self::Double(value) if seed.one_in(2) => format!("{value:E}"),
            Self::Double(value) => format!("{value:?}"),
            number => number.digits(),
        }
    }

    pub fn rest(&self, seed: &mut Seed) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Boolean(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Long(value) => value.to_string(),
            Self::Number(..) | Self::Double(_) => self.number(seed),
            Self::Moment(millis) => format!("\"{}\"", Stamp(*millis).to_string().replace('Z', "+0000")),
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Date(_) | Self::Time(_) => format!("\"{}\"", self.bulk(seed)),
        }
    }

    /// Not yet quoted.
    pub fn bulk(&self, seed: &mut Seed) -> String {
        match self {
            Self::Null => String::new(),
            Self::Boolean(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Long(value) => value.to_string(),
            Self::Number(..) | Self::Double(_) => self.number(seed),
            Self::Date(days) => Stamp(days * 86_400_000).to_string()[..10].to_owned(),
            Self::Moment(millis) => Stamp(*millis).to_string(),
            Self::Time(millis) => Stamp(*millis).to_string()[11..].to_owned(),
            Self::Text(text) => text.clone(),
        }
    }

    pub fn event(&self) -> Avro {
        let value = match self {
            Self::Null => return Avro::Union(0, Box::new(Avro::Null)),
            Self::Boolean(value) => Avro::Boolean(*value),
            Self::Int(value) => Avro::Int(*value),
            Self::Long(value) => Avro::Long(*value),
            Self::Number(..) => Avro::Double(self.digits().parse().unwrap()),
            Self::Double(value) => Avro::Double(*value),
            Self::Date(days) => Avro::Long(days * 86_400_000),
            Self::Moment(millis) | Self::Time(millis) => Avro::Long(*millis),
            Self::Text(text) => Avro::String(text.clone()),
        };
        Avro::Union(1, Box::new(value))
    }

    /// What a reader of the topic must get; `decimal`: the field is one.
    pub fn published(&self, decimal: bool) -> Avro {
        let value = match self {
            Self::Null => return Avro::Union(0, Box::new(Avro::Null)),
            Self::Boolean(value) => Avro::Boolean(*value),
            Self::Int(value) => Avro::Int(*value),
            Self::Long(value) => Avro::Long(*value),
            Self::Number(digits, _) if decimal => {
                Avro::Decimal(apache_avro::Decimal::from(digits.to_be_bytes().to_vec()))
            }
            // Zero has no sign.
            Self::Number(0, _) => Avro::Double(0.0),
            Self::Number(..) => Avro::Double(self.digits().parse().unwrap()),
            Self::Double(value) => Avro::Double(if *value == 0.0 { 0.0 } else { *value }),
            Self::Date(days) => Avro::Date(i32::try_from(*days).unwrap()),
            Self::Moment(millis) => Avro::TimestampMillis(*millis),
            Self::Time(millis) => Avro::TimeMillis(i32::try_from(*millis).unwrap()),
            Self::Text(text) => Avro::String(text.clone()),
        };
        Avro::Union(1, Box::new(value))
    }
}
