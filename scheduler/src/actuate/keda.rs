//! KEDA's external scaler and external push scaler: KEDA asks over gRPC how many replicas a workload shall have.
//!
//! The messages are written from the public definition of the service `externalscaler.ExternalScaler`. The metric is the
//! number of replicas itself with a target of 1, so that a Horizontal Pod Autoscaler asks for just as many.

use std::collections::HashMap;
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::routing::post;
use futures::Stream;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;

use super::offer::{NoOffer, Offers};
use crate::grpc::{streaming, unary};

/// The key of a trigger's metadata that names the workload; without it the ScaledObject's own name does.
pub const WORKLOAD: &str = "workload";
const METRIC: &str = "bellwether_desired_replicas";

/// A ScaledObject, as KEDA tells of it.
#[derive(Clone, PartialEq, Message)]
pub struct ScaledObjectRef {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The metadata of the trigger.
    #[prost(map = "string, string", tag = "3")]
    pub scaler_metadata: HashMap<String, String>,
}

/// Whether it shall run at all.
#[derive(Clone, PartialEq, Message)]
pub struct IsActiveResponse {
    /// At least one replica.
    #[prost(bool, tag = "1")]
    pub result: bool,
}

/// The metrics there are.
#[derive(Clone, PartialEq, Message)]
pub struct GetMetricSpecResponse {
    /// One.
    #[prost(message, repeated, tag = "1")]
    pub metric_specs: Vec<MetricSpec>,
}

/// A metric and its target.
#[derive(Clone, PartialEq, Message)]
pub struct MetricSpec {
    /// Its name.
    #[prost(string, tag = "1")]
    pub metric_name: String,
    /// Its target, for clients that do not know the next field.
    #[prost(int64, tag = "2")]
    pub target_size: i64,
    /// Its target.
    #[prost(double, tag = "3")]
    pub target_size_float: f64,
}

/// Asks for a value.
#[derive(Clone, PartialEq, Message)]
pub struct GetMetricsRequest {
    /// Of which ScaledObject.
    #[prost(message, optional, tag = "1")]
    pub scaled_object_ref: Option<ScaledObjectRef>,
    /// Of which metric.
    #[prost(string, tag = "2")]
    pub metric_name: String,
}

/// Values of metrics.
#[derive(Clone, PartialEq, Message)]
pub struct GetMetricsResponse {
    /// One.
    #[prost(message, repeated, tag = "1")]
    pub metric_values: Vec<MetricValue>,
}

/// The value of a metric.
#[derive(Clone, PartialEq, Message)]
pub struct MetricValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub metric_name: String,
    /// Its value, for clients that do not know the next field.
    #[prost(int64, tag = "2")]
    pub metric_value: i64,
    /// Its value. Clients take the whole number where this is 0.
    #[prost(double, tag = "3")]
    pub metric_value_float: f64,
}

/// The five calls, answered from the newest of `offers`.
pub fn router(offers: watch::Receiver<Offers>) -> Router {
    let scaler = Scaler(offers);
    let of = |name: &str| format!("/externalscaler.ExternalScaler/{name}");
    let (a, b, c, d, e) = (scaler.clone(), scaler.clone(), scaler.clone(), scaler.clone(), scaler);
    Router::new()
        .route(&of("IsActive"), post(move |r: Request| unary(r, move |m| a.is_active(&m))))
        .route(&of("GetMetricSpec"), post(move |r: Request| unary(r, move |m| b.spec(&m))))
        .route(&of("GetMetrics"), post(move |r: Request| unary(r, move |m| c.metrics(m))))
        .route(&of("StreamIsActive"), post(move |r: Request| streaming(r, move |m| d.activity(m))))
        .route(&of("StreamMetricSpec"), post(move |r: Request| streaming(r, move |m| e.specs(m))))
}

#[derive(Clone)]
struct Scaler(watch::Receiver<Offers>);

impl Scaler {
    fn is_active(&self, object: &ScaledObjectRef) -> Result<IsActiveResponse, Status> {
        Ok(IsActiveResponse { result: self.replicas(object)? > 0 })
    }

    /// The target does not depend on the moment: it is told even while nothing is decided.
    fn spec(&self, object: &ScaledObjectRef) -> Result<GetMetricSpecResponse, Status> {
        let name = workload_of(object);
        if !self.0.borrow().knows(name) {
            return Err(status(NoOffer::Unknown { name: name.to_owned() }));
        }
        let spec = MetricSpec { metric_name: METRIC.to_owned(), target_size: 1, target_size_float: 1.0 };
        Ok(GetMetricSpecResponse { metric_specs: vec![spec] })
    }

    fn metrics(&self, request: GetMetricsRequest) -> Result<GetMetricsResponse, Status> {
        let object = request.scaled_object_ref.ok_or_else(|| Status::invalid_argument("no ScaledObject is named"))?;
        if !request.metric_name.is_empty() && request.metric_name != METRIC {
            return Err(Status::not_found(format!("there is no metric {:?}; ask for {METRIC}", request.metric_name)));
        }
        let replicas = self.replicas(&object)?;
        let value = MetricValue {
            metric_name: METRIC.to_owned(),
            metric_value: i64::from(replicas),
            metric_value_float: f64::from(replicas),
        };
        Ok(GetMetricsResponse { metric_values: vec![value] })
    }

    /// The present state, then each change of it. While nothing is known nothing is said, which changes nothing.
    fn activity(
        &self,
        object: ScaledObjectRef,
    ) -> Result<impl Stream<Item = Result<IsActiveResponse, Status>> + use<>, Status> {
        self.spec(&object)?;
        let first = (self.clone(), object, None::<bool>);
        Ok(futures::stream::unfold(first, |(mut scaler, object, told)| async move {
            loop {
                scaler.0.borrow_and_update();
                if let Some(active) = scaler.is_active(&object).ok().map(|a| a.result).filter(|a| told != Some(*a)) {
                    return Some((Ok(IsActiveResponse { result: active }), (scaler, object, Some(active))));
                }
                scaler.0.changed().await.ok()?;
            }
        }))
    }

    /// The spec, and nothing more as long as the stream is open: it does not change.
    fn specs(
        &self,
        object: ScaledObjectRef,
    ) -> Result<impl Stream<Item = Result<GetMetricSpecResponse, Status>> + use<>, Status> {
        let first = (self.clone(), Some(self.spec(&object)?));
        Ok(futures::stream::unfold(first, |(mut scaler, spec)| async move {
            if let Some(spec) = spec {
                return Some((Ok(spec), (scaler, None)));
            }
            while scaler.0.changed().await.is_ok() {}
            None
        }))
    }

    fn replicas(&self, object: &ScaledObjectRef) -> Result<u32, Status> {
        let found = self.0.borrow().replicas(workload_of(object), Instant::now());
        let outcome = if found.is_ok() { "answered" } else { "refused" };
        metrics::counter!("bellwether_scheduler_keda_answers_total", "outcome" => outcome).increment(1);
        found.map_err(status)
    }
}

fn workload_of(object: &ScaledObjectRef) -> &str {
    object.scaler_metadata.get(WORKLOAD).filter(|name| !name.is_empty()).unwrap_or(&object.name)
}

/// An error, which KEDA counts for its `fallback`; a zero would be taken for a wish.
fn status(why: NoOffer) -> Status {
    let text = why.to_string();
    match why {
        NoOffer::Unknown { .. } => Status::not_found(text),
        NoOffer::NotActing { .. } => Status::failed_precondition(text),
        NoOffer::Undecided { .. } | NoOffer::Stale { .. } => Status::unavailable(text),
    }
}
