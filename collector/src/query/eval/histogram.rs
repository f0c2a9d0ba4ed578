//! Quantiles from the buckets of a classic histogram.

use std::collections::HashMap;

use super::{Row, absent, is_present};
use crate::query::metric::Metric;

const BUCKET: &str = "le";

/// Buckets of one histogram: upper bound and row, bounds ascending.
struct Histogram<'a> {
    metric: Metric,
    buckets: Vec<(f64, &'a [f64])>,
}

/// One row for each histogram among `rows`; rows without a readable `le` are passed over.
#[inline(never)]
pub(super) fn quantiles(quantile: &[f64], rows: &[Row]) -> Vec<Row> {
    let value = |histogram: Histogram<'_>| {
        let values = (0..quantile.len()).map(|step| at_step(quantile[step], &histogram, step)).collect();
        Row { metric: histogram.metric, values }
    };
    histograms(rows).into_iter().map(value).collect()
}

fn histograms(rows: &[Row]) -> Vec<Histogram<'_>> {
    let mut known: HashMap<Vec<(&str, &str)>, usize> = HashMap::new();
    let mut all: Vec<Histogram<'_>> = Vec::new();
    for row in rows {
        let Ok(bound) = row.metric.get(BUCKET).parse::<f64>() else { continue };
        // The name tells histograms apart, though the result does not carry it.
        let others = row.metric.pairs().filter(|(name, _)| *name != BUCKET).collect();
        let index = *known.entry(others).or_insert_with(|| {
            let metric = row.metric.without_name().minus(&[BUCKET.to_owned()]);
            all.push(Histogram { metric, buckets: Vec::new() });
            all.len() - 1
        });
        all[index].buckets.push((bound, &row.values));
    }
    all.iter_mut().for_each(|histogram| histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0)));
    all
}

fn at_step(quantile: f64, histogram: &Histogram<'_>, step: usize) -> f64 {
    let buckets = histogram.buckets.iter().map(|(bound, values)| (*bound, values[step]));
    let mut buckets: Vec<(f64, f64)> = buckets.filter(|(_, count)| is_present(*count)).collect();
    if buckets.is_empty() { absent() } else { bucket_quantile(quantile, &mut buckets) }
}

/// The value below which a share `quantile` of the observations lies, observations being spread evenly in each bucket.
/// `buckets` are upper bounds, ascending, with cumulative counts.
fn bucket_quantile(quantile: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return f64::NAN;
    }
    join_equal_bounds(buckets);
    never_falling(buckets);
    let (last, observations) = (buckets.len() - 1, buckets[buckets.len() - 1].1);
    if last == 0 || observations == 0.0 {
        return f64::NAN;
    }
    let rank = quantile * observations;
    let found = first_reaching(rank, &buckets[..last]);
    within(rank, found, buckets)
}

/// Where the observation of `rank` lies in bucket `found`, by linear interpolation; the lowest bucket starts at zero.
fn within(rank: f64, found: usize, buckets: &[(f64, f64)]) -> f64 {
    if found == buckets.len() - 1 {
        return buckets[found - 1].0;
    }
    let (end, count) = buckets[found];
    if found == 0 && end <= 0.0 {
        return end;
    }
    let (start, before) = if found == 0 { (0.0, 0.0) } else { buckets[found - 1] };
    start + (end - start) * ((rank - before) / (count - before))
}

fn join_equal_bounds(buckets: &mut Vec<(f64, f64)>) {
    buckets.dedup_by(|later, first| {
        let equal = later.0 == first.0;
        if equal {
            first.1 += later.1;
        }
        equal
    });
}

/// Counts are scraped one after the other, so a later bucket may show less than an earlier one: raise it.
fn never_falling(buckets: &mut [(f64, f64)]) {
    let mut most = buckets[0].1;
    for (_, count) in buckets.iter_mut().skip(1) {
        if *count > most {
            most = *count;
        } else if *count < most {
            *count = most;
        }
    }
}

/// The first bucket whose count reaches `rank`, by bisection.
fn first_reaching(rank: f64, buckets: &[(f64, f64)]) -> usize {
    // A NaN does not reach.
    buckets.partition_point(|(_, count)| *count < rank || count.is_nan() || rank.is_nan())
}
