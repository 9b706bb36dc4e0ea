//! Days and milliseconds to calendar dates and back, in Salesforce's spellings.
//!
//! Comes in: days or milliseconds since 1970-01-01 UTC. Goes out: ASCII digits. Never: time zones, locales,
//! or an allocation per value, because every generated row passes through here.

pub const MS_PER_SECOND: i64 = 1_000;
pub const MS_PER_MINUTE: i64 = 60 * MS_PER_SECOND;
pub const MS_PER_DAY: i64 = 86_400 * MS_PER_SECOND;

/// Year, month and day of a day number (proleptic Gregorian calendar).
pub fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month, day)
}

/// The day number of a calendar date; months and days out of range roll over.
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) as i32
}

/// Cuts a moment to its second, as every audit field of Salesforce is.
pub fn truncate_to_second(ms: i64) -> i64 {
    ms.div_euclid(MS_PER_SECOND) * MS_PER_SECOND
}

/// Cuts a moment to its minute, as the replication calls do with their arguments.
pub fn truncate_to_minute(ms: i64) -> i64 {
    ms.div_euclid(MS_PER_MINUTE) * MS_PER_MINUTE
}

fn push_digits(out: &mut Vec<u8>, value: u32, width: u32) {
    for position in (0..width).rev() {
        out.push(b'0' + (value / 10u32.pow(position) % 10) as u8);
    }
}

/// `2026-05-19`
pub fn write_date(out: &mut Vec<u8>, days: i32) {
    let (year, month, day) = civil_from_days(days);
    if year < 0 {
        out.push(b'-');
    }
    push_digits(out, year.unsigned_abs(), 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
}

/// `13:30:00.000`, without a zone.
pub fn write_time(out: &mut Vec<u8>, ms_of_day: u32) {
    let seconds = ms_of_day / 1_000;
    push_digits(out, seconds / 3_600, 2);
    out.push(b':');
    push_digits(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_digits(out, seconds % 60, 2);
    out.push(b'.');
    push_digits(out, ms_of_day % 1_000, 3);
}

/// `2026-05-19T08:30:00.000` followed by `zone` (`+0000` in REST, `Z` in Bulk; rest.md 2.5).
pub fn write_datetime(out: &mut Vec<u8>, ms: i64, zone: &str) {
    write_date(out, ms.div_euclid(MS_PER_DAY) as i32);
    out.push(b'T');
    write_time(out, ms.rem_euclid(MS_PER_DAY) as u32);
    out.extend_from_slice(zone.as_bytes());
}

/// The REST spelling of a moment, `2026-05-19T08:30:00.000+0000`.
pub fn rest_datetime(ms: i64) -> String {
    let mut out = Vec::with_capacity(28);
    write_datetime(&mut out, ms, "+0000");
    String::from_utf8_lossy(&out).into_owned()
}

fn digits(text: &str) -> Option<u32> {
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Reads `2026-05-19`, refusing dates that no calendar has.
pub fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (digits(year)? as i32, digits(month)?, digits(day)?);
    let days = days_from_civil(year, month, day);
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// Reads `13:30:00`, `13:30:00.000`, each with or without a trailing `Z`.
pub fn parse_time(text: &str) -> Option<u32> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    let millis = format!("{:0<3}", fraction.get(..fraction.len().min(3))?);
    let millis = digits(&millis)?;
    (hour < 24 && minute < 60 && second < 60 && fraction.bytes().all(|b| b.is_ascii_digit()))
        .then_some(((hour * 60 + minute) * 60 + second) * 1_000 + millis)
}

/// Reads a moment in any spelling that Salesforce takes: `Z`, `+0000`, `+00:00`, with or without a fraction.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let split = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(split)?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let numbers: String = zone.chars().skip(1).filter(|c| *c != ':').collect();
            if numbers.len() != 4 {
                return None;
            }
            let number = i64::from(digits(&numbers)?);
            sign * (number / 100 * 60 + number % 100)
        }
    };
    let days = i64::from(parse_date(date)?);
    let ms_of_day = i64::from(parse_time(time)?);
    Some(days * MS_PER_DAY + ms_of_day - offset_minutes * MS_PER_MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_survives_the_round_trip() {
        for days in -135_140..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(-1), (1969, 12, 31));
        assert_eq!(civil_from_days(20_592), (2026, 5, 19));
    }

    #[test]
    fn all_spellings_of_one_moment_are_the_same_moment() {
        let expected = parse_datetime("2026-05-19T08:30:00.000+0000").unwrap();
        for text in [
            "2026-05-19T08:30:00Z",
            "2026-05-19T10:30:00+02:00",
            "2026-05-19T03:30:00.000-0500",
            "2026-05-19T08:30:00.0Z",
        ] {
            assert_eq!(parse_datetime(text), Some(expected), "{text}");
        }
        assert_eq!(rest_datetime(expected), "2026-05-19T08:30:00.000+0000");
        assert_eq!(rest_datetime(-1), "1969-12-31T23:59:59.999+0000");
    }

    #[test]
    fn nonsense_is_not_a_date() {
        for text in ["2026-02-30", "2026-13-01", "26-01-01", "", "2026-05-19T08:30:00", "x"] {
            assert_eq!(parse_date(text), None, "{text}");
            assert_eq!(parse_datetime(text), None, "{text}");
        }
        assert_eq!(parse_time("25:00:00"), None);
        assert_eq!(parse_time("13:30:00.5Z"), Some(48_600_500));
    }
}
