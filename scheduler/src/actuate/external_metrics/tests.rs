use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt;

use super::*;
use crate::config::{ActuatorConfig, AskedFrom, Mode, ScaleConfig, Workload};
use crate::plan::{Decision, Plan};

const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// A workload that is told of in `namespace`, or in all.
fn workload(name: &str, namespace: Option<&str>) -> Workload {
    let actuator = ActuatorConfig::ExternalMetrics(AskedFrom { namespace: namespace.map(str::to_owned) });
    let scale = ScaleConfig { mode: Mode::Act, actuator: Some(actuator), ..ScaleConfig::default() };
    Workload { name: name.to_owned(), depends_on: Vec::new(), scale }
}

fn decision(name: &str, to: Option<u32>, demand: Option<f64>) -> Decision {
    let at = Timestamp::from_secs(1_700_000_000);
    let foreseen = demand.map(|demand| json!({ "at": at, "demand": demand, "quantile": 20.0 / 21.0 }));
    serde_json::from_value(json!({
        "id": "x", "workload": name, "at": at, "mode": "act", "from": 1, "to": to, "observed": 1, "reactive": 1, "floor": 1,
        "predicted": to, "foreseen": foreseen, "advice": { "ours": to, "reactive": 1, "floor": 1 },
        "reasons": [{ "kind": "demand_unknown" }],
    }))
    .expect("a decision")
}

fn offers(of: &[(Workload, Decision)]) -> Offers {
    let (workloads, decisions): (Vec<_>, Vec<_>) = of.iter().cloned().unzip();
    Offers::of(&Plan { made_at: Timestamp::from_secs(1_700_000_000), decisions }, &workloads)
}

async fn ask(offers: Offers, method: &str, path: &str) -> (u16, Value) {
    let (_keep, offers) = watch::channel(offers);
    let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    let response = router(offers).oneshot(request).await.expect("an answer");
    let code = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (code, serde_json::from_slice(&body).expect("json"))
}

fn shop() -> Offers {
    offers(&[
        (workload("checkout", Some("shop")), decision("checkout", Some(6), Some(271.5))),
        (workload("cart", Some("shop")), decision("cart", Some(0), Some(0.0004))),
        (workload("search", None), decision("search", None, None)),
        (workload("other", Some("elsewhere")), decision("other", Some(9), Some(1.0))),
    ])
}

#[tokio::test]
async fn discovery_names_the_group_and_what_it_serves() {
    let (code, list) = ask(shop(), "GET", BASE).await;
    assert_eq!((code, &list["kind"], &list["groupVersion"]), (200, &json!("APIResourceList"), &json!(VERSION)));
    assert_eq!(list["resources"][0]["kind"], "ExternalMetricValueList");
    assert_eq!(ask(shop(), "GET", "/apis/external.metrics.k8s.io").await.1["preferredVersion"]["version"], "v1beta1");
    assert_eq!(ask(shop(), "GET", "/apis").await.1["groups"][0]["name"], GROUP);
}

#[tokio::test]
async fn the_value_of_the_selected_workload_is_told_in_thousandths() {
    let of = |metric: &str, name: &str| format!("{BASE}/namespaces/shop/{metric}?labelSelector=workload%3D{name}");
    let (code, list) = ask(shop(), "GET", &of(DESIRED_REPLICAS, "checkout")).await;
    assert_eq!(code, 200, "{list}");
    let expected = json!({
        "kind": "ExternalMetricValueList", "apiVersion": VERSION, "metadata": {},
        "items": [{
            "metricName": DESIRED_REPLICAS, "metricLabels": { "workload": "checkout" },
            "timestamp": "2023-11-14T22:13:20Z", "value": "6000m",
        }],
    });
    assert_eq!(list, expected);
    let (_, list) = ask(shop(), "GET", &of(FORECAST, "checkout")).await;
    assert_eq!(list["items"][0]["value"], "271500m");
    assert_eq!(list["items"][0]["metricLabels"], json!({ "workload": "checkout", "quantile": "0.952" }));
    let (_, list) = ask(shop(), "GET", &of(DESIRED_REPLICAS, "cart")).await;
    assert_eq!(list["items"][0]["value"], "0m", "a decided zero is a number");
    let (_, list) = ask(shop(), "GET", &of(FORECAST, "cart")).await;
    assert_eq!(list["items"][0]["value"], "1m", "rounded up");
}

#[tokio::test]
async fn what_is_not_known_is_an_error_and_spoils_the_sum_it_belongs_to() {
    for (path, code, reason) in [
        ("shop/bellwether_desired_replicas?labelSelector=workload%3Dsearch", 503, "ServiceUnavailable"),
        ("shop/bellwether_forecast?labelSelector=workload%3Dsearch", 503, "ServiceUnavailable"),
        ("shop/bellwether_forecast?labelSelector=quantile%3D0.952", 503, "ServiceUnavailable"),
        ("shop/bellwether_desired_replicas", 503, "ServiceUnavailable"),
        ("shop/bellwether_desired_replicas?labelSelector=workload%3Dother", 404, "NotFound"),
        ("shop/bellwether_desired_replicas?labelSelector=workload%3Dnobody", 404, "NotFound"),
        ("shop/another_metric", 404, "NotFound"),
        ("shop/bellwether_desired_replicas?labelSelector=a%20b", 400, "BadRequest"),
        ("shop", 404, "NotFound"),
    ] {
        let (found, status) = ask(shop(), "GET", &format!("{BASE}/namespaces/{path}")).await;
        assert_eq!((found, &status["reason"]), (code, &json!(reason)), "{path}: {status}");
        assert_eq!((&status["kind"], &status["code"]), (&json!("Status"), &json!(code)), "{path}");
    }
    let selected = "shop/bellwether_desired_replicas?labelSelector=workload%20in%20%28checkout%2Ccart%29";
    let (_, list) = ask(shop(), "GET", &format!("{BASE}/namespaces/{selected}")).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    let (code, status) = ask(shop(), "POST", &format!("{BASE}/namespaces/shop/bellwether_desired_replicas")).await;
    assert_eq!((code, &status["reason"]), (405, &json!("MethodNotAllowed")));
}

#[tokio::test]
async fn while_people_said_stop_or_nothing_is_carried_out_no_demand_is_told() {
    let path = format!("{BASE}/namespaces/shop/bellwether_forecast");
    let mut paused = decision("checkout", Some(6), Some(271.5));
    paused.reasons.push(crate::plan::Reason::Paused { note: "by Kim".to_owned() });
    let (code, status) = ask(offers(&[(workload("checkout", None), paused)]), "GET", &path).await;
    assert_eq!(code, 503);
    assert!(status["message"].as_str().is_some_and(|text| text.contains("Kim")), "{status}");
    let mut shadow = workload("checkout", None);
    shadow.scale.mode = Mode::Shadow;
    let (code, status) = ask(offers(&[(shadow, decision("checkout", Some(6), Some(271.5)))]), "GET", &path).await;
    assert_eq!(code, 503);
    assert!(status["message"].as_str().is_some_and(|text| text.contains("mode act")), "{status}");
}

#[test]
fn what_grew_old_or_is_no_number_is_not_told() {
    let offers = shop();
    let later = Instant::now() + Duration::from_secs(3600);
    let stale = list(&offers, "shop", DESIRED_REPLICAS, "workload=checkout", later);
    assert!(matches!(stale, Err(NoValues::NoOffer(NoOffer::Stale { .. }))), "{stale:?}");
    for odd in [f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(quantity(odd), None, "{odd}");
    }
    assert_eq!(quantity(-1.0).as_deref(), Some("0m"));
}
