//! The conversions of C's printf that PCP's output is made of.

/// `%.*g`.
#[must_use]
pub fn g(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return non_finite(value);
    }
    let precision = precision.max(1);
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        let mut text = without_trailing_zeros(mantissa).to_owned();
        push_exponent(&mut text, exponent);
        text
    } else {
        let decimals = usize::try_from(limit - 1 - exponent).unwrap_or(0);
        without_trailing_zeros(&format!("{value:.decimals$}")).to_owned()
    }
}

/// `%.*e`.
#[must_use]
pub fn e(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return non_finite(value);
    }
    let scientific = format!("{value:.precision$e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let mut text = mantissa.to_owned();
    push_exponent(&mut text, exponent.parse().unwrap_or(0));
    text
}

/// `%.*f`.
#[must_use]
pub fn f(value: f64, precision: usize) -> String {
    if value.is_finite() {
        format!("{value:.precision$}")
    } else {
        non_finite(value)
    }
}

fn non_finite(value: f64) -> String {
    let text = if value.is_nan() { "nan" } else { "inf" };
    if value.is_sign_negative() {
        format!("-{text}")
    } else {
        text.to_owned()
    }
}

fn push_exponent(text: &mut String, exponent: i32) {
    let sign = if exponent < 0 { '-' } else { '+' };
    text.push_str(&format!("e{sign}{:02}", exponent.unsigned_abs()));
}

fn without_trailing_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_printf() {
        assert_eq!(g(1.0 / 3.0, 16), "0.3333333333333333");
        assert_eq!(g(1e20, 16), "1e+20");
        assert_eq!(g(100_000.0, 6), "100000");
        assert_eq!(g(1_000_000.0, 6), "1e+06");
        assert_eq!(g(0.0001, 6), "0.0001");
        assert_eq!(g(0.00001, 6), "1e-05");
        assert_eq!(g(-1.741_392_7e38, 8), "-1.7413927e+38");
        assert_eq!(g(999_999.5, 6), "1e+06");
        assert_eq!(e(100.0, 6), "1.000000e+02");
        assert_eq!(g(f64::NAN, 6), "nan");
    }
}
