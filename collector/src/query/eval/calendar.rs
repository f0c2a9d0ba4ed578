//! Parts of a date, in UTC.

/// What is asked of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum DatePart {
    DaysInMonth,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Month,
    Year,
}

impl DatePart {
    /// The part of the date `seconds` after the epoch, in the Gregorian calendar without bounds. What is no whole number of
    /// 64 bits counts as the least of them, as on the machines that Prometheus mostly runs on.
    pub fn of(self, seconds: f64) -> f64 {
        let whole = seconds.trunc();
        let seconds = if (-TWO_TO_63..TWO_TO_63).contains(&whole) { whole as i64 } else { i64::MIN };
        let date = Date::of(seconds);
        match self {
            Self::DaysInMonth => f64::from(date.days_in_month()),
            Self::DayOfMonth => f64::from(date.day),
            Self::DayOfWeek => f64::from(date.weekday),
            Self::DayOfYear => f64::from(date.day_of_year()),
            Self::Hour => f64::from(date.hour),
            Self::Minute => f64::from(date.minute),
            Self::Month => f64::from(date.month),
            Self::Year => date.year as f64,
        }
    }
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const DAY: u64 = 86_400;
const DAYS_OF_400_YEARS: u64 = 146_097;
/// Seconds from the first of January of [`FIRST_YEAR`] to the epoch: whole cycles of 400 years, so that the number is not negative
/// for any date but the first minutes of time, which wrap around to the end of it.
const BEFORE_EPOCH: u64 = 9_223_372_028_715_321_600;
/// The first year of a cycle, as 2001 is.
const FIRST_YEAR: i64 = -292_277_022_399;
/// Days before each month of a common year.
const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

struct Date {
    year: i64,
    month: u8,
    day: u8,
    weekday: u8,
    hour: u8,
    minute: u8,
}

impl Date {
    fn of(seconds: i64) -> Self {
        let seconds = (seconds as u64).wrapping_add(BEFORE_EPOCH);
        let (days, second) = (seconds / DAY, seconds % DAY);
        let (cycle, mut left) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
        // The last day of a cycle, of its fourth century, and of each fourth year is one more than the division sees.
        let century = (left / 36_524).min(3);
        left -= century * 36_524;
        let (fours, left) = (left / 1461, left % 1461);
        let year = (left / 365).min(3);
        let day_of_year = left - year * 365;
        let year = FIRST_YEAR + (400 * cycle + 100 * century + 4 * fours + year) as i64;
        let before = |month: usize| BEFORE_MONTH[month] + u64::from(month > 1 && is_leap(year));
        let month = (0..12).rev().find(|month| before(*month) <= day_of_year).unwrap_or(0);
        Self {
            year,
            month: month as u8 + 1,
            day: (day_of_year - before(month)) as u8 + 1,
            weekday: ((days + 1) % 7) as u8, // 2001 began on a Monday
            hour: (second / 3600) as u8,
            minute: (second % 3600 / 60) as u8,
        }
    }

    fn days_in_month(&self) -> u8 {
        match self.month {
            2 if is_leap(self.year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(&self) -> u16 {
        let month = usize::from(self.month) - 1;
        BEFORE_MONTH[month] as u16 + u16::from(month > 1 && is_leap(self.year)) + u16::from(self.day)
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_taken_apart_in_utc() {
        let leap_day = 1_709_210_096.9; // 2024-02-29T12:34:56Z
        let parts = [
            (DatePart::Year, 2024.0),
            (DatePart::Month, 2.0),
            (DatePart::DayOfMonth, 29.0),
            (DatePart::DayOfWeek, 4.0),
            (DatePart::DayOfYear, 60.0),
            (DatePart::DaysInMonth, 29.0),
            (DatePart::Hour, 12.0),
            (DatePart::Minute, 34.0),
        ];
        for (part, expected) in parts {
            assert_eq!(part.of(leap_day), expected, "{part:?}");
        }
        assert_eq!(DatePart::Year.of(-1.0), 1969.0);
    }

    proptest! {
        #[test]
        fn the_calendar_is_that_of_the_date_library(seconds in -377_700_000_000i64..253_400_000_000) {
            let date = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let of = |part: DatePart| part.of(seconds as f64);
            prop_assert_eq!(of(DatePart::Year), f64::from(date.year()));
            prop_assert_eq!(of(DatePart::Month), f64::from(date.month()));
            prop_assert_eq!(of(DatePart::DayOfMonth), f64::from(date.day()));
            prop_assert_eq!(of(DatePart::DayOfYear), f64::from(date.day_of_year()));
            prop_assert_eq!(of(DatePart::DaysInMonth), f64::from(date.days_in_month()));
            prop_assert_eq!(of(DatePart::DayOfWeek), f64::from(date.weekday().to_sunday_zero_offset()));
            prop_assert_eq!(of(DatePart::Hour), f64::from(date.hour()));
            prop_assert_eq!(of(DatePart::Minute), f64::from(date.minute()));
        }
    }

    #[test]
    fn what_is_no_time_has_the_date_that_prometheus_gives_it() {
        for seconds in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            let parts =
                [DatePart::Minute, DatePart::Hour, DatePart::DayOfMonth, DatePart::Month].map(|p| p.of(seconds));
            assert_eq!(parts, [30.0, 15.0, 4.0, 12.0], "{seconds}");
        }
    }
}
