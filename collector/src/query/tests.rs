//! The engine's limits and its answers where no other server can be asked. That the answers are those of Prometheus is
//! shown in `tests/promql.rs` of the workspace, against the server itself.

use async_trait::async_trait;
use bellwether_models::series::{Sample, stale_marker};
use proptest::prelude::*;

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Appended, Batch, Matcher, Store, StoreStats, TimeRange};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn series(name: &str, samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|&(seconds, value)| Sample { at: at(seconds), value }).collect();
    SeriesSamples { labels: Labels::metric(name), samples }
}

async fn engine_over(batch: Batch, config: EngineConfig) -> Engine {
    let store = MemoryStore::new(Duration::from_secs(u64::MAX / 1000), Duration::MAX);
    store.append(batch).await.expect("samples are taken");
    Engine::new(Arc::new(store), config)
}

async fn small_engine() -> Engine {
    let level = [(0, 1.0), (60, 2.0), (120, stale_marker()), (1000, 5.0), (1060, f64::NAN)];
    engine_over(
        vec![series("level", &level), series("other", &[(0, -1.0), (60, f64::INFINITY)])],
        EngineConfig::default(),
    )
    .await
}

/// A store that never answers.
struct Silent;

#[async_trait]
impl Store for Silent {
    async fn append(&self, _: Batch) -> Result<Appended, StoreError> {
        Err(StoreError::Closed)
    }
    async fn select(&self, _: &[Matcher], _: TimeRange, _: usize) -> Result<Vec<SeriesSamples>, StoreError> {
        std::future::pending().await
    }
    async fn series(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, StoreError> {
        Err(StoreError::Closed)
    }
    async fn retain(&self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
    async fn stats(&self) -> Result<StoreStats, StoreError> {
        Err(StoreError::Closed)
    }
}

#[tokio::test]
async fn a_window_has_a_value_or_nan_for_each_point() {
    let engine = small_engine().await;
    let windows = engine.window("level", at(0), Step::from_secs(30), 6).await.expect("a window");
    assert_eq!(windows.len(), 1);
    let (labels, window) = &windows[0];
    assert_eq!(*labels, Labels::metric("level"));
    assert_eq!((window.start, window.step), (at(0), Step::from_secs(30)));
    assert_eq!(window.values[..4], [1.0, 1.0, 2.0, 2.0]);
    assert!(window.values[4].is_nan() && window.values[5].is_nan(), "a staleness marker ends the series");
    assert_eq!(engine.window("level", at(0), Step::from_secs(30), 0).await.expect("nothing is asked"), []);
}

#[tokio::test]
async fn look_back_and_ranges_are_closed_on_both_ends() {
    let engine = engine_over(vec![series("level", &[(0, 1.0), (60, 2.0)])], EngineConfig::default()).await;
    let seen = |value: Value| matches!(value, Value::Vector(elements) if !elements.is_empty());
    assert!(seen(engine.instant("level", at(360)).await.expect("a vector")));
    assert!(!seen(engine.instant("level", at(361)).await.expect("a vector")));
    let count = engine.instant("count_over_time(level[1m])", at(60)).await.expect("a vector");
    assert!(matches!(count, Value::Vector(elements) if elements[0].value == 2.0));
}

#[tokio::test]
async fn what_is_not_supported_is_named() {
    let engine = small_engine().await;
    for (query, name) in [
        ("histogram_count(level)", "histogram_count"),
        ("mad_over_time(level[5m])", "mad_over_time"),
        ("limitk(1, level)", "limitk"),
        ("info(level)", "info"),
    ] {
        let error = engine.instant(query, at(0)).await.expect_err("it is not supported");
        assert!(matches!(&error, QueryError::Unsupported { name: n } if n == name), "{query}: {error}");
        assert_eq!(error.kind(), ErrorKind::BadData);
    }
}

#[tokio::test]
async fn a_query_that_needs_too_many_samples_is_refused() {
    let samples: Vec<(i64, f64)> = (0..2000).map(|i| (i, 1.0)).collect();
    let config = EngineConfig { max_samples: 1000, ..EngineConfig::default() };
    let engine = engine_over(vec![series("many", &samples)], config).await;
    for query in ["many[2000s]", "sum_over_time(vector(1)[2000s:1s])", "vector(1)[100y:1ms]", "time()[10y:1s]"] {
        let error = engine.instant(query, at(2000)).await.err();
        if let Some(error) = error {
            let refused = matches!(error, QueryError::TooManySamples { limit: 1000 } | QueryError::Invalid { .. });
            assert!(refused, "{query}: {error}");
        } else {
            panic!("{query} was answered");
        }
    }
    assert!(engine.instant("many", at(2000)).await.is_ok());
}

#[tokio::test]
async fn a_range_of_too_many_steps_is_refused_and_the_longest_allowed_is_answered() {
    let engine = small_engine().await;
    let step = Step::from_secs(1);
    assert_eq!(engine.range("1", at(0), at(11_000), step).await.expect("as long as allowed")[0].samples.len(), 11_001);
    let error = engine.range("1", at(0), at(11_001), step).await.expect_err("too long");
    assert!(matches!(error, QueryError::TooManyPoints { limit: 11_000 }));
    let error = engine.range("1", Timestamp::MIN, Timestamp::MAX, step).await.expect_err("far too long");
    assert_eq!(error.kind(), ErrorKind::BadData);
    let error = engine.range("1", at(1), at(0), step).await.expect_err("backwards");
    assert!(matches!(error, QueryError::EndBeforeStart));
}

#[tokio::test]
async fn a_store_that_never_answers_ends_in_a_timeout() {
    let engine = Engine::new(Arc::new(Silent), EngineConfig::default());
    let within = Duration::from_millis(20);
    let error = engine.instant_within("up", at(0), within).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "query timed out after 20ms in query execution");
}

#[tokio::test]
async fn a_failing_store_is_told_from_a_wrong_query() {
    struct Broken;
    #[async_trait]
    impl Store for Broken {
        async fn append(&self, _: Batch) -> Result<Appended, StoreError> {
            Err(StoreError::Closed)
        }
        async fn select(&self, _: &[Matcher], _: TimeRange, _: usize) -> Result<Vec<SeriesSamples>, StoreError> {
            Err(StoreError::Closed)
        }
        async fn series(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, StoreError> {
            Err(StoreError::Closed)
        }
        async fn retain(&self, _: Timestamp) -> Result<(), StoreError> {
            Err(StoreError::Closed)
        }
        async fn stats(&self) -> Result<StoreStats, StoreError> {
            Err(StoreError::Closed)
        }
    }
    let engine = Engine::new(Arc::new(Broken), EngineConfig::default());
    let error = engine.instant("up", at(0)).await.expect_err("the store is closed");
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn the_deepest_query_allowed_does_not_exhaust_the_stack() {
    let engine = small_engine().await;
    let chain = |part: &str, times: usize| format!("level{}", part.repeat(times));
    for query in [
        chain(" + 1", 300),
        chain(" or level", 300),
        chain(" ^ 1", 300),
        format!("{}level", "-".repeat(300)),
        format!("{}level{}", "(".repeat(128), ")".repeat(128)),
        format!("{}level{}", "abs(".repeat(128), ")".repeat(128)),
        format!("{}level{}", "sum(1 + ".repeat(128), ")".repeat(128)),
    ] {
        let handle = tokio::spawn({
            let engine = engine.clone();
            async move { engine.instant(&query, at(60)).await.map(|_| ()) }
        });
        handle.await.expect("no panic").expect("an answer");
    }
}

#[tokio::test]
async fn equal_selectors_are_fetched_once() {
    let plan = plan::plan("level / level + rate(level[5m])", Grid::instant(0), 0, &EngineConfig::default());
    assert_eq!(plan.expect("a plan").selectors.len(), 1);
    let plan = plan::plan("level / other + level offset 1m", Grid::instant(0), 0, &EngineConfig::default());
    assert_eq!(plan.expect("a plan").selectors.len(), 3);
}

/// Pieces of queries, so that many of their combinations are queries.
fn any_query() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "level",
        "other",
        "{a!=\"b\"}",
        "[5m]",
        "[5m:1m]",
        "[1y:30s]",
        "offset 5m",
        "offset -100y",
        "@ 0",
        "@ -1e12",
        "@ end()",
        "(",
        ")",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "==",
        "bool",
        "and",
        "or",
        "unless",
        "on()",
        "group_left",
        "rate(",
        "sum(",
        "sum by (a) (",
        "topk(2,",
        "quantile(0.5,",
        "absent(",
        "avg_over_time(",
        "predict_linear(",
        "deriv(",
        "1",
        "1e300",
        "NaN",
        "-Inf",
        "time()",
        "histogram_quantile(0.9,",
        "label_replace(",
        "\"x\"",
        ",",
        "scalar(",
        "vector(",
        "hour(",
        "timestamp(",
        "clamp_min(",
        "stddev_over_time(",
        "irate(",
        "holt_winters(",
        "count_values(\"v\",",
        "changes(",
        "round(",
        "sort(",
        "increase(",
    ]);
    prop::collection::vec(piece, 1..14).prop_map(|pieces| pieces.join(" "))
}

fn any_instant() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), -2_000_000_000_000i64..2_000_000_000_000, 0i64..1_200_000]
}

/// Well-formed expressions around a range or an instant selector.
fn any_expression() -> impl Strategy<Value = String> {
    let range = prop::sample::select(vec![
        "[1s]",
        "[90s]",
        "[20m]",
        "[200y]",
        "[20m:45s]",
        "[20m] offset -3m",
        "[20m] @ 900",
        "[20m:7s] @ 1e9",
    ]);
    let name = prop::sample::select(vec!["level", "other", "{__name__=~\"level|other\"}"]);
    let over = prop::sample::select(vec![
        "rate",
        "increase",
        "irate",
        "delta",
        "idelta",
        "deriv",
        "changes",
        "resets",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "sum_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "last_over_time",
        "absent_over_time",
    ]);
    let wrap = prop::sample::select(vec![
        "{}",
        "sum({})",
        "topk(1, {})",
        "abs({})",
        "{} + {}",
        "{} or {}",
        "{} > {}",
        "month({})",
        "quantile(0.3, {})",
        "max_over_time(({})[10m:1m])",
        "timestamp({})",
        "sort({})",
    ]);
    (over, name, range, wrap)
        .prop_map(|(over, name, range, wrap)| wrap.replace("{}", &format!("{over}({name}{range})")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_query_at_any_time_panics(query in prop_oneof![any_query(), any_expression()], from in any_instant(), steps in 0i64..50, step in prop::sample::select(vec![1i64, 15_000, 86_400_000, i64::MAX])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let engine = Engine { config: Arc::new(EngineConfig { max_samples: 200_000, ..EngineConfig::default() }), ..small_engine().await };
            let at = Timestamp::from_millis(from);
            let ended = engine.instant(&query, at).await;
            prop_assert!(!matches!(ended, Err(QueryError::Abandoned)), "{query}");
            let end = Timestamp::from_millis(from.saturating_add(step.saturating_mul(steps)));
            let ended = engine.range(&query, at, end, Step::from_millis(step).expect("positive")).await;
            prop_assert!(!matches!(ended, Err(QueryError::Abandoned)), "{query}");
            Ok(())
        })?;
    }
}
