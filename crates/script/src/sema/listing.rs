//! Handlers and functions as `stap -p2 -v` shows them: what is left of them after elision and folding, laid out as
//! `-p1` lays scripts out, with the names by which stap knows globals and functions inside.

use std::fmt::Write;

use super::hir::*;
use crate::ast::{Direction, HistOp, SortKey, StatOp};
use crate::format::{Conversion, ConversionKind, Extent, Format, Part};
use crate::span::{SourceMap, Span};
use crate::token::encode_escapes;
use crate::unparse::{assign_op, binary_op, print_name, stat_op, unary_op};

/// Writes bodies of one program.
pub(super) struct Listing<'a> {
    hir: &'a Program,
    sources: &'a SourceMap,
}

impl<'a> Listing<'a> {
    pub(super) fn new(hir: &'a Program, sources: &'a SourceMap) -> Self {
        Listing { hir, sources }
    }

    /// The body of a function.
    pub(super) fn function(&self, function: &Function) -> String {
        match &function.code {
            Code::Script(body) => self.body(body, None),
            Code::Intrinsic(intrinsic, _) => format!("{{ %{{ intrinsic {} %}} }}", intrinsic.name),
            Code::Embedded(code, _) => format!("{{ {} }}", self.source(code.span)),
        }
    }

    /// A body in braces; `condition` is what lets it run.
    pub(super) fn body(&self, body: &Body, condition: Option<&Expr>) -> String {
        let mut printer = Printer {
            listing: self,
            body,
            out: "{ ".to_string(),
        };
        match condition {
            None => printer.stmt(&body.stmt),
            Some(condition) => {
                printer.out.push_str("{\nif (!");
                printer.parenthesised(condition);
                printer.out.push_str(") next\n;\n");
                match &body.stmt.kind {
                    StmtKind::Block(list) => printer.statements(list),
                    _ => printer.statements(std::slice::from_ref(&body.stmt)),
                }
                printer.out.push('}');
            }
        }
        printer.out.push_str(" }");
        printer.out
    }

    fn source(&self, span: Span) -> &str {
        let text = &self.sources.file(span.file).text;
        text.get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// `__global_x`, or `__private_FILE_x` for what only its file sees.
    fn inner(&self, name: &str, private: bool, span: Span) -> String {
        if !private {
            return format!("__global_{name}");
        }
        let file: String = (self.sources.file(span.file).name.chars())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        format!("__private_{file}_{name}")
    }

    /// The inner name of a global.
    pub(super) fn global(&self, g: &Global) -> String {
        self.inner(&g.name, g.private, g.span)
    }

    fn called(&self, id: FunctionId) -> String {
        let f = self.hir.function(id);
        let earlier = |other: &&Function| {
            other.name == f.name
                && other.private == f.private
                && other.span.file == f.span.file
                && other.span.start < f.span.start
        };
        format!(
            "{}__overload_{}",
            self.inner(&f.name, f.private, f.span),
            self.hir.functions.iter().filter(earlier).count()
        )
    }
}

struct Printer<'a> {
    listing: &'a Listing<'a>,
    body: &'a Body,
    out: String,
}

impl Printer<'_> {
    fn statements(&mut self, list: &[Stmt]) {
        for s in list {
            self.stmt(s);
            self.out.push_str(";\n");
        }
    }

    fn stmt(&mut self, s: &Stmt) {
        match &s.kind {
            StmtKind::Null => self.out.push(';'),
            // Braces around a single statement are gone, too.
            StmtKind::Block(list) if list.len() == 1 => self.stmt(&list[0]),
            StmtKind::Block(list) => {
                self.out.push_str("{\n");
                self.statements(list);
                self.out.push('}');
            }
            StmtKind::Expr(e) => self.expr(e),
            StmtKind::If(condition, then, other) => {
                self.out.push_str("if ");
                self.parenthesised(condition);
                self.out.push(' ');
                self.stmt(then);
                self.out.push('\n');
                if let Some(other) = other {
                    self.out.push_str("else ");
                    self.stmt(other);
                    self.out.push('\n');
                }
            }
            StmtKind::Loop {
                init,
                cond,
                step,
                body,
            } => {
                self.out.push_str("for (");
                self.optional(init.as_ref(), "");
                self.out.push_str("; ");
                self.optional(cond.as_ref(), "1");
                self.out.push_str("; ");
                self.optional(step.as_ref(), "");
                self.out.push_str(") ");
                self.stmt(body);
            }
            StmtKind::Foreach(foreach) => self.foreach(foreach),
            StmtKind::Return(value) => {
                self.out.push_str("return");
                if let Some(value) = value {
                    self.out.push(' ');
                    self.expr(value);
                }
            }
            StmtKind::Delete(e) => {
                self.out.push_str("delete ");
                match e.kind {
                    // A whole variable keeps its name here.
                    ExprKind::Var(Var::Global(id)) => {
                        let name = &self.listing.hir.global(id).name;
                        self.out.push_str(name);
                    }
                    _ => self.expr(e),
                }
            }
            StmtKind::Next => self.out.push_str("next"),
            StmtKind::Break => self.out.push_str("break"),
            StmtKind::Continue => self.out.push_str("continue"),
            StmtKind::Try {
                body,
                message,
                handler,
            } => {
                self.out.push_str("try {\n");
                self.stmt(body);
                self.out.push_str("\n} catch ");
                if let Some((var, _)) = message {
                    self.out.push('(');
                    self.var(*var);
                    self.out.push_str(") ");
                }
                self.out.push_str("{\n");
                if !matches!(handler.kind, StmtKind::Null) {
                    self.stmt(handler);
                    self.out.push('\n');
                }
                self.out.push_str("}\n");
            }
        }
    }

    fn foreach(&mut self, foreach: &Foreach) {
        let sign = |direction: Direction| match direction {
            Direction::Ascending => "+",
            Direction::Descending => "-",
        };
        self.out.push_str("foreach (");
        if let Some((var, _)) = foreach.value {
            self.var(var);
            self.out.push_str(" = ");
        }
        self.out.push('[');
        for (index, (var, _)) in foreach.keys.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.var(*var);
            match foreach.sort {
                Some((SortKey::Key(key), direction)) if key == index => {
                    self.out.push_str(sign(direction));
                }
                _ => {}
            }
        }
        self.out.push_str("] in ");
        self.base(&foreach.base);
        if let Some(slice) = &foreach.slice {
            self.out.push('[');
            self.keys(slice);
            self.out.push(']');
        }
        if let Some((SortKey::Value(statistic), direction)) = foreach.sort {
            // stap keeps quiet about the variance.
            if let Some(op) = statistic.filter(|op| *op != StatOp::Variance) {
                let _ = write!(self.out, " {}", stat_op(op));
            }
            self.out.push_str(sign(direction));
        }
        if let Some(limit) = &foreach.limit {
            self.out.push_str(" limit ");
            self.expr(limit);
        }
        self.out.push_str(") ");
        self.stmt(&foreach.body);
    }

    fn optional(&mut self, e: Option<&Expr>, otherwise: &str) {
        match e {
            Some(e) => self.expr(e),
            None => self.out.push_str(otherwise),
        }
    }

    fn parenthesised(&mut self, e: &Expr) {
        self.out.push('(');
        self.expr(e);
        self.out.push(')');
    }

    fn list(&mut self, list: &[Expr]) {
        for (index, e) in list.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.expr(e);
        }
    }

    fn keys(&mut self, list: &[Option<Expr>]) {
        for (index, key) in list.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.optional(key.as_ref(), "*");
        }
    }

    fn var(&mut self, var: Var) {
        match var {
            Var::Local(LocalId(id)) => {
                if let Some(local) = self.body.locals.get(id as usize) {
                    self.out.push_str(&local.name);
                }
            }
            Var::Global(id) => {
                let name = self.listing.global(self.listing.hir.global(id));
                self.out.push_str(&name);
            }
        }
    }

    fn base(&mut self, base: &Base) {
        match base {
            Base::Var(var) => self.var(*var),
            Base::Hist(op, of) => self.hist(op, of),
        }
    }

    fn hist(&mut self, op: &HistOp, of: &Expr) {
        self.out.push_str(match op {
            HistOp::Log => "@hist_log(",
            HistOp::Linear(..) => "@hist_linear(",
        });
        self.expr(of);
        if let HistOp::Linear(low, high, step) = op {
            let _ = write!(self.out, ", {low}, {high}, {step}");
        }
        self.out.push(')');
    }

    fn text(&mut self, bytes: &[u8]) {
        let _ = write!(self.out, "\"{}\"", encode_escapes(bytes));
    }

    fn expr(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Long(n) => {
                let _ = write!(self.out, "{n}");
            }
            ExprKind::Str(bytes) => self.text(bytes),
            ExprKind::Var(var) => self.var(*var),
            ExprKind::Index(base, keys) => {
                self.base(base);
                self.out.push('[');
                self.keys(keys);
                self.out.push(']');
            }
            ExprKind::In(keys, var, _) => {
                self.out.push('[');
                self.keys(keys);
                self.out.push_str("] in ");
                self.var(*var);
            }
            ExprKind::Call(id, args) => {
                self.out.push_str(&self.listing.called(*id));
                self.out.push('(');
                self.list(args);
                self.out.push(')');
            }
            ExprKind::Unary(op, operand) => {
                self.out.push_str(unary_op(*op));
                self.parenthesised(operand);
            }
            ExprKind::Binary(op, left, right) => {
                self.parenthesised(left);
                let _ = write!(self.out, " {} ", binary_op(*op));
                self.parenthesised(right);
            }
            ExprKind::Match(left, pattern, negated, _) => {
                self.parenthesised(left);
                self.out.push_str(if *negated { " !~ " } else { " =~ " });
                self.text(pattern);
            }
            ExprKind::Ternary(condition, yes, no) => {
                self.parenthesised(condition);
                self.out.push('?');
                self.parenthesised(yes);
                self.out.push(':');
                self.parenthesised(no);
            }
            ExprKind::Assign(op, left, right) => {
                self.parenthesised(left);
                let _ = write!(self.out, " {} ", assign_op(*op));
                self.parenthesised(right);
            }
            ExprKind::Step {
                increment,
                prefix,
                operand,
            } => {
                let sign = if *increment { "++" } else { "--" };
                if *prefix {
                    self.out.push_str(sign);
                }
                self.parenthesised(operand);
                if !*prefix {
                    self.out.push_str(sign);
                }
            }
            ExprKind::Stat(op, operand, shift) => {
                let _ = write!(self.out, "{}(", stat_op(*op));
                self.expr(operand);
                if *shift != 0 {
                    let _ = write!(self.out, ", {shift}");
                }
                self.out.push(')');
            }
            ExprKind::Hist(op, operand) => self.hist(op, operand),
            // What stap has put a function of its own in the place of is shown as it is written.
            ExprKind::Target(_) | ExprKind::Defined(_) | ExprKind::Entry(_) => {
                let text = self.listing.source(e.span);
                self.out.push_str(text);
            }
            ExprKind::Print(print) => self.print(print),
        }
    }

    fn print(&mut self, print: &Print) {
        self.out.push_str(&print_name(print.form));
        self.out.push('(');
        let mut first = None;
        if print.form.format {
            first = print.format.as_ref().map(format_text);
        } else if let Some(delimiter) = &print.delimiter {
            first = Some(format!("\"{}\"", encode_escapes(delimiter)));
        }
        if let Some(first) = &first {
            self.out.push_str(first);
            if !print.args.is_empty() {
                self.out.push_str(", ");
            }
        }
        self.list(&print.args);
        self.out.push(')');
    }
}

/// A format in quotes, with backslashes doubled as stap shows them.
fn format_text(format: &Format) -> String {
    let mut out = String::new();
    for part in &format.parts {
        match part {
            Part::Literal(bytes) => out.push_str(&encode_escapes(bytes).replace('%', "%%")),
            Part::Conversion(conversion) => push_conversion(&mut out, conversion),
        }
    }
    let doubled = out.replace('\\', "\\\\").replace("\\\\\"", "\\\"");
    format!("\"{doubled}\"")
}

fn push_conversion(out: &mut String, conversion: &Conversion) {
    let flags = conversion.flags;
    out.push('%');
    for (set, flag) in [
        (flags.zero, '0'),
        (flags.plus, '+'),
        (flags.space, ' '),
        (flags.minus, '-'),
        (flags.alternate, '#'),
    ] {
        if set {
            out.push(flag);
        }
    }
    for (extent, mark) in [(conversion.width, ""), (conversion.precision, ".")] {
        match extent {
            Extent::None => {}
            Extent::Fixed(n) => {
                let _ = write!(out, "{mark}{n}");
            }
            Extent::Argument => {
                let _ = write!(out, "{mark}*");
            }
        }
    }
    out.push(match conversion.kind {
        ConversionKind::Signed => 'd',
        ConversionKind::Unsigned => 'u',
        ConversionKind::Octal => 'o',
        ConversionKind::Hex => 'x',
        ConversionKind::UpperHex => 'X',
        ConversionKind::Pointer => 'p',
        ConversionKind::String | ConversionKind::Histogram => 's',
        ConversionKind::Char => 'c',
        ConversionKind::Binary => 'b',
        ConversionKind::Memory => 'm',
        ConversionKind::MemoryHex => 'M',
    });
}

/// What stap runs at the end for a global that is never read.
pub(super) fn display(g: &Global, inner: &str) -> String {
    let keys: Vec<String> = (0..g.keys.len()).map(|i| format!("__idx{i}")).collect();
    let directives: Vec<&str> = (g.keys.iter())
        .map(|k| match k.ty {
            Ty::String => "\\\"%#s\\\"",
            _ => "%#d",
        })
        .collect();
    let name = &g.name;
    let shown = match g.keys.is_empty() {
        true => name.clone(),
        false => format!("{name}[{}]", directives.join(",")),
    };
    let element = match g.keys.is_empty() {
        true => inner.to_string(),
        false => format!("{inner}[{}]", keys.join(", ")),
    };
    let first: String = keys.iter().map(|k| format!(", {k}")).collect();
    let statistics = || {
        let ops = ["@count", "@min", "@max", "@sum", "@avg"];
        let marks: Vec<String> = ops.iter().map(|op| format!("{op}=%#d")).collect();
        let values: Vec<String> = ops.iter().map(|op| format!("{op}({element})")).collect();
        format!(
            "printf(\"{shown} {}\\\\n\"{first}, {})",
            marks.join(" "),
            values.join(", ")
        )
    };
    let body = match (g.value.ty, g.keys.is_empty()) {
        (Ty::Stats, true) => format!(
            "if ((@count({inner})) == (0)) printf(\"{name} @count=0x0\\\\n\")\nelse {}\n",
            statistics()
        ),
        (Ty::Stats, false) => format!(
            "foreach ([{}] in {inner}-) {}",
            keys.join(", "),
            statistics()
        ),
        (ty, scalar) => {
            let directive = match ty {
                Ty::String => "\\\"%#s\\\"",
                _ => "%d",
            };
            match scalar {
                true => format!("printf(\"{shown}={directive}\\\\n\", {inner})"),
                false => format!(
                    "foreach (__val = [{}] in {inner}-) printf(\"{shown}={directive}\\\\n\"{first}, __val)",
                    keys.join(", ")
                ),
            }
        }
    };
    format!("{{ {{\n{body};\n}} }}")
}
