//! Expressions drawn at random from the whole language: new ones for each seed.
//!
//! A drawn expression is of the right types, so most have an answer; what has none must be refused alike. Left out is what
//! Prometheus itself does not settle: which of several equal elements `topk` takes, and the order of sums, wherever a
//! difference in the last bit could become one that counts.

use super::data::Dice;
use super::expressions::RANGE_FUNCTIONS;

/// So many expressions of a seed.
pub fn drawn(seed: u64, count: usize) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let mut all = std::collections::BTreeSet::new();
    while all.len() < count {
        let expression = match dice.below(12) {
            0 => scalar(&mut dice, 3),
            _ => vector(&mut dice, 4),
        };
        if expression.len() < 600 && is_settled(&expression) {
            all.insert(expression);
        }
    }
    all.into_iter().collect()
}

/// Sums depend on the order of what is added, and functions of the mathematics library on the library, in the last bit.
/// That is no matter, unless something makes much of it.
fn is_settled(expression: &str) -> bool {
    const LOOSE: [&str; 17] = [
        "sum", "avg", "stddev", "stdvar", "exp", "ln", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh",
        "asinh", "acosh", "atanh",
    ];
    const CALLED: [&str; 4] = [" by", " without", " (", "("];
    const SHARP: [&str; 21] = [
        "sin(",
        "cos(",
        "tan(",
        " % ",
        " ^ ",
        "sgn(",
        "ceil(",
        "floor(",
        "round(",
        "changes(",
        "resets(",
        "==",
        "!= ",
        "minute(",
        "hour(",
        "day_of_week(",
        "day_of_month(",
        "day_of_year(",
        "days_in_month(",
        "month(",
        "year(",
    ];
    let is_called = |name: &str| CALLED.iter().any(|called| expression.contains(&format!("{name}{called}")));
    let loose =
        LOOSE.iter().any(|name| is_called(name)) || expression.contains(" atan2 ") || expression.contains(" ^ ");
    !loose || !SHARP.iter().any(|name| expression.contains(name))
}

const METRICS: [&str; 22] = [
    "http_requests_total",
    "memory_bytes",
    "memory_limit_bytes",
    "temperature",
    "usage_ratio",
    "load",
    "up",
    "build_info",
    "late_total",
    "early_total",
    "sparse",
    "odd",
    "epoch_seconds",
    "first_total",
    "second_total",
    "labels_total",
    "job:memory:sum",
    "owner",
    "latency_seconds_bucket",
    "latency_seconds_sum",
    "latency_seconds_count",
    "nothing_here",
];

const MATCHERS: [&str; 20] = [
    "job=\"web\"",
    "job!=\"web\"",
    "job=~\"w.b|db\"",
    "instance=~\".+\"",
    "instance!~\"a.*\"",
    "instance=\"b:80\"",
    "instance=~\"[^:]+:[0-9]{2}\"",
    "code=~\"5..\"",
    "code!~\"2..|4..\"",
    "method=\"GET\"",
    "le=\"+Inf\"",
    "le=~\"0\\\\.[125]+\"",
    "kind!~\"nan|mixed\"",
    "shard=~\"[01]\"",
    "path=~\"(?i)/A.*\"",
    "every=~\"4m|once\"",
    "nolabel=\"\"",
    "nolabel!=\"\"",
    "job=~\"\"",
    "job=~\".*\"",
];

const SPANS: [&str; 9] = ["30s", "45s", "1m", "2m30s", "5m", "10m", "17m", "1h", "1d"];
const LABELS: [&str; 10] = ["job", "instance", "method", "code", "le", "kind", "shard", "team", "nolabel", "version"];

fn selector(dice: &mut Dice) -> String {
    let metric = *dice.pick(&METRICS);
    let count = [0, 0, 0, 1, 1, 2][dice.below(6) as usize];
    let matchers: Vec<&str> = (0..count).map(|_| *dice.pick(&MATCHERS)).collect();
    match (dice.below(12), matchers.is_empty()) {
        (0, _) => format!(
            "{{__name__=~\"{}\"}}",
            ["first_total|second_total", "up|load", "memory.*bytes"][dice.below(3) as usize]
        ),
        (_, true) => metric.to_owned(),
        _ => format!("{metric}{{{}}}", matchers.join(",")),
    }
}

/// `offset` and `@`, which may follow a selector or a subquery.
fn moved(dice: &mut Dice) -> String {
    let offset = format!("offset {}{}", if dice.below(4) == 0 { "-" } else { "" }, dice.pick(&SPANS[..7]));
    let at = ["@ start()", "@ end()", "@ 1700003000", "@ 1700005432.25"][dice.below(4) as usize];
    match dice.below(10) {
        0 | 1 => format!(" {offset}"),
        2 => format!(" {at}"),
        3 => format!(" {at} {offset}"),
        4 => format!(" {offset} {at}"),
        _ => String::new(),
    }
}

fn instant(dice: &mut Dice) -> String {
    let selector = selector(dice);
    selector + &moved(dice)
}

/// A range of samples: of a selector, or of a subquery over anything, subqueries included.
fn range(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 || dice.below(3) > 0 {
        let selector = selector(dice);
        let span = *dice.pick(&SPANS[..8]);
        return format!("{selector}[{span}]{}", moved(dice));
    }
    let inner = vector(dice, depth - 1);
    // Never shorter than its step: without a step Prometheus still evaluates, and refuses, what `@` fixes inside.
    let span = *dice.pick(&SPANS[4..8]);
    let step = *dice.pick(&["", "1m", "37s", "2m", "5m"]);
    format!("({inner})[{span}:{step}]{}", moved(dice))
}

/// Functions of a range that take a further argument, or an instant vector.
const OTHER_FUNCTIONS: [&str; 4] = ["quantile_over_time", "predict_linear", "holt_winters", "timestamp"];

fn over_time(dice: &mut Dice, depth: u64) -> String {
    let name = *dice.pick(&[&RANGE_FUNCTIONS[..], &OTHER_FUNCTIONS].concat());
    match name {
        "quantile_over_time" => {
            let level = *dice.pick(&["0", "0.5", "0.9", "1", "-1", "2", "NaN"]);
            format!("quantile_over_time({level}, {})", range(dice, depth))
        }
        // A range that is fixed by `@` is a documented difference.
        "predict_linear" => {
            let (selector, span) = (selector(dice), *dice.pick(&SPANS[..8]));
            format!("predict_linear({selector}[{span}], {})", dice.pick(&["3600", "-60", "0", "1e6"]))
        }
        "holt_winters" => {
            format!(
                "holt_winters({}, {}, {})",
                range(dice, depth),
                dice.pick(&["0.1", "0.5", "0.9"]),
                dice.pick(&["0.2", "0.8"])
            )
        }
        "timestamp" => format!("timestamp({})", selector(dice)),
        // These take the least step down for a restart: what is computed may go down by its last bit.
        "rate" | "increase" | "irate" | "changes" | "resets" => format!("{name}({})", range(dice, 0)),
        _ => format!("{name}({})", range(dice, depth)),
    }
}

const ELEMENTWISE: [&str; 38] = [
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "deg",
    "rad",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
    "sort",
    "sort_desc",
    "absent",
    "round",
    "clamp",
    "clamp_min",
    "clamp_max",
];

fn elementwise(dice: &mut Dice, depth: u64) -> String {
    let (name, inner) = (*dice.pick(&ELEMENTWISE), vector(dice, depth - 1));
    let (low, high) = (number(dice), number(dice));
    match name {
        "round" if dice.below(2) == 0 => {
            format!("round({inner}, {})", dice.pick(&["0.1", "5", "0.25", "1e3", "0", "-3"]))
        }
        "clamp" => format!("clamp({inner}, {low}, {high})"),
        "clamp_min" | "clamp_max" => format!("{name}({inner}, {low})"),
        _ => format!("{name}({inner})"),
    }
}

fn labels(dice: &mut Dice) -> String {
    let count = dice.below(4);
    (0..count).map(|_| *dice.pick(&LABELS)).collect::<Vec<_>>().join(", ")
}

fn grouping(dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => String::new(),
        1 => format!(" without ({})", labels(dice)),
        _ => format!(" by ({})", labels(dice)),
    }
}

fn aggregation(dice: &mut Dice, depth: u64) -> String {
    let (name, inner) = (
        *dice.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile", "count_values"]),
        vector(dice, depth - 1),
    );
    let grouping = grouping(dice);
    match name {
        "quantile" => {
            let level = *dice.pick(&["0", "0.25", "0.5", "0.99", "1", "-0.1", "1.5", "NaN"]);
            format!("quantile{grouping} ({level}, {inner})")
        }
        // Values that differ in the last bit would be other labels: only what is exact is counted. Three labels and more
        // are a documented difference.
        "count_values" => {
            let grouping = if grouping.matches(',').count() > 1 { "" } else { &grouping };
            format!("count_values{grouping} (\"{}\", {})", dice.pick(&["value", "job", "version"]), selector(dice))
        }
        _ if dice.below(2) == 0 => format!("{name} ({inner}){grouping}"),
        _ => format!("{name}{grouping} ({inner})"),
    }
}

/// `on` or `ignoring`, and which side may have several.
fn matching(dice: &mut Dice, groups: bool) -> String {
    let kind = ["on", "ignoring"][dice.below(2) as usize];
    let matched = match dice.below(6) {
        0 => return String::new(),
        _ => format!(" {kind}({})", labels(dice)),
    };
    match dice.below(5) {
        0 if groups => format!("{matched} group_left({})", labels(dice)),
        1 if groups => format!("{matched} group_right({})", labels(dice)),
        2 if groups => format!("{matched} group_left"),
        _ => matched,
    }
}

fn operation(dice: &mut Dice, depth: u64) -> String {
    let arithmetic = ["+", "-", "*", "/", "^", "atan2"];
    let comparison = ["==", "!=", ">", "<", ">=", "<="];
    let bool = if dice.below(3) == 0 { " bool" } else { "" };
    match dice.below(9) {
        // The remainder makes much of the last bit, so it is taken of what is exact.
        8 => format!("({}) % ({})", instant(dice), number(dice)),
        0 | 1 => {
            let (a, b) = (vector(dice, depth - 1), scalar(dice, depth - 1));
            let operator = *dice.pick(&arithmetic);
            if dice.below(2) == 0 { format!("({a}) {operator} ({b})") } else { format!("({b}) {operator} ({a})") }
        }
        2 => {
            let (a, b) = (vector(dice, depth - 1), scalar(dice, depth - 1));
            let operator = *dice.pick(&comparison);
            if dice.below(2) == 0 {
                format!("({a}) {operator}{bool} ({b})")
            } else {
                format!("({b}) {operator}{bool} ({a})")
            }
        }
        3 => {
            let operator = *dice.pick(&["and", "or", "unless"]);
            let matching = matching(dice, false);
            format!("({}) {operator}{matching} ({})", vector(dice, depth - 1), vector(dice, depth - 1))
        }
        4 => {
            let (operator, matching) = (*dice.pick(&comparison), matching(dice, true));
            format!("({}) {operator}{bool}{matching} ({})", instant(dice), instant(dice))
        }
        5 => {
            // Both sides brought to one element a label: most of these match.
            let (operator, label) = (*dice.pick(&arithmetic), *dice.pick(&LABELS[..4]));
            let (a, b) = (vector(dice, depth - 1), vector(dice, depth - 1));
            format!("max by ({label}) ({a}) {operator} on ({label}) min by ({label}) ({b})")
        }
        6 => {
            let (operator, label) = (*dice.pick(&arithmetic), *dice.pick(&LABELS[..2]));
            let include = labels(dice);
            format!(
                "({}) {operator} on ({label}) group_left({include}) max by ({label}, {}) ({})",
                vector(dice, depth - 1),
                dice.pick(&LABELS),
                vector(dice, depth - 1)
            )
        }
        _ => {
            let (operator, matching) = (*dice.pick(&arithmetic), matching(dice, true));
            format!("({}) {operator}{matching} ({})", vector(dice, depth - 1), vector(dice, depth - 1))
        }
    }
}

fn relabelled(dice: &mut Dice, depth: u64) -> String {
    let inner = vector(dice, depth - 1);
    let to = *dice.pick(&["copy", "job", "instance", "__name__"]);
    if dice.below(3) == 0 {
        let separator = *dice.pick(&["", "/", ", "]);
        return format!("label_join({inner}, \"{to}\", \"{separator}\", \"job\", \"instance\", \"nolabel\")");
    }
    let pattern = *dice.pick(&[
        "(.*)",
        "(.+)",
        "([a-z]):(\\\\d+)",
        "(?P<host>[^:]*):.*",
        "(a|b).*",
        "",
        "x*",
        "(?i)(W)(.)b",
        ".*(.)",
    ]);
    let replacement = *dice.pick(&["$1", "${1}-x", "$2$1", "$host", "fixed", "", "$$1", "$9", "a$"]);
    let from = *dice.pick(&LABELS);
    format!("label_replace({inner}, \"{to}\", \"{replacement}\", \"{from}\", \"{pattern}\")")
}

fn histogram(dice: &mut Dice) -> String {
    let level = *dice.pick(&["0", "0.5", "0.9", "0.99", "1", "-1", "1.1", "NaN"]);
    let by = *dice.pick(&["le", "le, instance", "le, job", "instance"]);
    let span = *dice.pick(&SPANS[2..7]);
    match dice.below(4) {
        0 => format!("histogram_quantile({level}, latency_seconds_bucket)"),
        1 => format!("histogram_quantile({level}, rate(latency_seconds_bucket[{span}]))"),
        2 => format!("histogram_quantile({level}, sum by ({by}) (increase(latency_seconds_bucket[{span}])))"),
        _ => format!("histogram_quantile({level}, sum without (job) (latency_seconds_bucket{{le!=\"0.25\"}}))"),
    }
}

fn vector(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 {
        return instant(dice);
    }
    match dice.below(16) {
        0..=3 => over_time(dice, depth - 1),
        4..=6 => aggregation(dice, depth),
        7..=9 => operation(dice, depth),
        10 | 11 => elementwise(dice, depth),
        12 => relabelled(dice, depth),
        13 => histogram(dice),
        14 => format!("{}({})", dice.pick(&["-", "+", ""]), vector(dice, depth - 1)),
        _ => match dice.below(4) {
            0 => format!("vector({})", scalar(dice, depth - 1)),
            1 => format!("absent({})", instant(dice)),
            2 => format!(
                "{}({}, http_requests_total + on(instance, method, code) group_left() http_requests_total * 0)",
                dice.pick(&["topk", "bottomk"]),
                dice.below(5)
            ),
            _ => instant(dice),
        },
    }
}

fn number(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(&[
        "0", "1", "-1", "0.5", "2", "100", "-0.25", "1e3", "1e-3", "0x1F", "Inf", "-Inf", "NaN", "1e9", ".75", "+3",
        "08.5",
    ])
}

fn scalar(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 {
        return number(dice).to_owned();
    }
    let operator = *dice.pick(&["+", "-", "*", "/", "^", "atan2", "== bool", "> bool", "<= bool", "!= bool"]);
    match dice.below(7) {
        0 => format!("scalar({})", vector(dice, depth - 1)),
        1 => format!("time(){}", dice.pick(&["", " % 7", " % 0.5"])),
        2 => "pi()".to_owned(),
        3 => format!("({}) {operator} ({})", scalar(dice, depth - 1), scalar(dice, depth - 1)),
        4 => format!("-({})", scalar(dice, depth - 1)),
        5 => format!("scalar(sum({}))", instant(dice)),
        _ => number(dice).to_owned(),
    }
}
