//! From the parsed text to the plan.

use std::time::SystemTime;

use bellwether_models::series::{METRIC_NAME, Step, Timestamp};
use promql_parser::label::{MatchOp as ParsedOp, Matcher as ParsedMatcher};
use promql_parser::parser::token::{self, TokenType};
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinModifier, BinaryExpr, Call, Expr, LabelModifier, MatrixSelector, Offset,
    SubqueryExpr, VectorMatchCardinality, VectorSelector,
};
use regex::Regex;

use super::super::grid::{Grid, When, millis, subquery_grid};
use super::super::{EngineConfig, QueryError};
use super::{
    Arithmetic, Comparison, Fold, Grouping, Many, Matching, Operator, Plan, Range, Root, Samples, Scalar, Selection,
    Selector, SetOperator, Vector, functions, shape,
};
use crate::store::{BadMatcher, Instants, Matcher};

/// Plans `query` for evaluation on `grid`; `end` is what `@ end()` means.
///
/// # Errors
/// [`QueryError::Invalid`] or [`QueryError::Unsupported`]; [`QueryError::Execution`] for arguments that Prometheus too
/// refuses only when it evaluates.
pub(in super::super) fn plan(query: &str, grid: Grid, end: i64, config: &EngineConfig) -> Result<Plan, QueryError> {
    let parsed = parse(query)?;
    let mut builder = Builder { config, start: grid.first, end, grid, selectors: Vec::new() };
    let (root, fixed) = builder.node(&parsed)?;
    Ok(Plan { root: root.once(fixed), selectors: builder.selectors })
}

/// Reads a query as a tree, unless it is nested too deeply.
///
/// # Errors
/// [`QueryError::Invalid`]
pub(in super::super) fn parse(query: &str) -> Result<Expr, QueryError> {
    shape::check(query)?;
    functions::register();
    promql_parser::parser::parse(query).map_err(QueryError::invalid)
}

/// The matchers of a series selector, as `match[]` takes them.
///
/// # Errors
/// [`QueryError::Invalid`] for what is not a bare selector.
pub(in super::super) fn series_matchers(text: &str) -> Result<Vec<Matcher>, QueryError> {
    shape::check(text)?;
    match promql_parser::parser::parse(text).map_err(QueryError::invalid)? {
        Expr::VectorSelector(selector) if selector.at.is_none() && selector.offset.is_none() => matchers(&selector),
        _ => Err(QueryError::invalid(format!("{text:?} is not a series selector"))),
    }
}

struct Builder<'a> {
    config: &'a EngineConfig,
    start: i64,
    end: i64,
    /// Where the node at hand is evaluated: the query's own grid, or that of the subquery around it.
    grid: Grid,
    selectors: Vec<Selector>,
}

/// A node, and whether it has the same value at every step.
type Planned<T> = Result<(T, bool), QueryError>;

impl Root {
    fn once(self, fixed: bool) -> Self {
        match self {
            Self::Scalar(node) => Self::Scalar(node.once(fixed)),
            Self::Vector(node) => Self::Vector(node.once(fixed)),
            other => other,
        }
    }
}

impl Scalar {
    fn once(self, fixed: bool) -> Self {
        if fixed && !matches!(self, Self::Number(_)) { Self::Once(Box::new(self)) } else { self }
    }
}

impl Vector {
    fn once(self, fixed: bool) -> Self {
        if fixed { Self::Once(Box::new(self)) } else { self }
    }
}

impl Builder<'_> {
    fn node(&mut self, expr: &Expr) -> Planned<Root> {
        match expr {
            Expr::NumberLiteral(number) => Ok((Root::Scalar(Scalar::Number(number.val)), true)),
            Expr::StringLiteral(text) => Ok((Root::Text(text.val.clone()), true)),
            Expr::Paren(paren) => self.node(&paren.expr),
            Expr::VectorSelector(selector) => {
                let selection = self.instant_selection(selector)?;
                Ok((Root::Vector(Vector::Select(selection)), selection.when.at.is_some()))
            }
            Expr::MatrixSelector(selector) => self.matrix_selector(selector),
            Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::Unary(unary) => self.negation(&unary.expr),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Call(call) => self.call(call),
            Expr::Extension(_) => Err(unsupported("an extension of the syntax")),
        }
    }

    fn vector(&mut self, expr: &Expr) -> Planned<Vector> {
        match self.node(expr)? {
            (Root::Vector(vector), fixed) => Ok((vector.once(fixed), fixed)),
            (other, _) => Err(wrong_type("instant vector", &other)),
        }
    }

    fn scalar(&mut self, expr: &Expr) -> Planned<Scalar> {
        match self.node(expr)? {
            (Root::Scalar(scalar), fixed) => Ok((scalar.once(fixed), fixed)),
            (other, _) => Err(wrong_type("scalar", &other)),
        }
    }

    fn range(&mut self, expr: &Expr) -> Planned<Range> {
        match self.node(expr)? {
            (Root::Range(range), fixed) => Ok((range, fixed)),
            (other, _) => Err(wrong_type("range vector", &other)),
        }
    }

    fn text(&mut self, expr: &Expr) -> Result<String, QueryError> {
        match self.node(expr)? {
            (Root::Text(text), _) => Ok(text),
            (other, _) => Err(wrong_type("string", &other)),
        }
    }

    // Selectors.

    fn instant_selection(&mut self, parsed: &VectorSelector) -> Result<Selection, QueryError> {
        let when = self.when(parsed.at.as_ref(), parsed.offset.as_ref());
        let first = Timestamp::from_millis(when.of(self.grid.first));
        let step = if when.at.is_some() { i64::MAX } else { self.grid.step };
        let instants = Step::from_millis(step).ok().map(|step| Instants { first, step });
        let selector = self.selector(parsed, when, millis(self.config.lookback), instants)?;
        Ok(Selection { selector, when })
    }

    fn matrix_selector(&mut self, parsed: &MatrixSelector) -> Planned<Root> {
        let (when, length) = (self.when(parsed.vs.at.as_ref(), parsed.vs.offset.as_ref()), millis(parsed.range));
        let selector = self.selector(&parsed.vs, when, length, None)?;
        Ok((Root::Range(Range { samples: Samples::Selector(selector), when, length }), when.at.is_some()))
    }

    fn subquery(&mut self, parsed: &SubqueryExpr) -> Planned<Root> {
        let (when, length) = (self.when(parsed.at.as_ref(), parsed.offset.as_ref()), millis(parsed.range));
        let step = millis(parsed.step.unwrap_or(self.config.subquery_step)).max(1);
        let outer = self.grid;
        self.grid = subquery_grid(outer, when, length, step).unwrap_or(Grid::instant(when.of(outer.last())));
        let (of, _) = self.vector(&parsed.expr)?;
        self.grid = outer;
        let samples = Samples::Subquery { of: Box::new(of), step };
        Ok((Root::Range(Range { samples, when, length }), when.at.is_some()))
    }

    fn when(&self, at: Option<&AtModifier>, offset: Option<&Offset>) -> When {
        let at = at.map(|at| match at {
            AtModifier::Start => self.start,
            AtModifier::End => self.end,
            AtModifier::At(time) => since_epoch(*time),
        });
        let offset = match offset {
            None => 0,
            Some(Offset::Pos(back)) => millis(*back),
            Some(Offset::Neg(ahead)) => -millis(*ahead),
        };
        When { at, offset }
    }

    /// The number of the selector that reads `reach` milliseconds back from each step; equal ones share a number.
    fn selector(
        &mut self,
        parsed: &VectorSelector,
        when: When,
        reach: i64,
        instants: Option<Instants>,
    ) -> Result<usize, QueryError> {
        let from = when.of(self.grid.first).saturating_sub(reach);
        let wanted = Selector { matchers: matchers(parsed)?, from, to: when.of(self.grid.last()), instants };
        if let Some(known) = self.selectors.iter().position(|known| known.reads_the_same_as(&wanted)) {
            let shared = &mut self.selectors[known].instants;
            *shared = shared.filter(|shared| Some(*shared) == instants);
            return Ok(known);
        }
        self.selectors.push(wanted);
        Ok(self.selectors.len() - 1)
    }

    // Operators.

    fn negation(&mut self, expr: &Expr) -> Planned<Root> {
        Ok(match self.node(expr)? {
            (Root::Scalar(of), fixed) => (Root::Scalar(Scalar::Negate(Box::new(of))), fixed),
            (Root::Vector(of), fixed) => (Root::Vector(Vector::Negate(Box::new(of))), fixed),
            (other, _) => return Err(wrong_type("scalar or instant vector", &other)),
        })
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Planned<Root> {
        let modifier = binary.modifier.clone().unwrap_or_default();
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            return Err(unsupported("fill"));
        }
        let (left, left_fixed) = self.node(&binary.lhs)?;
        let (right, right_fixed) = self.node(&binary.rhs)?;
        let (left, right, fixed) = (left.once(left_fixed), right.once(right_fixed), left_fixed && right_fixed);
        Ok((combine(binary.op, modifier, left, right)?, fixed))
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> Planned<Root> {
        let grouping = match &aggregate.modifier {
            None => Grouping { on: true, names: Vec::new() },
            Some(modifier) => grouping(modifier),
        };
        let (of, mut fixed) = self.vector(&aggregate.expr)?;
        let of = Box::new(of);
        let parameter = || aggregate.param.as_deref().ok_or_else(|| QueryError::invalid("a parameter is missing"));
        let id = aggregate.op.id();
        let node = match id {
            token::T_TOPK | token::T_BOTTOMK | token::T_QUANTILE => {
                let (scalar, parameter_fixed) = self.scalar(parameter()?)?;
                fixed &= parameter_fixed;
                match id {
                    token::T_QUANTILE => Vector::Quantile { quantile: scalar, of, grouping },
                    _ => Vector::TopK { largest: id == token::T_TOPK, k: scalar, of, grouping },
                }
            }
            token::T_COUNT_VALUES => {
                let label = self.text(parameter()?)?;
                if !is_label_name(&label) {
                    return Err(QueryError::execution(format!("invalid label name {label:?}")));
                }
                Vector::CountValues { label, of, grouping }
            }
            _ => Vector::Aggregate { fold: fold(aggregate.op)?, of, grouping },
        };
        Ok((Root::Vector(node), fixed))
    }

    // Functions.

    fn call(&mut self, call: &Call) -> Planned<Root> {
        let name = call.func.name;
        let arguments: Vec<&Expr> = call.args.args.iter().map(|argument| unwrapped(argument)).collect();
        match (name, arguments.as_slice()) {
            ("time", []) => Ok((Root::Scalar(Scalar::Time), false)),
            ("pi", []) => Ok((Root::Scalar(Scalar::Number(std::f64::consts::PI)), true)),
            ("scalar", [of]) => {
                let (of, fixed) = self.vector(of)?;
                Ok((Root::Scalar(Scalar::Of(Box::new(of))), fixed))
            }
            _ => {
                let (node, fixed) = self.vector_call(name, &arguments)?;
                Ok((Root::Vector(node), fixed))
            }
        }
    }

    fn vector_call(&mut self, name: &str, arguments: &[&Expr]) -> Planned<Vector> {
        match (name, arguments) {
            ("vector", [of]) => self.scalar(of).map(|(of, fixed)| (Vector::Of(of), fixed)),
            ("timestamp", [Expr::VectorSelector(selector)]) => {
                let selection = self.instant_selection(selector)?;
                Ok((Vector::SampleTime(selection), selection.when.at.is_some()))
            }
            ("timestamp", [of]) => self.vector(of).map(|(of, _)| (Vector::EvaluationTime(Box::new(of)), false)),
            ("absent", [of]) => {
                let (labels, (node, fixed)) = (absent_labels(of), self.vector(of)?);
                Ok((Vector::Absent { of: Box::new(node), labels }, fixed))
            }
            ("absent_over_time", [of]) => {
                let (labels, (range, fixed)) = (absent_labels(of), self.range(of)?);
                Ok((Vector::AbsentOverTime { range, labels }, fixed))
            }
            ("sort" | "sort_desc", [of]) => {
                let (of, fixed) = self.vector(of)?;
                Ok((Vector::Sort { of: Box::new(of), descending: name == "sort_desc" }, fixed))
            }
            ("histogram_quantile", [quantile, of]) => {
                let ((quantile, a), (of, b)) = (self.scalar(quantile)?, self.vector(of)?);
                Ok((Vector::HistogramQuantile { quantile, of: Box::new(of) }, a && b))
            }
            ("label_replace", [of, target, replacement, source, pattern]) => {
                self.label_replace(of, [target, replacement, source, pattern])
            }
            ("label_join", [of, target, separator, sources @ ..]) => self.label_join(of, target, separator, sources),
            _ => self.table_call(name, arguments),
        }
    }

    fn table_call(&mut self, name: &str, arguments: &[&Expr]) -> Planned<Vector> {
        if let Some(function) = functions::over_time(name) {
            return self.over_time(function, arguments);
        }
        match arguments {
            [] => {
                let part = functions::date(name).ok_or_else(|| unsupported(name))?;
                Ok((Vector::Date { part, of: Box::new(Vector::Of(Scalar::Time)) }, false))
            }
            [of, parameters @ ..] => self.elementwise(name, of, parameters),
        }
    }

    fn elementwise(&mut self, name: &str, of: &Expr, parameters: &[&Expr]) -> Planned<Vector> {
        if functions::math(name).is_none() && functions::math_with(name).is_none() && functions::date(name).is_none() {
            return Err(unsupported(name));
        }
        let (of, mut fixed) = self.vector(of)?;
        let of = Box::new(of);
        if let Some(function) = functions::math(name) {
            return Ok((Vector::Math { function, of }, fixed));
        }
        if let Some(part) = functions::date(name) {
            return Ok((Vector::Date { part, of }, fixed));
        }
        let function = functions::math_with(name).ok_or_else(|| unsupported(name))?;
        let parameters = self.scalars(parameters, &mut fixed)?;
        Ok((Vector::MathWith { function, of, parameters }, fixed))
    }

    fn scalars(&mut self, arguments: &[&Expr], fixed: &mut bool) -> Result<Vec<Scalar>, QueryError> {
        let mut scalars = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let (scalar, scalar_fixed) = self.scalar(argument)?;
            *fixed &= scalar_fixed;
            scalars.push(scalar);
        }
        Ok(scalars)
    }

    fn over_time(&mut self, function: super::OverTime, arguments: &[&Expr]) -> Planned<Vector> {
        let (mut range, mut parameters, mut fixed) = (None, Vec::new(), !function.depends_on_step());
        for argument in arguments {
            let (node, node_fixed) = self.node(argument)?;
            fixed &= node_fixed;
            match node {
                Root::Range(node) => range = Some(node),
                Root::Scalar(node) => parameters.push(node.once(node_fixed)),
                other => return Err(wrong_type("range vector or scalar", &other)),
            }
        }
        let range = range.ok_or_else(|| QueryError::invalid("a range vector is missing"))?;
        Ok((Vector::OverTime { function, range, parameters }, fixed))
    }

    fn label_replace(&mut self, of: &Expr, texts: [&&Expr; 4]) -> Planned<Vector> {
        let [target, replacement, source, pattern] = texts;
        let ((of, fixed), target) = (self.vector(of)?, self.text(target)?);
        let (replacement, source, pattern) = (self.text(replacement)?, self.text(source)?, self.text(pattern)?);
        let compiled = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label_name(&target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_replace(): {target}")));
        }
        Ok((Vector::LabelReplace { of: Box::new(of), target, replacement, source, pattern: compiled }, fixed))
    }

    fn label_join(&mut self, of: &Expr, target: &Expr, separator: &Expr, sources: &[&Expr]) -> Planned<Vector> {
        let ((of, fixed), target, separator) = (self.vector(of)?, self.text(target)?, self.text(separator)?);
        let sources = sources.iter().map(|source| self.text(source)).collect::<Result<Vec<_>, _>>()?;
        if let Some(bad) = sources.iter().find(|source| !is_label_name(source)) {
            return Err(QueryError::execution(format!("invalid source label name in label_join(): {bad}")));
        }
        if !is_label_name(&target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_join(): {target}")));
        }
        Ok((Vector::LabelJoin { of: Box::new(of), target, separator, sources }, fixed))
    }
}

impl Selector {
    fn reads_the_same_as(&self, other: &Self) -> bool {
        let parts =
            |matcher: &Matcher| (matcher.name.clone(), std::mem::discriminant(&matcher.op), matcher.value.clone());
        (self.from, self.to) == (other.from, other.to)
            && self.matchers.iter().map(parts).eq(other.matchers.iter().map(parts))
    }
}

fn combine(token: TokenType, modifier: BinModifier, left: Root, right: Root) -> Result<Root, QueryError> {
    if let Some(op) = set_operator(token) {
        return match (left, right) {
            (Root::Vector(left), Root::Vector(right)) => {
                let grouping = modifier.matching.as_ref().map(grouping).unwrap_or_default();
                Ok(Root::Vector(Vector::Set { op, left: Box::new(left), right: Box::new(right), grouping }))
            }
            _ => Err(QueryError::invalid(format!("set operator {token} not allowed in binary scalar expression"))),
        };
    }
    let op = operator(token, modifier.return_bool)?;
    match (left, right) {
        (Root::Scalar(left), Root::Scalar(right)) => combine_scalars(op, left, right).map(Root::Scalar),
        (Root::Vector(vector), Root::Scalar(scalar)) => {
            Ok(Root::Vector(Vector::WithScalar { op, vector: Box::new(vector), scalar, scalar_is_left: false }))
        }
        (Root::Scalar(scalar), Root::Vector(vector)) => {
            Ok(Root::Vector(Vector::WithScalar { op, vector: Box::new(vector), scalar, scalar_is_left: true }))
        }
        (Root::Vector(left), Root::Vector(right)) => {
            let matching = matching(&modifier);
            Ok(Root::Vector(Vector::Join { op, left: Box::new(left), right: Box::new(right), matching }))
        }
        _ => Err(QueryError::invalid("binary expression must contain only scalar and instant vector types")),
    }
}

fn combine_scalars(op: Operator, left: Scalar, right: Scalar) -> Result<Scalar, QueryError> {
    let (left, right) = (Box::new(left), Box::new(right));
    match op {
        Operator::Compute(op) => Ok(Scalar::Arithmetic { op, left, right }),
        Operator::Test(op) => Ok(Scalar::Compare { op, left, right }),
        Operator::Filter(_) => Err(QueryError::invalid("comparisons between scalars must use BOOL modifier")),
    }
}

fn operator(token: TokenType, test: bool) -> Result<Operator, QueryError> {
    let compare = |op| if test { Operator::Test(op) } else { Operator::Filter(op) };
    Ok(match token.id() {
        token::T_ADD => Operator::Compute(Arithmetic::Add),
        token::T_SUB => Operator::Compute(Arithmetic::Subtract),
        token::T_MUL => Operator::Compute(Arithmetic::Multiply),
        token::T_DIV => Operator::Compute(Arithmetic::Divide),
        token::T_MOD => Operator::Compute(Arithmetic::Modulo),
        token::T_POW => Operator::Compute(Arithmetic::Power),
        token::T_ATAN2 => Operator::Compute(Arithmetic::Atan2),
        token::T_EQLC => compare(Comparison::Equal),
        token::T_NEQ => compare(Comparison::NotEqual),
        token::T_GTR => compare(Comparison::Greater),
        token::T_LSS => compare(Comparison::Less),
        token::T_GTE => compare(Comparison::GreaterOrEqual),
        token::T_LTE => compare(Comparison::LessOrEqual),
        _ => return Err(unsupported(&token.to_string())),
    })
}

fn set_operator(token: TokenType) -> Option<SetOperator> {
    match token.id() {
        token::T_LAND => Some(SetOperator::And),
        token::T_LOR => Some(SetOperator::Or),
        token::T_LUNLESS => Some(SetOperator::Unless),
        _ => None,
    }
}

fn fold(token: TokenType) -> Result<Fold, QueryError> {
    Ok(match token.id() {
        token::T_SUM => Fold::Sum,
        token::T_AVG => Fold::Average,
        token::T_MIN => Fold::Least,
        token::T_MAX => Fold::Greatest,
        token::T_COUNT => Fold::Count,
        token::T_GROUP => Fold::Group,
        token::T_STDDEV => Fold::Deviation,
        token::T_STDVAR => Fold::Variance,
        _ => return Err(unsupported(&token.to_string())),
    })
}

fn matching(modifier: &BinModifier) -> Matching {
    let (many, include) = match &modifier.card {
        VectorMatchCardinality::ManyToOne(labels) => (Many::Left, labels.labels.clone()),
        VectorMatchCardinality::OneToMany(labels) => (Many::Right, labels.labels.clone()),
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => (Many::Neither, Vec::new()),
    };
    Matching { grouping: modifier.matching.as_ref().map(grouping).unwrap_or_default(), many, include }
}

fn grouping(modifier: &LabelModifier) -> Grouping {
    Grouping { on: modifier.is_include(), names: modifier.labels().labels.clone() }
}

fn matchers(selector: &VectorSelector) -> Result<Vec<Matcher>, QueryError> {
    if !selector.matchers.or_matchers.is_empty() {
        return Err(unsupported("`or` between matchers"));
    }
    let name = selector.name.iter().map(|name| Ok(Matcher::equal(METRIC_NAME, name)));
    name.chain(selector.matchers.matchers.iter().map(matcher))
        .collect::<Result<_, BadMatcher>>()
        .map_err(|error| QueryError::invalid(error.to_string()))
}

fn matcher(parsed: &ParsedMatcher) -> Result<Matcher, BadMatcher> {
    let (name, value) = (parsed.name.as_str(), parsed.value.as_str());
    match parsed.op {
        ParsedOp::Equal => Ok(Matcher::equal(name, value)),
        ParsedOp::NotEqual => Ok(Matcher::not_equal(name, value)),
        ParsedOp::Re(_) => Matcher::regex(name, value),
        ParsedOp::NotRe(_) => Matcher::not_regex(name, value),
    }
}

/// The labels `absent` gives its one element: those the selector demands by `=`; a label named again is struck out.
fn absent_labels(expr: &Expr) -> Vec<(String, String)> {
    let selector = match expr {
        Expr::VectorSelector(selector) => selector,
        Expr::MatrixSelector(selector) => &selector.vs,
        _ => return Vec::new(),
    };
    let (mut labels, mut demanded) = (Vec::new(), Vec::new());
    for matcher in selector.matchers.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matches!(matcher.op, ParsedOp::Equal) && !demanded.contains(&&matcher.name) {
            demanded.push(&matcher.name);
            labels.push((matcher.name.clone(), matcher.value.clone()));
        } else {
            labels.retain(|(name, _)| *name != matcher.name);
        }
    }
    labels
}

fn unwrapped(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(paren) = expr {
        expr = &paren.expr;
    }
    expr
}

fn since_epoch(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    }
}

/// Whether `name` is a label name as Prometheus 2 knows them.
pub(in super::super) fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn unsupported(name: &str) -> QueryError {
    QueryError::Unsupported { name: name.to_owned() }
}

fn wrong_type(expected: &str, found: &Root) -> QueryError {
    QueryError::invalid(format!("expected type {expected}, got {}", found.type_name()))
}
