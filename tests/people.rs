//! What people say of an incident: noted for good, heard by alerts, and turned into a labelled case.

mod support;

use std::path::Path;

use bellwether_models::series::Timestamp;
use serde_json::{Value, json};
use support::served::Served;
use support::shop::{batch, symptom};

/// The shop's incident, with the HTTP faces of the system around it.
struct Shop {
    served: Served,
    course: Vec<(Timestamp, f64)>,
    next: usize,
}

const SHOP: &str = "workloads:
  - { name: shop, demand: sum(requests), symptoms: ['latency{service=\"shop\"}'], depends_on: [cart] }
";

impl Shop {
    /// Runs until ten minutes after the fault has begun, eleven hours after the beginning.
    async fn in_trouble() -> Self {
        let course = symptom(Timestamp::from_secs(1_700_000_000), 12 * 60);
        let mut shop = Self { served: Served::begin(course[0].0, SHOP).await, course, next: 0 };
        shop.pass(11 * 60 - 30, false).await;
        shop.pass(40, true).await;
        shop
    }

    /// Lets so many minutes pass.
    async fn pass(&mut self, minutes: usize, look: bool) {
        for (at, latency) in &self.course[self.next..self.next + minutes] {
            self.served.world.observe(*at, batch(*at, *latency)).await;
            if look {
                self.served.world.tick().await;
            }
        }
        self.next += minutes;
    }

    async fn incident(&self) -> String {
        self.get("/api/v1/incidents").await[0]["id"].as_str().expect("an incident").to_owned()
    }
}

impl std::ops::Deref for Shop {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_people_named_the_cause_of_becomes_a_case_that_is_ranked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut shop = Shop::in_trouble().await;
    let id = shop.incident().await;
    assert!(shop.command(&["incidents"]).contains(&id));
    assert!(shop.command(&["ack", &id, "--note", "on it"]).contains("kim looks after it: on it"));
    shop.command(&["feedback", &id, "--false-alarm"]);
    shop.command(&["feedback", "w-2", "--take-back"]);
    shop.command(&["feedback", &id, "--cause", "cart", "--metric", "queue_length", "--note", "stuck consumer"]);
    let explained = shop.command(&["explain", &id]);
    assert!(explained.contains("says it was a false alarm (taken back)"), "{explained}");
    assert!(explained.contains("says the cause was cart (queue_length): stuck consumer"), "{explained}");

    shop.pass(40, true).await;
    assert!(!shop.get("/api/v1/incidents").await[0]["resolved_at"].is_null(), "it is over");
    let record = shop.get("/api/v1/track-record").await;
    assert_eq!((&record["first_cause_right"]["count"], &record["first_cause_right"]["of"]), (&json!(1), &json!(1)));

    let cases = folder.path().join("cases");
    let cases = cases.to_str().expect("a readable path");
    shop.command(&["export", "--cases", cases]);
    let answer = std::fs::read_to_string(Path::new(cases).join(&id).join("root_cause.json")).expect("an answer file");
    let answer: Value = serde_json::from_str(&answer).expect("json");
    assert_eq!((&answer["service"], &answer["metrics_true"]), (&json!("cart"), &json!(["cart_queue-length"])));
    let ranked = shop.command(&["rank", "--cases", cases]);
    let ranked: Value = serde_json::from_str(&ranked).expect("json");
    assert_eq!(ranked[format!("cases/{id}")]["services"][0], "cart", "{ranked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_maintenance_is_kept() {
    let shop = Shop::in_trouble().await;
    let id = shop.incident().await;
    let kim = json!({ "by": "kim" });
    assert_eq!(shop.post("/api/v1/incidents/nowhere/ack", kim.clone()).await.0, 404);
    assert_eq!(shop.post(&format!("/api/v1/incidents/{id}/ack"), json!({ "by": "" })).await.0, 400);
    assert_eq!(shop.post("/api/v1/words/w-77/take-back", kim.clone()).await.0, 404);
    let nameless = json!({ "by": "kim", "verdict": "cause" });
    let (status, answer) = shop.post(&format!("/api/v1/incidents/{id}/feedback"), nameless).await;
    assert_eq!((status, &answer["error"]), (400, &json!("name the service that was the real cause")));

    let said = shop.command(&["maintenance", "add", "--for", "2h", "--services", "shop,cart", "--note", "upgrade"]);
    assert!(said.starts_with("m-1 covers shop, cart until"), "{said}");
    assert_eq!(shop.get("/api/v1/maintenance").await[0]["note"], "upgrade");
    shop.command(&["maintenance", "end", "m-1"]);
    assert_eq!(shop.post("/api/v1/maintenance/m-1/end", kim).await.0, 409, "it is over already");
    assert!(shop.command(&["maintenance", "list"]).contains("upgrade"));
}
