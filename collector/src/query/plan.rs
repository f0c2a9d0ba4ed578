//! The text of a query into a typed plan: every name resolved, every type checked, every modifier turned into times.
//!
//! What evaluates to a number, to an instant vector and to a range vector are different types, so that the evaluation
//! has nothing left to refuse.

use regex::Regex;

use super::eval::calendar::DatePart;
use super::eval::math::MathWith;
use super::eval::over_time::OverTime;
use super::grid::When;
use crate::store::{Instants, Matcher};

mod build;
mod functions;
mod shape;

pub(super) use build::{is_label_name, parse, plan, series_matchers};

/// A query, ready to be fetched and evaluated.
pub(super) struct Plan {
    pub root: Root,
    pub selectors: Vec<Selector>,
}

/// Series to fetch, and the closed range of time in which the plan reads them.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub matchers: Vec<Matcher>,
    pub from: i64,
    pub to: i64,
    /// Where the plan reads nothing but the last sample at or before each of these.
    pub instants: Option<Instants>,
}

/// What a whole query evaluates to.
pub(super) enum Root {
    Scalar(Scalar),
    Vector(Vector),
    Range(Range),
    Text(String),
}

impl Root {
    /// The type as Prometheus names it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::Vector(_) => "instant vector",
            Self::Range(_) => "range vector",
            Self::Text(_) => "string",
        }
    }
}

/// One number for each step.
pub(super) enum Scalar {
    Number(f64),
    Time,
    Of(Box<Vector>),
    Negate(Box<Scalar>),
    Arithmetic {
        op: Arithmetic,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    Compare {
        op: Comparison,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    /// The same at every step: evaluated once.
    Once(Box<Scalar>),
}

/// An instant vector for each step.
pub(super) enum Vector {
    Select(Selection),
    SampleTime(Selection),
    EvaluationTime(Box<Vector>),
    Of(Scalar),
    Negate(Box<Vector>),
    OverTime {
        function: OverTime,
        range: Range,
        parameters: Vec<Scalar>,
    },
    AbsentOverTime {
        range: Range,
        labels: Vec<(String, String)>,
    },
    Absent {
        of: Box<Vector>,
        labels: Vec<(String, String)>,
    },
    Math {
        function: fn(f64) -> f64,
        of: Box<Vector>,
    },
    MathWith {
        function: MathWith,
        of: Box<Vector>,
        parameters: Vec<Scalar>,
    },
    Date {
        part: DatePart,
        of: Box<Vector>,
    },
    HistogramQuantile {
        quantile: Scalar,
        of: Box<Vector>,
    },
    LabelReplace {
        of: Box<Vector>,
        target: String,
        replacement: String,
        source: String,
        pattern: Regex,
    },
    LabelJoin {
        of: Box<Vector>,
        target: String,
        separator: String,
        sources: Vec<String>,
    },
    Sort {
        of: Box<Vector>,
        descending: bool,
    },
    Aggregate {
        fold: Fold,
        of: Box<Vector>,
        grouping: Grouping,
    },
    TopK {
        largest: bool,
        k: Scalar,
        of: Box<Vector>,
        grouping: Grouping,
    },
    Quantile {
        quantile: Scalar,
        of: Box<Vector>,
        grouping: Grouping,
    },
    CountValues {
        label: String,
        of: Box<Vector>,
        grouping: Grouping,
    },
    WithScalar {
        op: Operator,
        vector: Box<Vector>,
        scalar: Scalar,
        scalar_is_left: bool,
    },
    Join {
        op: Operator,
        left: Box<Vector>,
        right: Box<Vector>,
        matching: Matching,
    },
    Set {
        op: SetOperator,
        left: Box<Vector>,
        right: Box<Vector>,
        grouping: Grouping,
    },
    /// The same at every step: evaluated once.
    Once(Box<Vector>),
}

/// Which selector of the plan is read, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection {
    pub selector: usize,
    pub when: When,
}

/// Samples over a range of time.
pub(super) struct Range {
    pub samples: Samples,
    pub when: When,
    /// Length of the range in milliseconds.
    pub length: i64,
}

/// Where the samples of a range come from.
pub(super) enum Samples {
    Selector(usize),
    Subquery { of: Box<Vector>, step: i64 },
}

/// Operators that compute a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

/// Operators that compare two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

/// What happens to two values that meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Compute(Arithmetic),
    /// Keeps the left value where the comparison holds.
    Filter(Comparison),
    /// 1 where the comparison holds, 0 elsewhere.
    Test(Comparison),
}

/// Operators on whole vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOperator {
    And,
    Or,
    Unless,
}

/// Aggregations that need only a running state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Average,
    Least,
    Greatest,
    Count,
    Group,
    Variance,
    Deviation,
}

/// Which labels tell groups apart: the named ones (`by`, `on`) or all others (`without`, `ignoring`).
#[derive(Clone, Debug, Default)]
pub(super) struct Grouping {
    pub on: bool,
    pub names: Vec<String>,
}

/// How the elements of two vectors find each other.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub grouping: Grouping,
    pub many: Many,
    /// Labels taken over from the side of which each group has one element.
    pub include: Vec<String>,
}

/// Which side may have several elements in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    Neither,
    Left,
    Right,
}
