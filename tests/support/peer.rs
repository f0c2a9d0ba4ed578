//! Real servers that tests talk to: started on a free loopback port in a directory of their own, killed when dropped.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a peer may take until it answers; generous, for machines with much to do.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Another process may take the free port first: so often a start is tried.
const ATTEMPTS: usize = 3;

/// A program tests may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Prometheus,
    Alertmanager,
    NodeExporter,
    Haproxy,
    VictoriaMetrics,
    Vmagent,
    Collectd,
    Openssl,
    Chromium,
    InfluxDb1,
    Envoy,
}

impl Program {
    /// Names under which it is installed, Debian's first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Prometheus => &["prometheus"],
            Self::Alertmanager => &["prometheus-alertmanager", "alertmanager"],
            Self::NodeExporter => &["prometheus-node-exporter", "node_exporter"],
            Self::Haproxy => &["haproxy"],
            Self::VictoriaMetrics => &["victoria-metrics", "victoria-metrics-prod"],
            Self::Vmagent => &["vmagent", "vmagent-prod"],
            Self::Collectd => &["collectd"],
            Self::Openssl => &["openssl"],
            Self::Chromium => &["chromium", "chromium-browser", "google-chrome"],
            Self::InfluxDb1 => &["influxd"],
            Self::Envoy => &["envoy"],
        }
    }

    /// Where it is installed; the directories of administrators, and that of the senders' packages, count even when PATH
    /// lacks them.
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories: Vec<PathBuf> = std::env::split_paths(&path)
            .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
            .chain([PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".venv/senders/bin")])
            .collect();
        self.names()
            .iter()
            .flat_map(|name| directories.iter().map(move |dir| dir.join(name)))
            .find(|file| file.is_file())
    }

    /// What answers once it is ready; without a path, an open port is enough.
    fn ready_path(self) -> Option<&'static str> {
        match self {
            Self::Prometheus | Self::Alertmanager => Some("/-/ready"),
            Self::NodeExporter | Self::Collectd => Some("/metrics"),
            Self::VictoriaMetrics | Self::Vmagent => Some("/health"),
            Self::Chromium => Some("/json/version"),
            Self::Haproxy | Self::Openssl | Self::InfluxDb1 | Self::Envoy => None,
        }
    }
}

/// Whether `program` is installed. When it is not: says that the test is skipped, or fails it where peers are required.
pub fn is_available(program: Program) -> bool {
    if program.find().is_some() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let why =
        format!("{program:?} is not installed ({}); scripts/install-test-peers.sh installs it", program.names()[0]);
    assert!(!peers_are_required(), "{test}: {why}");
    // Straight to the descriptor: the test harness would hide it with the output of a passing test.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    false
}

fn peers_are_required() -> bool {
    let set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0" && value != "false");
    set("CI") || set("BELLWETHER_REQUIRE_PEERS")
}

/// A port on which nobody listened a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free loopback port").port()
}

/// A running server. Dropping it kills the process and removes its directory; a failing test prints the end of its log.
pub struct Peer {
    program: Program,
    child: Child,
    arguments: Vec<String>,
    port: u16,
    dir: TempDir,
}

impl Peer {
    /// Prometheus with this configuration, as a remote-write receiver too. `{port}` in it becomes the peer's own port.
    pub fn prometheus(config: &str) -> Self {
        Self::prometheus_with(config, &[])
    }

    /// Prometheus with further arguments.
    pub fn prometheus_with(config: &str, arguments: &[&str]) -> Self {
        let own = [
            "--config.file={dir}/config",
            "--storage.tsdb.path={dir}/data",
            "--web.listen-address=127.0.0.1:{port}",
            "--web.enable-lifecycle",
            "--web.enable-admin-api",
            "--web.enable-remote-write-receiver",
            "--storage.remote.flush-deadline=1s",
            "--log.level=warn",
        ];
        Self::start(Program::Prometheus, config, &[&own, arguments].concat())
    }

    /// Alertmanager, alone in its cluster.
    pub fn alertmanager(config: &str) -> Self {
        let own = [
            "--config.file={dir}/config",
            "--storage.path={dir}/data",
            "--cluster.listen-address=",
            "--web.listen-address=127.0.0.1:{port}",
        ];
        Self::start(Program::Alertmanager, config, &own)
    }

    /// The node exporter of this machine.
    pub fn node_exporter() -> Self {
        Self::start(Program::NodeExporter, "", &["--web.listen-address=127.0.0.1:{port}", "--log.level=error"])
    }

    /// HAProxy; its configuration should bind `127.0.0.1:{port}`, an open port being the sign that it is ready.
    pub fn haproxy(config: &str) -> Self {
        Self::start(Program::Haproxy, config, &["-db", "-f", "{dir}/config"])
    }

    /// Envoy; its configuration should have a listener on `127.0.0.1:{port}`.
    pub fn envoy(config: &str) -> Self {
        let own = ["--config-yaml", config, "--disable-hot-restart", "--concurrency", "1", "-l", "error"];
        Self::start(Program::Envoy, "", &own)
    }

    /// VictoriaMetrics that answers with what it was given a moment ago, however old.
    pub fn victoria_metrics() -> Self {
        let own = [
            "-storageDataPath={dir}/data",
            "-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-loggerLevel=WARN",
        ];
        Self::start(Program::VictoriaMetrics, "", &own)
    }

    /// InfluxDB 1, the real judge of line protocol.
    pub fn influxdb_1() -> Self {
        let config = "reporting-disabled = true\nbind-address = '127.0.0.1:0'\n[meta]\ndir = '{dir}/meta'\n\
                      [data]\ndir = '{dir}/data'\nwal-dir = '{dir}/wal'\nquery-log-enabled = false\n\
                      [http]\nbind-address = '127.0.0.1:{port}'\nlog-enabled = false\n[monitor]\nstore-enabled = false\n";
        Self::start(Program::InfluxDb1, config, &["-config", "{dir}/config"])
    }

    /// vmagent that scrapes by this configuration and remote-writes to `url`.
    pub fn vmagent(config: &str, url: &str) -> Self {
        let url = format!("-remoteWrite.url={url}");
        let own = [
            "-promscrape.config={dir}/config",
            "-remoteWrite.tmpDataPath={dir}/data",
            "-remoteWrite.flushInterval=100ms",
            "-httpListenAddr=127.0.0.1:{port}",
            "-loggerLevel=WARN",
            &url,
        ];
        Self::start(Program::Vmagent, config, &own)
    }

    /// collectd that measures this machine every second and serves it in Prometheus' text.
    pub fn collectd() -> Self {
        let config = "Hostname \"probe\"\nFQDNLookup false\nBaseDir \"{dir}\"\nPIDFile \"{dir}/pid\"\nInterval 1\n\
                      LoadPlugin load\nLoadPlugin memory\nLoadPlugin uptime\nLoadPlugin interface\n\
                      LoadPlugin write_prometheus\n\
                      <Plugin write_prometheus>\n  Host \"127.0.0.1\"\n  Port \"{port}\"\n</Plugin>\n";
        Self::start(Program::Collectd, config, &["-f", "-C", "{dir}/config"])
    }

    /// Starts any program: `{port}` and `{dir}` are replaced in the configuration, written to `{dir}/config`, and in
    /// the arguments. Panics with the log when it ends or is silent for a minute.
    pub fn start(program: Program, config: &str, arguments: &[&str]) -> Self {
        let mut logs = String::new();
        for _ in 0..ATTEMPTS {
            let mut peer = Self::spawn(program, config, arguments);
            match peer.wait_until_ready() {
                Ok(()) => return peer,
                Err(why) => {
                    write!(logs, "{program:?} {why}:\n{}\n", peer.log_tail()).expect("text grows");
                    if !peer.log().contains("address already in use") {
                        break;
                    }
                }
            }
        }
        panic!("{logs}");
    }

    fn spawn(program: Program, config: &str, arguments: &[&str]) -> Self {
        let binary = program.find().unwrap_or_else(|| panic!("{program:?} is not installed"));
        let (dir, port) = (tempfile::tempdir().expect("a directory for the peer"), free_port());
        let here = |text: &str| {
            text.replace("{port}", &port.to_string()).replace("{dir}", dir.path().to_str().expect("a readable path"))
        };
        std::fs::write(dir.path().join("config"), here(config)).expect("the peer's configuration is written");
        let arguments: Vec<String> = arguments.iter().map(|argument| here(argument)).collect();
        let child = launch(&binary, &arguments, dir.path());
        Self { program, child, arguments, port, dir }
    }

    /// Stops it as an administrator would, and starts it again on the same port with what it has kept.
    pub fn restart(&mut self) {
        let stopped = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(stopped.is_ok_and(|status| status.success()), "the peer is told to stop");
        self.child.wait().expect("the peer stops");
        let binary = self.program.find().unwrap_or_else(|| panic!("{:?} is not installed", self.program));
        self.child = launch(&binary, &self.arguments, self.dir.path());
        self.wait_until_ready().expect("the peer is back");
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the peer can be watched") {
                return Err(format!("ended while starting ({status})"));
            }
            if self.is_ready() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Err(format!("was not ready within {READY_WITHIN:?}"))
    }

    fn is_ready(&self) -> bool {
        match self.program.ready_path() {
            Some(path) => http_status(self.socket(), path) == Some(200),
            None => TcpStream::connect_timeout(&self.socket(), Duration::from_secs(1)).is_ok(),
        }
    }

    fn socket(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `127.0.0.1:port`, as a scrape target or a backend is written.
    pub fn address(&self) -> String {
        self.socket().to_string()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of `path` (which starts with a slash, or is empty).
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.socket())
    }

    /// The directory it runs in: `config`, `log` and its data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id, for tests that stop or measure it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written so far.
    pub fn log(&self) -> String {
        std::fs::read(self.dir.path().join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

fn launch(binary: &Path, arguments: &[String], dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"));
    let log = log.expect("the peer's log is opened");
    Command::new(binary)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log is shared"))
        .stderr(log)
        .spawn()
        .expect("the peer starts")
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "log of {:?}:\n{}", self.program, self.log_tail());
        }
    }
}

/// The status of a plain GET, if a server answered; a client library would be more than a poll needs.
fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut head = [0u8; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}
