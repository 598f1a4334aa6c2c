//! The type, semantics, units and instance domain of what operators and functions make of their operands
//! (pmRegisterDerived(3)).

use super::{Bound, Kind};
use crate::derived::expression::{Expression, Function, Operator};
use crate::derived::trace;
use crate::desc::{Desc, Semantics, Type};
use crate::indom::InDom;
use crate::pmid::Pmid;
use crate::units::{TIME_SEC, Units};

pub(super) fn plain(ty: Type, sem: Semantics, units: Units, indom: InDom) -> Desc {
    Desc {
        pmid: Pmid::NULL,
        ty,
        indom,
        sem,
        units,
    }
}

pub(super) fn is_number(ty: Type) -> bool {
    matches!(
        ty,
        Type::I32 | Type::U32 | Type::I64 | Type::U64 | Type::Float | Type::Double
    )
}

/// The type that holds both (PCP's promotion).
pub(super) fn promoted(a: Type, b: Type) -> Type {
    let order = [
        Type::Double,
        Type::Float,
        Type::U64,
        Type::I64,
        Type::U32,
        Type::I32,
    ];
    order
        .into_iter()
        .find(|ty| *ty == a || *ty == b)
        .unwrap_or(Type::Double)
}

/// The semantics of what is computed from values that are no counters.
pub(super) fn mixed(a: Semantics, b: Semantics) -> Semantics {
    if a == Semantics::Discrete && b == Semantics::Discrete {
        Semantics::Discrete
    } else {
        Semantics::Instant
    }
}

/// What an operator makes of two sides; the error is the reason of a message.
pub(super) fn binary(
    operator: Operator,
    left: Bound,
    right: Bound,
    left_constant: bool,
    right_constant: bool,
) -> Result<Bound, &'static str> {
    let (a, b) = (&left.desc, &right.desc);
    let counters = [a.sem == Semantics::Counter, b.sem == Semantics::Counter];
    let dimensionless = |desc: &Desc| desc.units.same_dimension(Units::NONE);
    let arithmetic = operator.is_arithmetic();
    if matches!(operator, Operator::And | Operator::Or) && !a.units.same_dimension(b.units) {
        return Err("Dimensions are not the same");
    }
    match counters {
        [true, true] if arithmetic && !matches!(operator, Operator::Plus | Operator::Minus) => {
            return Err("Illegal operator for counters");
        }
        [true, false] => {
            if arithmetic && !matches!(operator, Operator::Star | Operator::Slash) {
                return Err("Illegal operator for counter and non-counter");
            }
            if !dimensionless(b) {
                return Err("Non-counter and not dimensionless for right operand");
            }
        }
        [false, true] => {
            if arithmetic && operator != Operator::Star {
                return Err("Illegal operator for non-counter and counter");
            }
            if !dimensionless(a) {
                return Err("Non-counter and not dimensionless for left operand");
            }
        }
        _ => {}
    }
    if !is_number(a.ty) {
        return Err("Non-arithmetic type for left operand");
    }
    if !is_number(b.ty) {
        return Err("Non-arithmetic type for right operand");
    }
    let alike = !matches!(operator, Operator::Star | Operator::Slash)
        && !matches!(operator, Operator::And | Operator::Or);
    let excused =
        !arithmetic && (left_constant && dimensionless(a) || right_constant && dimensionless(b));
    let mixed_counters = counters[0] != counters[1];
    if alike && !excused && !mixed_counters && !a.units.is_compatible(b.units) {
        return Err("Dimensions are not the same");
    }
    if !a.indom.is_null() && !b.indom.is_null() && a.indom != b.indom {
        return Err("Operands should have the same instance domain");
    }
    let indom = if a.indom.is_null() { b.indom } else { a.indom };
    let (common, factors) = if matches!(operator, Operator::And | Operator::Or) {
        ([a.units, b.units], [1.0, 1.0])
    } else {
        common_scales(a.units, b.units)
    };
    let desc = if arithmetic {
        let ty = if operator == Operator::Slash || factors != [1.0, 1.0] {
            Type::Double
        } else {
            promoted(a.ty, b.ty)
        };
        let sem = if counters[0] || counters[1] {
            Semantics::Counter
        } else {
            mixed(a.sem, b.sem)
        };
        let units = match operator {
            Operator::Star => combined(common, 1),
            Operator::Slash => combined(common, -1),
            // A number in the text has no units of its own.
            _ if left_constant && dimensionless(a) => common[1],
            _ => common[0],
        };
        plain(ty, sem, units, indom)
    } else {
        // A truth has the semantics of its left side, unless that is a number in the text.
        let sem = if left_constant { b.sem } else { a.sem };
        plain(Type::U32, sem, Units::NONE, indom)
    };
    Ok(Bound {
        seen: None,
        desc,
        kind: Kind::Binary {
            operator,
            sides: Box::new([left, right]),
            factors,
        },
    })
}

/// Where both have a dimension the larger scale is that of both; with what each is multiplied for it.
pub(super) fn common_scales(a: Units, b: Units) -> ([Units; 2], [f64; 2]) {
    let (mut left, mut right) = (a, b);
    if a.dim_space != 0 && b.dim_space != 0 {
        let scale = a.scale_space.max(b.scale_space);
        (left.scale_space, right.scale_space) = (scale, scale);
    }
    if a.dim_time != 0 && b.dim_time != 0 {
        let scale = a.scale_time.max(b.scale_time);
        (left.scale_time, right.scale_time) = (scale, scale);
    }
    if a.dim_count != 0 && b.dim_count != 0 {
        let scale = a.scale_count.max(b.scale_count);
        (left.scale_count, right.scale_count) = (scale, scale);
    }
    let factor = |from: Units, to: Units| from.conversion(to).unwrap_or(1.0);
    ([left, right], [factor(a, left), factor(b, right)])
}

/// By what values are divided and multiplied to have other scales of the same dimensions.
pub(super) fn scaling(from: Units, to: Units) -> (f64, f64) {
    let space = |scale: u8| 1024f64.powi(scale.into());
    let seconds = |scale: u8| {
        [1e-9, 1e-6, 1e-3, 1.0, 60.0, 3600.0]
            .get(usize::from(scale))
            .copied()
    };
    let time = |scale: u8| seconds(scale).unwrap_or(1.0);
    let (mut divided, mut multiplied) = (1.0, 1.0);
    let mut take = |dimension: i8, steps: f64| {
        let by = steps.powi(i32::from(dimension.unsigned_abs()));
        if dimension > 0 {
            divided *= by;
        } else if dimension < 0 {
            multiplied *= by;
        }
    };
    take(
        from.dim_space,
        space(to.scale_space) / space(from.scale_space),
    );
    take(from.dim_time, time(to.scale_time) / time(from.scale_time));
    let count = i32::from(to.scale_count) - i32::from(from.scale_count);
    take(from.dim_count, 10f64.powi(count));
    (divided.round(), multiplied.round())
}

/// The units of a product, or with sign −1 of a quotient.
pub(super) fn combined([a, b]: [Units; 2], sign: i8) -> Units {
    let sum = |x: i8, y: i8| x.saturating_add(sign * y).clamp(-8, 7);
    let (space, time, count) = (
        sum(a.dim_space, b.dim_space),
        sum(a.dim_time, b.dim_time),
        sum(a.dim_count, b.dim_count),
    );
    // A dimension that is gone has no scale; one that only one side has keeps that side's.
    let pick = |dim: i8, of_a: i8, x: u8, y: u8| match (dim, of_a) {
        (0, _) => 0,
        (_, 0) => y,
        _ => x,
    };
    let count_scale = match (count, a.dim_count) {
        (0, _) => 0,
        (_, 0) => b.scale_count,
        _ => a.scale_count,
    };
    Units::new(
        space,
        time,
        count,
        pick(space, a.dim_space, a.scale_space, b.scale_space),
        pick(time, a.dim_time, a.scale_time, b.scale_time),
        count_scale,
    )
}

pub(super) fn ternary(
    [guard_text, yes_text, no_text]: [&Expression; 3],
    guard: Bound,
    yes: Bound,
    no: Bound,
) -> Result<Bound, String> {
    let pair = |what: &str| {
        Err(format!(
            "{yes_text} : {no_text}: {what} for ternary operands"
        ))
    };
    if !is_number(guard.desc.ty) {
        return Err(format!(
            "{guard_text} ? {yes_text} : {no_text}: Non-arithmetic operand for ternary guard"
        ));
    }
    let (a, b) = (&yes.desc, &no.desc);
    // What makes them different goes to the trace.
    let differ = |what: &str, left: String, right: String| {
        if trace::derive() {
            eprintln!("Semantic error: ternary op {what}: left={left} right={right}");
        }
    };
    if a.ty != b.ty {
        differ("type", a.ty.to_string(), b.ty.to_string());
        return pair("Different types");
    }
    if a.sem != b.sem {
        differ("semantics", a.sem.to_string(), b.sem.to_string());
        return pair("Different semantics");
    }
    let (x, y) = (a.units, b.units);
    let scale = |what: &str| {
        let shown = |units: Units| match what {
            "space" => {
                let (dim, scale) = (units.dim_space, units.scale_space);
                format!("{units} (dim={dim} scale={scale})")
            }
            _ => units.to_string(),
        };
        differ(&format!("units ({what})"), shown(x), shown(y));
        pair(&format!("Different units or scale ({what})"))
    };
    if x.dim_count != y.dim_count || x.dim_count != 0 && x.scale_count != y.scale_count {
        return scale("count");
    }
    if x.dim_time != y.dim_time || x.dim_time != 0 && x.scale_time != y.scale_time {
        return scale("time");
    }
    if x.dim_space != y.dim_space || x.dim_space != 0 && x.scale_space != y.scale_space {
        return scale("space");
    }
    if !a.indom.is_null() && !b.indom.is_null() && a.indom != b.indom {
        differ("indom", a.indom.to_string(), b.indom.to_string());
        return pair("Different instance domains");
    }
    let indom = if a.indom.is_null() { b.indom } else { a.indom };
    if !guard.desc.indom.is_null() {
        let whole = format!("{guard_text} ? {yes_text} : {no_text}");
        if indom.is_null() {
            return Err(format!(
                "{whole}: Non-scalar ternary guard with scalar expressions"
            ));
        }
        if guard.desc.indom != indom {
            return Err(format!(
                "{whole}: Different instance domains for ternary guard and operands"
            ));
        }
    }
    let desc = plain(a.ty, a.sem, a.units, indom);
    Ok(Bound {
        seen: None,
        desc,
        kind: Kind::Ternary(Box::new([guard, yes, no])),
    })
}

/// The descriptor of a function's result; the error is the reason of a message.
pub(super) fn call(function: Function, of: &Desc) -> Result<Desc, &'static str> {
    let any = matches!(
        function,
        Function::Count | Function::Instant | Function::Scalar
    );
    if !any && !is_number(of.ty) {
        return Err("Non-arithmetic operand for function");
    }
    let instant = Semantics::Instant;
    Ok(match function {
        Function::Count => plain(
            Type::U32,
            instant,
            Units::new(0, 0, 1, 0, 0, 0),
            InDom::NULL,
        ),
        Function::Avg => plain(Type::Float, instant, of.units, InDom::NULL),
        Function::Max | Function::Min => plain(of.ty, instant, of.units, InDom::NULL),
        Function::Sum => plain(of.ty, of.sem, of.units, InDom::NULL),
        Function::Scalar => plain(of.ty, of.sem, of.units, InDom::NULL),
        Function::Instant => {
            let sem = if of.sem == Semantics::Counter {
                instant
            } else {
                of.sem
            };
            plain(of.ty, sem, of.units, of.indom)
        }
        Function::Delta => {
            let ty = match of.ty {
                Type::U32 => Type::I64,
                Type::U64 => Type::Double,
                other => other,
            };
            plain(ty, instant, of.units, of.indom)
        }
        Function::Rate => {
            let mut units = of.units;
            match units.dim_time {
                0 => {
                    units.dim_time = -1;
                    units.scale_time = TIME_SEC;
                }
                1 => {
                    units.dim_time = 0;
                    units.scale_time = 0;
                }
                _ => return Err("Incorrect time dimension for operand"),
            }
            plain(Type::Double, instant, units, of.indom)
        }
    })
}
