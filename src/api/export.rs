//! `GET /api/v1/export`: many series at once, as an Arrow IPC stream.
//!
//! A part of the time is read, sent and forgotten before the next is read: what is held at once does not grow with what
//! is asked for, and a slow reader holds the reading up.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::{ArrayBuilder, Float64Builder, StringDictionaryBuilder, TimestampMillisecondBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bellwether_collector::ingest::Clock;
use bellwether_collector::query::{Engine, ErrorKind, QueryError, matchers};
use bellwether_collector::store::{Matcher, SeriesSamples, StoreError, TimeRange};
use bellwether_models::duration;
use bellwether_models::series::{Step, Timestamp};
use bellwether_predictor::read::chain;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::table::parse_time;

/// Exports under way at the same time; others wait.
const AT_ONCE: usize = 4;
/// How long an export waits for its reader.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most samples held of one export.
const MOST_HELD: usize = 1_000_000;
/// Steps of a query evaluated at once.
const STEPS: usize = 1000;
/// Most rows of one record batch.
const MOST_ROWS: usize = 65_536;
/// First stretch of stored samples read at once, in milliseconds; it grows and shrinks with what is found.
const STRETCH: i64 = 3_600_000;
/// What the answer is called.
const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// The route, over what `engine` reads; `clock` tells the end for those who name none.
pub fn router(engine: Engine, clock: Clock) -> Router {
    let asked = Asked { engine, clock, turns: Arc::new(Semaphore::new(AT_ONCE)) };
    Router::new().route("/api/v1/export", get(export)).with_state(asked)
}

#[derive(Clone)]
struct Asked {
    engine: Engine,
    clock: Clock,
    turns: Arc<Semaphore>,
}

/// Why nothing is exported.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// A parameter is missing or wrong.
    #[error("{name} {must}")]
    Parameter { name: &'static str, must: String },
    #[error("the query cannot be exported")]
    Query(#[from] QueryError),
    #[error("the samples could not be read")]
    Store(#[from] StoreError),
    #[error("the samples could not be written as an Arrow stream")]
    Arrow(#[from] ArrowError),
    #[error("the server is closing")]
    Closing,
    #[error("nothing was read of the export for {} s, and it was given up", PATIENCE.as_secs())]
    Stalled,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Parameter { .. } => StatusCode::BAD_REQUEST,
            Self::Query(error) => match error.kind() {
                ErrorKind::BadData => StatusCode::BAD_REQUEST,
                ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
                ErrorKind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Store(StoreError::TooLarge { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Store(_) | Self::Closing | Self::Stalled => StatusCode::SERVICE_UNAVAILABLE,
            Self::Arrow(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "error": chain(&self) }))).into_response()
    }
}

/// The first part is read before the answer begins, so that most of what is wrong is told in words; what fails later
/// breaks the stream off.
async fn export(State(asked): State<Asked>, Query(pairs): Query<Vec<(String, String)>>) -> Result<Response, Refusal> {
    let reader = Reader::new(asked.engine, &pairs, (asked.clock)())?;
    let turn = asked.turns.acquire_owned().await.map_err(|_| Refusal::Closing)?;
    let mut sending = Sending::new(reader, turn)?;
    let first = sending.next().await?;
    let (parts, taken) = mpsc::channel(1);
    tokio::spawn(send(first, sending, parts));
    let parts = futures::stream::try_unfold(taken, |mut taken| async move {
        match taken.recv().await {
            Some(Ok(Some(bytes))) => Ok(Some((bytes, taken))),
            Some(Ok(None)) => Ok(None),
            Some(Err(refusal)) => Err(refusal),
            None => Err(Refusal::Stalled),
        }
    });
    Ok(([(header::CONTENT_TYPE, ARROW_STREAM)], Body::from_stream(parts)).into_response())
}

/// Sends part after part as they are taken, `None` at the end. One that is not taken in time ends it all, so that those who
/// stop reading do not keep others waiting.
async fn send(first: Option<Bytes>, mut sending: Sending, parts: mpsc::Sender<Result<Option<Bytes>, Refusal>>) {
    let mut part = Ok(first);
    loop {
        let goes_on = matches!(part, Ok(Some(_)));
        if parts.send_timeout(part, PATIENCE).await.is_err() || !goes_on {
            return;
        }
        part = sending.next().await;
    }
}

/// What is exported.
enum What {
    /// The values of an expression on a grid.
    Values { query: String, step: Step },
    /// Samples as they were stored.
    Samples { selectors: Vec<Vec<Matcher>> },
}

/// Reads one part of the time after the other.
struct Reader {
    engine: Engine,
    what: What,
    next: i64,
    end: i64,
    stretch: i64,
}

impl Reader {
    fn new(engine: Engine, pairs: &[(String, String)], now: Timestamp) -> Result<Self, Refusal> {
        let text = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let time = |name: &'static str, text: &str| {
            let must = || format!("is {text:?}, not a time: write Unix seconds or RFC 3339");
            parse_time(text).ok_or_else(|| Refusal::Parameter { name, must: must() })
        };
        let missing = |name, must: &str| Refusal::Parameter { name, must: must.to_owned() };
        let start = time("start", text("start").ok_or_else(|| missing("start", "is missing: from when on"))?)?;
        let end = text("end").map_or(Ok(now), |text| time("end", text))?;
        if end < start {
            return Err(missing("end", "lies before start"));
        }
        let selectors = pairs.iter().filter(|(name, _)| name == "match[]").map(|(_, text)| matchers(text));
        let selectors: Vec<_> = selectors.collect::<Result<_, _>>()?;
        let what = match (text("query"), selectors.is_empty()) {
            (Some(query), true) => What::Values { query: query.to_owned(), step: step(text("step").unwrap_or("1m"))? },
            (None, false) => What::Samples { selectors },
            _ => return Err(missing("query or match[]", "is needed, and not both")),
        };
        Ok(Self { engine, what, next: start.as_millis(), end: end.as_millis(), stretch: STRETCH })
    }

    /// The series of the next part of the time; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<SeriesSamples>>, Refusal> {
        if self.next > self.end {
            return Ok(None);
        }
        match &self.what {
            What::Values { query, step } => {
                let steps = STEPS.min(self.engine.config().max_points.max(1)) as i64;
                let until = self.next.saturating_add((steps - 1).saturating_mul(step.as_millis())).min(self.end);
                let [from, to] = [self.next, until].map(Timestamp::from_millis);
                let matrix = self.engine.range(query, from, to, *step).await?;
                self.next = self.next.saturating_add(steps.saturating_mul(step.as_millis()));
                Ok(Some(matrix))
            }
            What::Samples { selectors } => loop {
                let until = self.next.saturating_add(self.stretch - 1).min(self.end);
                let range = TimeRange { from: Timestamp::from_millis(self.next), to: Timestamp::from_millis(until) };
                match select(&self.engine, selectors, range).await {
                    Err(StoreError::TooLarge { .. }) if self.stretch > 1 => self.stretch /= 2,
                    Err(error) => return Err(error.into()),
                    Ok(found) => {
                        let samples: usize = found.iter().map(|series| series.samples.len()).sum();
                        if samples < MOST_HELD / 4 {
                            self.stretch = self.stretch.saturating_mul(2);
                        }
                        self.next = until.saturating_add(1);
                        return Ok(Some(found));
                    }
                }
            },
        }
    }
}

/// The samples of all selectors, each series once.
async fn select(
    engine: &Engine,
    selectors: &[Vec<Matcher>],
    range: TimeRange,
) -> Result<Vec<SeriesSamples>, StoreError> {
    let (mut known, mut all, mut held) = (HashSet::new(), Vec::new(), 0);
    for selector in selectors {
        for series in engine.store().select(selector, range, MOST_HELD - held).await? {
            if known.insert(series.labels.clone()) {
                held = MOST_HELD.min(held + series.samples.len());
                all.push(series);
            }
        }
    }
    Ok(all)
}

fn step(text: &str) -> Result<Step, Refusal> {
    let seconds = text.parse::<f64>().ok().or_else(|| duration::parse(text).ok().map(|step| step.as_secs_f64()));
    let millis = seconds.map(|seconds| seconds * 1000.0).filter(|millis| *millis < 9.2e18);
    millis.and_then(|millis| Step::from_millis(millis as i64).ok()).ok_or_else(|| Refusal::Parameter {
        name: "step",
        must: format!("is {text:?}, not a time above zero: write seconds or a duration such as 5m"),
    })
}

/// An export under way.
struct Sending {
    reader: Reader,
    rows: Rows,
    waiting: Vec<SeriesSamples>,
    ended: bool,
    /// Held until the last byte is sent.
    _turn: OwnedSemaphorePermit,
}

impl Sending {
    fn new(reader: Reader, turn: OwnedSemaphorePermit) -> Result<Self, Refusal> {
        Ok(Self { reader, rows: Rows::new()?, waiting: Vec::new(), ended: false, _turn: turn })
    }

    /// The next bytes; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        if self.ended {
            return Ok(None);
        }
        while self.waiting.is_empty() {
            match self.reader.next().await? {
                Some(series) => self.waiting = series.into_iter().rev().collect(),
                None => {
                    self.ended = true;
                    return Ok(Some(self.rows.finish()?));
                }
            }
        }
        Ok(Some(self.rows.batch(&mut self.waiting)?))
    }
}

/// Rows on their way out.
struct Rows {
    schema: Arc<Schema>,
    writer: StreamWriter<Vec<u8>>,
}

impl Rows {
    fn new() -> Result<Self, ArrowError> {
        let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let schema = Arc::new(Schema::new(vec![
            Field::new("series", names, false),
            Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            Field::new("value", DataType::Float64, false),
        ]));
        Ok(Self { writer: StreamWriter::try_new(Vec::new(), &schema)?, schema })
    }

    /// Takes as much as one batch holds off `series`, and gives what was written since the last time.
    fn batch(&mut self, series: &mut Vec<SeriesSamples>) -> Result<Bytes, ArrowError> {
        let mut names = StringDictionaryBuilder::<Int32Type>::new();
        let (mut times, mut values) = (TimestampMillisecondBuilder::new(), Float64Builder::new());
        while let Some(next) = series.last_mut() {
            let take = (MOST_ROWS - values.len()).min(next.samples.len());
            names.append_n(next.labels.to_string(), take)?;
            for sample in next.samples.drain(..take) {
                times.append_value(sample.at.as_millis());
                values.append_value(sample.value);
            }
            if !next.samples.is_empty() {
                break;
            }
            series.pop();
        }
        metrics::counter!("bellwether_export_rows_total").increment(values.len() as u64);
        let columns: [ArrayRef; 3] =
            [Arc::new(names.finish()), Arc::new(times.finish().with_timezone("UTC")), Arc::new(values.finish())];
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns.to_vec())?)?;
        Ok(std::mem::take(self.writer.get_mut()).into())
    }

    fn finish(&mut self) -> Result<Bytes, ArrowError> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()).into())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, TimestampMillisecondType};
    use arrow_ipc::reader::StreamReader;
    use bellwether_collector::query::EngineConfig;
    use bellwether_collector::store::Store;
    use bellwether_collector::store::memory::MemoryStore;
    use bellwether_models::series::{Labels, Sample};
    use tower::ServiceExt;

    use super::*;

    const MINUTES: i64 = 5000;

    async fn engine() -> Engine {
        let store = MemoryStore::default();
        let series = |name: &str| SeriesSamples {
            labels: Labels::metric("load").with("service", name),
            samples: (0..MINUTES).map(|i| Sample { at: Timestamp::from_secs(i * 60), value: i as f64 + 0.1 }).collect(),
        };
        store.append(vec![series("web"), series("db")]).await.unwrap();
        Engine::new(Arc::new(store), EngineConfig::default())
    }

    async fn ask(query: &str) -> (StatusCode, Vec<u8>) {
        let clock: Clock = Arc::new(|| Timestamp::from_secs(MINUTES * 60));
        let uri = format!("/api/v1/export?{query}");
        let request = axum::http::Request::get(uri).body(Body::empty()).unwrap();
        let answer = router(engine().await, clock).oneshot(request).await.unwrap();
        let status = answer.status();
        (status, axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    fn rows(bytes: &[u8]) -> Vec<(String, i64, f64)> {
        let mut all = Vec::new();
        for batch in StreamReader::try_new(bytes, None).unwrap() {
            let batch = batch.unwrap();
            assert!(batch.num_rows() <= MOST_ROWS);
            let names = batch.column(0).as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>();
            let times = batch.column(1).as_primitive::<TimestampMillisecondType>();
            let values = batch.column(2).as_primitive::<Float64Type>();
            let name = names.unwrap().into_iter().map(|name| name.unwrap().to_owned());
            all.extend(name.zip(times.values()).zip(values.values()).map(|((n, t), v)| (n, *t, *v)));
        }
        all
    }

    #[tokio::test]
    async fn stored_samples_come_once_each_and_in_order_however_they_are_selected() {
        let (status, bytes) = ask("match[]=load&match[]=load%7Bservice%3D%22db%22%7D&start=0").await;
        assert_eq!(status, StatusCode::OK);
        let all = rows(&bytes);
        assert_eq!(all.len(), 2 * MINUTES as usize);
        for service in ["db", "web"] {
            let name = format!("load{{service=\"{service}\"}}");
            let of: Vec<_> = all.iter().filter(|row| row.0 == name).map(|row| (row.1, row.2)).collect();
            let expected: Vec<_> = (0..MINUTES).map(|i| (i * 60_000, i as f64 + 0.1)).collect();
            assert_eq!(of, expected);
        }
    }

    #[tokio::test]
    async fn a_query_comes_on_its_grid_over_more_steps_than_are_evaluated_at_once() {
        let (_, bytes) = ask("query=sum(load)&start=0&end=179940&step=60").await;
        let all = rows(&bytes);
        assert_eq!(all.len(), 3000);
        assert_eq!(all[2999], ("{}".to_owned(), 179_940_000, 2.0 * (2999.0 + 0.1)));
    }

    #[tokio::test]
    async fn nothing_found_is_a_stream_without_rows() {
        let (status, bytes) = ask("match[]=nothing&start=0").await;
        assert_eq!((status, rows(&bytes).len()), (StatusCode::OK, 0));
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_in_words_before_the_stream_begins() {
        for (query, word) in [
            ("start=0", "query or match[]"),
            ("query=load", "start is missing"),
            ("query=load&start=soon", "soon"),
            ("query=load&start=9&end=3", "end lies before start"),
            ("query=load&start=0&step=0", "step"),
            ("query=sum(&start=0", "invalid query"),
            ("match[]=%7B&start=0", "invalid query"),
        ] {
            let (status, bytes) = ask(query).await;
            let text = String::from_utf8_lossy(&bytes);
            assert!(status == StatusCode::BAD_REQUEST && text.contains(word), "{query}: {status} {text}");
        }
    }
}
