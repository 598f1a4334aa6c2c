//! Pass: `-G NAME=VALUE`, once types are known. To stap these are parameters of a module that is already translated: what
//! they are set to tells nothing of types.

use super::hir::{Global, Program, Ty};
use super::report::{Finding, Report};
use crate::ast::Literal;

/// Sets the initial values of the globals with these names. A name that no global has is no mistake, as for stap.
pub fn set(hir: &mut Program, values: &[(String, String)], report: &mut Report) {
    for (name, value) in values {
        let used = |g: &&mut Global| g.name == *name && (g.read || g.written);
        for global in hir.globals.iter_mut().filter(used) {
            let is_array = global.arity.is_some_and(|(keys, _)| keys > 0);
            let literal = match global.value.ty {
                Ty::String if !is_array => Ok(Literal::String(value.as_bytes().to_vec())),
                Ty::Long if !is_array => number(value).map(Literal::Number).ok_or("takes a number"),
                _ => Err("has no value of its own: only numbers and texts can be set"),
            };
            match literal {
                Ok(literal) => global.init = Some(literal),
                Err(reason) => report.push(Finding::error_nowhere(format!(
                    "-G {name}={value}: the global '{name}' {reason}"
                ))),
            }
        }
    }
}

/// As strtoll(3) reads it with base 0.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.strip_prefix("0x") {
        Some(hexadecimal) => (16, hexadecimal),
        None if lower.len() > 1 && lower.starts_with('0') => (8, lower.as_str()),
        None => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(digits, base).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_in_all_bases() {
        assert_eq!(number("0x1F"), Some(31));
        assert_eq!(number("-010"), Some(-8));
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("-9223372036854775808"), Some(i64::MIN));
        for wrong in ["9223372036854775808", "08", "0x", "1a", "--1", ""] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
