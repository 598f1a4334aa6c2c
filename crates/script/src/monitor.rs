//! What `--monitor` adds to a program: probes that can be switched off and on, and control probes that show the globals,
//! set them back, and switch. The control probes are `monitor(N)`, which no script can write; whoever runs the
//! program runs them on request.

use crate::ast::{self, BinaryOp, Literal};
use crate::display;
use crate::ir::{
    Body, Expr, ExprKind, Global, GlobalId, GlobalType, LValue, Probe, ProbePoint, Program, Stmt,
    StmtKind, Type,
};
use crate::span::Span;

/// `monitor(SHOW)`: prints the globals, each line with [`MARK`] before it.
pub const SHOW: i64 = 0;
/// `monitor(RESET)`: sets the globals back to their initial values.
pub const RESET: i64 = 1;
/// `monitor(PAUSE)`: switches all probes off.
pub const PAUSE: i64 = 2;
/// `monitor(RESUME)`: switches all probes on.
pub const RESUME: i64 = 3;
/// `monitor(TOGGLE + n)`: switches the n-th probe.
pub const TOGGLE: i64 = 4;

/// Tells lines of [`SHOW`] from what the script prints.
pub const MARK: &str = "\u{2}monitor\u{2}";

/// Adds the switches and the control probes.
pub fn instrument(mut program: Program) -> Program {
    let users: Vec<(GlobalId, Global)> = (program.globals.iter().enumerate())
        .filter(|(_, g)| !program.sources.file(g.span.file).is_tapset)
        .map(|(i, g)| (GlobalId(i as u32), g.clone()))
        .collect();
    let mut switches = Vec::new();
    for probe in &mut program.probes {
        let id = GlobalId(program.globals.len() as u32);
        program.globals.push(Global {
            name: format!("__monitor_{}", switches.len()),
            span: probe.span,
            ty: GlobalType::Scalar(Type::Long),
            init: Some(Literal::Number(1)),
            auto_display: false,
        });
        for point in &mut probe.points {
            let on = long(ExprKind::Global(id), probe.span);
            point.condition = Some(match point.condition.take() {
                None => on,
                Some(own) => long(
                    ExprKind::Binary(BinaryOp::LogicalAnd, Box::new(on), Box::new(own)),
                    probe.span,
                ),
            });
        }
        switches.push((id, probe.span));
    }
    let shown = users.iter().map(|(id, global)| {
        let mut probe = display::show(*id, global, MARK);
        probe.points = points(SHOW, global.span);
        probe
    });
    program.probes.extend(shown);
    let reset = users.iter().map(|(id, global)| reset(*id, global));
    program.probes.extend(control(RESET, reset.collect()));
    for (number, value) in [(PAUSE, 0), (RESUME, 1)] {
        let all = switches.iter().map(|&(id, span)| {
            let value = long(ExprKind::Long(value), span);
            assign(id, value)
        });
        program.probes.extend(control(number, all.collect()));
    }
    for (number, &(id, span)) in (TOGGLE..).zip(&switches) {
        let now = Box::new(long(ExprKind::Global(id), span));
        let other = long(ExprKind::Unary(ast::UnaryOp::Not, now), span);
        program
            .probes
            .extend(control(number, vec![assign(id, other)]));
    }
    program
}

fn long(kind: ExprKind, span: Span) -> Expr {
    Expr {
        kind,
        ty: Type::Long,
        span,
    }
}

fn assign(id: GlobalId, value: Expr) -> Stmt {
    let (ty, span) = (value.ty, value.span);
    let kind = ExprKind::Assign(LValue::Global(id), Box::new(value));
    Stmt {
        kind: StmtKind::Expr(Expr { kind, ty, span }),
        span,
    }
}

fn reset(id: GlobalId, global: &Global) -> Stmt {
    let span = global.span;
    match &global.init {
        Some(Literal::Number(n)) => assign(id, long(ExprKind::Long(*n), span)),
        Some(Literal::String(s)) => assign(
            id,
            Expr {
                kind: ExprKind::Str(s.clone()),
                ty: Type::String,
                span,
            },
        ),
        None => Stmt {
            kind: StmtKind::DeleteAll(id),
            span,
        },
    }
}

/// A control probe; none when there is nothing to control.
fn control(number: i64, stmts: Vec<Stmt>) -> Option<Probe> {
    let span = stmts.first()?.span;
    Some(Probe {
        span,
        points: points(number, span),
        body: Body {
            locals: Vec::new(),
            stmts,
        },
    })
}

fn points(number: i64, span: Span) -> Vec<ProbePoint> {
    let component = ast::Component {
        name: ast::Name {
            text: "monitor".into(),
            span,
        },
        arg: Some(Literal::Number(number)),
        arg_span: span,
    };
    let point = ast::ProbePoint {
        components: vec![component],
        optional: false,
        sufficient: false,
        condition: None,
        span,
    };
    vec![ProbePoint {
        point,
        via: Vec::new(),
        condition: None,
    }]
}
