//! What every store keeps: one battery for all of them. Each law is given a fresh, empty store and panics when broken.

use bellwether_models::series::{Labels, Sample, Timestamp, stale_marker};

use super::{Batch, Matcher, SampleRefusal, SeriesSamples, Store, StoreError, TimeRange};

/// Holds the stores that `open` gives, each empty, to every law.
///
/// # Panics
/// When a law is broken.
pub async fn store<S: Store>(open: impl AsyncFn() -> S) {
    what_is_appended_is_selected(&open().await).await;
    appending_again_changes_nothing(&open().await).await;
    a_second_value_at_one_time_is_refused_and_the_first_stays(&open().await).await;
    late_samples_take_their_place(&open().await).await;
    a_sample_far_behind_its_series_is_refused_and_the_others_are_not(&open().await).await;
    the_past_is_as_good_as_the_present(&open().await).await;
    every_bit_of_every_value_comes_back(&open().await).await;
    matchers_choose_series(&open().await).await;
    ranges_are_closed_at_both_ends(&open().await).await;
    a_limit_is_kept(&open().await).await;
    what_is_older_than_the_retention_goes(&open().await).await;
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

async fn what_is_appended_is_selected(store: &impl Store) {
    let up = Labels::metric("up").with("job", "node");
    let appended = store.append(one(&up, &[(10, 1.0), (20, 2.0)])).await.expect("append");
    assert_eq!((appended.written, appended.repeated, appended.refused.len()), (2, 0, 0));
    assert_eq!(held(store, &up, everything()).await, bits(&[(10, 1.0), (20, 2.0)]));
    assert_eq!(store.series(&[], everything()).await.expect("series"), [up]);
    let stats = store.stats().await.expect("stats");
    assert_eq!((stats.series, stats.samples, stats.span), (1, 2, Some(between(10, 20))));
}

async fn appending_again_changes_nothing(store: &impl Store) {
    let up = Labels::metric("up");
    let batch = one(&up, &[(10, 1.0), (100_000, f64::NAN), (50, 3.0), (10, 1.0)]);
    let first = store.append(batch.clone()).await.expect("append");
    let second = store.append(batch).await.expect("append");
    assert_eq!((first.written, first.repeated, first.refused.len()), (3, 1, 0));
    assert_eq!((second.written, second.repeated, second.refused.len()), (0, 4, 0));
    assert_eq!(held(store, &up, everything()).await, bits(&[(10, 1.0), (50, 3.0), (100_000, f64::NAN)]));
}

async fn a_second_value_at_one_time_is_refused_and_the_first_stays(store: &impl Store) {
    let up = Labels::metric("up");
    let first = store.append(one(&up, &[(10, 1.0), (10, 2.0), (20, 1.0)])).await.expect("append");
    let second = store.append(one(&up, &[(10, 0.0), (20, -1.0), (30, 1.0)])).await.expect("append");
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
    batch.extend(one(&down, &[(10, 1.0)]));
    let appended = store.append(batch).await.expect("append");
    assert_eq!(appended.written, 2);
    assert_eq!(appended.refused, [(up.clone(), Timestamp::from_secs(96_399), SampleRefusal::TooOld)]);
    assert_eq!(held(store, &up, everything()).await, bits(&[(96_400, 2.0), (100_000, 1.0)]));
    assert_eq!(held(store, &down, everything()).await, bits(&[(10, 1.0)]));
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

async fn every_bit_of_every_value_comes_back(store: &impl Store) {
    let odd = Labels::metric("odd");
    let payload = f64::from_bits(0xfff8_dead_beef_0001);
    let samples = [stale_marker(), f64::NAN, payload, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX];
    let samples: Vec<(i64, f64)> = (1i64..).zip(samples).collect();
    store.append(one(&odd, &samples)).await.expect("append");
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
