//! The real process, and everything that a port can be sent: it lives, its memory is bounded, and good senders are served.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use support::remote_write::{packed, series};
use support::system::System;
use support::tangle::{Dice, seed};
use support::{http, peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most memory that all of this may cost beyond what an idle system has.
const MOST_KB: u64 = 400_000;

/// The system with every port it can open.
struct Besieged {
    system: System,
    client: reqwest::Client,
    ports: Vec<SocketAddr>,
    idle_kb: u64,
    _folder: tempfile::TempDir,
}

impl Besieged {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let client = http::client();
        let agent = SocketAddr::from(([127, 0, 0, 1], peer::free_port()));
        let config = format!(
            "host: {{ enabled: false }}\npush: {{ body_timeout: 3s, max_unpacked_body: 8MB }}\n\
             reroute: {{ haproxy: {{ listen: '{agent}' }}, backends: [{{ name: a, load: vector(1), capacity: 2 }}] }}\n"
        );
        let system = System::start(folder.path(), &config, &client).await;
        let main = system.url("").trim_start_matches("http://").parse().expect("an address");
        let idle_kb = memory_kb(system.pid(), "VmRSS:");
        Self { system, client, ports: vec![main, agent], idle_kb, _folder: folder }
    }

    fn main(&self) -> SocketAddr {
        self.ports[0]
    }

    /// A good sender is served, and the process has not grown beyond its bounds at any time.
    async fn stands(&self, what: &str) {
        let labels = [("__name__", &b"good"[..]), ("after", what.as_bytes())];
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let body = packed(vec![series(&labels, &[(now.as_millis() as i64, 1.0)])]);
        let (status, text) = self.post("/api/v1/write", &REMOTE_WRITE, body).await;
        assert_eq!(status, 204, "after {what}: {text}");
        let ready = self.client.get(self.system.url("/-/ready")).send().await.expect("it answers");
        assert!(ready.status().is_success(), "after {what}: {}", ready.status());
        let highest = memory_kb(self.system.pid(), "VmHWM:");
        assert!(highest < self.idle_kb + MOST_KB, "after {what}: {highest} kB at most, {} kB idle", self.idle_kb);
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let request = self.client.post(self.system.url(path)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.expect("it answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Many posts at once; all are answered with one of `statuses`.
    async fn post_at_once(&self, path: &str, headers: &[(&str, &str)], body: &[u8], statuses: &[u16]) {
        let all = (0..4).map(|_| self.post(path, headers, body.to_vec()));
        for (status, text) in futures::future::join_all(all).await {
            assert!(statuses.contains(&status), "{path}: {status} {text}");
        }
    }
}

const REMOTE_WRITE: [(&str, &str); 2] = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];

/// A line of `/proc/<pid>/status`.
fn memory_kb(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let value = text.lines().find_map(|found| found.strip_prefix(line)).expect("the line");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Opens a connection, says something, and gives it back still open.
async fn say(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let _ = stream.write_all(bytes).await;
    Some(stream)
}

fn garbage(dice: &mut Dice, len: usize) -> Vec<u8> {
    (0..len).map(|_| dice.next() as u8).collect()
}

fn gzipped(bytes: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..times).for_each(|_| encoder.write_all(bytes).expect("memory takes it"));
    encoder.finish().expect("memory takes it")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_outlives_what_its_ports_are_sent() {
    let besieged = Besieged::start().await;
    let mut dice = Dice::new(seed());

    // Noise on every port, beginning as other protocols begin.
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let beginnings =
        [b"".as_slice(), tls, http2, b"GET / HTTP/1.1\r\n", b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\n\r\n"];
    for port in &besieged.ports {
        for round in 0..150 {
            let noise = garbage(&mut dice, 1 + round * 7 % 3000);
            drop(say(*port, &[beginnings[round % beginnings.len()], &noise].concat()).await);
        }
    }
    besieged.stands("noise").await;

    // HTTP/2 frames that claim what they do not hold: as long as can be, of every type, on any stream.
    for kind in 0..=12u8 {
        let claims = [&[0xff, 0xff, 0xff, kind, 0xff, 0x7f, 0xff, 0xff, 0xff][..], &garbage(&mut dice, 200)].concat();
        drop(say(besieged.main(), &[http2, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &claims].concat()).await);
    }
    besieged.stands("frames").await;

    // Lengths that are never sent.
    let claim = b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n\
                  content-encoding: snappy\r\ncontent-length: 18446744073709551615\r\n\r\nx";
    let smaller = String::from_utf8_lossy(claim).replace("18446744073709551615", "33554432");
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(say(besieged.main(), claim).await);
        open.push(say(besieged.main(), smaller.as_bytes()).await);
    }
    besieged.stands("claimed lengths").await;

    // Senders that speak a byte at a time, and readers that never read.
    let mut slow = Vec::new();
    for _ in 0..200 {
        slow.extend(say(besieged.main(), b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\nx-slow: ").await);
    }
    let question = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(50);
    for _ in 0..50 {
        open.push(say(besieged.main(), &question).await);
    }
    for _ in 0..20 {
        for stream in &mut slow {
            let _ = stream.write_all(b"x").await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    besieged.stands("slow senders").await;
    drop((open, slow));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_outlives_bodies_that_unpack_to_more_than_they_are() {
    let besieged = Besieged::start().await;
    let megabyte = vec![b' '; 1 << 20];

    let bomb = gzipped(&megabyte, 64);
    let gzip = [("content-encoding", "gzip"), ("content-type", "application/json")];
    besieged.post_at_once("/api/v2/write", &gzip, &bomb, &[413, 503]).await;
    besieged.post_at_once("/v1/metrics", &gzip, &bomb, &[413, 503]).await;
    besieged.stands("gzip").await;

    let packed = snap::raw::Encoder::new().compress_vec(&vec![0; 8 << 20]).expect("it can be packed");
    besieged.post_at_once("/api/v1/write", &REMOTE_WRITE, &packed, &[400, 503]).await;
    besieged.post_at_once("/api/v1/write", &REMOTE_WRITE, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], &[413]).await;
    besieged.stands("snappy").await;

    // Series of a few bytes each, which in memory are more: without labels, and with one that has no name.
    for series in [&[0x0a, 0x00][..], &[0x0a, 0x04, 0x0a, 0x02, 0x0a, 0x00]] {
        let many = snap::raw::Encoder::new().compress_vec(&series.repeat(1 << 20)).expect("it can be packed");
        besieged.post_at_once("/api/v1/write", &REMOTE_WRITE, &many, &[204, 400, 503]).await;
    }
    besieged.stands("empty series").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_outlives_texts_that_nest_or_match_without_end() {
    let besieged = Besieged::start().await;
    let json = [("content-type", "application/json")];
    let nested = "[".repeat(1 << 20).into_bytes();
    for path in ["/v1/metrics", "/api/v1/tasks/events", "/api/v1/changes"] {
        besieged.post_at_once(path, &json, &nested, &[400]).await;
    }
    // OTLP attributes that hold lists of lists.
    let inner = r#"{"arrayValue":{"values":["#.repeat(5000);
    let attributes = format!(r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"a","value":{inner}"#);
    besieged.post_at_once("/v1/metrics", &json, attributes.as_bytes(), &[400]).await;
    besieged.stands("JSON").await;

    // The same in protobuf: each level is a length and what it holds.
    let mut value = Vec::new();
    for _ in 0..20_000 {
        value = field(5, &field(1, &value));
        value.truncate(1 << 20);
    }
    let message = [(2, ()), (1, ()), (1, ()), (1, ())].iter().fold(value, |inner, (number, ())| field(*number, &inner));
    let protobuf = [("content-type", "application/x-protobuf")];
    besieged.post_at_once("/v1/metrics", &protobuf, &message, &[200, 400]).await;
    let frame = [&[0, 0xff, 0xff, 0xff, 0xff][..], &message].concat();
    let grpc = [("content-type", "application/grpc")];
    let export = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    besieged.post_at_once(export, &grpc, &frame, &[200]).await;
    besieged.stands("OTLP").await;

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let queries = [
        format!("query={}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("query={}1", "-".repeat(200_000)),
        format!("query=1{}", "%2B1".repeat(50_000)),
        format!("query={}up{}", "abs(".repeat(30_000), ")".repeat(30_000)),
        "query=up{a=~\"((((x{1,1000}){1,1000}){1,1000}){1,1000})\"}".to_owned(),
        "query=sum_over_time(vector(1)[1000y:1ms])".to_owned(),
        format!("query={}vector(1){}", "sum_over_time(".repeat(6), "[1d:1s])".repeat(6)),
    ];
    for query in queries {
        besieged.post_at_once("/api/v1/query", &form, query.as_bytes(), &[400, 413, 422, 503]).await;
    }
    besieged.stands("queries").await;
}

/// A field of a protobuf message: its number, a length, what it holds.
fn field(number: u8, inner: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![number << 3 | 2], inner.len());
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(inner);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_breaks_off_or_takes_too_long_is_let_go() {
    let besieged = Besieged::start().await;
    let head = b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nshort";
    let mut stream = say(besieged.main(), head).await.expect("it listens");
    let mut answer = Vec::new();
    // The body's time is three seconds here; the deadline only ends a test that would never end.
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is still open");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer}");
}
