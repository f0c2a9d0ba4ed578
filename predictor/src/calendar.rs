//! Calendars as people write them, and as models go by them.

use std::collections::BTreeSet;

use bellwether_models::forecast::calendar::{Calendar, Event};
use bellwether_models::series::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Workload};

/// Changes of clocks are looked up between these instants: 2015 and 2045, in seconds since 1970.
const LOOKED_UP: (i64, i64) = (1_420_070_400, 2_366_841_600);

/// Where and how the users of some workloads live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalendarConfig {
    /// The name workloads call it by. Required.
    pub name: String,
    /// Time zone of the IANA database, such as `Europe/Berlin`: days begin and clocks change as they do there. Default
    /// `UTC`.
    pub time_zone: String,
    /// Days of the week that are off. Default Saturday and Sunday.
    pub days_off: Vec<Weekday>,
    /// Dates that are off whatever their weekday, past (so that they are not learnt as ordinary days) and to come (so that
    /// they are expected to be like days off), such as `2026-12-25`. Default none.
    #[schemars(with = "Vec<String>")]
    pub holidays: Vec<Date>,
    /// Dates that are worked whatever their weekday. Default none.
    #[schemars(with = "Vec<String>")]
    pub working_days: Vec<Date>,
}

impl Default for CalendarConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            time_zone: "UTC".to_owned(),
            days_off: vec![Weekday::Saturday, Weekday::Sunday],
            holidays: Vec::new(),
            working_days: Vec::new(),
        }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A span of time that is known to be out of the ordinary. Spans of one name resemble each other: what the earlier ones
/// brought is expected of the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KnownEvent {
    /// What it is called; the same for spans that resemble each other. Required.
    pub name: String,
    /// Its beginning in RFC 3339, such as `2026-11-27T08:00:00Z`. Required.
    #[schemars(with = "String")]
    pub from: jiff::Timestamp,
    /// Its end, itself no longer in it; after `from`. Required.
    #[schemars(with = "String")]
    pub to: jiff::Timestamp,
    /// How many times the ordinary demand it brings, above zero. Left out: learnt from earlier spans of this name within
    /// the history; where there is none, the span is not learnt from and nothing special is expected of it.
    pub factor: Option<f64>,
    /// Names of the workloads it concerns. Default none, which means all.
    pub names: Vec<String>,
}

impl CalendarConfig {
    /// Its time zone, as the machine knows it or else as the program does; `None` where there is none of that name.
    #[must_use]
    pub fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(&self.time_zone).ok()
    }

    /// The calendar without events.
    #[must_use]
    pub fn calendar(&self) -> Calendar {
        let mut days_off = [false; 7];
        self.days_off.iter().for_each(|day| days_off[*day as usize] = true);
        let count = |dates: &[Date]| dates.iter().map(|date| days_since_epoch(*date)).collect::<BTreeSet<i64>>();
        let (holidays, working_days) = (count(&self.holidays), count(&self.working_days));
        Calendar { offsets: self.offsets(), days_off, holidays, working_days, events: Vec::new() }
    }

    fn offsets(&self) -> Vec<(Timestamp, i32)> {
        let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let (Some(zone), (first, last)) = (self.zone(), (at(LOOKED_UP.0), at(LOOKED_UP.1))) else { return Vec::new() };
        let changes = zone.following(first).take_while(|change| change.timestamp() < last);
        let changes = changes.map(|change| (millis(change.timestamp()), change.offset().seconds()));
        std::iter::once((Timestamp::MIN, zone.to_offset(first).seconds())).chain(changes).collect()
    }
}

/// What a forecast of `workload` is told of days and hours.
#[must_use]
pub fn of_workload(workload: &Workload, config: &Config) -> Calendar {
    let named = workload.calendar.as_ref().and_then(|name| config.calendars.iter().find(|c| c.name == *name));
    let mut calendar = named.map(CalendarConfig::calendar).unwrap_or_default();
    let concerned = |event: &&KnownEvent| event.names.is_empty() || event.names.contains(&workload.name);
    let event = |event: &KnownEvent| Event {
        name: event.name.clone(),
        from: millis(event.from),
        to: millis(event.to),
        factor: event.factor,
    };
    calendar.events = config.events.iter().filter(concerned).map(event).collect();
    calendar
}

fn days_since_epoch(date: Date) -> i64 {
    let midnight = date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp().as_second());
    midnight.unwrap_or_default().div_euclid(86_400)
}

fn millis(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_workload_lives_by_the_clock_and_the_holidays_of_its_calendar() {
        let config = config(
            r#"{"calendars": [{"name": "de", "time_zone": "Europe/Berlin", "holidays": ["1970-01-05"]}],
                "events": [{"name": "sale", "from": "2026-11-27T08:00:00Z", "to": "2026-11-27T20:00:00Z", "names": ["other"]}],
                "workloads": [{"name": "shop", "demand": "up", "calendar": "de"}, {"name": "other", "demand": "up"}]}"#,
        );
        assert_eq!(config.faults(), []);
        let calendar = of_workload(&config.workloads[0], &config);
        let summer = |text: &str| calendar.offset(millis(text.parse().unwrap()));
        assert_eq!((summer("2026-03-29T00:59:59Z"), summer("2026-03-29T01:00:00Z")), (3600, 7200));
        assert_eq!(calendar.days_off, [false, false, false, false, false, true, true]);
        assert_eq!(calendar.holidays, BTreeSet::from([4]));
        assert!(calendar.events.is_empty());
        let other = of_workload(&config.workloads[1], &config);
        assert_eq!((other.events.len(), other.offset(Timestamp::from_secs(1_785_000_000))), (1, 0));
    }

    #[test]
    fn faults_of_calendars_and_events_are_named_with_their_place() {
        let config = config(
            r#"{"calendars": [{"name": "de", "time_zone": "Europe/Atlantis"}],
                "events": [{"from": "2026-11-27T08:00:00Z", "to": "2026-11-27T08:00:00Z", "factor": 0}],
                "workloads": [{"name": "shop", "demand": "up", "calendar": "fr"}]}"#,
        );
        let said: Vec<String> = config.faults().iter().map(ToString::to_string).collect();
        let places =
            ["calendars[0].time_zone", "workloads[0].calendar", "events[0].name", "events[0].to", "events[0].factor"];
        assert!(places.iter().all(|place| said.iter().any(|s| s.starts_with(place))), "{said:?}");
        assert_eq!(said.len(), places.len());
    }
}
