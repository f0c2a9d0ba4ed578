//! Ways to share a budget of false alarms among many series, each measured on clean series and on faults.

use bellwether_models::detect::synthetic::{Noise, Signal};
use bellwether_models::detect::{Detector, Ledger, Score, Shadow, Thresholds, Univariate};
use bellwether_models::series::Timestamp;

const SERIES: usize = 120;
const WEEK: usize = 7 * 1440;
/// The first week is learnt from.
const WEEKS: usize = 5;
/// False alarms in a week that are to be kept.
const BUDGET: f64 = 1.0;
/// Flagged points within so many minutes are one alarm.
const JOIN: usize = 5;
/// A fault moves its series by so many standard deviations for an hour.
const SHIFT: f64 = 4.0;
const LASTS: usize = 60;

/// Surprise by minute and series.
type Scores = Vec<[f32; SERIES]>;

/// Says which of the series are flagged, minute by minute.
trait Rule {
    fn flags(&mut self, surprises: &[f32; SERIES]) -> [bool; SERIES];
}

/// Makes a rule that has seen nothing.
type Fresh = fn() -> Box<dyn Rule>;

/// Each point of each series gets an equal part of the budget (Bonferroni).
struct Equal;

/// Equal parts, and the bar raised as the alarms at sixteen times the budget ask for: what runs live.
#[derive(Default)]
struct Learnt {
    minute: usize,
    correction: f64,
    shadows: Vec<Shadow>,
    ledger: Ledger,
}

/// The points of a minute share its part: the one of rank k may be k times as likely.
///
/// Source: Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", JRSS B 1995.
struct StepUp;

/// A stream of tests whose level is earned by discoveries.
///
/// Source: A. Ramdas et al., "Online control of the false discovery rate with decaying memory", NeurIPS 2017 (LORD++).
struct Earned {
    level: f64,
    tests: usize,
    discoveries: Vec<usize>,
}

fn minutely() -> f64 {
    BUDGET / WEEK as f64
}

impl Rule for Equal {
    fn flags(&mut self, surprises: &[f32; SERIES]) -> [bool; SERIES] {
        let bar = -(minutely() / SERIES as f64).log10();
        surprises.map(|s| f64::from(s) >= bar)
    }
}

impl Rule for Learnt {
    fn flags(&mut self, surprises: &[f32; SERIES]) -> [bool; SERIES] {
        let at = Timestamp::from_secs(self.minute as i64 * 60);
        if self.minute.is_multiple_of(60) {
            self.ledger.settle(at);
            self.correction = self.ledger.correction(BUDGET, at);
        }
        self.minute += 1;
        self.shadows.resize_with(SERIES, Shadow::default);
        let base = Thresholds { opens: -(minutely() / SERIES as f64).log10(), ..Thresholds::default() };
        let raised = Thresholds { opens: base.opens + self.correction, ..base };
        for (surprise, shadow) in surprises.iter().zip(&mut self.shadows) {
            let score = Score { surprise: f64::from(*surprise), ..Score::NONE };
            let alarms = shadow.observe(at, &score, &base, &raised);
            if alarms.contains(&true) {
                self.ledger.note(at, alarms);
            }
        }
        surprises.map(|s| f64::from(s) >= raised.opens)
    }
}

impl Rule for StepUp {
    fn flags(&mut self, surprises: &[f32; SERIES]) -> [bool; SERIES] {
        let mut falling = *surprises;
        falling.sort_by(|a, b| b.total_cmp(a));
        let bar = |rank: usize| -(minutely() * rank as f64 / SERIES as f64).log10();
        let last = (1..=SERIES).rev().find(|rank| f64::from(falling[rank - 1]) >= bar(*rank));
        surprises.map(|s| last.is_some_and(|rank| f64::from(s) >= bar(rank)))
    }
}

impl Rule for Earned {
    fn flags(&mut self, surprises: &[f32; SERIES]) -> [bool; SERIES] {
        surprises.map(|s| {
            self.tests += 1;
            let found = 10f64.powf(-f64::from(s)) <= self.present();
            if found {
                self.discoveries.push(self.tests);
            }
            found
        })
    }
}

impl Earned {
    /// Half of the wealth at the start; each discovery earns the level anew, spent ever more slowly. What the oldest
    /// discoveries still give is nothing to speak of.
    fn present(&self) -> f64 {
        let spent = |age: usize| {
            let age = age as f64;
            0.072_1 * (age.max(2.0)).ln() / (age * (age.ln().max(0.0).sqrt()).exp())
        };
        let earned = self.discoveries.iter().rev().take(200).map(|at| spent(self.tests - at));
        self.level * (0.5 * spent(self.tests) + earned.sum::<f64>())
    }
}

/// Prints what each rule makes of the same scores.
pub fn print() {
    let clean = scores(|_| usize::MAX);
    let alone = scores(|series| 2 * WEEK + 87 * series);
    let together = scores(|series| 2 * WEEK + 1440 * (series / 12));
    println!(
        "Alarms of {SERIES} clean series at 1 min for a budget of {BUDGET} a week, and faults of {SHIFT} sigma found,"
    );
    println!("one series at a time and twelve at once");
    let rules: [(&str, Fresh); 5] = [
        ("equal parts (Bonferroni)", || Box::new(Equal)),
        ("equal parts, bar learnt", || Box::<Learnt>::default()),
        ("step-up within a minute (BH)", || Box::new(StepUp)),
        ("earned, FDR 0.05 (LORD++)", || Box::new(Earned { level: 0.05, tests: 0, discoveries: Vec::new() })),
        ("earned, FDR 0.2 (LORD++)", || Box::new(Earned { level: 0.2, tests: 0, discoveries: Vec::new() })),
    ];
    for (name, rule) in rules {
        let weekly = alarms(&clean, rule().as_mut()) as f64 / (WEEKS - 1) as f64;
        let one = found(&alone, rule().as_mut(), |series| 2 * WEEK + 87 * series);
        let many = found(&together, rule().as_mut(), |series| 2 * WEEK + 1440 * (series / 12));
        println!("{name:30} {weekly:5.2} a week, found {one:3} and {many:3} of {SERIES}");
    }
}

/// Scores of all series, each of which is moved for a while from the minute that `onset` gives.
fn scores(onset: impl Fn(usize) -> usize) -> Scores {
    let mut scores = vec![[0.0; SERIES]; WEEK * WEEKS];
    for series in 0..SERIES {
        let (signal, from) = (Signal::ALL[series % Signal::ALL.len()], onset(series));
        let (mut detector, mut noise, mut value) = (Univariate::default(), Noise::new(series as u64 * 7919 + 3), 0.0);
        for (minute, row) in scores.iter_mut().enumerate() {
            value = signal.next(minute as u32 * 60, value, &mut noise);
            let moved = if minute >= from && minute - from < LASTS { SHIFT * deviation(signal) } else { 0.0 };
            let at = Timestamp::from_secs(minute as i64 * 60);
            row[series] = detector.observe(at, value + moved).surprise as f32;
        }
    }
    scores
}

/// Standard deviation of a signal about its course.
fn deviation(signal: Signal) -> f64 {
    match signal {
        Signal::White => 1.0,
        Signal::Autoregressive => 2.29,
        Signal::Poisson => 2.24,
        Signal::LogNormal => 2.16,
        Signal::DailySine => 5.0,
        Signal::Student3 => 1.73,
    }
}

fn alarms(scores: &Scores, rule: &mut dyn Rule) -> usize {
    let (mut alarms, mut last) = (0, [None::<usize>; SERIES]);
    for (minute, row) in scores.iter().enumerate().skip(WEEK) {
        for (last, _) in last.iter_mut().zip(rule.flags(row)).filter(|(_, flag)| *flag) {
            alarms += usize::from(last.is_none_or(|before| minute - before > JOIN));
            *last = Some(minute);
        }
    }
    alarms
}

/// Series that are flagged within the hour of their fault.
fn found(scores: &Scores, rule: &mut dyn Rule, onset: impl Fn(usize) -> usize) -> usize {
    let mut found = [false; SERIES];
    for (minute, row) in scores.iter().enumerate().skip(WEEK) {
        let flags = rule.flags(row);
        for series in (0..SERIES).filter(|series| (onset(*series)..onset(*series) + LASTS).contains(&minute)) {
            found[series] |= flags[series];
        }
    }
    found.iter().filter(|found| **found).count()
}
