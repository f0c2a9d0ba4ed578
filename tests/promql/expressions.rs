//! Expressions to compare: written by hand where a rule of the language is at stake, made by rule where breadth is.

use std::collections::BTreeSet;

use super::data::Dice;

/// All expressions, each once.
pub fn all() -> Vec<String> {
    let mut all: BTreeSet<String> =
        BY_HAND.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect();
    all.extend(range_functions());
    all.extend(elementwise());
    all.extend(aggregations());
    all.extend(operators());
    all.extend(subqueries());
    all.extend(composed(160));
    all.into_iter().collect()
}

const GAUGES: [&str; 6] = ["memory_bytes", "temperature", "usage_ratio", "load", "up", "sparse"];
const RANGES: [&str; 5] = ["1m", "90s", "5m", "17m", "40m"];

/// Functions of a range and nothing else.
pub const RANGE_FUNCTIONS: [&str; 18] = [
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
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
];

fn range_functions() -> Vec<String> {
    let series = ["http_requests_total", "usage_ratio", "up", "sparse", "odd{kind!=\"huge\"}", "late_total"];
    let mut all = Vec::new();
    for (i, function) in RANGE_FUNCTIONS.iter().enumerate() {
        for (j, series) in series.iter().enumerate() {
            all.push(format!("{function}({series}[{}])", RANGES[(i + j) % RANGES.len()]));
        }
    }
    for (i, q) in ["0", "0.5", "0.95", "1", "-1", "2", "NaN", "scalar(load) / 10"].iter().enumerate() {
        all.push(format!("quantile_over_time({q}, {}[{}])", GAUGES[i % GAUGES.len()], RANGES[i % RANGES.len()]));
    }
    for (i, seconds) in ["60", "-3600", "time() - 1700000000", "scalar(load)"].iter().enumerate() {
        all.push(format!("predict_linear({}[{}], {seconds})", GAUGES[i % 4], RANGES[2 + i % 3]));
    }
    for (i, factors) in ["0.5, 0.5", "0.1, 0.9", "0.99, 0.01"].iter().enumerate() {
        all.push(format!("holt_winters({}[{}], {factors})", GAUGES[i], RANGES[2 + i]));
    }
    all
}

fn elementwise() -> Vec<String> {
    let functions = [
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "ceil",
        "cos",
        "cosh",
        "deg",
        "exp",
        "floor",
        "ln",
        "log10",
        "log2",
        "rad",
        "round",
        "sgn",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "timestamp",
        "sort",
        "sort_desc",
    ];
    let series = ["usage_ratio", "temperature", "odd{kind!=\"nan\"}"];
    let mut all: Vec<String> = (functions.iter().enumerate())
        .flat_map(|(i, f)| [format!("{f}({})", series[i % 3]), format!("{f}(load - 4)")])
        .collect();
    for part in ["days_in_month", "day_of_month", "day_of_week", "day_of_year", "hour", "minute", "month", "year"] {
        all.extend([format!("{part}()"), format!("{part}(epoch_seconds)"), format!("{part}(vector(1709164799.9))")]);
    }
    all
}

fn aggregations() -> Vec<String> {
    let groups = [
        "",
        " by (instance)",
        " without (instance)",
        " by (job, method)",
        " without (code, method)",
        " by ()",
        " without ()",
    ];
    let mut all = Vec::new();
    for (i, fold) in ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"].iter().enumerate() {
        for (j, group) in groups.iter().enumerate() {
            let series = ["http_requests_total", "usage_ratio", "{__name__=~\"memory.*\"}", "temperature"][(i + j) % 4];
            all.push(format!("{fold}{group}({series})"));
        }
    }
    for (i, group) in groups.iter().enumerate() {
        all.push(format!("topk{group}({}, http_requests_total)", i % 4));
        all.push(format!("bottomk{group}({}, memory_bytes)", 1 + i % 3));
        all.push(format!("quantile{group}(0.{}, usage_ratio)", 1 + i));
        all.push(format!("count_values{group}(\"value\", up)"));
    }
    all
}

fn operators() -> Vec<String> {
    let mut all = Vec::new();
    for op in ["+", "-", "*", "/", "%", "^", "atan2"] {
        all.push(format!("temperature {op} 2.5"));
        all.push(format!("7 {op} usage_ratio"));
        all.push(format!("memory_bytes {op} memory_limit_bytes"));
        all.push(format!("first_total {op} on(shard) second_total"));
        all.push(format!("1.5 {op} -3"));
        all.push(format!("http_requests_total {op} on(instance) group_left(team) owner"));
    }
    for op in ["==", "!=", ">", "<", ">=", "<="] {
        all.push(format!("temperature {op} 0.5"));
        all.push(format!("2 {op} load"));
        all.push(format!("up {op} bool 1"));
        all.push(format!("1 {op} bool 2"));
        all.push(format!("memory_bytes {op} ignoring(job) memory_bytes offset 7m"));
        all.push(format!("first_total {op} bool on(shard, job) second_total"));
        all.push(format!("owner {op} on(instance) group_right(team) http_requests_total"));
    }
    for op in ["and", "or", "unless"] {
        all.push(format!("up {op} usage_ratio"));
        all.push(format!("up {op} on(instance) memory_bytes"));
        all.push(format!(
            "http_requests_total{{code=\"200\"}} {op} ignoring(code) http_requests_total{{code=\"500\"}}"
        ));
        all.push(format!("usage_ratio > 0.5 {op} on() vector(1)"));
        all.push(format!("first_total {op} ignoring(shard) second_total"));
    }
    all
}

fn subqueries() -> Vec<String> {
    let outer = ["max_over_time", "avg_over_time", "count_over_time", "rate", "deriv", "last_over_time"];
    let inner = [
        "rate(http_requests_total[5m])",
        "usage_ratio",
        "sum(up)",
        "vector(time())",
        "sparse",
        "absent(up{job=\"db\"})",
    ];
    let windows = ["[10m:1m]", "[7m:45s]", "[30m:5m]", "[10m:]", "[1h:7m] offset 3m", "[5m:20s]"];
    let mut all = Vec::new();
    for (i, outer) in outer.iter().enumerate() {
        for (j, inner) in inner.iter().enumerate() {
            all.push(format!("{outer}(({inner}){})", windows[(i + j) % windows.len()]));
        }
    }
    all
}

/// Expressions put together at random, always the same ones.
fn composed(count: usize) -> Vec<String> {
    let mut dice = Dice::new(7);
    (0..count).map(|_| vector(&mut dice, 3)).collect()
}

fn vector(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 {
        return selector(dice).to_owned();
    }
    match dice.below(9) {
        0 => {
            let f = *dice.pick(&[
                "rate",
                "increase",
                "delta",
                "avg_over_time",
                "max_over_time",
                "sum_over_time",
                "stddev_over_time",
            ]);
            format!("{f}({}[{}])", selector(dice), dice.pick(&RANGES))
        }
        1 => {
            let f = *dice.pick(&["sum", "avg", "max", "min", "count", "stddev"]);
            let by = *dice.pick(&["", " by (instance)", " by (job)", " without (instance)", " without (job, le)"]);
            format!("{f}{by}({})", vector(dice, depth - 1))
        }
        2 => format!(
            "{} {} {}",
            vector(dice, depth - 1),
            dice.pick(&["+", "-", "*", "/", ">", "<="]),
            scalar(dice, depth - 1)
        ),
        3 => format!(
            "({}) {} ({})",
            vector(dice, depth - 1),
            dice.pick(&["and", "or", "unless"]),
            vector(dice, depth - 1)
        ),
        4 => {
            let by = *dice.pick(&["on(instance)", "on(job, instance)", "on()", "ignoring(method, code)"]);
            let (a, b) = (vector(dice, depth - 1), vector(dice, depth - 1));
            format!("sum by (job, instance) ({a}) {} {by} sum by (instance) ({b})", dice.pick(&["+", "/", "-"]))
        }
        5 => format!("{}({})", dice.pick(&["abs", "ceil", "sqrt", "sgn", "exp"]), vector(dice, depth - 1)),
        6 => {
            let f = *dice.pick(&["max_over_time", "avg_over_time", "sum_over_time", "changes", "min_over_time"]);
            format!(
                "{f}(({})[{}:{}])",
                vector(dice, depth - 1),
                dice.pick(&["10m", "25m"]),
                dice.pick(&["1m", "3m", "50s"])
            )
        }
        7 => format!("clamp({}, {}, 100)", vector(dice, depth - 1), dice.below(50)),
        _ => selector(dice).to_owned(),
    }
}

fn scalar(dice: &mut Dice, depth: u64) -> String {
    match dice.below(4) {
        0 => format!("scalar({})", vector(dice, depth.min(1))),
        1 => "time() / 1e9".to_owned(),
        _ => format!("{}", dice.below(1000) as f64 / 8.0),
    }
}

fn selector(dice: &mut Dice) -> &'static str {
    dice.pick::<&str>(&[
        "http_requests_total",
        "http_requests_total{code=\"200\"}",
        "memory_bytes",
        "temperature",
        "usage_ratio",
        "load",
        "up",
        "latency_seconds_bucket{le=\"0.5\"}",
        "latency_seconds_sum",
        "latency_seconds_count",
        "late_total",
        "build_info",
        "first_total",
        "second_total",
        "memory_bytes offset 10m",
        "up{instance=~\"a.*|c.*\"}",
    ])
}

/// One expression a line.
const BY_HAND: &str = r##"
# literals
1
-1
1 + 2 * 3 ^ 2 ^ 0.5
-2 ^ 2
(1 + 2) * 3
0x1F
1e3
Inf
-Inf
NaN
.5
1 / 0
-1 / 0
0 / 0
5 % 3
-5 % 3
5 % -3
5.5 % 0
2 ^ -1
"text"
'single \'quoted\''
`raw \n text`
time()
pi()
vector(1)
vector(time())
scalar(vector(3))
scalar(up)
scalar(load)
-load
+load
-(-load)
-up
1 - -load
1 == bool 1
1 > bool NaN
(1)
((load))
# selectors
up
{__name__="up"}
{__name__=~"up|load"}
{job="web"}
up{job="web"}
up{job!="web"}
up{instance=~"a.*"}
up{instance!~"a.*"}
up{instance=~".*:80"}
up{instance=~"a"}
up{instance=~""}
up{nolabel=""}
up{nolabel!=""}
up{job="web",instance="b:80"}
up{job=~"web|db",instance!="b:80",}
temperature{Zone="Nord"}
labels_total
labels_total{path="/a \"quoted\" \\ path"}
labels_total{path='日本語'}
labels_total{path=~"日.+"}
labels_total{_under="1"}
job:memory:sum
sparse
build_info
late_total
early_total
odd
nothing_here
nothing_here{a="b"}
epoch_seconds
# offset and @
up offset 5m
up offset 1h
up offset -5m
up offset 90s
sparse offset 3m
rate(http_requests_total[5m] offset 10m)
rate(http_requests_total[5m] offset -10m)
memory_bytes - memory_bytes offset 15m
up @ 1700001000
up @ 1700001000.5
up @ start()
up @ end()
up offset 5m @ 1700003000
up @ 1700003000 offset 5m
load @ end() - load @ start()
rate(http_requests_total[5m] @ 1700003000)
rate(http_requests_total[5m] @ end())
sum(rate(http_requests_total[5m] @ start() offset 2m))
timestamp(up @ 1700001000)
max_over_time(load[10m:1m] @ 1700003000)
max_over_time((load @ 1700003000)[10m:1m])
max_over_time(rate(http_requests_total[2m] @ end())[10m:1m])
sum_over_time(load[10m:1m] @ end() offset 5m)
sum_over_time((load offset 2m)[10m:1m] offset 3m)
topk(2, http_requests_total @ end())
vector(1) + load @ start()
time() - timestamp(load @ end())
absent(nothing_here @ 1700003000)
avg_over_time(avg_over_time(load[5m:1m])[10m:2m])
avg_over_time(avg_over_time(load[5m:1m] @ 1700003000)[10m:2m])
rate(http_requests_total[5m])[10m:1m]
# ranges in instant queries
up[5m]
up[5m] offset 3m
up[5m] @ 1700003000
load[1m]
sparse[30m]
usage_ratio[10m]
nothing_here[5m]
load[10m:1m]
rate(http_requests_total[5m])[5m:90s]
odd[1m]
# rate family, where it is delicate
rate(http_requests_total[15s])
rate(http_requests_total[30s])
rate(http_requests_total[31s])
rate(late_total[10m])
rate(early_total[20m])
increase(late_total[1h])
increase(early_total[90m])
rate(up[10m])
delta(temperature[3m])
delta(up[30m])
irate(late_total[40m])
idelta(sparse[20m])
rate(sparse[1h])
increase(sparse[15m])
rate(odd[2m])
rate({__name__=~"first_total|second_total"}[5m])
sum(rate({__name__=~"first_total|second_total"}[5m]))
abs({__name__=~"first_total|second_total"})
-{__name__=~"first_total|second_total"}
-build_info
max_over_time({__name__=~"first_total|second_total"}[5m])
last_over_time({__name__=~"first_total|second_total"}[5m])
sum(rate(http_requests_total[5m])) by (code)
sum by (code) (rate(http_requests_total[5m])) / ignoring(code) group_left sum(rate(http_requests_total[5m]))
sum(rate(http_requests_total{code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))
deriv(temperature[10m]) * 3600
deriv(odd{kind="constant"}[5m])
deriv(odd{kind="inf"}[5m])
deriv(odd{kind="nan"}[5m])
deriv(sparse{every="once"}[1h])
predict_linear(memory_bytes[30m], 4 * 3600) > 2e9
predict_linear(odd{kind="inf"}[5m], 60)
predict_linear(odd{kind="constant"}[5m], 60)
holt_winters(temperature[20m], 0.3, 0.1)
holt_winters(sparse{every="once"}[1h], 0.3, 0.1)
changes(build_info[1h])
resets(http_requests_total{instance="b:80"}[1h])
stddev_over_time(odd{kind="constant"}[10m])
stdvar_over_time(memory_bytes[30m])
avg_over_time(odd{kind="huge"}[10m])
sum_over_time(odd{kind="tiny"}[10m])
avg_over_time(odd{kind="mixed"}[30s])
avg_over_time(odd{kind="mixed"}[1m])
max_over_time(odd[1m])
min_over_time(odd[1m])
stddev_over_time(odd{kind!="huge"}[1m])
quantile_over_time(0.3, odd{kind="mixed"}[2m])
count_over_time(up[5m])
count_over_time({job="web"}[1m])
present_over_time(sparse[5m])
last_over_time(up[10m])
last_over_time(sparse[1h])
# histograms
histogram_quantile(0.9, latency_seconds_bucket)
histogram_quantile(0.5, rate(latency_seconds_bucket[5m]))
histogram_quantile(0.99, sum by (le) (rate(latency_seconds_bucket[5m])))
histogram_quantile(0.99, sum by (le, instance) (rate(latency_seconds_bucket[10m])))
histogram_quantile(0, rate(latency_seconds_bucket[5m]))
histogram_quantile(1, rate(latency_seconds_bucket[5m]))
histogram_quantile(-0.1, latency_seconds_bucket)
histogram_quantile(1.1, latency_seconds_bucket)
histogram_quantile(NaN, latency_seconds_bucket)
histogram_quantile(0.9, latency_seconds_bucket{le!="+Inf"})
histogram_quantile(0.9, latency_seconds_bucket{le="+Inf"})
histogram_quantile(0.9, up)
histogram_quantile(0.9, latency_seconds_bucket{instance="d:80"})
histogram_quantile(0.9, increase(latency_seconds_bucket[1m]))
histogram_quantile(0.9, increase(latency_seconds_bucket[20s]))
histogram_quantile(scalar(usage_ratio{instance="a:80"}), latency_seconds_bucket)
histogram_quantile(0.9, {__name__=~"latency_seconds_(bucket|sum)"})
histogram_quantile(0.7, label_replace(latency_seconds_bucket, "le", "$1.0", "le", "(1)"))
histogram_quantile(0.5, -latency_seconds_bucket)
rate(latency_seconds_sum[5m]) / rate(latency_seconds_count[5m])
sum(rate(latency_seconds_bucket{le="0.5"}[5m])) / sum(rate(latency_seconds_count[5m]))
# labels
label_replace(up, "host", "$1", "instance", "(.*):.*")
label_replace(up, "instance", "$1", "instance", "(.*):.*")
label_replace(up, "instance", "", "instance", ".*")
label_replace(up, "job", "x", "instance", "nomatch")
label_replace(up, "__name__", "other", "job", "web")
label_replace(up, "new", "${1}-$2", "instance", "(.):(.*)")
label_replace(up, "new", "$$1", "instance", "(.):(.*)")
label_replace(up, "new", "x", "absent", "")
label_replace(up, "new", "$9", "instance", "(.):(.*)")
label_replace(up, "new", "$name", "instance", "(?P<name>.):(.*)")
label_replace(up, "instance", "same", "instance", ".*")
label_replace(up, "bad-name", "x", "instance", ".*")
label_replace(up, "new", "x", "instance", "(")
label_replace(nothing_here, "new", "x", "instance", ".*")
label_join(up, "joined", "-", "job", "instance")
label_join(up, "joined", "", "job")
label_join(up, "joined", "-")
label_join(up, "instance", "-", "absent")
label_join(up, "joined", "-", "absent", "gone")
label_join(up, "bad-name", "-", "job")
label_join(up, "joined", "-", "bad-name")
sum by (host) (label_replace(up, "host", "$1", "instance", "(.*):.*"))
label_replace(rate(http_requests_total[5m]), "class", "${1}xx", "code", "(.)..")
label_join(label_replace(up, "x", "y", "", ""), "z", ",", "x", "job")
# absent
absent(up)
absent(nothing_here)
absent(nothing_here{job="web"})
absent(nothing_here{job="web",instance=~".*"})
absent(nothing_here{job="web",job="db",team="x"})
absent(nothing_here{job!="web",job="db"})
absent(nothing_here{job="db",job!="web"})
absent((nothing_here{job="db"}))
absent(sum(nothing_here{job="db"}))
absent(up{job="db"})
absent(up{instance="a:80"})
absent(late_total{job="web"})
absent(rate(late_total{job="web"}[5m]))
absent_over_time(nothing_here{job="web"}[5m])
absent_over_time(late_total{job="web"}[5m])
absent_over_time(sparse{every="7m"}[3m])
absent_over_time(sparse{every=~"4m|7m"}[1m])
absent_over_time((nothing_here{job="db"}[5m]))
absent_over_time(rate(nothing_here{job="db"}[5m])[10m:1m])
absent_over_time(up{instance="a:80"}[1m])
# clamps and rounding
clamp(temperature, -3, -2)
clamp(temperature, 2, 1)
clamp(temperature, NaN, 1)
clamp_min(temperature, -3)
clamp_max(temperature, -3)
clamp_min(odd, 1)
clamp_max(odd, 1)
clamp(odd, -Inf, Inf)
clamp_max(temperature, scalar(load))
round(temperature, 0.5)
round(temperature, 0)
round(memory_bytes, 1e6)
round(odd{kind="mixed"})
round(-temperature * 10) / 10
sgn(odd)
# sorting
sort(http_requests_total)
sort_desc(memory_bytes)
sort(odd{kind!~"inf|nan"})
sort_desc(temperature)
sort(topk(2, memory_bytes))
topk(3, http_requests_total)
bottomk(2, http_requests_total)
topk(0, up)
topk(-1, up)
topk(1.9, memory_bytes)
topk(100, memory_bytes)
topk(NaN, memory_bytes)
topk(1e30, memory_bytes)
topk(2, odd{kind=~"mixed|tiny|constant"})
bottomk(2, odd{kind=~"mixed|tiny|huge"})
topk(1, nothing_here)
topk by (job) (1, memory_bytes)
# counting values
count_values("v", http_requests_total)
count_values("v", odd)
count_values("job", up)
count_values by (job) ("v", up)
count_values without (instance) ("v", up)
count_values("bad-name", up)
count_values("v", temperature > 1e9)
# quantiles and spreads of groups
quantile(0.5, memory_bytes)
quantile(-1, memory_bytes)
quantile(2, memory_bytes)
quantile(NaN, memory_bytes)
quantile(scalar(load) / 10, memory_bytes)
quantile(0.5, odd)
stddev(odd{kind="constant"})
stddev(odd)
avg(odd{kind=~"huge|tiny"})
avg(odd{kind=~"mixed|inf"})
sum(odd)
min(odd)
max(odd)
group(up) by (job)
count(up == 1) or vector(0)
count(up == 7) or vector(0)
sum(nothing_here)
count(nothing_here)
sum by (nolabel) (up)
sum by (__name__) ({job="web"})
sum without (__name__) ({job="web"})
count by (__name__, job) ({__name__=~".+"})
avg by (le) (latency_seconds_bucket)
sum(sum by (instance) (http_requests_total))
max without (instance) (temperature)
sum by (Zone) (temperature)
# comparisons
up == 1
up == bool 1
up != 0
1 == up
1 < bool up
load > 2 < 6
temperature > -4 and temperature < -2
memory_bytes > on(instance) memory_bytes offset 30m
memory_bytes > bool on(instance) memory_bytes offset 30m
first_total == second_total
first_total < on(shard) second_total
first_total < ignoring(job) second_total
odd == odd
odd != odd
odd > 0
up == 1 or up == 0
# matching
memory_bytes / memory_limit_bytes
memory_bytes / on(instance) memory_limit_bytes
memory_bytes / on(instance, job) memory_limit_bytes
memory_bytes / ignoring(job) memory_limit_bytes
memory_bytes / on() memory_limit_bytes
memory_bytes / on(job) memory_limit_bytes
memory_bytes * on(instance) group_left(team) owner
memory_bytes * on(instance) group_left() owner
memory_bytes * on(instance, job) group_left(team, nolabel) owner
owner * on(instance) group_right(team) memory_bytes
owner * on(instance) group_right http_requests_total
http_requests_total / on(instance) group_left memory_bytes
http_requests_total / ignoring(method, code) group_left memory_bytes
memory_bytes / ignoring(method, code) group_right http_requests_total
http_requests_total / on(job) group_left memory_bytes
http_requests_total * on(job) group_left(version) build_info
http_requests_total * on(instance) memory_bytes
memory_bytes * on(job) http_requests_total
sum by (instance) (http_requests_total) * on(instance) group_left(team) owner
sum without (code) (http_requests_total) / ignoring(method) group_left sum without (code, method) (http_requests_total)
owner * on(team) group_left(instance) owner
http_requests_total * on(instance) group_left(job) label_replace(owner, "job", "other", "", "")
http_requests_total * on(instance) group_left(method, code) label_replace(label_replace(owner, "code", "x", "", ""), "method", "y", "", "")
build_info * on(job) group_left late_total
build_info * on(job) late_total
late_total + on(job) build_info
late_total + on(job) group_left(version) build_info
load * scalar(up{instance="b:80"})
load + load
load + on() load
load + ignoring() load
load and load
nothing_here + load
load + nothing_here
nothing_here or load
load or nothing_here
load unless nothing_here
nothing_here unless load
nothing_here and load
up and on(instance) memory_bytes > 2e9
up or on(instance) memory_bytes
up or on(job) memory_bytes
up or memory_bytes or temperature or load
up unless on(instance) (temperature > -3)
http_requests_total and on(instance) up == 1
first_total or second_total
first_total or ignoring(job) second_total
{__name__=~"first_total|second_total"} and on(shard) first_total
vector(1) or up
up or vector(0)
sum(up) or vector(0)
build_info{version="1.0"} or build_info{version="2.0"}
# staleness
up{instance="a:80"}
build_info{version="1.0"}
sum(build_info)
count(build_info)
count_over_time(build_info[10m])
up{instance="c:80"}
timestamp(up)
timestamp(sparse)
timestamp(up offset 3m)
timestamp(sum(up))
timestamp(up + 0)
timestamp(timestamp(sparse))
timestamp(vector(1))
time() - timestamp(sparse)
# subqueries
max_over_time(rate(http_requests_total[1m])[10m:30s])
min_over_time(sum(rate(http_requests_total[1m]))[10m:30s])
avg_over_time(load[10m:1s])
avg_over_time(load[10m:13s])
sum_over_time(up[5m:1m])
rate(http_requests_total[10m:1m])
increase(sum(http_requests_total)[10m:1m])
deriv(rate(http_requests_total[2m])[10m:1m])
quantile_over_time(0.9, load[20m:30s])
count_over_time(vector(1)[5m:1m])
count_over_time(vector(1)[5m:7m])
count_over_time(up[5m:10m])
max_over_time(time()[5m:1m])
last_over_time(sparse[20m:1m])
stddev_over_time((load > 2)[20m:1m])
max_over_time(max_over_time(load[5m:1m])[20m:3m])
sum_over_time((up == bool 1)[1h:5m]) / 12
predict_linear(load[20m:1m], 60)
holt_winters(load[20m:1m], 0.5, 0.5)
changes((up > 0)[30m:1m])
absent_over_time((up > 5)[10m:1m])
max_over_time((time() - timestamp(sparse))[20m:1m])
# idioms of dashboards and rules
100 * (1 - avg by (instance) (rate(http_requests_total{code="200"}[5m])))
sum(rate(http_requests_total[5m])) by (instance) > 0.1
topk(3, sum by (instance, method) (rate(http_requests_total[5m])))
(memory_limit_bytes - memory_bytes) / memory_limit_bytes * 100
avg_over_time(up[30m]) * 100 < 99
sum(up) / count(up)
max(memory_bytes) by (job) - min(memory_bytes) by (job)
count(count by (instance) (http_requests_total))
increase(http_requests_total[1h]) == 0
changes(up[15m]) > 2
predict_linear(memory_bytes[1h], 4 * 3600) > memory_limit_bytes
sum by (code) (increase(http_requests_total[10m])) / scalar(sum(increase(http_requests_total[10m])))
(time() - epoch_seconds{when="now"}) / 60
hour() >= 9 and hour() < 17
day_of_week() > bool 0
vector(1) and on() (hour() > 0)
clamp_min(rate(http_requests_total[5m]) - rate(http_requests_total[5m] offset 1h), 0)
(avg_over_time(load[5m]) - avg_over_time(load[1h])) / stddev_over_time(load[1h])
abs(load - avg_over_time(load[30m])) > 2 * stddev_over_time(load[30m])
1 - (sum(rate(http_requests_total{code="500"}[30m])) / sum(rate(http_requests_total[30m])))
SUM(up)
Sum By (job) (up)
sum(up,)
sum by (job,) (up)
up # a comment
rate( http_requests_total [ 5m ] )
# what is refused
up +
sum(
up{
up{job=}
up[5m
up[0s]
rate(up)
rate(up[5m:1m]) + up[5m]
up[5m] + 1
sum(up[5m])
abs(1)
abs("x")
scalar(1)
vector(up)
nofunction(up)
rate(up[5m], 1)
round()
time(1)
up and 1
1 or up
1 == 1
up == bool
1 + bool 2
{}
{job=~".*"}
{job=""}
{__name__="up", __name__="down"}
up{__name__="up"}
up{job=~"("}
up offset
up @
up @ "x"
sum by job (up)
topk(up)
topk("x", up)
quantile(up, up)
count_values(1, up)
count_values(up)
memory_bytes / on(instance) group_left(instance) owner
up and on(job) group_left up
up + group_left up
1 + on(job) 2
up + on(job) 1
-"x"
"a" + "b"
label_replace(up, "a", "b", "c")
label_join(up)
histogram_quantile(up, up)
predict_linear(up, 1)
holt_winters(load[5m], 1.5, 0.5)
holt_winters(load[5m], 0.5, 0)
holt_winters(nothing_here[5m], 1.5, 0.5)
up[5m][5m]
up[5m:1m][5m:1m]
up offset 5m offset 5m
up @ 1 @ 2
(up offset 5m)[5m]
1[5m]
1[5m:1m]
foo bar
up{job="web" instance="x"}
1..2
0x
$up
up[5x]
up['5m']
sum without up
by (x) sum(up)
"unclosed
avg_over_time(up)
absent(1)
absent_over_time(up)
sort(1)
year(1)
minute("x")
clamp(up, 1)
clamp_min(up)
timestamp(1)
"##;
