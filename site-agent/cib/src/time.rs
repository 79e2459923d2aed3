//! Moments, calendar spans and calendar fields, as rules use them.
//!
//! Nothing here reads a clock: "now" is an argument, with the offset of the cluster's local time,
//! because a date without an offset and the fields of a `date_spec` are in local time. Dates are ISO
//! 8601 in the forms that Pacemaker's own `iso8601` takes: calendar ("2019-09-24"), ordinal
//! ("2005-020"), week ("2009-W53-7"), each alone or with a time and an offset after a blank or T.
//! What is left over after a date is refused, where Pacemaker 2.1 reads over it. An offset right
//! behind the time ("12:30:00+02:00") counts, as ISO 8601 says; 2.1 takes it only after a blank.

use ::time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset, Weekday};

/// A moment, and the offset of the local time that its calendar fields are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(OffsetDateTime);

/// The calendar fields of a moment, in its local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub month_day: i64,
    /// 1 to 366.
    pub year_day: i64,
    /// 1 (Monday) to 7.
    pub week_day: i64,
    /// The year that the ISO week is counted in.
    pub week_year: i64,
    /// 1 to 53.
    pub week: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

impl Moment {
    /// A moment from seconds since 1970 UTC, with its local time's offset in seconds east of UTC.
    pub fn from_epoch(seconds: i64, offset: i32) -> Option<Moment> {
        let offset = UtcOffset::from_whole_seconds(offset).ok()?;
        let utc = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        utc.checked_to_offset(offset).map(Moment)
    }

    /// Another moment, with this one's local time.
    pub fn at(self, epoch: i64) -> Option<Moment> {
        Moment::from_epoch(epoch, self.0.offset().whole_seconds())
    }

    /// The same moment, its fields in UTC.
    #[must_use]
    pub fn utc(self) -> Moment {
        Moment(self.0.to_offset(UtcOffset::UTC))
    }

    /// Seconds since 1970 UTC.
    pub fn epoch(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Reads a date, a time of `now`'s day, or both; without an offset it is in `now`'s local time.
    pub fn parse(text: &str, now: Moment) -> Option<Moment> {
        if text == "now" {
            return Some(now);
        }
        let (date, rest) = match text.find([' ', 'T']) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None if text.contains(':') => ("", Some(text)),
            None => (text, None),
        };
        let date = match date {
            "" => rest.map(|_| now.0.date())?,
            "epoch" => {
                let epoch = Moment::from_epoch(0, 0)?;
                if rest.is_none() {
                    return Some(epoch);
                }
                epoch.0.date()
            }
            date => read_date(date)?,
        };
        let (time, offset, next_day) = match rest.map(str::trim_start) {
            None | Some("") => (Time::MIDNIGHT, None, false),
            Some(rest) => read_time(rest)?,
        };
        let date = if next_day { date.next_day()? } else { date };
        let offset = offset.unwrap_or(now.0.offset());
        Some(Moment(PrimitiveDateTime::new(date, time).assume_offset(offset)))
    }

    /// The moment that lies a span later: years and months by the calendar (a day that the month does
    /// not have becomes its last), the rest by length.
    pub fn plus(self, span: &Span) -> Option<Moment> {
        let months = span.years.checked_mul(12)?.checked_add(span.months)?;
        let here = i64::from(self.0.year()) * 12 + i64::from(u8::from(self.0.month())) - 1;
        let there = here.checked_add(months)?;
        let year = i32::try_from(there.div_euclid(12)).ok()?;
        let month = Month::try_from(there.rem_euclid(12) as u8 + 1).ok()?;
        let day = self.0.day().min(month.length(year));
        let date = Date::from_calendar_date(year, month, day).ok()?;
        let length = span.days.checked_mul(86_400)?.checked_add(span.seconds)?;
        self.0.replace_date(date).checked_add(Duration::seconds(length)).map(Moment)
    }

    /// The calendar fields in the moment's local time.
    pub fn fields(self) -> Fields {
        let (week_year, week, _) = self.0.to_iso_week_date();
        Fields {
            year: i64::from(self.0.year()),
            month: i64::from(u8::from(self.0.month())),
            month_day: i64::from(self.0.day()),
            year_day: i64::from(self.0.ordinal()),
            week_day: i64::from(self.0.weekday().number_from_monday()),
            week_year: i64::from(week_year),
            week: i64::from(week),
            hour: i64::from(self.0.hour()),
            minute: i64::from(self.0.minute()),
            second: i64::from(self.0.second()),
        }
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (date, time) = (self.0.date(), self.0.time());
        write!(f, "{date} {:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
        let (hours, minutes, _) = self.0.offset().as_hms();
        if self.0.offset().is_utc() {
            f.write_str("Z")
        } else {
            let sign = if self.0.offset().is_negative() { '-' } else { '+' };
            write!(f, " {sign}{:02}:{:02}", hours.abs(), minutes.abs())
        }
    }
}

/// A number of at most so many digits, and nothing else.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let fits = !text.is_empty() && text.len() <= digits;
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    (fits && all).then(|| text.parse().ok())?
}

fn read_date(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts[..] {
        [year, week, day] if week.starts_with('W') => {
            let days = [
                Weekday::Monday,
                Weekday::Tuesday,
                Weekday::Wednesday,
                Weekday::Thursday,
                Weekday::Friday,
                Weekday::Saturday,
                Weekday::Sunday,
            ];
            let day = *days.get(number::<usize>(day, 1)?.checked_sub(1)?)?;
            Date::from_iso_week_date(number(year, 4)?, number(&week[1..], 2)?, day).ok()
        }
        [year, month, day] => {
            let month = Month::try_from(number::<u8>(month, 2)?).ok()?;
            Date::from_calendar_date(number(year, 4)?, month, number(day, 2)?).ok()
        }
        [year, day] if day.len() == 3 => {
            Date::from_ordinal_date(number(year, 4)?, number(day, 3)?).ok()
        }
        [year, month] => {
            let month = Month::try_from(number::<u8>(month, 2)?).ok()?;
            Date::from_calendar_date(number(year, 4)?, month, 1).ok()
        }
        [basic] if basic.is_ascii() && basic.len() == 8 => {
            let month = Month::try_from(number::<u8>(&basic[4..6], 2)?).ok()?;
            let day = number(&basic[6..], 2)?;
            Date::from_calendar_date(number(&basic[..4], 4)?, month, day).ok()
        }
        [basic] if basic.is_ascii() && basic.len() == 7 => {
            Date::from_ordinal_date(number(&basic[..4], 4)?, number(&basic[4..], 3)?).ok()
        }
        _ => None,
    }
}

/// A time, its offset, and whether it is the midnight that ends the day ("24:00").
fn read_time(text: &str) -> Option<(Time, Option<UtcOffset>, bool)> {
    let end = text.find(['Z', '+', '-', ' ']).unwrap_or(text.len());
    let (clock, offset) = (&text[..end], text[end..].trim());
    let clock = clock.split_once('.').map_or(clock, |(clock, _fraction)| clock);
    let (hour, minute, second) = hms(clock)?;
    let offset = match offset {
        "" => None,
        "Z" => Some(UtcOffset::UTC),
        signed => {
            let sign = if signed.starts_with('-') { -1 } else { 1 };
            let (hours, minutes, seconds) = hms(signed.strip_prefix(['+', '-'])?)?;
            let valid = hours < 24 && minutes < 60 && seconds == 0;
            let seconds = sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60);
            Some(UtcOffset::from_whole_seconds(seconds).ok().filter(|_| valid)?)
        }
    };
    if (hour, minute, second) == (24, 0, 0) {
        return Some((Time::MIDNIGHT, offset, true));
    }
    Some((Time::from_hms(hour, minute, second).ok()?, offset, false))
}

/// "12", "12:30", "12:30:45", "1230" or "123045".
fn hms(text: &str) -> Option<(u8, u8, u8)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [hour, minute, second] => Some((number(hour, 2)?, number(minute, 2)?, number(second, 2)?)),
        [hour, minute] => Some((number(hour, 2)?, number(minute, 2)?, 0)),
        [basic] if !basic.is_ascii() => None,
        [basic] => match basic.len() {
            1 | 2 => Some((number(basic, 2)?, 0, 0)),
            4 => Some((number(&basic[..2], 2)?, number(&basic[2..], 2)?, 0)),
            6 => {
                let (minute, second) = (number(&basic[2..4], 2)?, number(&basic[4..], 2)?);
                Some((number(&basic[..2], 2)?, minute, second))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A length by the calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Years.
    pub years: i64,
    /// Months.
    pub months: i64,
    /// Days, with weeks counted as seven.
    pub days: i64,
    /// Seconds, with minutes and hours in them.
    pub seconds: i64,
}

impl Span {
    /// Reads an ISO 8601 duration: "P1Y2M3DT4H5M6S", "P2W", "PT36H".
    pub fn parse(text: &str) -> Option<Span> {
        let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty())?;
        let mut span = Span::default();
        let mut in_time = false;
        while !rest.is_empty() {
            if let Some(time) = rest.strip_prefix('T').filter(|_| !in_time) {
                in_time = true;
                rest = time;
                continue;
            }
            let signed = usize::from(rest.starts_with(['-', '+']));
            let digits = rest[signed..].bytes().take_while(u8::is_ascii_digit).count();
            let value: i64 = rest[..signed + digits].parse().ok()?;
            let unit = rest[signed + digits..].chars().next()?;
            rest = &rest[signed + digits + unit.len_utf8()..];
            let (field, factor) = match (in_time, unit) {
                (false, 'Y') => (&mut span.years, 1),
                (false, 'M') => (&mut span.months, 1),
                (false, 'W') => (&mut span.days, 7),
                (false, 'D') => (&mut span.days, 1),
                (true, 'M') => (&mut span.seconds, 60),
                // With or without the T before them: "P10S" is often seen.
                (_, 'H') => (&mut span.seconds, 3600),
                (_, 'S') => (&mut span.seconds, 1),
                _ => return None,
            };
            *field = field.checked_add(value.checked_mul(factor)?)?;
        }
        Some(span)
    }

    /// The span in seconds, counted from the first second of 1970.
    pub fn nominal_seconds(&self) -> i64 {
        let start = Moment(OffsetDateTime::UNIX_EPOCH);
        start.plus(self).map_or(i64::MAX, Moment::epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Moment {
        Moment::from_epoch(1_700_000_000, 3600).unwrap()
    }

    fn read(text: &str) -> Option<String> {
        Moment::parse(text, Moment::from_epoch(1_700_000_000, 0).unwrap()).map(|m| m.to_string())
    }

    #[test]
    fn dates_are_read_in_the_forms_of_iso_8601() {
        let cases = [
            ("2005-020T12:30", "2005-01-20 12:30:00Z"),
            ("2005-020", "2005-01-20 00:00:00Z"),
            ("2009-W53-7", "2010-01-03 00:00:00Z"),
            ("2014-05-07 00:28:00", "2014-05-07 00:28:00Z"),
            ("20050101T123000Z", "2005-01-01 12:30:00Z"),
            ("2005-01-01 24:00:00", "2005-01-02 00:00:00Z"),
            ("2005-01-01T12:30:00 -05:00", "2005-01-01 12:30:00 -05:00"),
            ("2005-01-01T12:30:00+0200", "2005-01-01 12:30:00 +02:00"),
            ("2005-1-1 1:3:4", "2005-01-01 01:03:04Z"),
            ("12:30", "2023-11-14 12:30:00Z"),
            ("T12", "2023-11-14 12:00:00Z"),
            ("epoch", "1970-01-01 00:00:00Z"),
        ];
        for (text, want) in cases {
            assert_eq!(read(text).as_deref(), Some(want), "{text}");
        }
        let wrong = [
            "",
            "foo",
            "2005",
            "2005-02-30",
            "2005-366",
            "2005-W54-1",
            "2005W011",
            "2005/01/01",
            "2005-01-01 24:00:01",
            "2005-01-01 12:60",
            "2005-01-01 12:30:00 +25:00",
            "2005-01-01 12:30:00 foo",
            "2005-13-01",
            "2005-00-01",
            "1700000000",
            "2005-01-01 é",
        ];
        for text in wrong {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_without_offset_is_local() {
        let moment = Moment::parse("2005-01-01 12:00", now()).unwrap();
        assert_eq!(moment, Moment::parse("2005-01-01 11:00Z", now()).unwrap());
    }

    #[test]
    fn months_end_on_their_last_day() {
        let add = |text: &str, span: &str| {
            let moment = Moment::parse(text, Moment::from_epoch(0, 0).unwrap()).unwrap();
            moment.plus(&Span::parse(span).unwrap()).map(|moment| moment.to_string())
        };
        assert_eq!(add("2005-01-31", "P1M").as_deref(), Some("2005-02-28 00:00:00Z"));
        assert_eq!(add("2004-02-29", "P1Y").as_deref(), Some("2005-02-28 00:00:00Z"));
        assert_eq!(add("2005-01-31", "P1MT36H").as_deref(), Some("2005-03-01 12:00:00Z"));
        assert_eq!(add("2005-03-31", "P-1M").as_deref(), Some("2005-02-28 00:00:00Z"));
        assert_eq!(add("2005-03-31", "P9223372036854775807Y"), None);
    }

    #[test]
    fn spans_are_read_in_parts() {
        let span = Span::parse("P1Y2M3DT4H5M6S").unwrap();
        assert_eq!(span, Span { years: 1, months: 2, days: 3, seconds: 14_706 });
        assert_eq!(Span::parse("P2W").unwrap().days, 14);
        assert_eq!(Span::parse("P10S").unwrap().seconds, 10);
        for text in ["P", "P1.5D", "PT5", "5M", "P0001-02-03", "PT1D", "P1DTT1H"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fields_are_those_of_local_time() {
        let fields = Moment::parse("2010-01-03 23:59:58 -05:00", now()).unwrap().fields();
        assert_eq!((fields.year, fields.month, fields.month_day), (2010, 1, 3));
        assert_eq!((fields.week_year, fields.week, fields.week_day), (2009, 53, 7));
        assert_eq!((fields.hour, fields.minute, fields.second), (23, 59, 58));
        assert_eq!(fields.year_day, 3);
    }
}
