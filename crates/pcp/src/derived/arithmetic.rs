//! Arithmetic on the values of derived metrics, in their types.

use std::collections::HashMap;

use super::expression::{Function, Operator};
use crate::desc::Type;
use crate::error::ErrorCode;
use crate::indom::INST_NULL;
use crate::units::{TIME_SEC, Units};
use crate::value::Atom;

/// Values by instance.
pub type Values = Vec<(i32, Atom)>;

/// Each value changed.
pub fn each(
    values: Values,
    mut of: impl FnMut(Atom) -> Result<Atom, ErrorCode>,
) -> Result<Values, ErrorCode> {
    values
        .into_iter()
        .map(|(inst, value)| Ok((inst, of(value)?)))
        .collect()
}

/// Whether a value counts as true.
pub fn is_true(value: &Atom) -> bool {
    value.as_f64().is_some_and(|v| v != 0.0)
}

/// Values of two sides by instance; one without instances goes with each of the other.
pub fn pairs(
    left: &Values,
    right: &Values,
    singular: [bool; 2],
    mut of: impl FnMut(&Atom, &Atom) -> Result<Atom, ErrorCode>,
) -> Result<Values, ErrorCode> {
    let mut found = Vec::new();
    match singular {
        [false, true] => {
            if let Some((_, b)) = right.first() {
                for (inst, a) in left {
                    found.push((*inst, of(a, b)?));
                }
            }
        }
        [true, false] => {
            if let Some((_, a)) = left.first() {
                for (inst, b) in right {
                    found.push((*inst, of(a, b)?));
                }
            }
        }
        _ => {
            let by_instance: HashMap<i32, &Atom> = right.iter().map(|(i, v)| (*i, v)).collect();
            for (inst, a) in left {
                if let Some(b) = by_instance.get(inst) {
                    found.push((*inst, of(a, b)?));
                }
            }
        }
    }
    Ok(found)
}

/// A number in a type, as C converts it.
fn cast(value: &Atom, ty: Type) -> Atom {
    let whole = match value {
        Atom::I32(v) => i128::from(*v),
        Atom::U32(v) => i128::from(*v),
        Atom::I64(v) => i128::from(*v),
        Atom::U64(v) => i128::from(*v),
        other => other.as_f64().unwrap_or(0.0) as i128,
    };
    let real = value.as_f64().unwrap_or(0.0);
    match ty {
        Type::I32 => Atom::I32(whole as i32),
        Type::U32 => Atom::U32(whole as u32),
        Type::I64 => Atom::I64(whole as i64),
        Type::U64 => Atom::U64(whole as u64),
        Type::Float => Atom::Float(real as f32),
        _ => Atom::Double(real),
    }
}

/// Two numbers in a type by an arithmetic operator.
pub fn compute(operator: Operator, ty: Type, a: &Atom, b: &Atom) -> Result<Atom, ErrorCode> {
    macro_rules! whole {
        ($kind:ident, $a:expr, $b:expr) => {
            Atom::$kind(match operator {
                Operator::Plus => $a.wrapping_add($b),
                Operator::Minus => $a.wrapping_sub($b),
                Operator::Star => $a.wrapping_mul($b),
                _ => $a.checked_div($b).ok_or(ErrorCode::CONV)?,
            })
        };
    }
    macro_rules! real {
        ($kind:ident, $a:expr, $b:expr) => {
            Atom::$kind(match operator {
                Operator::Plus => $a + $b,
                Operator::Minus => $a - $b,
                Operator::Star => $a * $b,
                // PCP has nothing divided by nothing as nothing.
                _ if $a == 0.0 => 0.0,
                _ => $a / $b,
            })
        };
    }
    Ok(match (cast(a, ty), cast(b, ty)) {
        (Atom::I32(a), Atom::I32(b)) => whole!(I32, a, b),
        (Atom::U32(a), Atom::U32(b)) => whole!(U32, a, b),
        (Atom::I64(a), Atom::I64(b)) => whole!(I64, a, b),
        (Atom::U64(a), Atom::U64(b)) => whole!(U64, a, b),
        (Atom::Float(a), Atom::Float(b)) => real!(Float, a, b),
        (Atom::Double(a), Atom::Double(b)) => real!(Double, a, b),
        _ => return Err(ErrorCode::CONV),
    })
}

/// Two numbers in a type by a relational or boolean operator.
pub fn compare(operator: Operator, ty: Type, a: &Atom, b: &Atom) -> Result<bool, ErrorCode> {
    use std::cmp::Ordering;
    match operator {
        Operator::And => return Ok(is_true(a) && is_true(b)),
        Operator::Or => return Ok(is_true(a) || is_true(b)),
        _ => {}
    }
    let order = match (cast(a, ty), cast(b, ty)) {
        (Atom::I32(a), Atom::I32(b)) => Some(a.cmp(&b)),
        (Atom::U32(a), Atom::U32(b)) => Some(a.cmp(&b)),
        (Atom::I64(a), Atom::I64(b)) => Some(a.cmp(&b)),
        (Atom::U64(a), Atom::U64(b)) => Some(a.cmp(&b)),
        (Atom::Float(a), Atom::Float(b)) => a.partial_cmp(&b),
        (Atom::Double(a), Atom::Double(b)) => a.partial_cmp(&b),
        _ => return Err(ErrorCode::CONV),
    };
    Ok(match operator {
        Operator::Less => order == Some(Ordering::Less),
        Operator::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::GreaterEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Operator::Greater => order == Some(Ordering::Greater),
        _ => order != Some(Ordering::Equal),
    })
}

/// What changed for each instance that both samples have.
pub fn differences(
    function: Function,
    ty: Type,
    units: Units,
    now: &Values,
    last: &Values,
    elapsed: f64,
) -> Result<Values, ErrorCode> {
    let singular = [false, false];
    pairs(now, last, singular, |now, last| {
        if function == Function::Delta {
            return compute(Operator::Minus, ty, now, last);
        }
        let difference = match compute(Operator::Minus, Type::Double, now, last)? {
            Atom::Double(difference) => difference,
            _ => 0.0,
        };
        // Time used in time is a share: both in seconds.
        let mut seconds = units;
        seconds.scale_time = TIME_SEC;
        let factor = if units.dim_time == 1 {
            units.conversion(seconds)?
        } else {
            1.0
        };
        Ok(Atom::Double(difference * factor / elapsed))
    })
}

/// One value of all instances.
pub fn aggregate(function: Function, ty: Type, values: &Values) -> Result<Values, ErrorCode> {
    let Some((_, first)) = values.first() else {
        return Ok(Vec::new());
    };
    let rest = || values.iter().skip(1).map(|(_, v)| v);
    let result = match function {
        Function::Avg => {
            let sum: f64 = values.iter().filter_map(|(_, v)| v.as_f64()).sum();
            Atom::Float((sum / values.len() as f64) as f32)
        }
        Function::Sum => rest().try_fold(cast(first, ty), |sum, v| {
            compute(Operator::Plus, ty, &sum, v)
        })?,
        _ => {
            let wanted = if function == Function::Max {
                Operator::Greater
            } else {
                Operator::Less
            };
            rest().try_fold(first.clone(), |best, v| {
                Ok::<Atom, ErrorCode>(if compare(wanted, ty, v, &best)? {
                    v.clone()
                } else {
                    best
                })
            })?
        }
    };
    Ok(vec![(INST_NULL, result)])
}
