//! Numbers as Prometheus writes them.

use std::fmt::Write as _;

/// The shortest decimal notation that reads back as the same number, without an exponent.
pub(super) fn decimal(value: f64) -> String {
    let mut text = String::new();
    write_decimal(&mut text, value);
    text
}

/// As [`decimal`], but with an exponent for what is very small or very large.
pub(super) fn write_sample_value(out: &mut String, value: f64) {
    let size = value.abs();
    if size != 0.0 && size.is_finite() && !(1e-6..1e21).contains(&size) {
        write_scientific(out, value);
    } else {
        write_decimal(out, value);
    }
}

fn write_decimal(out: &mut String, value: f64) {
    match value {
        v if v.is_nan() => out.push_str("NaN"),
        f64::INFINITY => out.push_str("+Inf"),
        f64::NEG_INFINITY => out.push_str("-Inf"),
        v => write_finite(out, v),
    }
}

/// The fast way knows an exponent where we want none; these few are left to the slow one.
fn write_finite(out: &mut String, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if text.contains('e') {
        let written = write!(out, "{value}");
        debug_assert!(written.is_ok(), "a text can grow");
    } else {
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
    }
}

/// The exponent has a sign and at least two digits.
fn write_scientific(out: &mut String, value: f64) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let written = write!(out, "{digits}e{sign}{exponent:0>2}");
    debug_assert!(written.is_ok(), "a text can grow");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_decimal_is_that_of_the_standard_library(bits: u64, whole in -1_000_000i64..1_000_000, hundredths in 0i32..100) {
            for value in [f64::from_bits(bits), whole as f64, whole as f64 + f64::from(hundredths) / 100.0] {
                if value.is_finite() {
                    prop_assert_eq!(decimal(value), format!("{value}"));
                }
            }
        }
    }

    #[test]
    fn numbers_are_written_as_prometheus_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (1e-6, "0.000001"),
            (-2.5e300, "-2.5e+300"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, expected) in cases {
            let mut text = String::new();
            write_sample_value(&mut text, value);
            assert_eq!(text, expected);
        }
        assert_eq!(decimal(1e21), "1000000000000000000000");
    }
}
