//! Values for another program: a line of them for an applet (`-X`), or PDUs for PCP's agent `pmdasummary` (`-x`).

use std::io::{self, Write};
use std::path::PathBuf;

use pcp::pdu::Pdu;
use pcp::pmns::{Place, Pmns};
use pcp::{
    Atom, Desc, ErrorCode, Fetched, INST_NULL, InDom, InstanceValue, Pmid, Semantics, Timestamp,
    Type, Units, ValueSet,
};

use super::ast::{Body, Expr, Form, Kind, Operator, Statement};
use super::eval::Evaluator;
use super::set::{Val, shown};
use super::source::{Metric, Sources};

/// What kind of program values are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Embedded {
    /// One that reads a line of values for each time.
    Applet,
    /// An agent, which reads PDUs.
    Agent,
}

/// What is known of a value by its expression, in the order of its statement's.
fn expression(statement: &Statement) -> Option<&Expr> {
    match &statement.body {
        Body::Expr(expr) => Some(expr),
        Body::Rule(..) | Body::Rules { .. } => None,
    }
}

/// Prints all values of a statement, each with a space behind it.
pub fn print(evaluator: &Evaluator, statement: &Statement) {
    let Some(expr) = expression(statement) else {
        return;
    };
    let set = evaluator.result(expr).filter(|set| set.valid);
    let Some(set) = set.filter(|set| !set.rows.is_empty()) else {
        let count = evaluator.result(expr).map_or(1, |set| set.expected.max(1));
        let unknown = shown(&Val::Missing, expr.kind) + " ";
        print!("{}", unknown.repeat(count));
        return;
    };
    for value in set.rows.iter().flat_map(|row| &row.values) {
        print!("{} ", shown(value, expr.kind));
    }
}

/// The metrics that statements are the values of.
pub struct Agent {
    /// One for each statement.
    pmids: Vec<Pmid>,
}

impl Agent {
    /// Looks up the statements' names in a name space, or in that of the host.
    ///
    /// # Errors
    /// The message for standard error.
    pub fn of(statements: &[Statement], namespace: Option<&str>) -> Result<Agent, String> {
        let path = namespace.map(PathBuf::from).unwrap_or_else(|| {
            let folder = pcp::config("PCP_VAR_DIR").unwrap_or_default();
            PathBuf::from(folder).join("pmns/root")
        });
        let names = Pmns::load(&path).map_err(|error| {
            format!(
                "pmie: agentInit: cannot load metric namespace: {}\n",
                error.code()
            )
        })?;
        let pmid = |statement: &Statement| match names.lookup(statement.name.as_bytes()) {
            Ok(Place::Leaf(pmid)) => Ok(pmid),
            Ok(_) => Err(ErrorCode::NONLEAF),
            Err(code) => Err(code),
        };
        let pmids = statements.iter().map(|statement| {
            pmid(statement).map_err(|code| {
                let name = &statement.name;
                format!("pmie: agentId: metric {name} not found in namespace: {code}\n")
            })
        });
        Ok(Agent {
            pmids: pmids.collect::<Result<_, _>>()?,
        })
    }

    /// Sends a descriptor for each statement.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn describe(&self, statements: &[Statement], sources: &Sources) -> io::Result<()> {
        let mut out = Vec::new();
        for (statement, pmid) in statements.iter().zip(&self.pmids) {
            let units = expression(statement).map(|expr| units(expr, sources));
            let units = units.unwrap_or(Some(Units::default()));
            let desc = Desc {
                pmid: *pmid,
                ty: units.map_or(Type::NoSupport, |_| Type::Double),
                indom: InDom::NULL,
                sem: Semantics::Instant,
                units: units.unwrap_or_default(),
            };
            Pdu::Desc(desc).encode(FROM, &mut out);
        }
        send(&out)
    }

    /// Sends the first value of each statement.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn tell<'a>(
        &self,
        statements: impl Iterator<Item = (usize, &'a Statement)>,
        evaluator: &Evaluator,
    ) -> io::Result<()> {
        let sets = statements.filter_map(|(at, statement)| {
            let pmid = *self.pmids.get(at)?;
            let result = evaluator.result(expression(statement)?);
            let value = match result.map(|set| set.first()) {
                Some(Val::Number(number)) => Some(*number),
                Some(Val::Truth(truth)) => Some(f64::from(u8::from(*truth))),
                Some(Val::Text(_) | Val::Missing) | None => None,
            };
            Some(match value {
                Some(value) => {
                    let value = Atom::Double(value).to_value();
                    let inst = INST_NULL;
                    ValueSet::new(pmid, vec![InstanceValue { inst, value }])
                }
                None => ValueSet {
                    pmid,
                    values: Err(ErrorCode::VALUE),
                    format: 0,
                },
            })
        });
        let fetched = Fetched {
            time: Timestamp::ZERO,
            sets: sets.collect(),
        };
        let mut out = Vec::new();
        Pdu::Result(fetched).encode(FROM, &mut out);
        send(&out)
    }
}

/// Whom PDUs are said to be from.
const FROM: i32 = 1;

fn send(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// The units of an expression's numbers; `None` when its metrics are not known.
fn units(expr: &Expr, sources: &Sources) -> Option<Units> {
    if expr.kind != Kind::Number && !matches!(expr.form, Form::Fetch { .. }) {
        return Some(Units::default());
    }
    match &expr.form {
        Form::Fetch {
            metrics, instant, ..
        } => {
            let metric = sources.metrics.get(*metrics.first()?)?;
            (!metric.is_unknown()).then(|| of_metric(metric, *instant))
        }
        Form::Negate(e) | Form::Reduce(_, _, e) if e.kind == Kind::Number => units(e, sources),
        Form::Rate(e) => units(e, sources).map(per_second),
        Form::Binary(Operator::Multiply, a, b) => {
            let (a, b) = (units(a, sources)?, units(b, sources)?);
            Some(joined(a, b, 1))
        }
        Form::Binary(Operator::Divide, a, b) => {
            let (a, b) = (units(a, sources)?, units(b, sources)?);
            Some(joined(a, b, -1))
        }
        Form::Binary(_, a, b) => match a.constant() {
            Some(_) => units(b, sources),
            None => units(a, sources),
        },
        _ => Some(Units::default()),
    }
}

fn of_metric(metric: &Metric, instant: bool) -> Units {
    match metric.is_counter() && !instant {
        true => per_second(metric.units()),
        false => metric.units(),
    }
}

/// The sum of two powers, as far as there is room for it.
fn dimension(a: i32, b: i32) -> i8 {
    i8::try_from((a + b).clamp(-8, 7)).unwrap_or(0)
}

fn per_second(units: Units) -> Units {
    Units {
        dim_time: dimension(units.dim_time.into(), -1),
        scale_time: pcp::TIME_SEC,
        ..units
    }
}

/// The units of a product, or with -1 of a quotient.
fn joined(a: Units, b: Units, sign: i8) -> Units {
    let with = |a: i8, b: i8| dimension(a.into(), i32::from(sign) * i32::from(b));
    Units {
        dim_space: with(a.dim_space, b.dim_space),
        dim_time: with(a.dim_time, b.dim_time),
        dim_count: with(a.dim_count, b.dim_count),
        scale_time: a.scale_time.max(b.scale_time),
        ..a
    }
}
