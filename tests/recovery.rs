//! `kill -9` of the real process at moments chosen by a seed, while a sender counts what was acknowledged.
//! `BELLWETHER_KILLS` sets how often.

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use support::remote_write::{TimeSeries, packed, series};

const KILLS: u64 = 40;
const SERIES: i64 = 50;
const STEP_MS: i64 = 15_000;

/// The process, killed with SIGKILL when dropped.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(env!("CARGO_BIN_EXE_bellwether"))
            .args(["run", "--listen", &address, "--config"])
            .arg(folder.join("bellwether.yaml"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).expect("a log"))
            .spawn()
            .expect("the binary starts");
        Self { child, url: format!("http://{address}") }
    }

    /// Waits until it answers; panics with its log when it ended instead.
    async fn ready(&mut self, client: &reqwest::Client, folder: &Path) {
        for _ in 0..1200 {
            let answer = client.get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("the process ended with {status}: {}", log(folder));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the process was not ready within a minute: {}", log(folder));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The next of a sequence that a seed fixes (xorshift64).
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn value(step: i64, series: i64) -> f64 {
    (step * 1000 + series) as f64
}

fn round(start_ms: i64, step: i64) -> Vec<TimeSeries> {
    let one = |i: i64| {
        let name = i.to_string();
        series(
            &[("__name__", b"recovery_steps"), ("series", name.as_bytes())],
            &[(start_ms + step * STEP_MS, value(step, i))],
        )
    };
    (0..SERIES).map(one).collect()
}

/// Whether the process said that the step is kept. A silent process said nothing.
async fn send(client: &reqwest::Client, url: &str, body: Vec<u8>) -> bool {
    let request = client
        .post(format!("{url}/api/v1/write"))
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .timeout(Duration::from_secs(10));
    request.body(body).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// Every sample the process holds: by series, the steps with their values.
async fn held(client: &reqwest::Client, url: &str, start_ms: i64, steps: i64) -> BTreeMap<i64, BTreeMap<i64, f64>> {
    let end = (start_ms + (steps + 1) * STEP_MS) as f64 / 1000.0;
    let question = format!("recovery_steps[{}s]", (steps + 2) * STEP_MS / 1000);
    let request = client.get(format!("{url}/api/v1/query")).query(&[("query", &question), ("time", &end.to_string())]);
    let text = request.send().await.expect("an answer").text().await.expect("a body");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["status"], "success", "{text}");
    let point = |point: &serde_json::Value| {
        let ms = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
        ((ms - start_ms) / STEP_MS, point[1].as_str().expect("a value").parse().expect("a number"))
    };
    let of_series = |one: &serde_json::Value| {
        let number = one["metric"]["series"].as_str().expect("the label").parse().expect("a number");
        (number, one["values"].as_array().expect("values").iter().map(point).collect())
    };
    answer["data"]["result"].as_array().expect("a matrix").iter().map(of_series).collect()
}

fn assert_kept(held: &BTreeMap<i64, BTreeMap<i64, f64>>, acknowledged: &[i64]) {
    for i in 0..SERIES {
        let of_series = held.get(&i).cloned().unwrap_or_default();
        for step in acknowledged {
            assert_eq!(of_series.get(step), Some(&value(*step, i)), "step {step} of series {i} was acknowledged");
        }
        of_series
            .iter()
            .for_each(|(step, held)| assert_eq!(*held, value(*step, i), "step {step} of series {i} is wrong"));
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_starts_again_and_has_lost_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    // So little memory that sealing and merging go on all the time.
    let config = format!(
        "host: {{ enabled: false }}\nstore: {{ embedded: {{ path: {}, memory_bytes: 60000, partition: 30m }} }}\n",
        data.display()
    );
    std::fs::write(folder.path().join("bellwether.yaml"), config).expect("a configuration");
    let client = support::http::client();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let start_ms = (now - 5 * 86_400_000) / STEP_MS * STEP_MS;
    let kills = std::env::var("BELLWETHER_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(KILLS);
    let mut seed = 0x5eed_u64;
    let (mut step, mut acknowledged) = (0, Vec::new());

    for kill in 0..kills {
        let mut process = Running::start(folder.path());
        let moment = Duration::from_millis(next(&mut seed) % 400);
        if kill % 6 == 5 {
            tokio::time::sleep(moment).await; // killed while it starts
            continue;
        }
        process.ready(&client, folder.path()).await;
        assert_kept(&held(&client, &process.url, start_ms, step).await, &acknowledged);
        let (url, sender) = (process.url.clone(), client.clone());
        let first = step;
        let writing = tokio::spawn(async move {
            let (mut step, mut kept) = (first, Vec::new());
            while send(&sender, &url, packed(round(start_ms, step))).await {
                kept.push(step);
                step += 1;
            }
            (step, kept)
        });
        tokio::time::sleep(moment).await;
        drop(process);
        let (reached, kept) = writing.await.expect("the sender");
        step = reached + 1; // what was under way may or may not be there
        acknowledged.extend(kept);
    }

    let mut process = Running::start(folder.path());
    process.ready(&client, folder.path()).await;
    assert!(acknowledged.len() > 100, "only {} steps were acknowledged", acknowledged.len());
    assert_kept(&held(&client, &process.url, start_ms, step).await, &acknowledged);
    drop(process);
    assert!(std::fs::read_dir(data.join("blocks")).expect("the blocks").count() > 0, "nothing was sealed meanwhile");
    let verified =
        Command::new(env!("CARGO_BIN_EXE_bellwether")).args(["store", "verify", "--repair"]).arg(&data).output();
    let report = String::from_utf8_lossy(&verified.expect("the binary runs").stdout).into_owned();
    // A write that the kill interrupted may be cut off; nothing whole may be damaged.
    let damaged = |line: &&str| line.contains("lost; repair") || line.contains("everything from here");
    assert_eq!(report.lines().filter(damaged).collect::<Vec<_>>(), Vec::<&str>::new(), "{report}");
}
