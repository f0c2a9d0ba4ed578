//! Bounds that change with the calendar, the budget, and need.

use std::time::Duration;

use bellwether_models::duration::as_text;
use bellwether_models::series::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Positive;

/// Other bounds at certain times. Of several windows that hold, the greatest `min` and the least `max` count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Days of the week, such as `[mon, tue]`. Left out with `dates` left out too: every day.
    pub days: Vec<Day>,
    /// Single dates, such as `2026-11-27`, beside the days of the week.
    #[schemars(with = "Vec<String>")]
    pub dates: Vec<Date>,
    /// Time of day at which it begins. Default 00:00.
    #[schemars(with = "String")]
    pub from: Time,
    /// Time of day at which it ends, itself no longer in it. Not after `from`: on the next day. Default 00:00.
    #[schemars(with = "String")]
    pub to: Time,
    /// Time zone of days and times, such as `Europe/Berlin`. Default UTC.
    #[schemars(with = "Option<String>")]
    #[serde(with = "zone")]
    pub time_zone: Zone,
    /// Fewest replicas; they are asked for a start-up time before the window begins. Left out: the workload's.
    pub min: Option<u32>,
    /// Most replicas. Left out: the workload's.
    pub max: Option<u32>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A time zone that was found by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl WindowConfig {
    /// Whether it holds at `at`.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(at.as_millis()) else { return false };
        let local = instant.to_zoned(self.time_zone.0.clone());
        let (date, time) = (local.date(), local.time());
        if self.from < self.to {
            return self.takes(date) && (self.from..self.to).contains(&time);
        }
        // Over midnight: the day is the one on which it began.
        let began_today = time >= self.from && self.takes(date);
        let began_yesterday = time < self.to && date.yesterday().is_ok_and(|day| self.takes(day));
        began_today || began_yesterday
    }

    fn takes(&self, date: Date) -> bool {
        let any = self.days.is_empty() && self.dates.is_empty();
        any || self.dates.contains(&date) || self.days.iter().any(|day| day.weekday() == date.weekday())
    }
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

mod zone {
    use jiff::tz::TimeZone;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Zone;

    pub(super) fn serialize<S: Serializer>(zone: &Zone, serializer: S) -> Result<S::Ok, S::Error> {
        zone.0.iana_name().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(Zone::default()) };
        let unknown =
            |_| serde::de::Error::custom(format!("{name:?} is no time zone; write one such as Europe/Berlin"));
        TimeZone::get(&name).map(Zone).map_err(unknown)
    }
}

/// What a workload may cost, in replica-hours. It goes before the reactive floor, never below `min`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Replica-hours an hour: the most replicas at any time. Left out: no limit.
    pub per_hour: Option<Positive>,
    /// Replica-hours a day, in UTC. What is left of it is spread evenly over what is left of the day, so that what the
    /// night saves can be spent on the evening. Left out: no limit.
    pub per_day: Option<Positive>,
}

/// What happens when more replicas are wanted than `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxBreach {
    /// Most replicas while the breach lasts; above `max`.
    pub raise_to: u32,
    /// How long `max` may be passed; then it holds again until no more than `max` is wanted. Default 30m.
    #[serde(default = "half_an_hour", with = "as_text")]
    #[schemars(with = "String")]
    pub lasts: Duration,
}

fn half_an_hour() -> Duration {
    Duration::from_secs(1800)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> WindowConfig {
        serde_json::from_str(text).expect("a window")
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
    }

    #[test]
    fn a_window_holds_from_its_first_to_before_its_last_minute_in_its_own_time_zone() {
        let office = window(r#"{"days":["mon"],"from":"08:00","to":"18:00","time_zone":"Europe/Berlin","min":5}"#);
        for (time, holds) in [
            ("2026-03-02T06:59:59Z", false),
            ("2026-03-02T07:00:00Z", true),
            ("2026-03-02T16:59:59Z", true),
            ("2026-03-02T17:00:00Z", false),
            ("2026-03-03T12:00:00Z", false),
            ("2026-03-30T06:00:00Z", true), // after the change to summer time
        ] {
            assert_eq!(office.holds(at(time)), holds, "{time}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window(r#"{"days":["fri"],"dates":["2026-03-09"],"from":"22:00","to":"02:00","max":3}"#);
        for (time, holds) in [
            ("2026-03-06T21:59:00Z", false),
            ("2026-03-06T22:00:00Z", true),
            ("2026-03-07T01:59:00Z", true),
            ("2026-03-07T02:00:00Z", false),
            ("2026-03-07T23:00:00Z", false),
            ("2026-03-10T01:00:00Z", true), // the date, a Monday
        ] {
            assert_eq!(night.holds(at(time)), holds, "{time}");
        }
    }

    #[test]
    fn a_window_without_days_and_times_always_holds_and_survives_being_written_down() {
        let always = window("{}");
        assert!(always.holds(at("2026-03-06T00:00:00Z")) && always.holds(at("2026-03-06T23:59:59Z")));
        let text = serde_json::to_string(&always).expect("text");
        assert_eq!(window(&text), always);
        let refused = serde_json::from_str::<WindowConfig>(r#"{"time_zone":"Mars/Olympus"}"#).expect_err("no zone");
        assert!(refused.to_string().contains("Mars/Olympus"), "{refused}");
    }
}
