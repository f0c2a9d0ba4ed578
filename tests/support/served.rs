//! The whole system on a simulated clock with its HTTP faces, and our own commands against it.

use std::process::{Command, Output};
use std::sync::Arc;

use bellwether::api::{self, Faces, Loaded};
use bellwether::config::Config;
use bellwether_models::series::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use super::http::{client, serve};
use super::world::World;

/// A [`World`] that people and programs can speak with.
pub struct Served {
    pub world: World,
    url: String,
    client: reqwest::Client,
}

impl Served {
    /// An empty store and nothing learnt, at `now`, with this configuration.
    pub async fn begin(now: Timestamp, config: &str) -> Self {
        let config = Config::parse("test.yaml".as_ref(), config).expect("a good configuration");
        let world = World::begin(now, config.clone()).await;
        let faces = Faces {
            engine: world.pipeline.engine.clone(),
            snapshots: world.pipeline.snapshots(),
            scheduler: world.pipeline.scheduler(),
            config: watch::channel(Arc::new(config.clone())).1,
            loaded: watch::channel(Loaded { at: now, successful: true }).1,
            targets: Arc::new(Default::default),
            ready: watch::channel(true).1,
            reloads: None,
            clock: world.clock(),
            banner: None,
        };
        let url = serve(api::router(&world.pipeline, faces, &config).expect("routes")).await;
        Self { world, url, client: client() }
    }

    /// The answer to a question, which must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("json")
    }

    /// The answer to a question as text.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        answer.text().await.expect("text")
    }

    /// The status and the answer to an order.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.client.post(format!("{}{path}", self.url)).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Our own command against this server, by Kim.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(arguments).env("BELLWETHER_URL", &self.url).env("USER", "kim").output().expect("the command runs")
    }

    /// What [`Served::run`] prints, which must succeed.
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}
