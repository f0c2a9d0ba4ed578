//! The registry of models end to end: what is registered and promoted serves without a restart, what is bad is refused or
//! rolled back, and nothing that was said yes to is lost.

mod support;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bellwether_collector::store::SeriesSamples;
use bellwether_models::series::{Labels, Sample, Timestamp};
use serde_json::{Value, json};
use support::served::Served;

const WEIGHTS: &[u8] = include_bytes!("../models/pretrained/lstm.safetensors");

/// A shop on a grid of five minutes, with a registry that decides within an hour.
const SHOP: &str = "
cadence: 1s
workloads:
  - name: web/shop
    demand: requests
    forecast: { step: 5m, horizon: 30m, history: 3d, effort: light, stale_after: 30m }
models: { for: 80m, roll_back_after: 30m, min_origins: 10 }
";

/// Days of ten hours of work over a base load, the same every day but for a little unrest.
fn demand(step: i64) -> f64 {
    let phase = (step % 288) as f64 / 288.0 * std::f64::consts::TAU;
    let unrest = ((step * 7919) % 13) as f64 - 6.0;
    300.0 + 200.0 * phase.sin() + unrest
}

struct Shop {
    served: Served,
    step: i64,
}

impl Shop {
    async fn begin(config: &str) -> Self {
        let at = |step: i64| Timestamp::from_secs(1_700_000_100 + 300 * step);
        let served = Served::begin(at(0), config).await;
        let samples = (0..3 * 288).map(|step| Sample { at: at(step), value: demand(step) }).collect();
        let history = SeriesSamples { labels: Labels::metric("requests"), samples };
        served.world.observe(at(3 * 288 - 1), vec![history]).await;
        let mut shop = Self { served, step: 3 * 288 };
        shop.pass(1).await;
        shop
    }

    /// Lets so many steps pass, with a look at each.
    async fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            let at = Timestamp::from_secs(1_700_000_100 + 300 * self.step);
            let sample = Sample { at, value: demand(self.step) };
            let batch = vec![SeriesSamples { labels: Labels::metric("requests"), samples: vec![sample] }];
            self.served.world.observe(at, batch).await;
            self.served.world.tick().await;
            self.step += 1;
        }
    }

    async fn serving(&self) -> Value {
        self.served.get("/api/v1/outlooks").await["workloads"][0]["model"].clone()
    }

    async fn register(&self, manifest: Value, weights: Option<&[u8]>) -> (u16, Value) {
        use base64::Engine as _;
        let weights = weights.map(|bytes| base64::prelude::BASE64_STANDARD.encode(bytes));
        let body = json!({ "manifest": manifest, "weights": weights });
        self.served.post("/api/v1/models/web%2Fshop", body).await
    }

    async fn order(&self, order: &str) -> (u16, Value) {
        let body = json!({ "author": "ann", "note": "a test" });
        self.served.post(&format!("/api/v1/models/web%2Fshop/{order}"), body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_model_serves_at_the_next_round_without_a_restart() {
    let mut shop = Shop::begin(SHOP).await;
    assert_eq!(shop.serving().await, json!({ "kind": "automatic", "version": 0 }));
    let lstm = json!({ "kind": "lstm", "author": "ann", "note": "as it comes", "seed": 1 });
    let (status, manifest) = shop.register(lstm, Some(WEIGHTS)).await;
    assert_eq!(
        (status, &manifest["version"], &manifest["workload"]),
        (201, &json!(1), &json!("web/shop")),
        "{manifest}"
    );
    shop.pass(12).await;
    assert_eq!(shop.serving().await["version"], 0, "a challenger does not serve");
    let record = shop.served.get("/api/v1/models").await["workloads"][0].clone();
    assert_eq!(record["challengers"][0]["kind"], "lstm");
    for place in [&record["champion"], &record["challengers"][0]] {
        assert!(place["live"]["origins"].as_u64() > Some(10), "{record}");
        assert!(place["live"]["pinball"].as_f64() > Some(0.0), "{record}");
    }
    let page = shop.served.text("/").await;
    assert!(page.contains("<h2>Models</h2>") && page.contains("<td>lstm</td><td>challenger</td>"), "{page}");
    let before = shop.served.get("/api/v1/outlooks").await["workloads"][0]["foresight"]["forecast"].clone();
    assert_eq!(shop.order("1/promote").await.0, 200);
    shop.served.world.tick().await;
    let outlook = shop.served.get("/api/v1/outlooks").await["workloads"][0].clone();
    assert_eq!(outlook["model"], json!({ "kind": "lstm", "version": 1 }));
    assert_eq!(outlook["foresight"]["kind"], "forecast", "{outlook}");
    assert_eq!(outlook["foresight"]["model"], "lstm");
    assert_ne!(outlook["foresight"]["forecast"]["mean"], before["mean"]);
    assert_eq!(shop.served.get("/api/v1/workloads").await[0]["serving"]["version"], 1);
    let (status, record) = shop.order("rollback").await;
    assert_eq!((status, &record["champion"]["version"]), (200, &json!(0)));
    shop.served.world.tick().await;
    assert_eq!(shop.serving().await["version"], 0);
    let audit = shop.served.get("/api/v1/models/web%2Fshop/audit").await;
    let actions: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["register", "promote", "roll_back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sabotaged_artefacts_are_refused_with_a_reason_and_the_champion_stays() {
    let mut shop = Shop::begin(SHOP).await;
    let lstm = json!({ "kind": "lstm", "author": "eve" });
    let mut nan = WEIGHTS.to_vec();
    let end = nan.len() - 4;
    nan[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: [(Value, &[u8], &str); 5] = [
        (lstm.clone(), &WEIGHTS[..5000], "safetensors"),
        (lstm.clone(), &nan, "not finite"),
        (lstm.clone(), b"\x80\x04\x95\x10\x00", "pickle"),
        (json!({ "kind": "lstm", "author": "eve", "schema": 9 }), WEIGHTS, "schema 9"),
        (json!({ "kind": "lstm", "author": "eve", "sha256": "0".repeat(64) }), WEIGHTS, "cut off or changed"),
    ];
    for (manifest, weights, why) in cases {
        let (status, answer) = shop.register(manifest, Some(weights)).await;
        let text = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && text.contains(why) && text.contains("the champion stays"), "{status} {answer}");
    }
    assert_eq!(shop.register(json!({ "kind": "forest" }), None).await.0, 400);
    assert_eq!(shop.order("3/promote").await.0, 404);
    assert_eq!(shop.order("0/retire").await.0, 409);
    let unknown = shop.served.post("/api/v1/models/nobody/1/promote", json!({ "author": "eve" })).await;
    assert_eq!(unknown.0, 404);
    shop.pass(1).await;
    assert_eq!(shop.serving().await["version"], 0);
    assert_eq!(shop.served.get("/api/v1/models/web%2Fshop/audit").await["entries"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_model_that_people_promoted_is_rolled_back_by_its_record() {
    let mut shop = Shop::begin(SHOP).await;
    let white_noise = json!({
        "kind": "arima", "author": "ann",
        "parameters": { "seasons": [], "orders": { "constant": true } },
    });
    let (status, manifest) = shop.register(white_noise, None).await;
    assert_eq!(status, 201, "{manifest}");
    assert_eq!(shop.order("1/promote").await.0, 200);
    shop.pass(2).await;
    assert_eq!(shop.serving().await, json!({ "kind": "arima", "version": 1 }));
    for _ in 0..30 {
        shop.pass(1).await;
        if !shop.served.get("/api/v1/alerts/status").await.as_array().unwrap().is_empty() {
            break;
        }
    }
    shop.pass(1).await;
    assert_eq!(shop.serving().await["version"], 0, "{}", shop.served.get("/api/v1/models").await);
    let audit = shop.served.get("/api/v1/models/web%2Fshop/audit").await;
    let last = audit["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["action"], &last["who"]), (&json!("roll_back"), &json!("predictor")), "{audit}");
    assert!(last["note"].as_str().unwrap().contains("times as much as version 0"), "{audit}");
    let alerts = shop.served.get("/api/v1/alerts/status").await;
    let told = alerts.to_string();
    assert!(told.contains("model-web-shop-") && told.contains("BellwetherModelRolledBack"), "{alerts}");
    let length = audit["entries"].as_array().unwrap().len();
    shop.pass(40).await;
    let audit = shop.served.get("/api/v1/models/web%2Fshop/audit").await;
    assert_eq!(audit["entries"].as_array().unwrap().len(), length, "it does not come back by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_trains_a_challenger_when_none_is_young_enough() {
    let config = SHOP.replace("models: {", "models: { retrain: { every: 7d, kind: arima },");
    let mut shop = Shop::begin(&config).await;
    for _ in 0..300 {
        if !shop.served.get("/api/v1/models/web%2Fshop").await["versions"].as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let models = shop.served.get("/api/v1/models/web%2Fshop").await;
    let made = &models["versions"][0];
    assert_eq!((&made["kind"], &made["author"]), (&json!("arima"), &json!("predictor")), "{models}");
    assert!(made["scores"]["origins"].as_u64() > Some(20) && made["parameters"]["orders"].is_object(), "{made}");
    shop.pass(14).await;
    let models = shop.served.get("/api/v1/models").await;
    let challengers = models["workloads"][0]["challengers"].as_array().unwrap().clone();
    assert_eq!(challengers.len(), 1, "one is enough for a week");
    assert!(challengers[0]["live"]["origins"].as_u64() > Some(0), "{models}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_commands_train_register_promote_and_roll_back_on_the_running_system() {
    let mut shop = Shop::begin(SHOP).await;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("mine.safetensors");
    let made = ["train", "--workload", "web/shop", "--batches", "2", "--batch", "4", "--register", "--output"];
    let made = shop.served.command(&[&made[..], &[output.to_str().unwrap(), "--note", "tuned"]].concat());
    assert!(made.starts_with("registered web/shop/1 (lstm)"), "{made}");
    let manifest = output.with_extension("json");
    let again = ["models", "register", "web/shop", "--weights", output.to_str().unwrap(), "--manifest"];
    shop.served.command(&[&again[..], &[manifest.to_str().unwrap()]].concat());
    let arima = shop.served.command(&["train", "--workload", "web/shop", "--kind", "arima", "--register"]);
    assert!(arima.starts_with("registered web/shop/3 (arima)"), "{arima}");
    let table = shop.served.command(&["models", "promote", "web/shop", "1", "--note", "looks good"]);
    assert!(table.contains("champion"), "{table}");
    shop.pass(1).await;
    assert_eq!(shop.serving().await, json!({ "kind": "lstm", "version": 1 }));
    shop.served.command(&["models", "pin", "web/shop", "1"]);
    let refused = shop.served.run(&["models", "rollback", "web/shop"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("unpin it first"));
    shop.served.command(&["models", "unpin", "web/shop", "1"]);
    shop.served.command(&["models", "rollback", "web/shop"]);
    shop.served.command(&["models", "retire", "web/shop", "2"]);
    assert!(shop.served.command(&["models", "verify"]).contains("3 good"));
    let audit = shop.served.command(&["models", "audit", "web/shop"]);
    assert!(audit.contains("looks good") && audit.contains("roll_back") && audit.contains("kim"), "{audit}");
    let shown = shop.served.command(&["models", "show", "web/shop", "1"]);
    assert!(shown.contains("\"note\": \"tuned\"") && shown.contains("\"coverage_p95\""), "{shown}");
    let listed: Value = serde_json::from_str(&shop.served.command(&["models", "list", "--output", "json"])).unwrap();
    assert_eq!((&listed[0]["champion"]["version"], &listed[0]["retired"]), (&json!(0), &json!([2])), "{listed}");
}

/// Registers until the disk of the moment is taken away, and tells which versions were said yes to.
fn registers_until_killed(folder: &Path, millis: u64) -> Vec<u64> {
    let manifest = folder.join("manifest.json");
    std::fs::write(&manifest, r#"{ "kind": "arima", "author": "kim" }"#).expect("a manifest");
    let program = env!("CARGO_BIN_EXE_bellwether");
    let registry = folder.join("registry");
    let (program, registry, manifest) = (program, registry.to_string_lossy(), manifest.to_string_lossy());
    let once = format!("{program} models register web --manifest {manifest} --registry {registry} --output json");
    let script = format!(
        "while true; do {once} || exit 1; {program} models promote web 1 --author kim --registry {registry} >/dev/null; done"
    );
    let mut command = Command::new("setsid");
    let mut child = command.args(["bash", "-c", &script]).stdout(Stdio::piped()).spawn().expect("a shell");
    std::thread::sleep(Duration::from_millis(millis));
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-9", "--", &group]).status().expect("kill runs").success());
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    child.wait().expect("it ended");
    let whole = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    whole.map_while(Result::ok).filter_map(|manifest| manifest["version"].as_u64()).collect()
}

#[test]
fn what_was_said_yes_to_outlives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut promised = Vec::new();
    for round in 0..4 {
        promised.extend(registers_until_killed(folder.path(), 400 + 67 * round));
        let registry = folder.path().join("registry");
        let mut verify = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        let output = verify.args(["models", "verify", "--registry"]).arg(&registry).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let newest = promised.iter().max().copied().unwrap_or(0);
        let entries = std::fs::read_dir(registry.join("web/manifests")).map_or(0, Iterator::count) as u64;
        assert!(entries >= newest, "{entries} manifests, {newest} were promised");
    }
    assert!(!promised.is_empty() && promised.is_sorted(), "{promised:?}");
}
