//! Tells clients that balance by themselves how full each backend is and will be: ORCA load reports over gRPC.
//!
//! A client opens `xds.service.orca.v3.OpenRcaService/StreamCoreMetrics` for each address it knows and reads one report an
//! interval (gRFC A51 "Custom Backend Metrics"; Envoy's policy `client_side_weighted_round_robin`). It weighs an endpoint by
//! requests over utilisation (gRFC A58). We give as utilisation the greater of the load now and the load to come, and as
//! requests those that are to be left to the backend at that utilisation, so that the quotient is its weight times its
//! capacity: caps, survivors and slow return hold here as everywhere. What is not known is not told: a client goes on with
//! what it was told last, until that expires.
//!
//! A drain has no word here, and a weight of nothing counts as none, for which clients take the mean of the others (gRFC A58). A
//! drained backend is told as full, with next to no requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::routing::post;
use futures::Stream;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;

use super::{Grounds, Weight};
use crate::config::{BackendConfig, RerouteConfig};
use crate::grpc::streaming;

/// The weight that a drained backend is told with.
const DRAINED: f64 = 0.001;
/// Least utilisation that is told: clients take one of nothing for none, and give the mean of the others.
const LEAST: f64 = 0.01;
const METHOD: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

/// What is told of a backend. Other fields of `xds.data.orca.v3.OrcaLoadReport` are left at nothing.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LoadReport {
    /// Requests a second that are to be left to the backend, in the units of its `load`.
    #[prost(double, tag = "6")]
    pub rps_fractional: f64,
    /// The greater of the load now and the load to come, over the capacity; may pass 1.
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

impl LoadReport {
    /// The report that goes with `weight`; `None` when nothing is known of the backend, unless it is drained or comes back.
    #[must_use]
    pub fn of(weight: &Weight, backend: &BackendConfig) -> Option<Self> {
        let known = weight.saturation.filter(|s| s.is_finite());
        let drained = weight.weight <= 0.0;
        let back = matches!(weight.grounds, Grounds::Restoring | Grounds::DrainSuspended);
        let utilisation = match known {
            Some(known) => known.max(if drained { 1.0 } else { LEAST }),
            None if drained || back => 1.0,
            None => return None,
        };
        let left = if drained { DRAINED } else { weight.weight } * backend.capacity.value() * utilisation;
        Some(Self { rps_fractional: left, application_utilization: utilisation })
    }

    /// As the value of a response's header `endpoint-load-metrics`, for servers that report by themselves.
    #[must_use]
    pub fn header(&self) -> String {
        format!("TEXT application_utilization={},rps_fractional={}", self.application_utilization, self.rps_fractional)
    }
}

/// The newest report of each backend.
#[derive(Clone, Debug)]
pub struct Reports {
    made: Instant,
    good_for: Duration,
    least_interval: Duration,
    of: BTreeMap<String, Option<LoadReport>>,
    /// Backends by the names that clients call them.
    called: BTreeMap<String, String>,
}

/// Why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReport {
    /// No such backend is configured.
    Unknown,
    /// Nothing fresh is known of it.
    Silent,
}

impl Reports {
    /// The reports that follow from `weights`, which are in the order of the backends; without weights, none.
    #[must_use]
    pub fn of(weights: &[Weight], config: &RerouteConfig) -> Self {
        let report = |(i, backend): (usize, &BackendConfig)| {
            (backend.name.clone(), weights.get(i).and_then(|weight| LoadReport::of(weight, backend)))
        };
        let names = |backend: &BackendConfig| {
            let others = backend.orca.iter().flat_map(|orca| orca.authorities.clone());
            let all = std::iter::once(backend.name.clone()).chain(others);
            all.map(|name| (name.to_lowercase(), backend.name.clone())).collect::<Vec<_>>()
        };
        Self {
            made: Instant::now(), // an answer's age is the process's affair: no weight rests on it
            good_for: config.max_fact_age,
            least_interval: config.orca.least_interval.max(SHORTEST),
            of: config.backends.iter().enumerate().map(report).collect(),
            called: config.backends.iter().flat_map(names).collect(),
        }
    }

    /// What is told of `backend` at `now`.
    ///
    /// # Errors
    /// [`NoReport`].
    pub fn report(&self, backend: &str, now: Instant) -> Result<LoadReport, NoReport> {
        let report = self.of.get(backend).ok_or(NoReport::Unknown)?;
        let fresh = now.saturating_duration_since(self.made) <= self.good_for;
        report.filter(|_| fresh).ok_or(NoReport::Silent)
    }

    /// The backend that a client calls by `authority`, with its port or without.
    fn called(&self, authority: &str) -> Option<String> {
        let authority = authority.to_lowercase();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        self.called.get(&authority).or_else(|| self.called.get(host)).cloned()
    }
}

/// No client is told more often, whatever is configured.
const SHORTEST: Duration = Duration::from_millis(10);

/// Answers clients with the newest of `reports`, to so many at once.
#[derive(Clone)]
pub struct LoadReports {
    reports: watch::Receiver<Reports>,
    room: Arc<Semaphore>,
}

impl LoadReports {
    /// For `most_streams` streams at once, over all routers.
    #[must_use]
    pub fn new(reports: watch::Receiver<Reports>, most_streams: usize) -> Self {
        Self { reports, room: Arc::new(Semaphore::new(most_streams.min(Semaphore::MAX_PERMITS))) }
    }

    /// The call, about `backend`, or about the one whom the client names by its `:authority`.
    pub fn router(&self, backend: Option<String>) -> Router {
        let this = self.clone();
        let answer = move |request: Request| {
            let asked = backend.clone().or_else(|| this.reports.borrow().called(&authority(&request)));
            let named = asked.clone().unwrap_or_else(|| authority(&request));
            let this = this.clone();
            streaming(request, move |asks| this.open(&named, asked.is_some(), asks))
        };
        Router::new().route(METHOD, post(answer))
    }

    fn open(
        &self,
        backend: &str,
        known: bool,
        asks: LoadReportRequest,
    ) -> Result<impl Stream<Item = Result<LoadReport, Status>> + use<>, Status> {
        if !known {
            return Err(unknown(backend));
        }
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            metrics::counter!("bellwether_scheduler_load_report_streams_refused_total").increment(1);
            return Err(Status::resource_exhausted("all reroute.orca.most_streams are taken"));
        };
        let told = Telling {
            reports: self.reports.clone(),
            backend: backend.to_owned(),
            asked: asks.interval(),
            next: None,
            _place: Place::taken(permit),
        };
        Ok(futures::stream::unfold(Some(told), |told| async { told?.tell().await }))
    }
}

/// One stream.
struct Telling {
    reports: watch::Receiver<Reports>,
    backend: String,
    asked: Duration,
    next: Option<tokio::time::Instant>,
    _place: Place,
}

impl Telling {
    /// The next report when it is due; nothing as long as nothing is known.
    async fn tell(mut self) -> Option<(Result<LoadReport, Status>, Option<Self>)> {
        loop {
            if let Some(next) = self.next {
                self.wait(next).await?;
            }
            let (found, interval) = {
                let reports = self.reports.borrow();
                (reports.report(&self.backend, Instant::now()), self.asked.max(reports.least_interval))
            };
            self.next = Some(tokio::time::Instant::now() + interval);
            match found {
                Ok(report) => {
                    metrics::counter!("bellwether_scheduler_load_reports_total").increment(1);
                    return Some((Ok(report), Some(self)));
                }
                Err(NoReport::Unknown) => return Some((Err(unknown(&self.backend)), None)),
                Err(NoReport::Silent) => {}
            }
        }
    }
}

impl Telling {
    /// `None` when there is nobody any more who would know.
    async fn wait(&mut self, until: tokio::time::Instant) -> Option<()> {
        tokio::time::timeout_at(until, async { while self.reports.changed().await.is_ok() {} }).await.err().map(drop)
    }
}

/// A stream's place among the most there may be.
struct Place(#[allow(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Place {
    fn taken(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("bellwether_scheduler_load_report_streams").increment(1.0);
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!("bellwether_scheduler_load_report_streams").decrement(1.0);
    }
}

/// `xds.service.orca.v3.OrcaLoadReportRequest`; costs of requests we have none.
#[derive(Clone, Copy, PartialEq, Message)]
struct LoadReportRequest {
    #[prost(message, optional, tag = "1")]
    report_interval: Option<Interval>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Interval {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Longest interval that is heeded.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl LoadReportRequest {
    /// Nothing where none is asked for, or one below nothing: then the least holds.
    fn interval(&self) -> Duration {
        let Interval { seconds, nanos } = self.report_interval.unwrap_or_default();
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        seconds.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))).min(LONGEST)
    }
}

fn authority(request: &Request) -> String {
    let host = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(|authority| authority.as_str()).or_else(host).unwrap_or_default().to_owned()
}

fn unknown(called: &str) -> Status {
    Status::not_found(format!(
        "there is no backend {called:?} in reroute.backends, by its name or among its orca.authorities"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> RerouteConfig {
        serde_json::from_value(json!({ "max_fact_age": "1m", "backends": [
            { "name": "a", "load": "a", "capacity": 100.0, "orca": { "authorities": ["10.0.0.1:9000", "Shop-A"] } },
            { "name": "b", "load": "b", "capacity": 200.0 },
        ] }))
        .expect("a configuration")
    }

    fn weight(backend: &str, weight: f64, saturation: Option<f64>) -> Weight {
        Weight { backend: backend.to_owned(), weight, saturation, grounds: Grounds::Healthy }
    }

    #[test]
    fn requests_over_utilisation_are_the_weight_times_the_capacity() {
        let reports = Reports::of(&[weight("a", 0.5, Some(1.6)), weight("b", 1.0, Some(0.25))], &config());
        let told = |name| reports.report(name, Instant::now()).expect("a report");
        let quotient = |name| told(name).rps_fractional / told(name).application_utilization;
        assert_eq!((told("a").application_utilization, quotient("a")), (1.6, 50.0));
        assert_eq!((told("b").application_utilization, quotient("b")), (0.25, 200.0));
        assert_eq!(told("a").header(), "TEXT application_utilization=1.6,rps_fractional=80");
    }

    #[test]
    fn a_drained_backend_is_told_as_full_with_next_to_no_requests_even_when_nothing_is_known_of_it() {
        let reports = Reports::of(&[weight("a", 0.0, None), weight("b", 0.0, Some(2.0))], &config());
        let told = |name| reports.report(name, Instant::now()).expect("a report");
        assert_eq!((told("a").application_utilization, told("a").rps_fractional), (1.0, DRAINED * 100.0));
        assert_eq!((told("b").application_utilization, told("b").rps_fractional), (2.0, DRAINED * 200.0 * 2.0));
    }

    #[test]
    fn a_backend_that_comes_back_gets_its_weight_though_it_has_no_load_and_nothing_is_known_of_it() {
        let back = |name: &str, saturation| Weight { grounds: Grounds::Restoring, ..weight(name, 0.1, saturation) };
        let reports = Reports::of(&[back("a", Some(0.0)), back("b", None)], &config());
        let told = |name| reports.report(name, Instant::now()).expect("a report");
        let quotient = |name| (told(name).rps_fractional / told(name).application_utilization).round();
        assert!(told("a").application_utilization > 0.0, "nothing would count as the mean of the others");
        assert_eq!((quotient("a"), quotient("b")), (10.0, 20.0), "a tenth of the capacity");
    }

    #[test]
    fn what_is_not_known_or_was_known_too_long_ago_is_not_told() {
        let reports = Reports::of(&[weight("a", 0.5, Some(1.6)), weight("b", 1.0, None)], &config());
        let now = Instant::now();
        assert_eq!(reports.report("b", now), Err(NoReport::Silent));
        assert_eq!(reports.report("stranger", now), Err(NoReport::Unknown));
        assert!(reports.report("a", now).is_ok());
        assert_eq!(reports.report("a", now + Duration::from_secs(62)), Err(NoReport::Silent));
        assert_eq!(Reports::of(&[], &config()).report("a", now), Err(NoReport::Silent), "before the first round");
    }

    #[test]
    fn a_backend_is_called_by_its_name_or_an_authority_with_a_port_or_without() {
        let reports = Reports::of(&[], &config());
        for (authority, backend) in [
            ("a", Some("a")),
            ("A:9497", Some("a")),
            ("shop-a:80", Some("a")),
            ("10.0.0.1:9000", Some("a")),
            ("10.0.0.1:9001", None),
            ("b", Some("b")),
            ("", None),
        ] {
            assert_eq!(reports.called(authority).as_deref(), backend, "{authority:?}");
        }
    }

    #[test]
    fn an_interval_is_heeded_unless_it_is_none() {
        let asked =
            |seconds, nanos| LoadReportRequest { report_interval: Some(Interval { seconds, nanos }) }.interval();
        assert_eq!(asked(2, 500_000_000), Duration::from_millis(2500));
        assert_eq!(asked(-3, -1), Duration::ZERO);
        assert_eq!(asked(i64::MAX, i32::MAX), LONGEST);
        assert_eq!(LoadReportRequest { report_interval: None }.interval(), Duration::ZERO);
    }
}
