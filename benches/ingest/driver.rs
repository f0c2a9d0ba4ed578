//! Sends recorded scrapes by remote write, multiplied to many series over hours, and measures the receiver: CPU time,
//! memory, bytes on disk; then asks it three questions. One line of JSON on standard output.
//!
//! A recording shorter than the hours asked for is gone through again, and series that never fall in it go on rising.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

const STEP_MS: i64 = 15_000;

struct Args {
    scrapes: PathBuf,
    address: String,
    path: String,
    pid: u32,
    data: PathBuf,
    series: usize,
    hours: f64,
    batch: usize,
    connections: usize,
    name: String,
}

fn main() -> anyhow::Result<()> {
    let args = args()?;
    let recording = Recording::read(&args.scrapes)?;
    let steps = (args.hours * 3600.0 * 1000.0 / STEP_MS as f64) as usize;
    let targets = recording.targets(args.series);
    let start_ms = start_of(steps)?;
    let before = Usage::of(args.pid)?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let shards = targets.chunks(targets.len().div_ceil(args.connections));
        let threads: Vec<_> =
            shards.map(|shard| scope.spawn(|| send(&args, &recording, shard, steps, start_ms))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))?)
    })?;
    let wall = started.elapsed().as_secs_f64();
    settle(args.pid)?;
    let after = Usage::of(args.pid)?;
    let samples = (targets.len() * steps) as f64;
    let cpu = after.cpu_seconds - before.cpu_seconds;
    let (series, bytes) = (targets.len(), tree_bytes(&args.data)?);
    println!(
        "{{\"name\":\"{}\",\"series\":{series},\"samples\":{samples},\"wall_seconds\":{wall:.1},\"cpu_seconds\":{cpu:.1},\
         \"samples_per_core_second\":{:.0},\"rss_mib\":{:.1},\"idle_rss_mib\":{:.1},\"rss_bytes_per_series\":{:.0},\
         \"disk_bytes\":{bytes},\"disk_bytes_per_sample\":{:.3},\"query_ms\":{{{}}}}}",
        args.name,
        samples / cpu,
        after.rss / 1048576.0,
        before.rss / 1048576.0,
        (after.rss - before.rss) / series as f64,
        bytes as f64 / samples,
        questions(&args, start_ms, steps)?,
    );
    Ok(())
}

/// Name, expression, how far back from the last sample, step; both in seconds.
const QUESTIONS: [(&str, &str, i64, i64); 3] = [
    ("a", "node_load1{instance=\"host-00000.example.org:9100\"}", 10_800, 15),
    ("b", "{job=\"node\"}", 900, 15),
    ("c", "{instance=\"host-00001.example.org:9100\",__name__=~\"node_memory_.*\"}", 86_400, 300),
];
const ROUNDS: usize = 5;

/// The median time of each question, as members of a JSON object.
fn questions(args: &Args, start_ms: i64, steps: usize) -> anyhow::Result<String> {
    let end = (start_ms + (steps as i64 - 1) * STEP_MS) / 1000;
    let mut members = Vec::new();
    for (name, expression, back, step) in QUESTIONS {
        let start = (end - back).max(start_ms / 1000);
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..=ROUNDS {
            let began = Instant::now();
            bytes = ask(args, expression, start, end, step)?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        times.remove(0); // the first one warms up
        times.sort_by(f64::total_cmp);
        members.push(format!("\"{name}\":{:.2},\"{name}_bytes\":{bytes}", times[times.len() / 2]));
    }
    Ok(members.join(","))
}

fn ask(args: &Args, expression: &str, start: i64, end: i64, step: i64) -> anyhow::Result<usize> {
    let escape = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let query: String = expression.bytes().map(escape).collect();
    let mut connection = TcpStream::connect(&args.address)?;
    write!(
        connection,
        "GET /api/v1/query_range?query={query}&start={start}&end={end}&step={step} HTTP/1.1\r\nHost: {}\r\n\
         Connection: close\r\n\r\n",
        args.address
    )?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{expression}: {head}");
    }
    Ok(answer.len())
}

fn args() -> anyhow::Result<Args> {
    let mut given = std::collections::HashMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(key) = words.next() {
        given.insert(key.trim_start_matches('-').to_owned(), words.next().context("an option without a value")?);
    }
    let mut take = |key: &str| given.remove(key).with_context(|| format!("--{key} is missing"));
    Ok(Args {
        scrapes: take("scrapes")?.into(),
        address: take("address")?,
        path: take("path").unwrap_or_else(|_| "/api/v1/write".to_owned()),
        pid: take("pid")?.parse()?,
        data: take("data")?.into(),
        series: take("series")?.parse()?,
        hours: take("hours")?.parse()?,
        batch: take("batch").unwrap_or_else(|_| "2000".to_owned()).parse()?,
        connections: take("connections").unwrap_or_else(|_| "4".to_owned()).parse()?,
        name: take("name")?,
    })
}

/// So that the last sample is a moment ago: receivers refuse the far future and delete the far past.
fn start_of(steps: usize) -> anyhow::Result<i64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    Ok((now / STEP_MS - steps as i64) * STEP_MS)
}

type Labels = Vec<(String, String)>;

/// The scrapes of one target: for each series its labels and its value in every scrape.
struct Recording {
    series: Vec<(Labels, Vec<f64>)>,
    len: usize,
}

impl Recording {
    fn read(dir: &Path) -> anyhow::Result<Self> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        files.sort();
        let mut rows: std::collections::BTreeMap<String, Vec<f64>> = std::collections::BTreeMap::new();
        let mut len = 0;
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            if text.is_empty() {
                continue;
            }
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').with_context(|| format!("{}: {line:?}", file.display()))?;
                let values = rows.entry(series.to_owned()).or_default();
                values.resize(len, f64::NAN); // absent from scrapes before
                values.push(value.parse()?);
            }
            len += 1;
        }
        if len == 0 {
            bail!("{} holds no scrape", dir.display());
        }
        rows.values_mut().for_each(|values| values.resize(len, f64::NAN));
        let series = rows.into_iter().map(|(text, values)| (labels(&text), values)).collect();
        Ok(Self { series, len })
    }

    /// Series numbers with the labels of as many copies of the target as are needed, encoded.
    fn targets(&self, count: usize) -> Vec<(usize, Vec<u8>)> {
        let copies =
            (0..count.div_ceil(self.series.len())).flat_map(|host| (0..self.series.len()).map(move |i| (host, i)));
        let encoded = |(host, i): (usize, usize)| {
            let mut labels = self.series[i].0.clone();
            labels.push(("instance".to_owned(), format!("host-{host:05}.example.org:9100")));
            labels.push(("job".to_owned(), "node".to_owned()));
            labels.sort();
            (i, encode_labels(&labels))
        };
        copies.take(count).map(encoded).collect()
    }

    /// The value at a step; a recording that is over begins again, counters where they stood.
    fn value(&self, series: usize, step: usize) -> f64 {
        let values = &self.series[series].1;
        let (round, at) = (step / self.len, step % self.len);
        let counter = round > 0 && values.windows(2).all(|pair| pair[0] <= pair[1]);
        let risen = if counter { (values[self.len - 1] - values[0]) * round as f64 } else { 0.0 };
        values[at] + risen
    }
}

fn labels(text: &str) -> Labels {
    let (name, rest) = text.split_once('{').unwrap_or((text, ""));
    let mut labels = vec![("__name__".to_owned(), name.to_owned())];
    let mut rest = rest.trim_end_matches('}');
    while let Some((key, after)) = rest.split_once("=\"") {
        let end = after.find("\",").or_else(|| after.rfind('"')).unwrap_or(after.len());
        labels.push((key.to_owned(), after[..end].replace("\\\\", "\\")));
        rest = after.get(end + 1..).unwrap_or("").trim_start_matches(',');
    }
    labels.retain(|(_, value)| !value.is_empty());
    labels
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn encode_labels(labels: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut out, 1, &label);
    }
    out
}

fn send(
    args: &Args,
    recording: &Recording,
    shard: &[(usize, Vec<u8>)],
    steps: usize,
    start_ms: i64,
) -> anyhow::Result<()> {
    let mut connection = BufReader::new(TcpStream::connect(&args.address)?);
    connection.get_ref().set_nodelay(true)?;
    let mut compressor = snap::raw::Encoder::new();
    for step in 0..steps {
        let at = start_ms + step as i64 * STEP_MS;
        for part in shard.chunks(args.batch) {
            let mut message = Vec::with_capacity(part.len() * 256);
            for (series, labels) in part {
                let mut sample = vec![1 << 3 | 1];
                sample.extend_from_slice(&recording.value(*series, step).to_le_bytes());
                sample.push(2 << 3);
                varint(&mut sample, at as u64);
                let mut one = labels.clone();
                field(&mut one, 2, &sample);
                field(&mut message, 1, &one);
            }
            post(args, &mut connection, &compressor.compress_vec(&message)?)?;
        }
    }
    Ok(())
}

/// Posts until the receiver takes it.
fn post(args: &Args, connection: &mut BufReader<TcpStream>, body: &[u8]) -> anyhow::Result<()> {
    loop {
        let mut head = String::new();
        write!(
            head,
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            args.path,
            args.address,
            body.len()
        )?;
        connection.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        match answer(connection)? {
            (200 | 204, _) => return Ok(()),
            (429 | 503, _) => std::thread::sleep(Duration::from_millis(50)),
            (status, text) => bail!("{status}: {text}"),
        }
    }
}

fn answer(connection: &mut BufReader<TcpStream>) -> anyhow::Result<(u16, String)> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("the receiver hung up")?.parse()?;
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse()?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// What a process has used.
struct Usage {
    cpu_seconds: f64,
    rss: f64,
}

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("stat")?.1.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: f64 = rss.trim().trim_end_matches(" kB").parse()?;
        Ok(Self { cpu_seconds: ticks / 100.0, rss: kib * 1024.0 })
    }
}

/// Waits until the receiver has stopped working for itself.
fn settle(pid: u32) -> anyhow::Result<()> {
    for _ in 0..120 {
        let before = Usage::of(pid)?.cpu_seconds;
        std::thread::sleep(Duration::from_secs(1));
        if Usage::of(pid)?.cpu_seconds - before < 0.05 {
            break;
        }
    }
    Ok(())
}

fn tree_bytes(path: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { tree_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
