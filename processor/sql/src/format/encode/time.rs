//! Times as text: RFC 3339 in UTC.

/// Appends `seconds` since 1970 and `fraction` with so many digits.
pub(super) fn write(seconds: i64, fraction: u32, digits: usize, out: &mut Vec<u8>) {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    date(day, out);
    out.push(b'T');
    for (number, behind) in [
        (second / 3600, b':'),
        (second / 60 % 60, b':'),
        (second % 60, b'Z'),
    ] {
        two(number, out);
        if behind == b':' {
            out.push(behind);
        }
    }
    if digits > 0 {
        out.push(b'.');
        let start = out.len();
        let mut rest = fraction;
        out.resize(start + digits, b'0');
        for at in (start..start + digits).rev() {
            out[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    out.push(b'Z');
}

/// Appends the date of a day since 1970, `YYYY-MM-DD`
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
pub(super) fn date(day: i64, out: &mut Vec<u8>) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    if (0..10_000).contains(&year) {
        two(year / 100, out);
        two(year % 100, out);
    } else {
        out.extend_from_slice(year.to_string().as_bytes());
    }
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(of_month, out);
}

fn two(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowstone_processor::rfc3339::parse_ms;

    #[test]
    fn what_is_written_is_read_again() {
        for ms in [
            0,
            -1,
            951_782_400_123,
            1_449_730_546_000,
            -62_135_596_800_000,
            4_102_444_800_999,
        ] {
            let mut out = Vec::new();
            write(
                i64::div_euclid(ms, 1000),
                ms.rem_euclid(1000) as u32,
                3,
                &mut out,
            );
            let text = String::from_utf8(out).unwrap();
            assert_eq!(parse_ms(&text), Some(ms), "{text}");
        }
    }

    #[test]
    fn years_beyond_four_digits_are_written_in_full() {
        let mut out = Vec::new();
        date(4_000_000, &mut out);
        assert!(out.starts_with(b"12921-"), "{}", out.escape_ascii());
    }
}
