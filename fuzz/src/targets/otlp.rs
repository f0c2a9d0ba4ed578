//! OTLP metrics: protobuf, JSON and gRPC's frames.

use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use prost::Message;

use super::choice;
use super::door::Door;

/// The three forms are refused or taken; a message taken in one form says the same in the others.
pub fn otlp(bytes: &[u8]) {
    match choice(bytes) {
        (0, message) => {
            let kept = posted("/v1/metrics", "application/x-protobuf", message.to_vec());
            assert_eq!(kept.is_some(), Request::decode(message).is_ok());
            let Ok(request) = Request::decode(message) else { return };
            let mut frame = vec![0];
            frame.extend((message.len() as u32).to_be_bytes());
            frame.extend(message);
            assert_eq!(posted(GRPC, "application/grpc", frame), kept, "gRPC");
            assert_eq!(posted("/v1/metrics", "application/x-protobuf", request.encode_to_vec()), kept, "protobuf anew");
        }
        (1, text) => {
            let kept = posted("/v1/metrics", "application/json", text.to_vec());
            if let Ok(request) = serde_json::from_slice::<Request>(text) {
                let anew = request.encode_to_vec();
                assert_eq!(posted("/v1/metrics", "application/x-protobuf", anew), kept, "protobuf of the JSON");
            }
        }
        (_, frame) => {
            posted(GRPC, "application/grpc", frame.to_vec());
        }
    }
}

const GRPC: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// What was kept; `None` when the request was refused.
fn posted(path: &str, content_type: &str, body: Vec<u8>) -> Option<Vec<super::door::Kept>> {
    let door = Door::new();
    let (status, _) = door.post(path, &[("content-type", content_type)], body);
    (status == StatusCode::OK).then(|| door.kept())
}
