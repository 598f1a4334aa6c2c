//! Values as pmie prints them.

/// A number with as many digits as matter at its size.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.is_nan() {
        return if value.is_sign_negative() {
            "-nan"
        } else {
            "nan"
        }
        .to_owned();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    if value == value.trunc() {
        return format!("{value:.0}");
    }
    match magnitude {
        m if m < 0.5 => general(value),
        m if m < 5.0 => format!("{value:.2}"),
        m if m < 50.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// C's `%g`: six digits that matter.
fn general(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(5 - exponent).unwrap_or(0);
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Debian's pmie prints of `sample.double.one * X`.
    #[test]
    fn digits_that_matter() {
        for (value, text) in [
            (0.499_999, "0.499999"),
            (0.500_01, "0.50"),
            (0.999, "1.00"),
            (1.23456, "1.23"),
            (4.996, "5.00"),
            (5.0, "5"),
            (5.0123, "5.0"),
            (9.96, "10.0"),
            (49.94, "49.9"),
            (50.123, "50"),
            (-99.94, "-100"),
            (1234.56, "1235"),
            (1_234_567_890_123.0, "1234567890123"),
            (0.000_123_456, "0.000123456"),
            (0.000_000_123_4, "1.234e-07"),
            (0.016_666_7, "0.0166667"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
