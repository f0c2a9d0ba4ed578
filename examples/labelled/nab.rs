//! The score of the Numenta anomaly benchmark: one threshold for the whole corpus, early detections worth more, false
//! alarms the cheaper the closer they follow a window.
//!
//! Source: A. Lavin, S. Ahmad, "Evaluating real-time anomaly detection algorithms - the Numenta anomaly benchmark",
//! ICMLA 2015.

/// Weights of a false alarm and of a missed window, beside a found window's 1.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub name: &'static str,
    false_alarm: f64,
    missed: f64,
}

pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", false_alarm: 0.11, missed: 1.0 },
    Profile { name: "low FP", false_alarm: 0.22, missed: 1.0 },
    Profile { name: "low FN", false_alarm: 0.11, missed: 2.0 },
];

/// A file that was scored: its windows as first and last row, and a score a row.
#[derive(Clone, Debug)]
pub struct Scored {
    pub name: String,
    pub windows: Vec<[usize; 2]>,
    pub scores: Vec<f64>,
}

/// What lowering the threshold past a score adds to the sum.
type Step = (f64, f64);

impl Scored {
    /// The part of the file's name before the slash.
    pub fn category(&self) -> &str {
        self.name.split('/').next().unwrap_or("")
    }

    fn probation(&self) -> usize {
        (self.scores.len() * 15 / 100).min(750)
    }

    /// Windows that reach beyond the rows that are never scored.
    fn countable(&self) -> usize {
        self.windows.iter().filter(|[_, end]| *end >= self.probation()).count()
    }

    fn steps(&self, profile: Profile) -> Vec<Step> {
        let mut steps = self.false_alarms(profile);
        for window in self.windows.iter().filter(|[_, end]| *end >= self.probation()) {
            steps.extend(self.found(*window, profile));
        }
        steps
    }

    /// Rows outside windows, by their distance from the window before.
    fn false_alarms(&self, profile: Profile) -> Vec<Step> {
        let outside = (self.probation()..self.scores.len())
            .filter(|row| !self.windows.iter().any(|[start, end]| (start..=end).contains(&row)));
        let cost = |row: usize| match self.windows.iter().rfind(|[_, end]| *end < row) {
            Some([start, end]) => position((row - end) as f64 / (end - start).max(1) as f64),
            None => -1.0,
        };
        outside.map(|row| (self.scores[row], profile.false_alarm * cost(row))).collect()
    }

    /// A window is worth its earliest row above the threshold.
    fn found(&self, [start, end]: [usize; 2], profile: Profile) -> Vec<Step> {
        let (length, most) = ((end - start + 1) as f64, position(-1.0));
        let mut rows: Vec<(f64, f64)> = (start.max(self.probation())..=end)
            .map(|row| (self.scores[row], position(-((end - row + 1) as f64) / length) / most))
            .collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut best = -profile.missed;
        let gain = |(score, worth): (f64, f64)| {
            let before = best;
            best = before.max(worth);
            (score, best - before)
        };
        rows.into_iter().map(gain).collect()
    }
}

/// Worth of an alarm at `relative` windows behind a window's end: 1 far ahead, 0 at the end, -1 far behind.
fn position(relative: f64) -> f64 {
    if relative > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * relative).exp()) - 1.0 }
}

/// The best threshold on `files`, and the score there, in `..=100`.
pub fn best(files: &[&Scored], profile: Profile) -> (f64, f64) {
    let curve = curve(files, profile);
    let (threshold, sum) = curve.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((f64::INFINITY, 0.0));
    (threshold, normal(files, profile, sum))
}

/// The score with a threshold from elsewhere.
pub fn at(files: &[&Scored], profile: Profile, threshold: f64) -> f64 {
    let sum = curve(files, profile).into_iter().take_while(|(score, _)| *score >= threshold).last();
    normal(files, profile, sum.map_or(0.0, |(_, sum)| sum))
}

/// Sums gained over no alarm at all, by falling threshold.
fn curve(files: &[&Scored], profile: Profile) -> Vec<Step> {
    let mut steps: Vec<Step> = files.iter().flat_map(|file| file.steps(profile)).collect();
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut curve: Vec<Step> = vec![(f64::INFINITY, 0.0)];
    for (score, gain) in steps {
        let sum = curve.last().map_or(0.0, |last| last.1) + gain;
        match curve.last_mut() {
            Some(last) if last.0 == score => last.1 = sum,
            _ => curve.push((score, sum)),
        }
    }
    curve
}

/// As a share of what a perfect detector gains over one that is silent.
fn normal(files: &[&Scored], profile: Profile, gained: f64) -> f64 {
    let windows: usize = files.iter().map(|file| file.windows.len()).sum();
    let countable: usize = files.iter().map(|file| file.countable()).sum();
    100.0 * gained / (windows as f64 + profile.missed * countable as f64)
}
