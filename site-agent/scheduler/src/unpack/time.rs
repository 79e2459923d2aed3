//! ISO 8601 times and durations as the CIB has them, as seconds since 1970.
//!
//! Accepted are calendar dates (`2005-01-20`), ordinal dates (`2005-020`), week dates (`2005-W03-4`), a time of day after `T` or a
//! space, and an offset (`Z`, `+01:00`). What has no offset is UTC.

use crate::words::leading_integer;

/// Days from 1970-01-01 to the first of January of a year.
fn days_before_year(year: i64) -> i64 {
    let y = year - 1;
    365 * (year - 1970) + (y.div_euclid(4) - 492) - (y.div_euclid(100) - 19)
        + (y.div_euclid(400) - 4)
}

fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    days_before_year(year) + (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + day - 1
}

/// A moment taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    /// Year.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Day of the year, from 1.
    pub yearday: i64,
    /// Day of the week, Monday is 1.
    pub weekday: i64,
    /// ISO week.
    pub week: i64,
    /// Year of the ISO week.
    pub weekyear: i64,
    /// Hour.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second.
    pub second: i64,
}

/// Takes a moment apart, in UTC.
pub(crate) fn civil(epoch: i64) -> Civil {
    let days = epoch.div_euclid(86_400);
    let rest = epoch.rem_euclid(86_400);
    let mut year = 1970 + days.div_euclid(366);
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    let yearday = days - days_before_year(year) + 1;
    let (mut month, mut day) = (1, yearday);
    while day > days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let weekday = (days + 3).rem_euclid(7) + 1;
    let (week, weekyear) = iso_week(year, yearday, weekday);
    Civil {
        year,
        month,
        day,
        yearday,
        weekday,
        week,
        weekyear,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
    }
}

fn weeks_in_year(year: i64) -> i64 {
    let first = (days_before_year(year) + 3).rem_euclid(7) + 1;
    if first == 4 || (first == 3 && leap(year)) { 53 } else { 52 }
}

fn iso_week(year: i64, yearday: i64, weekday: i64) -> (i64, i64) {
    let week = (yearday - weekday + 10) / 7;
    if week < 1 {
        (weeks_in_year(year - 1), year - 1)
    } else if week > weeks_in_year(year) {
        (1, year + 1)
    } else {
        (week, year)
    }
}

/// Seconds since 1970 that a written time stands for.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("epoch") {
        return Some(0);
    }
    let split = text.find(['T', ' ']);
    let (date, time) = match split {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let days = parse_date(date)?;
    Some(days * 86_400 + parse_time(time)?)
}

fn parse_date(date: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-');
    let year: i64 = parts.next()?.parse().ok()?;
    if !(1..=9999).contains(&year) {
        return None;
    }
    let second = parts.next()?;
    let third = parts.next();
    if let Some(week) = second.strip_prefix('W') {
        let week: i64 = week.parse().ok()?;
        let day: i64 = third.unwrap_or("1").parse().ok()?;
        if !(1..=53).contains(&week) || !(1..=7).contains(&day) {
            return None;
        }
        let january4 = days_before_year(year) + 3;
        let monday = january4 - (january4 + 3).rem_euclid(7);
        return Some(monday + (week - 1) * 7 + day - 1);
    }
    let number: i64 = second.parse().ok()?;
    match third {
        None if (1..=366).contains(&number) => Some(days_before_year(year) + number - 1),
        Some(day) if (1..=12).contains(&number) => {
            let day: i64 = day.parse().ok()?;
            (1..=days_in_month(year, number))
                .contains(&day)
                .then(|| days_from_civil(year, number, day))
        }
        _ => None,
    }
}

fn parse_time(time: &str) -> Option<i64> {
    if time.is_empty() {
        return Some(0);
    }
    let (clock, offset) = match time.find(['Z', '+', '-']) {
        Some(at) => (time[..at].trim(), &time[at..]),
        None => (time, "Z"),
    };
    let hms = |text: &str| -> Option<i64> {
        let mut total = 0;
        for (part, scale) in text.splitn(3, ':').zip([3600, 60, 1]) {
            total += part.trim().parse::<i64>().ok()? * scale;
        }
        Some(total)
    };
    let offset = match offset.as_bytes()[0] {
        b'+' => hms(&offset[1..])?,
        b'-' => -hms(&offset[1..])?,
        _ => 0,
    };
    Some(hms(clock)? - offset)
}

/// Seconds that an ISO duration (`P1DT2H`) stands for, months and years as 30 and 365 days.
pub(crate) fn duration_seconds(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix('P')?;
    let (mut total, mut clock) = (0, false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            clock = true;
            rest = after;
            continue;
        }
        let number = leading_integer(rest)?;
        let unit =
            rest.trim_start_matches(['-', '+']).trim_start_matches(|c: char| c.is_ascii_digit());
        let scale = match (unit.chars().next()?, clock) {
            ('Y', _) => 365 * 86_400,
            ('M', false) => 30 * 86_400,
            ('W', _) => 7 * 86_400,
            ('D', _) => 86_400,
            ('H', _) => 3600,
            ('M', true) => 60,
            ('S', _) => 1,
            _ => return None,
        };
        total += number.checked_mul(scale)?;
        rest = &unit[1..];
    }
    Some(total)
}

/// A moment plus what a `duration` element says, counted in the calendar.
pub(crate) fn add_calendar(start: i64, years: i64, months: i64, seconds: i64) -> i64 {
    let c = civil(start);
    let month0 = c.month - 1 + months;
    let year = c.year + years + month0.div_euclid(12);
    let month = month0.rem_euclid(12) + 1;
    let day = c.day.min(days_in_month(year, month));
    days_from_civil(year, month, day) * 86_400 + start.rem_euclid(86_400) + seconds
}

/// `Day Mon dd HH:MM:SS yyyy`-free form that the tools print: `2005-01-20 12:30:00Z`.
pub(crate) fn show(epoch: i64) -> String {
    let c = civil(epoch);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_ways_to_write_a_day_mean_the_same() {
        let day = parse("2005-01-20").unwrap();
        assert_eq!(parse("2005-020"), Some(day));
        assert_eq!(parse("2005-W03-4"), Some(day));
        assert_eq!(day, 1_106_179_200);
    }

    #[test]
    fn an_offset_is_taken_off() {
        assert_eq!(parse("2014-05-07 02:28:00 +02:00"), parse("2014-05-07T00:28:00Z"));
        assert_eq!(parse("2014-05-07 00:28:00"), Some(1_399_422_480));
    }

    #[test]
    fn taking_apart_and_showing_agree_with_parsing() {
        assert_eq!(show(1_399_422_480), "2014-05-07 00:28:00Z");
        assert_eq!(civil(1_399_422_480).week, 19);
        assert_eq!(civil(0).weekday, 4);
    }
}
