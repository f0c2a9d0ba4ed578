//! What every store keeps: one battery for all of them. Each law is given a fresh, empty store and panics when broken.

use bellwether_models::series::{Labels, Sample, Step, Timestamp, stale_marker};

use super::{Batch, Instants, Matcher, SampleRefusal, SeriesSamples, Store, StoreError, TimeRange};

/// What a store promises beyond the laws that bind all of them: where the samples lie on a server, some of it is the
/// server's own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Refuses a sample more than an hour older than the newest of its series.
    pub out_of_order_window: bool,
    /// Takes samples of any time, whatever the times of other series.
    pub any_time: bool,
    /// What it gives back of a value.
    pub values: Values,
    /// Counts what it holds, and drops what is older than 30 days when told to.
    pub keeps_house: bool,
}

/// How much of a value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Every bit, staleness markers and the payload of a NaN included.
    Bits,
    /// Every number to the bit, and that something was no number; staleness markers end a series and are not given back.
    Numbers,
    /// Numbers to about 15 decimal digits of the greatest beside them; what is no number is not kept.
    Decimals,
}

impl Promises {
    /// What a store on this machine promises.
    pub const ALL: Self = Self { out_of_order_window: true, any_time: true, values: Values::Bits, keeps_house: true };
}

/// Holds the stores that `open` gives, each empty, to every law.
///
/// # Panics
/// When a law is broken.
pub async fn store<S: Store>(open: impl AsyncFn() -> S) {
    store_that(Promises::ALL, open).await;
}

/// As [`store`], for stores that promise what is said.
///
/// # Panics
/// When a law, or a promise, is broken.
pub async fn store_that<S: Store>(promises: Promises, open: impl AsyncFn() -> S) {
    what_is_appended_is_selected(&open().await, promises).await;
    appending_again_changes_nothing(&open().await, promises.values).await;
    a_second_value_at_one_time_is_refused_and_the_first_stays(&open().await).await;
    late_samples_take_their_place(&open().await).await;
    if promises.out_of_order_window {
        a_sample_far_behind_its_series_is_refused_and_the_others_are_not(&open().await).await;
    }
    if promises.any_time {
        the_past_is_as_good_as_the_present(&open().await).await;
    }
    every_value_comes_back(&open().await, promises.values).await;
    matchers_choose_series(&open().await).await;
    ranges_are_closed_at_both_ends(&open().await).await;
    of_one_who_looks_now_and_then_nothing_is_kept_back(&open().await).await;
    a_limit_is_kept(&open().await).await;
    if promises.keeps_house {
        what_is_older_than_the_retention_goes(&open().await).await;
    }
}

/// A batch of one series.
fn one(labels: &Labels, samples: &[(i64, f64)]) -> Batch {
    let samples = samples.iter().map(|(at, value)| Sample { at: Timestamp::from_secs(*at), value: *value }).collect();
    vec![SeriesSamples { labels: labels.clone(), samples }]
}

fn everything() -> TimeRange {
    TimeRange { from: Timestamp::MIN, to: Timestamp::MAX }
}

fn between(from: i64, to: i64) -> TimeRange {
    TimeRange { from: Timestamp::from_secs(from), to: Timestamp::from_secs(to) }
}

async fn held(store: &impl Store, labels: &Labels, range: TimeRange) -> Vec<(i64, u64)> {
    let matchers: Vec<Matcher> = labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    let found = store.select(&matchers, range, usize::MAX).await.expect("select");
    assert!(found.len() <= 1, "a series was given more than once");
    let samples = found.into_iter().flat_map(|series| series.samples);
    samples.map(|sample| (sample.at.as_millis() / 1000, sample.value.to_bits())).collect()
}

fn bits(samples: &[(i64, f64)]) -> Vec<(i64, u64)> {
    samples.iter().map(|(at, value)| (*at, value.to_bits())).collect()
}

async fn what_is_appended_is_selected(store: &impl Store, promises: Promises) {
    let up = Labels::metric("up").with("job", "node");
    let appended = store.append(one(&up, &[(10, 1.0), (20, 2.0)])).await.expect("append");
    assert_eq!((appended.written, appended.repeated, appended.refused.len()), (2, 0, 0));
    assert_eq!(held(store, &up, everything()).await, bits(&[(10, 1.0), (20, 2.0)]));
    assert_eq!(store.series(&[], everything()).await.expect("series"), [up]);
    store.check().await.expect("it can be used");
    if !promises.keeps_house {
        return;
    }
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.series, stats.samples, stats.span), (1, 2, Some(between(10, 20))));
}

async fn appending_again_changes_nothing(store: &impl Store, values: Values) {
    let up = Labels::metric("up");
    let last = if values == Values::Decimals { 7.0 } else { f64::NAN };
    let batch = one(&up, &[(10, 1.0), (100_000, last), (50, 3.0), (10, 1.0)]);
    let first = store.append(batch.clone()).await.expect("append");
    let second = store.append(batch).await.expect("append");
    assert_eq!((first.written, first.repeated, first.refused.len()), (3, 1, 0));
    assert_eq!((second.written, second.repeated, second.refused.len()), (0, 4, 0));
    assert_eq!(held(store, &up, everything()).await, bits(&[(10, 1.0), (50, 3.0), (100_000, last)]));
}

async fn a_second_value_at_one_time_is_refused_and_the_first_stays(store: &impl Store) {
    let up = Labels::metric("up");
    let first = store.append(one(&up, &[(10, 1.0), (10, 2.0), (20, 1.0)])).await.expect("append");
    let mut second = store.append(one(&up, &[(10, 0.0), (20, -1.0), (30, 1.0)])).await.expect("append");
    second.refused.sort();
    let refused = |at| (up.clone(), Timestamp::from_secs(at), SampleRefusal::DuplicateTimestamp);
    assert_eq!((first.written, first.refused), (2, vec![refused(10)]));
    assert_eq!((second.written, second.refused), (1, vec![refused(10), refused(20)]));
    assert_eq!(held(store, &up, everything()).await, bits(&[(10, 1.0), (20, 1.0), (30, 1.0)]));
}

async fn late_samples_take_their_place(store: &impl Store) {
    let up = Labels::metric("up");
    for at in [1000, 4000, 2000, 3000, 999] {
        let appended = store.append(one(&up, &[(at, at as f64)])).await.expect("append");
        assert_eq!((appended.written, appended.refused.len()), (1, 0));
    }
    let expected = bits(&[(999, 999.0), (1000, 1000.0), (2000, 2000.0), (3000, 3000.0), (4000, 4000.0)]);
    assert_eq!(held(store, &up, everything()).await, expected);
}

/// For stores whose out-of-order window is an hour.
async fn a_sample_far_behind_its_series_is_refused_and_the_others_are_not(store: &impl Store) {
    let (up, down) = (Labels::metric("up"), Labels::metric("down"));
    store.append(one(&up, &[(100_000, 1.0)])).await.expect("append");
    let mut batch = one(&up, &[(96_399, 1.0), (96_400, 2.0)]);
    batch.extend(one(&down, &[(99_990, 1.0)]));
    let appended = store.append(batch).await.expect("append");
    assert_eq!(appended.written, 2);
    assert_eq!(appended.refused, [(up.clone(), Timestamp::from_secs(96_399), SampleRefusal::TooOld)]);
    assert_eq!(held(store, &up, everything()).await, bits(&[(96_400, 2.0), (100_000, 1.0)]));
    assert_eq!(held(store, &down, everything()).await, bits(&[(99_990, 1.0)]));
}

async fn the_past_is_as_good_as_the_present(store: &impl Store) {
    let (live, replayed) = (Labels::metric("live"), Labels::metric("replayed"));
    for i in 0..100 {
        let mut batch = one(&live, &[(1_790_000_000 + i * 15, i as f64)]);
        batch.extend(one(&replayed, &[(-5000 + i * 3600, i as f64)]));
        assert_eq!(store.append(batch).await.expect("append").written, 2);
    }
    assert_eq!(held(store, &live, everything()).await.len(), 100);
    assert_eq!(held(store, &replayed, everything()).await.len(), 100);
}

async fn every_value_comes_back(store: &impl Store, values: Values) {
    let odd = Labels::metric("odd");
    let payload = f64::from_bits(0xfff8_dead_beef_0001);
    let samples = match values {
        Values::Bits => {
            vec![stale_marker(), f64::NAN, payload, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 0.1 + 0.2]
        }
        Values::Numbers => vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 0.1 + 0.2],
        Values::Decimals => vec![1.5, -0.25, 1e-3, 0.1 + 0.2, 123_456_789.125, 0.0],
    };
    let samples: Vec<(i64, f64)> = (1i64..).zip(samples).collect();
    store.append(one(&odd, &samples)).await.expect("append");
    if values == Values::Decimals {
        let held = held(store, &odd, everything()).await;
        let close = |(given, got): (&(i64, f64), &(i64, u64))| (given.1 - f64::from_bits(got.1)).abs() < 1e-6;
        assert!(held.len() == samples.len() && samples.iter().zip(&held).all(close), "{held:?}");
        return;
    }
    assert_eq!(held(store, &odd, everything()).await, bits(&samples));
}

async fn matchers_choose_series(store: &impl Store) {
    let series = |job: &str, code: &str| Labels::metric("requests").with("job", job).with("code", code);
    let all = [series("api", "200"), series("api", "500"), series("web", "200"), Labels::metric("up")];
    for labels in &all {
        store.append(one(labels, &[(10, 1.0)])).await.expect("append");
    }
    let regex = |name: &str, pattern: &str| Matcher::regex(name, pattern).expect("a pattern");
    let not_regex = |name: &str, pattern: &str| Matcher::not_regex(name, pattern).expect("a pattern");
    let questions = [
        vec![],
        vec![Matcher::equal("job", "api")],
        vec![Matcher::equal("job", "api"), Matcher::not_equal("code", "500")],
        vec![Matcher::equal("job", "")],
        vec![Matcher::not_equal("absent", "")],
        vec![regex("code", "[25]00"), not_regex("job", "w.*")],
        vec![regex("job", "|web")],
        vec![not_regex("job", ".+")],
    ];
    for question in &questions {
        let mut expected: Vec<Labels> =
            all.iter().filter(|labels| question.iter().all(|m| m.matches(labels))).cloned().collect();
        expected.sort();
        assert_eq!(store.series(question, everything()).await.expect("series"), expected, "{question:?}");
        let selected = store.select(question, everything(), usize::MAX).await.expect("select");
        assert_eq!(selected.into_iter().map(|s| s.labels).collect::<Vec<_>>(), expected, "{question:?}");
    }
}

async fn ranges_are_closed_at_both_ends(store: &impl Store) {
    let up = Labels::metric("up");
    store.append(one(&up, &[(10, 1.0), (20, 2.0), (30, 3.0)])).await.expect("append");
    assert_eq!(held(store, &up, between(10, 20)).await, bits(&[(10, 1.0), (20, 2.0)]));
    assert_eq!(held(store, &up, between(11, 19)).await, []);
    assert_eq!(held(store, &up, between(20, 20)).await, bits(&[(20, 2.0)]));
    assert_eq!(held(store, &up, between(30, 10)).await, []);
}

async fn of_one_who_looks_now_and_then_nothing_is_kept_back(store: &impl Store) {
    let up = Labels::metric("up");
    let samples: Vec<(i64, f64)> = (1..40).map(|i| (i * 7, i as f64)).collect();
    store.append(one(&up, &samples)).await.expect("append");
    let instants = Instants { first: Timestamp::from_secs(20), step: Step::from_secs(30) };
    let found = store.select_last(&[], between(8, 250), instants, usize::MAX).await.expect("select");
    assert_eq!(found.iter().map(|series| &series.labels).collect::<Vec<_>>(), [&up]);
    for look in (20..300).step_by(30) {
        let last = found[0].samples.iter().rev().find(|sample| sample.at <= Timestamp::from_secs(look));
        let expected = (look.min(250) / 7) as f64;
        assert_eq!(last.map(|sample| sample.value), Some(expected), "at {look}");
    }
}

async fn a_limit_is_kept(store: &impl Store) {
    let up = Labels::metric("up");
    store.append(one(&up, &[(10, 1.0), (20, 2.0), (30, 3.0)])).await.expect("append");
    assert!(matches!(store.select(&[], everything(), 2).await, Err(StoreError::TooLarge { limit: 2 })));
    assert_eq!(store.select(&[], everything(), 3).await.expect("select")[0].samples.len(), 3);
}

/// For stores that keep 30 days, in partitions of at most two.
async fn what_is_older_than_the_retention_goes(store: &impl Store) {
    const DAY: i64 = 86_400;
    let (old, new) = (Labels::metric("old"), Labels::metric("new"));
    store.append(one(&old, &[(0, 1.0), (40 * DAY, 2.0)])).await.expect("append");
    store.append(one(&new, &[(41 * DAY, 1.0)])).await.expect("append");
    store.retain(Timestamp::from_secs(45 * DAY)).await.expect("retain");
    assert_eq!(held(store, &old, everything()).await, bits(&[(40 * DAY, 2.0)]));
    assert_eq!(held(store, &new, everything()).await, bits(&[(41 * DAY, 1.0)]));
    store.retain(Timestamp::from_secs(45 * DAY)).await.expect("retain");
    assert_eq!(held(store, &new, everything()).await, bits(&[(41 * DAY, 1.0)]));
}
