//! Globals that a script writes and never reads are shown when it ends: the `end` probes that stap adds for them.

use crate::ast::{self, BinaryOp, Direction, SortKey, StatOp};
use crate::format::{Conversion, ConversionKind, Extent, Flags, Format, Part};
use crate::ir::{
    Body, Expr, ExprKind, Foreach, Global, GlobalId, GlobalType, Local, LocalId, MapValue,
    PrintArg, Probe, ProbePoint, Program, StatRef, Stmt, StmtKind, Type,
};
use crate::span::Span;

/// Appends an `end` probe for each global marked `auto_display`.
pub fn add_probes(mut program: Program) -> Program {
    let shown: Vec<Probe> = program
        .globals
        .iter()
        .enumerate()
        .filter(|(_, g)| g.auto_display)
        .map(|(i, g)| show(GlobalId(i as u32), g, ""))
        .collect();
    program.probes.extend(shown);
    program
}

/// A format under construction, with its arguments.
#[derive(Default)]
struct Line {
    parts: Vec<Part>,
    args: Vec<PrintArg>,
    pending: String,
}

impl Line {
    fn text(&mut self, text: &str) {
        self.pending.push_str(text);
    }

    fn value(&mut self, kind: ConversionKind, alternate: bool, value: Expr) {
        self.close();
        let flags = Flags {
            alternate,
            ..Flags::default()
        };
        let conversion = Conversion {
            flags,
            width: Extent::None,
            precision: Extent::None,
            kind,
        };
        self.parts.push(Part::Conversion(conversion));
        self.args.push(PrintArg::Value(value));
    }

    /// A number as `%d`, a string as `"%#s"`.
    fn scalar(&mut self, alternate: bool, value: Expr) {
        if value.ty == Type::String {
            self.text("\"");
            self.value(ConversionKind::String, true, value);
            self.text("\"");
        } else {
            self.value(ConversionKind::Signed, alternate, value);
        }
    }

    fn close(&mut self) {
        if !self.pending.is_empty() {
            self.parts.push(Part::Literal(
                std::mem::take(&mut self.pending).into_bytes(),
            ));
        }
    }

    fn statement(mut self, span: Span) -> Stmt {
        self.text("\n");
        self.close();
        let kind = ExprKind::Print {
            format: Format { parts: self.parts },
            args: self.args,
            to_string: false,
        };
        Stmt {
            kind: StmtKind::Expr(Expr {
                kind,
                ty: Type::Unit,
                span,
            }),
            span,
        }
    }
}

/// An `end` probe that prints a global, a line for each element, with `mark` before each line.
pub(crate) fn show(id: GlobalId, global: &Global, mark: &str) -> Probe {
    let span = global.span;
    let expr = |kind, ty| Expr { kind, ty, span };
    let mut locals = Vec::new();
    let mut line = Line::default();
    line.text(mark);
    line.text(&global.name);
    let stmt = match &global.ty {
        GlobalType::Scalar(ty) => {
            line.text("=");
            line.scalar(false, expr(ExprKind::Global(id), *ty));
            line.statement(span)
        }
        GlobalType::Stat(..) => {
            let stat = StatRef {
                global: id,
                keys: Vec::new(),
                span,
            };
            let count = expr(ExprKind::Stat(StatOp::Count, stat.clone(), 0), Type::Long);
            let zero = Box::new(expr(ExprKind::Long(0), Type::Long));
            let empty = expr(
                ExprKind::Binary(BinaryOp::Eq, Box::new(count), zero),
                Type::Long,
            );
            let mut nothing = Line::default();
            nothing.text(&format!("{mark}{} @count=0x0", global.name));
            aggregates(&mut line, &stat, span);
            Stmt {
                kind: StmtKind::If(
                    empty,
                    vec![nothing.statement(span)],
                    vec![line.statement(span)],
                ),
                span,
            }
        }
        GlobalType::Map { keys, value, .. } => {
            for (i, ty) in keys.iter().enumerate() {
                locals.push(Local {
                    name: format!("__idx{i}"),
                    ty: *ty,
                });
                line.text(if i == 0 { "[" } else { "," });
                line.scalar(true, expr(ExprKind::Local(LocalId(i as u32)), *ty));
            }
            line.text("]");
            let element = match value {
                MapValue::Long => Some(Type::Long),
                MapValue::String => Some(Type::String),
                MapValue::Stat(..) => None,
            };
            let value_local = element.map(|ty| {
                locals.push(Local {
                    name: "__val".into(),
                    ty,
                });
                (LocalId(keys.len() as u32), ty)
            });
            match value_local {
                Some((local, ty)) => {
                    line.text("=");
                    line.scalar(false, expr(ExprKind::Local(local), ty));
                }
                None => {
                    let of =
                        |(i, ty): (usize, &Type)| expr(ExprKind::Local(LocalId(i as u32)), *ty);
                    let stat = StatRef {
                        global: id,
                        keys: keys.iter().enumerate().map(of).collect(),
                        span,
                    };
                    aggregates(&mut line, &stat, span);
                }
            }
            let foreach = Foreach {
                map: id,
                keys: (0..keys.len() as u32).map(LocalId).collect(),
                value: value_local.map(|(local, _)| local),
                slice: None,
                sort: Some((SortKey::Value(None), Direction::Descending)),
                limit: None,
                body: vec![line.statement(span)],
            };
            Stmt {
                kind: StmtKind::Foreach(Box::new(foreach)),
                span,
            }
        }
    };
    let name = ast::Name {
        text: "end".into(),
        span,
    };
    let component = ast::Component {
        name,
        arg: None,
        arg_span: span,
    };
    let point = ast::ProbePoint {
        components: vec![component],
        optional: false,
        sufficient: false,
        condition: None,
        span,
    };
    Probe {
        span,
        points: vec![ProbePoint {
            point,
            via: Vec::new(),
            condition: None,
        }],
        body: Body {
            locals,
            stmts: vec![stmt],
        },
    }
}

fn aggregates(line: &mut Line, stat: &StatRef, span: Span) {
    let ops = [
        (" @count=", StatOp::Count),
        (" @min=", StatOp::Min),
        (" @max=", StatOp::Max),
        (" @sum=", StatOp::Sum),
        (" @avg=", StatOp::Avg),
    ];
    for (text, op) in ops {
        line.text(text);
        let value = Expr {
            kind: ExprKind::Stat(op, stat.clone(), 0),
            ty: Type::Long,
            span,
        };
        line.value(ConversionKind::Signed, true, value);
    }
}
