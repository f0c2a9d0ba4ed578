//! The parameters of a request.

use std::time::Duration;

use axum::extract::{Form, FromRequest, Query, Request};
use axum::http::{Method, header};
use bellwether_models::duration;
use bellwether_models::series::{Step, Timestamp};

use super::reply::Failure;
use super::series_matchers;
use crate::store::{Matcher, TimeRange};

/// Where time begins and ends for those who do not say; far from the ends of the type, so that sums stay inside.
const EVER: TimeRange =
    TimeRange { from: Timestamp::from_millis(i64::MIN / 4), to: Timestamp::from_millis(i64::MAX / 4) };

/// Names and values from the form and the address, the form first.
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let unreadable =
            |error: &dyn std::fmt::Display| Failure::bad_data(&format!("error parsing form values: {error}"));
        let Query(in_address) =
            Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map_err(|error| unreadable(&error))?;
        if !has_form(&request) {
            return Ok(Self(in_address));
        }
        let Form(mut pairs) =
            Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(|error| unreadable(&error))?;
        pairs.extend(in_address);
        Ok(Self(pairs))
    }
}

fn has_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    request.method() == Method::POST && kind.starts_with("application/x-www-form-urlencoded")
}

impl Params {
    /// The first value of `name`; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Failure> {
        match self.text(name) {
            "" => Ok(None),
            text => read_time(text)
                .map(Some)
                .ok_or_else(|| Failure::bad_parameter(name, &format!("cannot parse {text:?} to a valid timestamp"))),
        }
    }

    pub fn required_time(&self, name: &str) -> Result<Timestamp, Failure> {
        self.time(name)?.ok_or_else(|| Failure::bad_parameter(name, "cannot parse \"\" to a valid timestamp"))
    }

    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        match self.text(name) {
            "" => Ok(None),
            text => read_seconds(text)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(Some)
                .ok_or_else(|| bad_duration(name, text)),
        }
    }

    pub fn step(&self) -> Result<Step, Failure> {
        let text = self.text("step");
        let seconds = read_seconds(text).ok_or_else(|| bad_duration("step", text))?;
        let millis = seconds * 1000.0;
        if millis >= 9.2e18 {
            return Err(bad_duration("step", text));
        }
        Step::from_millis(millis as i64).map_err(|_| {
            let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            Failure::bad_parameter("step", why)
        })
    }

    /// The most elements wanted; 0 or nothing: all.
    pub fn limit(&self) -> Result<Option<usize>, Failure> {
        Ok(self.count("limit")?.filter(|limit| *limit > 0))
    }

    /// A whole number; nothing when it is negative or not given.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Failure> {
        match self.text(name) {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(number) => Ok(usize::try_from(number).ok()),
                Err(_) => Err(Failure::bad_parameter(name, "must be a number")),
            },
        }
    }

    /// From `start` to `end`; all time by default.
    pub fn range(&self) -> Result<TimeRange, Failure> {
        Ok(TimeRange { from: self.time("start")?.unwrap_or(EVER.from), to: self.time("end")?.unwrap_or(EVER.to) })
    }

    /// Each `match[]`.
    pub fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let given = self.0.iter().filter(|(name, _)| name == "match[]");
        given.map(|(_, text)| series_matchers(text).map_err(|error| Failure::about("match[]", error))).collect()
    }
}

fn bad_duration(name: &str, text: &str) -> Failure {
    Failure::bad_parameter(name, &format!("cannot parse {text:?} to a valid duration"))
}

fn read_time(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        // Whole seconds apart from their fraction, as Prometheus rounds.
        let (whole, fraction) = (seconds.trunc(), (seconds.fract() * 1000.0).round());
        let inside = seconds.is_finite() && seconds.abs() < 9.2e15;
        return inside.then(|| Timestamp::from_millis(whole as i64 * 1000 + fraction as i64));
    }
    text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp::from_millis(time.as_millisecond()))
}

/// Seconds, as a number or in Prometheus' notation.
fn read_seconds(text: &str) -> Option<f64> {
    match text.parse::<f64>() {
        Ok(seconds) => seconds.is_finite().then_some(seconds),
        Err(_) => duration::parse(text).ok().map(|duration| duration.as_secs_f64()),
    }
}
