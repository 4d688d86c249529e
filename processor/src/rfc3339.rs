//! Times in text: RFC 3339 to milliseconds since 1970.

/// The time that `text` says, in milliseconds since 1970.
///
/// Takes `2015-12-10T06:55:46Z` with an optional fraction (beyond milliseconds it is cut) and `Z`
/// or an offset like `+01:00`; `t`, `z` and a space for the `T` are fine
/// (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>). A leap second counts as the first second
/// of the next minute. `None` if it is anything else, or a day that does not exist.
pub fn parse_ms(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    let fixed = b.get(..19)?;
    let shape = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    if shape.iter().any(|&(at, c)| fixed[at] != c[0]) || !matches!(fixed[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (digits(&b[..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
    let (hour, minute, second) = (
        digits(&b[11..13])?,
        digits(&b[14..16])?,
        digits(&b[17..19])?,
    );
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, zone) = fraction(&b[19..])?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - zone_seconds(zone)?) * 1_000 + fraction_ms)
}

fn digits(b: &[u8]) -> Option<i64> {
    b.iter().try_fold(0i64, |n, c| {
        c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0'))
    })
}

/// The milliseconds of `.123`, if there is a fraction, and what stands behind it.
fn fraction(b: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = b.strip_prefix(b".") else {
        return Some((0, b));
    };
    let len = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let (number, zone) = rest.split_at(len);
    let ms = (0..3).fold(0, |ms, i| {
        ms * 10 + number.get(i).map_or(0, |c| i64::from(c - b'0'))
    });
    Some((ms, zone))
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&zone[1..3])?, digits(&zone[4..6])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01. Years are counted from March, so that the leap day is their last; eras of
/// 400 years have 146,097 days (<https://howardhinnant.github.io/date_algorithms.html>).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2015-12-10T06:55:46Z", 1_449_730_546_000),
            ("2015-12-10t07:55:46.1239+01:00", 1_449_730_546_123),
            ("2015-12-09 22:25:46.5-08:30", 1_449_730_546_500),
            ("2000-02-29T00:00:00z", 951_782_400_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ] {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2015-12-10",
            "2015-12-10T06:55:46",
            "2015-12-10T06:55:46.Z",
            "2015-12-10T06:55:46Zx",
            "2015-13-10T06:55:46Z",
            "2015-02-29T06:55:46Z",
            "1900-02-29T06:55:46Z",
            "2015-12-00T06:55:46Z",
            "2015-12-10T24:55:46Z",
            "2015-12-10T06:60:46Z",
            "2015-12-10T06:55:61Z",
            "2015-12-10T06:55:46+1:00",
            "2015-12-10T06:55:46+24:00",
            "+015-12-10T06:55:46Z",
            "2015-12-10T06:55:4\u{fc}Z",
        ] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[-0-9TtZz:.+ \u{fc}]{0,30}") {
            let _ = parse_ms(&text);
        }

        #[test]
        fn days_follow_one_another(day in -700_000i64..2_900_000) {
            // Walks back from the number of a day to its date by trying the days around it.
            let year = 1970 + day.div_euclid(365) - day.div_euclid(365 * 1461);
            let first = (year - 5..=year + 5)
                .rev()
                .find(|y| days_since_1970(*y, 1, 1) <= day)
                .unwrap();
            let mut left = day - days_since_1970(first, 1, 1);
            let mut month = 1;
            while left >= days_of_month(first, month) {
                left -= days_of_month(first, month);
                month += 1;
            }
            prop_assert!(month <= 12);
            prop_assert_eq!(days_since_1970(first, month, left + 1), day);
        }
    }
}
