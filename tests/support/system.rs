//! Our own binary as a process: `bellwether run` on a free port, killed when the test ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peer::free_port;

/// How long a start, or anything else that is waited for, may take on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `bellwether run`.
pub struct System {
    child: Child,
    log: PathBuf,
    url: String,
}

impl System {
    /// Starts the system in `folder` with this configuration (server and store are added) and waits until it is ready.
    pub async fn start(folder: &Path, config: &str, client: &reqwest::Client) -> Self {
        Self::start_storing(folder, "", config, client).await
    }

    /// As [`System::start`], with further settings of the embedded store, each after a comma.
    pub async fn start_storing(folder: &Path, settings: &str, config: &str, client: &reqwest::Client) -> Self {
        let store = format!("embedded: {{ path: {:?}{settings} }}", folder.join("data"));
        Self::start_on(folder, &store, config, client).await
    }

    /// As [`System::start`], with another store.
    pub async fn start_on(folder: &Path, store: &str, config: &str, client: &reqwest::Client) -> Self {
        let port = free_port();
        let path = folder.join("bellwether.yaml");
        let text = format!("server: {{ listen: '127.0.0.1:{port}' }}\nstore: {{ {store} }}\n{config}");
        std::fs::write(&path, text).expect("a configuration");
        let log = folder.join("log");
        let output = File::create(&log).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_bellwether"))
            .args(["run", "--config"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("the binary starts");
        let system = Self { child, log, url: format!("http://127.0.0.1:{port}") };
        let ready = system.url("/-/ready");
        system
            .until("it is ready", async || client.get(&ready).send().await.is_ok_and(|a| a.status().is_success()))
            .await;
        system
    }

    /// The address of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Asks again and again until `holds`; panics with the system's log when patience ends.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < PATIENCE, "waited in vain until {what}; the log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
