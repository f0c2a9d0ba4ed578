//! Parts of a date, in UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;

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
    /// The part of the date `seconds` after the epoch; NaN where the calendar ends (years -9999 and 9999).
    pub fn of(self, seconds: f64) -> f64 {
        if !seconds.is_finite() {
            return f64::NAN;
        }
        let Ok(instant) = Timestamp::from_second(seconds.trunc() as i64) else { return f64::NAN };
        let date = instant.to_zoned(TimeZone::UTC);
        match self {
            Self::DaysInMonth => f64::from(date.days_in_month()),
            Self::DayOfMonth => f64::from(date.day()),
            Self::DayOfWeek => f64::from(date.weekday().to_sunday_zero_offset()),
            Self::DayOfYear => f64::from(date.day_of_year()),
            Self::Hour => f64::from(date.hour()),
            Self::Minute => f64::from(date.minute()),
            Self::Month => f64::from(date.month()),
            Self::Year => f64::from(date.year()),
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(DatePart::Year.of(f64::NAN).is_nan() && DatePart::Year.of(1e300).is_nan());
    }
}
