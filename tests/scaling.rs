//! Orders and questions about scaling, over HTTP and by our own commands.

mod support;

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bellwether::api::{self, Faces, Loaded};
use bellwether::config::Config;
use bellwether::pipeline::Pipeline;
use bellwether_collector::ingest::Clock;
use bellwether_collector::store::SeriesSamples;
use bellwether_models::series::{Labels, Sample, Timestamp};
use bellwether_scheduler::plan::Decision;
use serde_json::{Value, json};
use support::http::{client, serve};
use tokio::sync::watch;

/// A shop with a demand of 60, in a system on a simulated clock with its HTTP faces.
struct Shop {
    pipeline: Pipeline,
    time: Arc<AtomicI64>,
    url: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "store: {{ embedded: {{ path: {:?} }} }}\nworkloads:\n  - {{ name: shop, demand: sum(requests), scale: {{ max: 40, capacity_per_replica: 10 }} }}\n  - {{ name: plain, demand: sum(requests) }}\n",
            folder.path().join("data"),
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
        let mut shop = Self { pipeline, time, url, client: client(), _folder: folder };
        shop.look(0, 60.0).await;
        shop
    }

    /// At `minute` the demand is `demand`, and a round is made.
    async fn look(&mut self, minute: i64, demand: f64) -> Decision {
        let at = Timestamp::from_secs(1_700_000_040 + 60 * minute);
        self.time.store(at.as_millis(), Ordering::Relaxed);
        let sample = SeriesSamples { labels: Labels::metric("requests"), samples: vec![Sample { at, value: demand }] };
        self.pipeline.ingest.append("test", vec![sample]).await.expect("the store takes it");
        let (_, view) = self.pipeline.tick(at).await;
        view.plan.of("shop").expect("a decision").clone()
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.url)).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(arguments).env("BELLWETHER_URL", &self.url).env("USER", "kim").output().expect("the command runs")
    }

    /// Our own command against this server, which must succeed.
    fn command(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_pause_one_workload_or_freeze_everything_and_decisions_say_so() {
    let mut shop = Shop::open().await;
    let said = shop.command(&["pause", "shop", "--direction", "up", "--for", "10m", "--note", "load test"]);
    assert!(said.contains("shop: scaling up is paused") && said.contains("kim: load test"), "{said}");
    let held = shop.look(1, 300.0).await;
    assert_eq!(held.to, held.from, "{held}");
    assert!(held.to_string().contains("scaling up is paused: kim: load test"), "{held}");
    let free = shop.look(11, 300.0).await;
    assert!(free.to > free.from, "its time is over: {free}");

    let said = shop.command(&["freeze", "--note", "game day"]);
    assert!(said.contains("everything: scaling is paused"), "{said}");
    let frozen = shop.look(12, 390.0).await;
    assert_eq!(frozen.to, frozen.from, "{frozen}");
    let listed = shop.command(&["decisions", "--workload", "shop", "--output", "csv"]);
    assert!(listed.contains("scaling is paused: kim: game day"), "{listed}");
    assert!(shop.command(&["resume"]).contains("nothing is paused"));
    let free = shop.look(13, 390.0).await;
    assert!(free.to > free.from, "{free}");

    for name in ["stranger", "plain"] {
        let refused = shop.run(&["pause", name]);
        assert!(!refused.status.success(), "{name} is not scaled");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(name));
    }
    let (status, answer) = shop.post("/api/v1/scaling/pause", json!({ "by": " " })).await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_if_answers_on_the_facts_of_now_and_changes_nothing() {
    let mut shop = Shop::open().await;
    let before = shop.look(1, 60.0).await;
    assert_eq!(before.to, Some(8), "{before}");
    let path = "/api/v1/workloads/shop/what-if";
    let (status, answer) = shop.post(path, json!({ "demand_factor": 1.5 })).await;
    assert_eq!((status, &answer["now"]["to"], &answer["then"]["to"]), (200, &json!(8), &json!(12)), "{answer}");
    let (_, answer) = shop.post(path, json!({ "scale": { "target_utilisation": 0.4 } })).await;
    assert_eq!(answer["then"]["to"], 15, "{answer}");
    assert_eq!(shop.look(2, 60.0).await.to, Some(8), "nothing was done");
    for (body, why) in [
        (json!({ "scale": { "maximum": 3 } }), "maximum"),
        (json!({ "scale": { "min": 9, "max": 3 } }), "min 9"),
        (json!({ "demand_factor": -1 }), "demand_factor"),
    ] {
        let (status, answer) = shop.post(path, body).await;
        assert!(status == 400 && answer["error"].as_str().is_some_and(|text| text.contains(why)), "{answer}");
    }
    let told = shop.command(&["what-if", "shop", "--set", "target_utilisation=0.4", "--demand", "1.0"]);
    assert!(told.contains("now:") && told.contains("15 replicas"), "{told}");
    let answer = shop.client.get(format!("{}/api/v1/workloads/shop/learnt", shop.url)).send().await.expect("an answer");
    let learnt: Value = answer.json().await.expect("json");
    assert_eq!((&learnt["forecast_believed"], &learnt["startup_seconds"]), (&json!(true), &Value::Null), "{learnt}");
}
