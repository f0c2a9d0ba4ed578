//! What the network is shown of a series: everything relative to the newest value, on the scale of what is in view.

/// Recent values looked at.
pub(crate) const RECENT: usize = 48;
/// Numbers shown at each step.
pub(crate) const WIDTH: usize = 10;
/// Most seasons looked at.
pub(crate) const SEASONS: usize = 2;

/// Weight of a new cycle in the usual course.
pub(crate) const GAIN: f64 = 0.25;
/// Beyond this an input is held back.
const MOST: f64 = 12.0;

/// The usual value at each place of the cycle, once it was observed: a moving mean over cycles.
pub(crate) fn course(y: &[f64], period: usize) -> Vec<f64> {
    let mut course = y.to_vec();
    for i in period..y.len() {
        let gain = GAIN.max(1.0 / (i / period + 1) as f64);
        course[i] = course[i - period] + gain * (y[i] - course[i - period]);
    }
    course
}

/// One season of a series: its period, and the usual value by index for the indices that were observed.
pub(crate) struct Season<F> {
    pub(crate) period: usize,
    pub(crate) usual: F,
}

/// What is shown at one origin.
pub(crate) struct Shown {
    /// Shape `[RECENT + horizon][WIDTH]`, flattened.
    pub(crate) inputs: Vec<f32>,
    /// What one unit of the network's answer is in units of the series; zero when nothing in view differs.
    pub(crate) scale: f64,
    /// The newest value, which the answer is relative to.
    pub(crate) last: f64,
}

/// The inputs for the `horizon` steps after the first `n` of `y` (at least one): first the newest [`RECENT`] steps, the
/// oldest first, then the steps to come. `seasons` ascend by period; each must have been observed for a whole period.
pub(crate) fn show<F: Fn(usize) -> f64>(y: &[f64], n: usize, seasons: &[Season<F>], horizon: usize) -> Shown {
    let last = y[n - 1];
    let steps = RECENT + horizon;
    let mut raw = vec![[0.0; 5]; steps];
    for (at, row) in raw.iter_mut().enumerate() {
        let i = (n + at).checked_sub(RECENT);
        row[0] = if at < RECENT { y[i.unwrap_or(0)] - last } else { 0.0 };
        for (slot, season) in (0..SEASONS).map(|s| (s, seasons.get(s).or(seasons.last()))) {
            let (usual, then) = season.map_or((last, last), |season| earlier(y, n, i.unwrap_or(0), season));
            row[1 + slot] = usual - last;
            row[3 + slot] = then - last;
        }
    }
    let size = |rows: &[[f64; 5]], column: usize| rows.iter().map(|r| r[column].abs()).sum::<f64>() / rows.len() as f64;
    let scale = size(&raw[..RECENT], 0).max(0.5 * size(&raw, 1));
    let changes: f64 = raw[..RECENT].windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs()).sum::<f64>();
    let restless = changes / (RECENT - 1) as f64;
    let ratio = |value: f64| if scale > 0.0 { (value / scale).clamp(-MOST, MOST) as f32 } else { 0.0 };
    let seasonal = f32::from(u8::from(!seasons.is_empty()));
    let several = f32::from(u8::from(seasons.len() > 1));
    let mut inputs = Vec::with_capacity(steps * WIDTH);
    for (at, row) in raw.iter().enumerate() {
        inputs.extend(row.iter().map(|v| ratio(*v)));
        let ahead = (at + 1).saturating_sub(RECENT);
        inputs.extend([
            (ahead as f32).ln_1p() / 3.0,
            f32::from(u8::from(ahead > 0)),
            seasonal,
            several,
            ratio(restless),
        ]);
    }
    Shown { inputs, scale, last }
}

/// The usual value at index `i` of the season, as it was known a cycle before, and what came then (a short mean).
fn earlier<F: Fn(usize) -> f64>(y: &[f64], n: usize, i: usize, season: &Season<F>) -> (f64, f64) {
    let cycles = if i >= n { (i - n) / season.period + 1 } else { 1 };
    let then = i.saturating_sub(cycles * season.period);
    let around = &y[then.saturating_sub(1)..(then + 2).min(n)];
    ((season.usual)(then), around.iter().sum::<f64>() / around.len() as f64)
}
