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
    let written = match value {
        v if v.is_nan() => out.write_str("NaN"),
        f64::INFINITY => out.write_str("+Inf"),
        f64::NEG_INFINITY => out.write_str("-Inf"),
        v => write!(out, "{v}"),
    };
    debug_assert!(written.is_ok(), "a text can grow");
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
    use super::*;

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
