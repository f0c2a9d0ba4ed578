//! Orders and questions about scaling, over HTTP and by our own commands.

mod support;

use bellwether_collector::store::SeriesSamples;
use bellwether_models::series::{Labels, Sample, Timestamp};
use bellwether_scheduler::plan::Decision;
use serde_json::{Value, json};
use support::served::Served;

/// A shop with a demand of 60.
struct Shop(Served);

const SHOP: &str = "workloads:
  - { name: shop, demand: sum(requests), scale: { max: 40, capacity_per_replica: 10 } }
  - { name: plain, demand: sum(requests) }
";

impl Shop {
    async fn open() -> Self {
        let mut shop = Self(Served::begin(minute(0), SHOP).await);
        shop.look(0, 60.0).await;
        shop
    }

    /// At minute `at` the demand is `demand`, and a round is made.
    async fn look(&mut self, at: i64, demand: f64) -> Decision {
        let at = minute(at);
        let sample = SeriesSamples { labels: Labels::metric("requests"), samples: vec![Sample { at, value: demand }] };
        self.0.world.observe(at, vec![sample]).await;
        let (_, view) = self.0.world.tick().await;
        view.plan.of("shop").expect("a decision").clone()
    }
}

impl std::ops::Deref for Shop {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0
    }
}

fn minute(number: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_040 + 60 * number)
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
async fn policies_are_tried_on_what_the_store_holds_of_a_workload_with_its_own_settings() {
    let mut shop = Shop::open().await;
    for at in 1..90 {
        shop.look(at, 60.0 + 40.0 * (at as f64 / 10.0).sin()).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (report, page) = (folder.path().join("r.json"), folder.path().join("r.html"));
    let (report, page) = (report.to_str().expect("text"), page.to_str().expect("text"));
    let costs = ["--costs", "20", "--targets", "0.5:0.9:0.1"];
    let asked = ["simulate", "--workload", "shop", "--last", "1h", "--output", report, "--html", page];
    shop.command(&[&asked[..], &costs[..]].concat());
    let told: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("json");
    assert_eq!(
        (&told["trace"], &told["capacity"], &told["startup_seconds"]),
        (&json!("shop"), &json!(10.0), &json!(300.0))
    );
    let ours = told["policies"].as_array().expect("policies").iter().find(|p| p["name"] == "bellwether").expect("ours");
    let hours = ours["replica_hours"].as_f64().expect("a cost");
    assert!((4.0..14.0).contains(&hours), "an hour of demand between 20 and 100: {hours}");
    assert!(std::fs::read_to_string(page).expect("a page").contains("<svg"));
    let other = shop.run(&["simulate", "--workload", "stranger", "--output", "-"]);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && said.contains("stranger") && said.contains("shop"), "{said}");
    for senseless in [&[][..], &["--demand", "x.csv", "--workload", "shop"], &["--demand", "x.csv", "--last", "1h"]] {
        let refused = shop.run(&[&["simulate", "--output", "-"], senseless].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains("--demand"), "{senseless:?}: {said}");
    }
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
    let learnt = shop.get("/api/v1/workloads/shop/learnt").await;
    assert_eq!((&learnt["forecast_believed"], &learnt["startup_seconds"]), (&json!(true), &Value::Null), "{learnt}");
    let stranger = shop.run(&["what-if", "shop/a b"]);
    assert!(String::from_utf8_lossy(&stranger.stderr).contains(r#"there is no scaled workload "shop/a b""#));
}

const NODES: &str = "reroute:
  backends:
    - { name: n1, load: sum(requests), capacity: 100 }
    - { name: n2, load: sum(requests) + 2, capacity: 100 }
    - { name: n3, load: sum(requests) + 50, capacity: 100 }
";

#[tokio::test(flavor = "multi_thread")]
async fn pods_on_their_way_to_a_node_count_before_they_are_seen_there() {
    let mut cluster = Shop(Served::begin(minute(0), &format!("{SHOP}{NODES}")).await);
    cluster.look(0, 60.0).await;
    let pod = |name: &str, cores: u32, nodes: &[&str]| {
        let container = json!({ "resources": { "requests": { "cpu": cores.to_string() } } });
        let pod = json!({ "metadata": { "namespace": "shop", "name": name }, "spec": { "containers": [container] } });
        json!({ "Pod": pod, "Nodes": null, "NodeNames": nodes })
    };
    let scores = async |name: &str, cores| {
        let (_, scored) = cluster.post("/api/v1/extender/prioritize", pod(name, cores, &["n1", "n2", "n3"])).await;
        [0, 1, 2].map(|i| scored[i]["Score"].as_i64().expect("a score"))
    };
    assert_eq!(scores("first", 20).await, [4, 4, 0]);
    assert_eq!(scores("second", 1).await, [3, 3, 0], "half of the first is on its way to each of the best");
    assert_eq!(scores("first", 20).await, [4, 4, 0], "who is placed anew does not stand in its own way");
    let filter = pod("third", 60, &["n1", "n3"]);
    let (_, filtered) = cluster.post("/api/v1/extender/filter", filter).await;
    assert_eq!(filtered["NodeNames"], json!(["n1"]), "{filtered}");
    let (_, filtered) = cluster.post("/api/v1/extender/filter", pod("fourth", 1, &["n1", "n2"])).await;
    let why = filtered["FailedNodes"]["n1"].as_str().expect("the third went there, as there was no choice");
    assert!(why.contains("on its way"), "{filtered}");
}

const CHAIN: &str = "workloads:
  - name: shop
    demand: sum(requests)
    depends_on: [db]
    scale: { max: 40, capacity_per_replica: 10, downstream_headroom: 0.9 }
  - { name: db, demand: sum(requests) * 3, scale: { max: 10, capacity_per_replica: 20 } }
";

#[tokio::test(flavor = "multi_thread")]
async fn what_if_tells_the_room_that_is_left_downstream_and_does_not_grow_beyond_it() {
    let mut shop = Shop(Served::begin(minute(0), CHAIN).await);
    shop.look(0, 61.0).await;
    let path = "/api/v1/workloads/shop/what-if";
    let (_, answer) = shop.post(path, json!({ "demand_factor": 3 })).await;
    let room = json!([{ "dependency": "db", "demand": 183.0, "capacity": 200.0, "limit": 180.0, "is_full": true }]);
    assert_eq!(answer["downstream"], room, "{answer}");
    assert_eq!(answer["then"]["to"], answer["then"]["from"], "what it calls is full: {answer}");
    let more = json!({ "demand_factor": 3, "scale": { "downstream_headroom": 0.95 } });
    let (_, answer) = shop.post(path, more).await;
    assert_eq!((&answer["downstream"][0]["is_full"], &answer["then"]["to"]), (&json!(false), &json!(23)), "{answer}");
    let told = shop.command(&["what-if", "shop"]);
    assert!(told.contains("downstream db: demand 183, can serve 200 at most; full"), "{told}");
}
