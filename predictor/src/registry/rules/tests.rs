use std::time::Duration;

use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::series::{Step, Window};
use proptest::prelude::*;

use super::*;
use crate::registry::book::{Entry, written};

const STEP: Step = Step::from_secs(60);
const MINUTES: i64 = 160;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_secs(60 * minute)
}

fn config() -> ModelsConfig {
    ModelsConfig {
        promote: Promote::Automatic,
        window: Duration::from_secs(16 * 300),
        roll_back_after: Duration::from_secs(600),
        probation: Duration::from_secs(16 * 300),
        ..ModelsConfig::default()
    }
}

/// A record of who errs by `error(minute)`, with a 0.95 quantile `margin` above what it says; `None` is silence.
fn record(margin: f64, error: impl Fn(i64) -> Option<f64>) -> Record {
    let mut record = Record::new(config().window, Duration::from_secs(60));
    for minute in 0..MINUTES {
        record.observe(&Window { start: at(minute), step: STEP, values: vec![10.0] });
        let forecast = error(minute).map(|error| Forecast {
            start: at(minute + 1),
            step: STEP,
            mean: vec![10.0 - error; 4],
            levels: Quantile::STANDARD.to_vec(),
            quantiles: [-0.1, 0.0, 0.1, margin].map(|off| vec![10.0 - error + off; 4]).to_vec(),
            peaks: vec![],
        });
        record.issue(at(minute), forecast.as_ref());
    }
    record
}

fn take(book: &mut Book, entry: Entry) {
    let checksum = written(&entry).1;
    book.take(entry, checksum).unwrap();
}

fn obey(book: &mut Book, order: Order, now: Timestamp) {
    if let Some(entry) = book.entry(order, "x", "", now).unwrap() {
        take(book, entry);
    }
}

/// So many versions, none of them champion.
fn book(versions: u64) -> Book {
    let mut book = Book::default();
    for _ in 0..versions {
        let entry = book.registration("sum".to_owned(), None, "x", "", at(0));
        take(&mut book, entry);
    }
    book
}

fn steady(error: f64) -> Record {
    record(5.0, move |_| Some(error))
}

fn orders(book: &Book, records: [Record; 2]) -> Option<Order> {
    let records = records.into_iter().zip(0..).map(|(record, version)| (version, record)).collect();
    decide(book, &records, &config(), at(MINUTES)).map(|moved| moved.order)
}

#[test]
fn a_challenger_that_won_for_long_enough_is_promoted_and_one_that_won_lately_is_not() {
    assert_eq!(orders(&book(1), [steady(1.0), steady(0.5)]), Some(Order::Promote(1)));
    assert_eq!(orders(&book(1), [steady(1.0), steady(0.98)]), None, "not by the margin");
    let lately = record(5.0, |minute| Some(if minute < MINUTES - 20 { 1.1 } else { 0.0 }));
    assert_eq!(orders(&book(1), [steady(1.0), lately]), None, "not in the older half");
    let manual = ModelsConfig { promote: Promote::Manual, ..config() };
    let records = BTreeMap::from([(0, steady(1.0)), (1, steady(0.5))]);
    assert_eq!(decide(&book(1), &records, &manual, at(MINUTES)), None);
}

#[test]
fn a_worse_coverage_is_never_promoted() {
    let narrow = record(0.2, |_| Some(0.5));
    assert_eq!(orders(&book(1), [steady(1.0), narrow]), None);
}

#[test]
fn a_new_champion_that_does_worse_is_rolled_back_and_never_comes_again_by_itself() {
    let mut book = book(1);
    obey(&mut book, Order::Promote(1), at(MINUTES - 60));
    let records = || [steady(1.0), steady(3.0)];
    assert_eq!(orders(&book, records()), Some(Order::RollBack));
    obey(&mut book, Order::RollBack, at(MINUTES - 50));
    assert_eq!(orders(&book, records()), None);
    assert_eq!(orders(&book, [steady(3.0), steady(1.0)]), None, "it had its chance");
}

#[test]
fn a_champion_that_falls_silent_gives_way_to_one_that_speaks() {
    let mut book = book(1);
    obey(&mut book, Order::Promote(1), at(MINUTES - 60));
    assert_eq!(orders(&book, [steady(1.0), record(5.0, |_| None)]), Some(Order::RollBack));
}

#[test]
fn a_bad_hour_before_it_served_or_after_its_probation_does_not_count() {
    let mut book = book(1);
    obey(&mut book, Order::Promote(1), at(MINUTES - 60));
    let before = record(5.0, |minute| Some(if minute < MINUTES - 60 { 9.0 } else { 1.0 }));
    assert_eq!(orders(&book, [steady(1.0), before]), None);
    let late = at(MINUTES - 60) + config().probation + Duration::from_secs(60);
    let records = BTreeMap::from([(0, steady(1.0)), (1, steady(3.0))]);
    assert_eq!(decide(&book, &records, &config(), late), None);
}

proptest! {
    #[test]
    fn a_pinned_champion_never_moves(errors in prop::collection::vec(0.0..5.0f64, 4), champion in 0..4u64) {
        let mut book = book(3);
        obey(&mut book, Order::Promote(champion), at(MINUTES - 60));
        obey(&mut book, Order::Pin(champion), at(MINUTES - 60));
        let records = errors.into_iter().zip(0..).map(|(error, version)| (version, steady(error))).collect();
        prop_assert_eq!(decide(&book, &records, &config(), at(MINUTES)), None);
    }

    #[test]
    fn deciding_again_on_the_same_facts_comes_to_rest(
        errors in prop::collection::vec((0.0..5.0f64, 0.0..5.0f64), 4),
        start in 0..4u64,
    ) {
        let mut book = book(3);
        obey(&mut book, Order::Promote(start), at(MINUTES - 100));
        let of = |(older, newer): &(f64, f64)| record(5.0, |m| Some(if m < MINUTES / 2 { *older } else { *newer }));
        let records: BTreeMap<u64, Record> = (0..).zip(errors.iter().map(of)).collect();
        let mut moves = 0;
        while let Some(Move { order, .. }) = decide(&book, &records, &config(), at(MINUTES)) {
            obey(&mut book, order, at(MINUTES));
            moves += 1;
            prop_assert!(moves <= 1, "a new champion is compared over its own time only");
        }
        prop_assert_eq!(decide(&book, &records, &config(), at(MINUTES)), None);
    }
}
