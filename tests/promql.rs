//! PromQL against the real Prometheus: the same samples, the same questions, the same answers.

mod promql {
    pub mod api;
    pub mod compare;
    pub mod data;
    pub mod expressions;
    pub mod grammar;
    pub mod recorded;
}
mod support;

use std::sync::Arc;

use bellwether_collector::query::{Engine, EngineConfig, http::router};
use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore};
use bellwether_collector::store::{Appended, Batch, SeriesSamples, Store, StoreError};
use promql::compare::Answer;
use promql::{api, data, expressions, grammar, recorded};
use serde_json::Value;
use support::{Peer, Program, remote_write, require_peer};

/// Both servers, and what to ask them with.
struct Pair {
    client: reqwest::Client,
    ours: String,
    theirs: String,
    _peer: Peer,
    _directory: tempfile::TempDir,
}

/// The embedded store, which seals and merges all the time: samples lie in blocks, in the journal and in memory.
fn open(directory: &tempfile::TempDir) -> EmbeddedStore {
    let path = directory.path().to_owned();
    let partition = std::time::Duration::from_secs(1800);
    EmbeddedStore::open(EmbeddedConfig { path, partition, memory_bytes: 1 << 16, ..EmbeddedConfig::default() })
        .expect("the store opens")
}

async fn append(store: &EmbeddedStore, batch: Batch) -> Appended {
    loop {
        match store.append(batch.clone()).await {
            Err(StoreError::Busy) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            answer => return answer.expect("the store takes the batch"),
        }
    }
}

/// One way to ask.
enum Question {
    Instant(&'static str),
    Range { start: i64, end: i64, step: &'static str },
}

impl Pair {
    /// Both with the same samples, sent to the peer in order of time, as a scrape would.
    async fn with(series: Vec<SeriesSamples>) -> Self {
        let peer = Peer::prometheus("global: {evaluation_interval: 1m}\n");
        let client = support::http::client();
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        for batch in in_order_of_time(&series) {
            remote_write::send(&client, &peer.url("/api/v1/write"), &batch).await;
            let appended = append(&store, batch).await;
            assert!(appended.refused.is_empty(), "{:?}", appended.refused);
        }
        drop(store);
        let engine = Engine::new(Arc::new(open(&directory)), EngineConfig::default());
        let ours = support::http::serve(router(engine)).await;
        Self { client, ours, theirs: peer.url(""), _peer: peer, _directory: directory }
    }

    async fn ask(&self, server: &str, expression: &str, question: &Question) -> Answer {
        let (path, mut form) = ("/api/v1/query", vec![("query", expression.to_owned())]);
        let path = match question {
            Question::Instant(time) => {
                form.push(("time", (*time).to_owned()));
                path
            }
            Question::Range { start, end, step } => {
                form.extend([("start", start.to_string()), ("end", end.to_string()), ("step", (*step).to_owned())]);
                "/api/v1/query_range"
            }
        };
        let answer = self.client.post(format!("{server}{path}")).form(&form).send().await.expect("an answer");
        let status = answer.status().as_u16();
        Answer::read(status, &answer.json::<Value>().await.expect("JSON"))
    }

    /// Status and reply, without the wording of errors and the order of lists.
    async fn request(&self, server: &str, request: &str) -> String {
        let (method, address) = request.split_once(' ').expect("a method and an address");
        let method = method.parse().expect("a method");
        let answer = self.client.request(method, format!("{server}{address}")).send().await.expect("an answer");
        let status = answer.status();
        let mut body = answer.json::<Value>().await.unwrap_or(Value::Null);
        if let Some(reply) = body.as_object_mut() {
            reply.remove("error");
        }
        let place = if body["data"].is_array() { "/data" } else { "/data/result" };
        if let Some(list) = body.pointer_mut(place).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
        format!("{status} {body}")
    }

    async fn difference(&self, expression: &str, question: &Question) -> (Option<String>, bool) {
        let ours = self.ask(&self.ours, expression, question).await;
        let theirs = self.ask(&self.theirs, expression, question).await;
        let ordered = matches!(question, Question::Instant(_)) && expression.starts_with("sort");
        (ours.difference(&theirs, ordered), theirs.holds_numbers())
    }
}

/// Batches of ten minutes, so that no series is far ahead of another.
fn in_order_of_time(series: &[SeriesSamples]) -> Vec<Vec<SeriesSamples>> {
    let times = || series.iter().flat_map(|one| one.samples.iter().map(|sample| sample.at.as_millis()));
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Vec::new() };
    let batch = |start: i64| {
        let part = |one: &SeriesSamples| SeriesSamples {
            labels: one.labels.clone(),
            samples: one
                .samples
                .iter()
                .filter(|s| (start..start + 600_000).contains(&s.at.as_millis()))
                .copied()
                .collect(),
        };
        series.iter().map(part).filter(|one| !one.samples.is_empty()).collect()
    };
    (0..).map(|i| first + i * 600_000).take_while(|start| *start <= last).map(batch).collect()
}

const FIRST: i64 = data::START / 1000;
const QUESTIONS: [Question; 5] = [
    Question::Instant("1700002500"),
    Question::Instant("1700004117.25"),
    Question::Instant("1700006890"),
    Question::Range { start: FIRST - 300, end: FIRST + 7600, step: "60" },
    Question::Range { start: FIRST + 1007, end: FIRST + 5000, step: "37s" },
];

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_has_the_answer_of_prometheus() {
    require_peer!(Program::Prometheus);
    compare(data::series(), &expressions::all(), &QUESTIONS, 850).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_scrapes_give_the_answers_of_prometheus() {
    require_peer!(Program::Prometheus);
    const QUESTIONS: [Question; 4] = [
        Question::Instant("1795248750"),
        Question::Instant("1795249217.5"),
        Question::Range { start: recorded::START - 60, end: recorded::END + 400, step: "15" },
        Question::Range { start: recorded::START + 600, end: recorded::END, step: "61s" },
    ];
    compare(recorded::series(), &recorded::expressions(), &QUESTIONS, 700).await;
}

/// So many expressions are drawn; `BELLWETHER_EXPRESSIONS` draws more of them.
const DRAWN: usize = 2000;
/// What the draw starts from, the same in each run; `BELLWETHER_SEED` draws others.
const SEED: u64 = 1_795_266_813;

#[tokio::test(flavor = "multi_thread")]
async fn expressions_drawn_from_a_grammar_have_the_answers_of_prometheus() {
    require_peer!(Program::Prometheus);
    const QUESTIONS: [Question; 2] =
        [Question::Instant("1700004117.25"), Question::Range { start: FIRST + 1007, end: FIRST + 7300, step: "197s" }];
    let of_environment = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = of_environment("BELLWETHER_SEED").unwrap_or(SEED);
    let count = of_environment("BELLWETHER_EXPRESSIONS").map_or(DRAWN, |count| count as usize);
    println!("seed {seed}");
    compare(data::series(), &grammar::drawn(seed, count), &QUESTIONS, count / 4).await;
}

/// Asks both servers everything; at least `least` of the expressions must have numbers to compare.
async fn compare(series: Vec<SeriesSamples>, expressions: &[String], questions: &[Question], least: usize) {
    let pair = Pair::with(series).await;
    let (mut differences, mut with_numbers) = (Vec::new(), 0);
    for expression in expressions {
        let mut numbers = false;
        for (index, question) in questions.iter().enumerate() {
            let (difference, holds_numbers) = pair.difference(expression, question).await;
            numbers |= holds_numbers;
            differences.extend(difference.map(|difference| format!("{expression}   [{index}] {difference}")));
        }
        with_numbers += usize::from(numbers);
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), expressions.len(), differences.join("\n"));
    assert!(with_numbers >= least, "only {with_numbers} of {} expressions had numbers to compare", expressions.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_the_reply_of_prometheus() {
    require_peer!(Program::Prometheus);
    let pair = Pair::with(data::series()).await;
    let mut differences = Vec::new();
    for request in api::REQUESTS {
        let (ours, theirs) = (pair.request(&pair.ours, request).await, pair.request(&pair.theirs, request).await);
        if ours != theirs {
            differences.push(format!("{request}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_may_carry_what_an_address_cannot() {
    require_peer!(Program::Prometheus);
    let pair = Pair::with(data::series()).await;
    let long = format!("up{{instance=~\"{}a.*\"}}", "x|".repeat(20_000));
    let (difference, numbers) = pair.difference(&long, &Question::Instant("1700002500")).await;
    assert_eq!((difference, numbers), (None, true));
}
