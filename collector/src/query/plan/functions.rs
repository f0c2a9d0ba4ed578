//! The functions of PromQL by name.

use std::sync::Once;

use promql_parser::parser::value::ValueType;
use promql_parser::parser::{Function, register_extra_functions};

use super::super::eval::calendar::DatePart;
use super::super::eval::math::{self, MathWith};
use super::super::eval::over_time::OverTime;

/// Teaches the parser the names it lacks; it follows Prometheus 3, where some functions were renamed.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let arguments = vec![ValueType::Matrix, ValueType::Scalar, ValueType::Scalar];
        // The only way this fails is that the parser has learnt the name meanwhile.
        let _ = register_extra_functions(vec![Function::new("holt_winters", arguments, 0, ValueType::Vector, false)]);
    });
}

/// A function of one number, by name.
pub(super) fn math(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => f64::to_degrees,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => f64::to_radians,
        "sgn" => math::sign,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// A function of one number and scalar parameters; `None` as its value removes the element.
pub(super) fn math_with(name: &str) -> Option<MathWith> {
    Some(match name {
        "clamp" => math::clamp,
        "clamp_max" => math::clamp_max,
        "clamp_min" => math::clamp_min,
        "round" => math::round,
        _ => return None,
    })
}

/// A function of the date, by name.
pub(super) fn date(name: &str) -> Option<DatePart> {
    Some(match name {
        "days_in_month" => DatePart::DaysInMonth,
        "day_of_month" => DatePart::DayOfMonth,
        "day_of_week" => DatePart::DayOfWeek,
        "day_of_year" => DatePart::DayOfYear,
        "hour" => DatePart::Hour,
        "minute" => DatePart::Minute,
        "month" => DatePart::Month,
        "year" => DatePart::Year,
        _ => return None,
    })
}

/// A function of the samples of a range, by name.
pub(super) fn over_time(name: &str) -> Option<OverTime> {
    Some(match name {
        "avg_over_time" => OverTime::Average,
        "changes" => OverTime::Changes,
        "count_over_time" => OverTime::Count,
        "delta" => OverTime::Delta,
        "deriv" => OverTime::Derivative,
        "holt_winters" | "double_exponential_smoothing" => OverTime::HoltWinters,
        "idelta" => OverTime::InstantDelta,
        "increase" => OverTime::Increase,
        "irate" => OverTime::InstantRate,
        "last_over_time" => OverTime::Last,
        "max_over_time" => OverTime::Greatest,
        "min_over_time" => OverTime::Least,
        "predict_linear" => OverTime::PredictLinear,
        "present_over_time" => OverTime::Present,
        "quantile_over_time" => OverTime::Quantile,
        "rate" => OverTime::Rate,
        "resets" => OverTime::Resets,
        "stddev_over_time" => OverTime::Deviation,
        "stdvar_over_time" => OverTime::Variance,
        "sum_over_time" => OverTime::Sum,
        _ => return None,
    })
}
