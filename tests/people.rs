//! What people say of an incident: noted for good, heard by alerts, and turned into a labelled case.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bellwether::api::{self, Faces, Loaded};
use bellwether::config::Config;
use bellwether::pipeline::Pipeline;
use bellwether_collector::ingest::Clock;
use bellwether_models::series::Timestamp;
use serde_json::{Value, json};
use support::http::{client, serve};
use support::shop::{batch, symptom};
use tokio::sync::watch;

/// The shop's incident, with the HTTP faces of the system around it.
struct Shop {
    pipeline: Pipeline,
    time: Arc<AtomicI64>,
    course: Vec<(Timestamp, f64)>,
    next: usize,
    url: String,
    client: reqwest::Client,
}

impl Shop {
    /// Runs until ten minutes after the fault has begun, eleven hours after the beginning.
    async fn in_trouble(folder: &Path) -> Self {
        let text = format!(
            "store: {{ embedded: {{ path: {:?} }} }}\nworkloads:\n  - {{ name: shop, demand: sum(requests), symptoms: ['latency{{service=\"shop\"}}'], depends_on: [cart] }}\n",
            folder.join("data"),
        );
        let config = Config::parse("test.yaml".as_ref(), &text).expect("a good configuration");
        let time = Arc::new(AtomicI64::new(0));
        let told = time.clone();
        let clock: Clock = Arc::new(move || Timestamp::from_millis(told.load(Ordering::Relaxed)));
        let pipeline = Pipeline::open(&config, clock.clone()).await.expect("a pipeline");
        let faces = Faces {
            engine: pipeline.engine.clone(),
            snapshots: pipeline.snapshots(),
            scheduler: pipeline.scheduler(),
            config: watch::channel(Arc::new(config.clone())).1,
            loaded: watch::channel(Loaded { at: Timestamp::from_secs(0), successful: true }).1,
            targets: Arc::new(Default::default),
            ready: watch::channel(true).1,
            reloads: None,
            clock,
            banner: None,
        };
        let url = serve(api::router(&pipeline, faces, &config).expect("routes")).await;
        let course = symptom(Timestamp::from_secs(1_700_000_000), 12 * 60);
        let mut shop = Self { pipeline, time, course, next: 0, url, client: client() };
        shop.pass(11 * 60 - 30, false).await;
        shop.pass(40, true).await;
        shop
    }

    /// Lets so many minutes pass.
    async fn pass(&mut self, minutes: usize, look: bool) {
        for (at, latency) in &self.course[self.next..self.next + minutes] {
            self.time.store(at.as_millis(), Ordering::Relaxed);
            self.pipeline.ingest.append("test", batch(*at, *latency)).await.expect("the store takes it");
            if look {
                self.pipeline.tick(*at).await;
            }
        }
        self.next += minutes;
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("json")
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.url)).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn incident(&self) -> String {
        self.get("/api/v1/incidents").await[0]["id"].as_str().expect("an incident").to_owned()
    }

    /// Our own command against this server.
    fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_bellwether"))
            .args(arguments)
            .env("BELLWETHER_URL", &self.url)
            .env("USER", "kim")
            .output()
            .expect("the command runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_people_named_the_cause_of_becomes_a_case_that_is_ranked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut shop = Shop::in_trouble(folder.path()).await;
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
    let folder = tempfile::tempdir().expect("a folder");
    let shop = Shop::in_trouble(folder.path()).await;
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
