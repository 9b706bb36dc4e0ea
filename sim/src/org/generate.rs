//! Field values out of nothing but a hash: realistic for the field's name and type, with awkward ones strewn in.
//!
//! Comes in: 64 well-mixed bits of (seed, object, field, record). Goes out: a value. The same bits give the
//! same value for ever; no clock, no state. Awkward values are those that have broken connectors: line
//! breaks, quotes, `null` as a word, four-byte characters, dates before 1970, negative zero.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::json;

use super::value::Value;

/// Spreads the bits of a counter or of a combination (the finalizer of splitmix64).
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `limit` from the hash, without division.
pub fn below(hash: u64, limit: u64) -> u64 {
    ((u128::from(hash) * u128::from(limit)) >> 64) as u64
}

fn pick<T: Copy>(hash: u64, list: &[T]) -> T {
    list[below(mix(hash), list.len() as u64) as usize]
}

const FIRST_NAMES: &[&str] = &[
    "Ada", "Bengt", "Chloé", "Dmitri", "Eun-ji", "Farid", "Grace", "Håkon", "Inês", "Jürgen", "Kwame", "Léa",
    "Miguel", "Ngozi", "Olga", "Paweł", "Quinn", "Rosa", "Sanjay", "Tove", "Uma", "Vera", "Wei", "Ximena",
    "Yuki", "Zoë",
];
const LAST_NAMES: &[&str] = &[
    "Andersson",
    "Brown",
    "Castillo",
    "D'Angelo",
    "Eriksen",
    "Fischer",
    "García",
    "Hoffmann",
    "Ito",
    "Jansen",
    "Kowalski",
    "Lefèvre",
    "Müller",
    "Nguyen",
    "O'Brien",
    "Petrov",
    "Quispe",
    "Rossi",
    "Smith-Jones",
    "Tanaka",
    "Ünal",
    "van der Berg",
    "Weiß",
    "Xu",
    "Yılmaz",
    "Zhang",
];
const COMPANY_HEADS: &[&str] = &[
    "Acme",
    "Blue Harbor",
    "Cobalt",
    "Delta",
    "Edge",
    "Fjord",
    "Global",
    "Hanseatic",
    "Iberian",
    "Juniper",
    "Kestrel",
    "Lumen",
    "Meridian",
    "Northwind",
    "Orchard",
    "Pyramid",
    "Quartz",
    "Riverside",
    "Sable",
    "Tundra",
    "United",
    "Vertex",
    "Willow",
    "Zenith",
];
const COMPANY_TAILS: &[&str] = &[
    "Logistics",
    "Foods, Inc.",
    "Energy GmbH",
    "Partners & Sons",
    "Medical AB",
    "Systems",
    "\"Express\" Ltd",
    "Construction S.A.",
    "Textiles",
    "Labs",
    "Holding",
    "Media plc",
];
const WORDS: &[&str] = &[
    "the",
    "order",
    "was",
    "shipped",
    "late",
    "because",
    "customer",
    "asked",
    "for",
    "another",
    "colour",
    "and",
    "warehouse",
    "confirmed",
    "delivery",
    "next",
    "week",
    "please",
    "call",
    "back",
    "after",
    "lunch",
    "invoice",
    "number",
    "changed",
    "again",
    "discount",
    "agreed",
    "contract",
    "renewal",
    "pending",
    "approval",
];
/// Text that somebody's parser took for something else.
const AWKWARD_TEXTS: &[&str] = &[
    "NA",
    "N/A",
    "null",
    "NULL",
    "None",
    "NaN",
    "true",
    "0",
    "-",
    "#N/A",
    "\"",
    "\"\"",
    "'",
    ",",
    ";",
    "a,b",
    "say \"hi\", twice",
    "tab\there",
    " leading",
    "trailing ",
    "  ",
    "naïve café",
    "日本語テキスト",
    "emoji 😀 and 👩‍👩‍👧",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "back\\slash",
    "=1+1",
    "</script>",
    "%00",
    "{\"a\":1}",
    "1e5",
    "2026-01-01",
];
const AWKWARD_LINES: &[&str] = &[
    "first line\r\nsecond line",
    "unix\nline",
    "old mac\rline",
    "\r\n",
    "ends with break\r\n",
    "\"quoted\r\n\"line\"",
    "a,\r\n\"b\",\t😀\nc",
    "\n\n",
];

/// City, state, postal code, country, its code, latitude, longitude.
const PLACES: &[(&str, &str, &str, &str, &str, f64, f64)] = &[
    ("Hamburg", "HH", "20095", "Germany", "DE", 53.550_341, 10.000_654),
    ("Köln", "NRW", "50667", "Germany", "DE", 50.938_361, 6.959_974),
    ("Paris", "Île-de-France", "75001", "France", "FR", 48.856_697, 2.351_462),
    ("San Francisco", "CA", "94105", "United States", "US", 37.789_757, -122.394_9),
    ("Austin", "TX", "78701", "United States", "US", 30.271_129, -97.743_7),
    ("São Paulo", "SP", "01310-100", "Brazil", "BR", -23.561_399, -46.656_5),
    ("大阪市", "大阪府", "530-0001", "Japan", "JP", 34.702_485, 135.495_951),
    ("Reykjavík", "", "101", "Iceland", "IS", 64.146_582, -21.942_637),
    ("Quito", "Pichincha", "170150", "Ecuador", "EC", -0.180_653, -78.467_834),
    ("London", "", "SW1A 1AA", "United Kingdom", "GB", 51.501_009, -0.141_588),
    ("Nairobi", "", "00100", "Kenya", "KE", -1.286_389, 36.817_223),
    ("Sydney", "NSW", "2000", "Australia", "AU", -33.868_82, 151.209_296),
];
const ACCURACIES: &[&str] = &["Address", "NearAddress", "Block", "Street", "Zip", "City", "Unknown"];

pub fn first_name(hash: u64) -> Value {
    Value::Text(Cow::Borrowed(pick(hash, FIRST_NAMES)))
}

pub fn last_name(hash: u64) -> Value {
    Value::Text(Cow::Borrowed(pick(hash, LAST_NAMES)))
}

pub fn company(hash: u64) -> Value {
    match hash % 64 {
        0 => Value::Text(Cow::Borrowed(pick(hash, AWKWARD_TEXTS))),
        _ => {
            let (head, tail) = (pick(hash, COMPANY_HEADS), pick(hash ^ 1, COMPANY_TAILS));
            let mut text = String::with_capacity(40);
            let _ = write!(text, "{head} {tail} {}", below(mix(hash ^ 2), 1_000));
            Value::Text(text.into())
        }
    }
}

pub fn email(hash: u64, sequence: u64) -> Value {
    let name = FIRST_NAMES[(hash % 16) as usize];
    let ascii: String = name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
    Value::Text(format!("{ascii}.{sequence}@mail{}.example", hash >> 60).into())
}

pub fn phone(hash: u64) -> Value {
    let number = below(hash, 10_000_000);
    Value::Text(match hash % 4 {
        0 => format!("+49 40 {number:07}").into(),
        1 => format!("({:03}) 555-{:04}", 200 + number % 700, number % 10_000).into(),
        2 => format!("00{number:08} ext. {}", number % 100).into(),
        _ => format!("+1 {number}").into(),
    })
}

pub fn url(hash: u64) -> Value {
    let number = below(hash, 100_000);
    Value::Text(match hash % 3 {
        0 => format!("https://www.example-{number}.com/?q=a%20b&c=\u{fc}").into(),
        1 => format!("http://example{number}.org").into(),
        _ => format!("www.example.net/{number}").into(),
    })
}

/// What a part of an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Street,
    City,
    State,
    PostalCode,
    Country,
    Latitude,
    Longitude,
    Accuracy,
    StateCode,
    CountryCode,
}

/// One part; `group` is the hash that all parts of one address share, so that city and country agree.
pub fn place(part: Place, group: u64, hash: u64) -> Value {
    if group.is_multiple_of(5) || hash.is_multiple_of(23) {
        return Value::Null;
    }
    let (city, state, postal_code, country, country_code, latitude, longitude) = pick(group, PLACES);
    let geocoded = !group.is_multiple_of(3);
    match part {
        Place::Street => match hash % 8 {
            0 => Value::Text(format!("Building {}\r\n{} Main Street", hash >> 58, below(hash, 400)).into()),
            1 => Value::Text(format!("c/o \"Depot\", {} Hafenstraße\nHinterhaus", below(hash, 90)).into()),
            _ => Value::Text(format!("{} {} Street", below(hash, 400), pick(hash, LAST_NAMES)).into()),
        },
        Place::City => Value::text(city),
        Place::State => Value::text(state),
        Place::PostalCode => Value::text(postal_code),
        Place::Country => Value::text(country),
        Place::StateCode => Value::text(if state.len() <= 3 { state } else { "" }),
        Place::CountryCode => Value::text(country_code),
        Place::Latitude if geocoded => Value::Double(latitude),
        Place::Longitude if geocoded => Value::Double(longitude),
        Place::Accuracy if geocoded => Value::text(pick(hash, ACCURACIES)),
        Place::Latitude | Place::Longitude | Place::Accuracy => Value::Null,
    }
}

/// Degrees with six decimals, in `-limit..=limit`.
pub fn degrees(hash: u64, limit: i64) -> Value {
    match hash % 32 {
        0 => Value::Double(0.0),
        1 => Value::Double(-(limit as f64)),
        _ => Value::Double(
            (below(hash, (2 * limit as u64) * 1_000_000) as i64 - limit * 1_000_000) as f64 / 1e6,
        ),
    }
}

/// A line of text of at most `length` characters.
pub fn line(hash: u64, length: u32) -> Value {
    let text: Cow<'static, str> = match hash % 32 {
        0 | 1 => Cow::Borrowed(pick(hash, AWKWARD_TEXTS)),
        2..=8 => Cow::Borrowed(pick(hash, COMPANY_HEADS)),
        _ => {
            let mut text = String::with_capacity(48);
            let count = 2 + hash % 4;
            for word in 0..count {
                if word > 0 {
                    text.push(' ');
                }
                text.push_str(pick(hash ^ (word << 20), WORDS));
            }
            text.into()
        }
    };
    Value::text(cut(text, length))
}

/// Several lines, now and then very long.
pub fn long_text(hash: u64, length: u32) -> Value {
    let text: Cow<'static, str> = match hash % 64 {
        0..=3 => Cow::Borrowed(pick(hash, AWKWARD_TEXTS)),
        4..=11 => Cow::Borrowed(pick(hash, AWKWARD_LINES)),
        // One in 4,096 fills the field as far as 32,000 characters.
        12 if (hash >> 6).is_multiple_of(64) => {
            let mut text = String::new();
            while text.len() < (length as usize).min(32_000) {
                text.push_str("a long story, with \"quotes\",\r\nbreaks and 😀; ");
            }
            text.into()
        }
        _ => {
            let mut text = String::with_capacity(160);
            for word in 0..8 + hash % 16 {
                text.push_str(pick(hash ^ (word << 24), WORDS));
                text.push(if word % 9 == 8 { '\n' } else { ' ' });
            }
            text.push('.');
            text.into()
        }
    };
    Value::text(cut(text, length))
}

pub fn rich_text(hash: u64, length: u32) -> Value {
    let inner = match long_text(hash, 200) {
        Value::Text(text) => text.replace('&', "&amp;").replace('<', "&lt;").replace('\n', "<br>"),
        _ => String::new(),
    };
    let text = format!("<p>{inner}</p><p><b style=\"color: rgb(0, 0, 255);\">{}</b>&nbsp;</p>", hash % 100);
    Value::text(cut(text.into(), length))
}

fn cut(text: Cow<'static, str>, length: u32) -> Cow<'static, str> {
    let length = length.max(1) as usize;
    if text.len() <= length {
        return text;
    }
    match text.char_indices().nth(length) {
        None => text,
        Some((at, _)) => match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..at]),
            Cow::Owned(mut text) => {
                text.truncate(at);
                Cow::Owned(text)
            }
        },
    }
}

/// A whole number of at most `digits` digits.
pub fn int(hash: u64, digits: u32) -> Value {
    let limit = 10i64.pow(digits.clamp(1, 9)).min(i64::from(i32::MAX) + 1);
    Value::Int(match hash % 32 {
        0 => 0,
        1 => -(below(hash, limit as u64) as i64),
        2 => limit - 1,
        3 => -1,
        4..=12 => below(mix(hash), limit as u64) as i64,
        _ => below(mix(hash), (limit as u64).min(5_000)) as i64,
    })
}

pub fn long(hash: u64) -> Value {
    Value::Int(match hash % 16 {
        0 => 0,
        1 => -1,
        // Beyond what a double holds exactly.
        2 => 9_007_199_254_740_993,
        3 => i64::MAX,
        _ => below(mix(hash), 1_000_000_000_000) as i64,
    })
}

/// A decimal with `scale` places and no more digits than a double keeps.
pub fn decimal(hash: u64, precision: u32, scale: u32) -> Value {
    let scale = scale.min(15);
    let digits = precision.clamp(1, 15).max(scale);
    let unit = 10f64.powi(scale as i32);
    let largest = 10u64.pow(digits) - 1;
    let whole = |number: u64| number as f64 / unit;
    Value::Double(match hash % 64 {
        0 => 0.0,
        1 => -0.0,
        2 => whole(largest),
        3 => -whole(largest),
        4 => whole(1),
        5..=8 => -whole(below(mix(hash), largest)),
        9..=16 => whole(below(mix(hash), largest)),
        _ => whole(below(mix(hash), largest.min(10u64.pow(scale.min(13)).saturating_mul(100_000)).max(1))),
    })
}

/// Days around 2026, some far away, some before 1970.
pub fn date(hash: u64) -> i32 {
    match hash % 64 {
        // 1700-01-01 and 4000-12-31, the ends of what Salesforce takes (rest.md 3.2).
        0 => -98_615,
        1 => 741_787,
        2 => -1,
        3 => 0,
        4..=7 => -(below(mix(hash), 25_000) as i32),
        _ => 19_700 + below(mix(hash), 1_400) as i32,
    }
}

pub fn datetime(hash: u64) -> Value {
    let second_of_day = below(mix(hash ^ 3), 86_400) as i64;
    Value::DateTime(i64::from(date(hash)) * super::calendar::MS_PER_DAY + second_of_day * 1_000)
}

pub fn time(hash: u64) -> Value {
    Value::Time(match hash % 16 {
        0 => 0,
        1 => 86_399_999,
        2 => below(mix(hash), 86_400_000) as u32,
        _ => below(mix(hash), 96) as u32 * 900_000,
    })
}

/// Old and new values of history records: whatever type the tracked field had (rest.md 2.5).
pub fn any_type(hash: u64) -> Value {
    match hash % 8 {
        0 => Value::Null,
        1 => Value::Bool(hash & 64 != 0),
        2 => decimal(hash >> 3, 12, 2),
        3 => Value::Date(date(hash >> 3)),
        4 => datetime(hash >> 3),
        5 => Value::Int(below(mix(hash), 1_000) as i64),
        _ => line(hash >> 3, 255),
    }
}

pub fn json_value(hash: u64) -> Value {
    match hash % 4 {
        0 => Value::Text(Cow::Borrowed("{\"policy\":\"none\"}")),
        1 => Value::Json(Box::new(
            json!({"score": hash % 100, "tags": ["a", "b,c"], "nested": {"empty": null}}),
        )),
        2 => Value::Json(Box::new(json!([1, "two", 3.5]))),
        _ => Value::Text(Cow::Borrowed("[]")),
    }
}

pub fn complex_value(hash: u64) -> Value {
    Value::Json(Box::new(match hash % 2 {
        0 => json!({"recordTypeInfos": []}),
        _ => json!({"referenceTo": ["Account", "Contact"]}),
    }))
}

/// What a user without the permission sees of classic encrypted text (rest.md 2.4).
pub fn masked(hash: u64) -> Value {
    const MASKS: &[&str] = &["****", "********", "****************"];
    Value::Text(Cow::Borrowed(pick(hash, MASKS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many() -> impl Iterator<Item = u64> {
        (0..50_000).map(mix)
    }

    #[test]
    fn text_is_never_empty_nor_longer_than_its_field() {
        for hash in many() {
            for length in [1, 3, 20, 255] {
                for value in [line(hash, length), long_text(hash, length), rich_text(hash, length)] {
                    let Value::Text(text) = value else { panic!("text expected") };
                    assert!((1..=length as usize).contains(&text.chars().count()));
                }
            }
        }
    }

    #[test]
    fn awkward_values_do_occur() {
        let lines: Vec<Value> = many().map(|hash| long_text(hash, 32_000)).collect();
        let has = |test: &dyn Fn(&str) -> bool| lines.iter().any(|value| test(value.as_str().unwrap()));
        assert!(has(&|text| text.contains("\r\n")));
        assert!(has(&|text| text == "null"));
        assert!(has(&|text| text.chars().any(|c| c.len_utf8() == 4)));
        assert!(has(&|text| text.starts_with(' ')));
        assert!(has(&|text| text.len() > 30_000));
        assert!(many().any(|hash| date(hash) < 0));
        let doubles: Vec<f64> = many().map(|hash| decimal(hash, 18, 2).as_f64().unwrap()).collect();
        assert!(doubles.iter().any(|number| *number == 0.0 && number.is_sign_negative()));
        assert!(doubles.contains(&9_999_999_999_999.99));
    }

    #[test]
    fn decimals_keep_to_their_precision_and_scale() {
        for hash in many() {
            let number = decimal(hash, 5, 2).as_f64().unwrap();
            assert!(number.abs() <= 999.99);
            assert_eq!((number * 100.0).round() / 100.0, number);
            assert!(int(hash, 8).as_f64().unwrap().abs() < 1e8);
        }
    }
}
