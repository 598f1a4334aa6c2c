//! The tree as text, laid out as `stap -p1` shows it: every operand in parentheses, one statement a line.

use std::fmt::Write;

use crate::ast::*;
use crate::span::SourceMap;
use crate::token::encode_escapes;

/// What `stap -p1` prints for a script.
pub fn print_pass1(file: &File, sources: &SourceMap) -> String {
    format!(
        "# parse tree dump\n# file {}\n{}\n",
        sources.file(file.id).name,
        file_to_string(file)
    )
}

/// A file's declarations: embedded code, globals, aliases, probes, functions.
pub fn file_to_string(file: &File) -> String {
    let mut out = String::new();
    for embed in &file.embeds {
        let _ = write!(out, "%{{{}%}}", embed.code);
    }
    for global in &file.globals {
        let _ = writeln!(out, "{}", global_to_string(global));
    }
    for alias in &file.aliases {
        let op = if alias.epilogue { " += " } else { " = " };
        let names: Vec<String> = alias.names.iter().map(point_to_string).collect();
        let points: Vec<String> = alias.points.iter().map(point_to_string).collect();
        let _ = write!(out, "probe {}{op}{}", names.join(" = "), points.join(", "));
        stmt(&mut out, &alias.body);
        out.push('\n');
    }
    for probe in &file.probes {
        let points: Vec<String> = probe.points.iter().map(point_to_string).collect();
        let _ = write!(out, "probe {}", points.join(","));
        stmt(&mut out, &probe.body);
        out.push('\n');
    }
    for function in &file.functions {
        let params: Vec<&str> = function
            .params
            .iter()
            .map(|p| p.name.text.as_str())
            .collect();
        let _ = writeln!(
            out,
            "function {} ({})",
            function.name.text,
            params.join(", ")
        );
        match &function.body {
            FunctionBody::Block(body) => stmt(&mut out, body),
            FunctionBody::Embedded(embedded) => {
                let _ = write!(out, "%{{{}%}}", embedded.code);
            }
        }
        out.push('\n');
    }
    out
}

/// `global a%[10] = 3`.
pub fn global_to_string(global: &GlobalDecl) -> String {
    let mut out = format!("global {}", global.name.text);
    if global.wrap {
        out.push('%');
    }
    if let Some(size) = global.size {
        let _ = write!(out, "[{size}]");
    }
    if let Some(init) = &global.init {
        let _ = write!(out, " = {}", literal_to_string(init));
    }
    out
}

/// `process("x").mark("y")? if (c)`.
pub fn point_to_string(point: &ProbePoint) -> String {
    let mut out = String::new();
    for (index, component) in point.components.iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        out.push_str(&component.name.text);
        if let Some(arg) = &component.arg {
            let _ = write!(out, "({})", literal_to_string(arg));
        }
    }
    if point.optional {
        out.push('?');
    }
    if point.sufficient {
        out.push('!');
    }
    if let Some(condition) = &point.condition {
        out.push_str(" if (");
        expr(&mut out, condition);
        out.push(')');
    }
    out
}

/// A literal as a script spells it.
pub fn literal_to_string(literal: &Literal) -> String {
    match literal {
        Literal::Number(value) => value.to_string(),
        Literal::String(bytes) => format!("\"{}\"", encode_escapes(bytes)),
    }
}

/// A statement, without a newline at the end unless its kind brings one.
pub fn stmt_to_string(statement: &Stmt) -> String {
    let mut out = String::new();
    stmt(&mut out, statement);
    out
}

/// An expression.
pub fn expr_to_string(expression: &Expr) -> String {
    let mut out = String::new();
    expr(&mut out, expression);
    out
}

/// The sign of a binary operator.
pub fn binary_op(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Shl => "<<",
        BinaryOp::Shr => ">>",
        BinaryOp::ShrLogical => ">>>",
        BinaryOp::And => "&",
        BinaryOp::Or => "|",
        BinaryOp::Xor => "^",
        BinaryOp::LogicalAnd => "&&",
        BinaryOp::LogicalOr => "||",
        BinaryOp::Eq => "==",
        BinaryOp::Ne => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::Le => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::Ge => ">=",
        BinaryOp::Concat => ".",
    }
}

/// The sign of a unary operator.
pub fn unary_op(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Plus => "+",
        UnaryOp::Minus => "-",
        UnaryOp::Not => "!",
        UnaryOp::Complement => "~",
    }
}

/// The sign of an assignment operator.
pub fn assign_op(op: AssignOp) -> String {
    match op {
        AssignOp::Set => "=".to_string(),
        AssignOp::Aggregate => "<<<".to_string(),
        AssignOp::Binary(op) => format!("{}=", binary_op(op)),
    }
}

/// The word of a statistics extractor.
pub fn stat_op(op: StatOp) -> &'static str {
    match op {
        StatOp::Count => "@count",
        StatOp::Sum => "@sum",
        StatOp::Min => "@min",
        StatOp::Max => "@max",
        StatOp::Avg => "@avg",
        StatOp::Variance => "@variance",
    }
}

/// The name of a member of the print family.
pub fn print_name(form: PrintForm) -> String {
    let mut out = String::new();
    if form.to_string {
        out.push('s');
    }
    out.push_str("print");
    for (set, suffix) in [
        (form.format, "f"),
        (form.delimiter, "d"),
        (form.newline, "ln"),
        (form.char, "_char"),
    ] {
        if set {
            out.push_str(suffix);
        }
    }
    out
}

fn stmt(out: &mut String, statement: &Stmt) {
    match &statement.kind {
        StmtKind::Null => out.push(';'),
        StmtKind::Block(statements) => {
            out.push_str("{\n");
            for inner in statements {
                stmt(out, inner);
                out.push_str(";\n");
            }
            out.push('}');
        }
        StmtKind::Expr(value) => expr(out, value),
        StmtKind::If(condition, then, otherwise) => {
            out.push_str("if (");
            expr(out, condition);
            out.push_str(") ");
            stmt(out, then);
            out.push('\n');
            if let Some(otherwise) = otherwise {
                out.push_str("else ");
                stmt(out, otherwise);
                out.push('\n');
            }
        }
        StmtKind::While(condition, body) => {
            out.push_str("for (; ");
            expr(out, condition);
            out.push_str("; ) ");
            stmt(out, body);
        }
        StmtKind::For(init, condition, step, body) => {
            out.push_str("for (");
            if let Some(init) = init {
                expr(out, init);
            }
            out.push_str("; ");
            match condition {
                Some(condition) => expr(out, condition),
                None => out.push('1'),
            }
            out.push_str("; ");
            if let Some(step) = step {
                expr(out, step);
            }
            out.push_str(") ");
            stmt(out, body);
        }
        StmtKind::Foreach(foreach) => foreach_stmt(out, foreach),
        StmtKind::Return(value) => {
            out.push_str("return");
            if let Some(value) = value {
                out.push(' ');
                expr(out, value);
            }
        }
        StmtKind::Delete(operand) => {
            out.push_str("delete ");
            expr(out, operand);
        }
        StmtKind::Next => out.push_str("next"),
        StmtKind::Break => out.push_str("break"),
        StmtKind::Continue => out.push_str("continue"),
        StmtKind::Try(tried, variable, handler) => {
            out.push_str("try {\n");
            stmt(out, tried);
            out.push_str("\n} catch ");
            if let Some(variable) = variable {
                let _ = write!(out, "({}) ", variable.text);
            }
            out.push_str("{\n");
            stmt(out, handler);
            out.push_str("\n}\n");
        }
        StmtKind::Embedded(embedded) => {
            let _ = write!(out, "%{{ {} %}}", embedded.code);
        }
    }
}

fn foreach_stmt(out: &mut String, foreach: &Foreach) {
    let sign = |direction: &Direction| match direction {
        Direction::Ascending => "+",
        Direction::Descending => "-",
    };
    out.push_str("foreach (");
    if let Some(value) = &foreach.value {
        let _ = write!(out, "{} = ", value.text);
    }
    out.push('[');
    for (index, key) in foreach.keys.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(&key.text);
        if let Some((SortKey::Key(sorted), direction)) = &foreach.sort
            && *sorted == index
        {
            out.push_str(sign(direction));
        }
    }
    out.push_str("] in ");
    expr(out, &foreach.base);
    if let Some(slice) = &foreach.slice {
        out.push('[');
        indexes(out, slice);
        out.push(']');
    }
    if let Some((SortKey::Value(statistic), direction)) = &foreach.sort {
        // stap keeps quiet about the variance.
        if let Some(op) = statistic.filter(|op| *op != StatOp::Variance) {
            let _ = write!(out, " {}", stat_op(op));
        }
        out.push_str(sign(direction));
    }
    if let Some(limit) = &foreach.limit {
        out.push_str(" limit ");
        expr(out, limit);
    }
    out.push_str(") ");
    stmt(out, &foreach.body);
}

fn indexes(out: &mut String, list: &[Option<Expr>]) {
    for (index, key) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        match key {
            Some(key) => expr(out, key),
            None => out.push('*'),
        }
    }
}

fn parenthesised(out: &mut String, inner: &Expr) {
    out.push('(');
    expr(out, inner);
    out.push(')');
}

fn arguments(out: &mut String, list: &[Expr]) {
    for (index, argument) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        expr(out, argument);
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", encode_escapes(bytes))
}

fn ampersand(address_of: bool) -> &'static str {
    if address_of { "&" } else { "" }
}

fn steps(out: &mut String, steps: &[TargetStep]) {
    for step in steps {
        match step {
            TargetStep::Member(name, _) => {
                let _ = write!(out, "->{}", name.text);
            }
            TargetStep::Index(index, _) => {
                out.push('[');
                expr(out, index);
                out.push(']');
            }
            TargetStep::Pretty(depth) => {
                let _ = write!(out, "->{}", "$".repeat(usize::from(*depth)));
            }
        }
    }
}

fn expr(out: &mut String, expression: &Expr) {
    match &expression.kind {
        ExprKind::Literal(literal) => out.push_str(&literal_to_string(literal)),
        ExprKind::Symbol(name) => out.push_str(name),
        ExprKind::Index(base, list) => {
            expr(out, base);
            out.push('[');
            indexes(out, list);
            out.push(']');
        }
        ExprKind::In(keys, array) => {
            out.push('[');
            indexes(out, keys);
            out.push_str("] in ");
            expr(out, array);
        }
        ExprKind::Call(name, list) => {
            let _ = write!(out, "{}(", name.text);
            arguments(out, list);
            out.push(')');
        }
        ExprKind::Unary(op, operand) => {
            out.push_str(unary_op(*op));
            parenthesised(out, operand);
        }
        ExprKind::Binary(op, left, right) => {
            parenthesised(out, left);
            let _ = write!(out, " {} ", binary_op(*op));
            parenthesised(out, right);
        }
        ExprKind::Match(left, pattern, negated) => {
            parenthesised(out, left);
            out.push_str(if *negated { " !~ " } else { " =~ " });
            expr(out, pattern);
        }
        ExprKind::Ternary(condition, yes, no) => {
            parenthesised(out, condition);
            out.push('?');
            parenthesised(out, yes);
            out.push(':');
            parenthesised(out, no);
        }
        ExprKind::Assign(op, left, right) => {
            parenthesised(out, left);
            let _ = write!(out, " {} ", assign_op(*op));
            parenthesised(out, right);
        }
        ExprKind::Step {
            increment,
            prefix,
            operand,
        } => {
            let sign = if *increment { "++" } else { "--" };
            if *prefix {
                out.push_str(sign);
            }
            parenthesised(out, operand);
            if !*prefix {
                out.push_str(sign);
            }
        }
        ExprKind::Stat(op, operand, shift) => {
            let _ = write!(out, "{}(", stat_op(*op));
            expr(out, operand);
            if let Some(shift) = shift {
                let _ = write!(out, ", {shift}");
            }
            out.push(')');
        }
        ExprKind::Hist(op, operand) => {
            out.push_str(match op {
                HistOp::Log => "@hist_log(",
                HistOp::Linear(..) => "@hist_linear(",
            });
            expr(out, operand);
            if let HistOp::Linear(low, high, step) = op {
                let _ = write!(out, ", {low}, {high}, {step}");
            }
            out.push(')');
        }
        ExprKind::Target {
            name,
            steps: list,
            address_of,
        } => {
            let _ = write!(out, "{}{name}", ampersand(*address_of));
            steps(out, list);
        }
        ExprKind::AtVar {
            name,
            module,
            steps: list,
            address_of,
        } => {
            let _ = write!(out, "{}@var({}", ampersand(*address_of), quoted(name));
            if let Some(module) = module {
                let _ = write!(out, ", {}", quoted(module));
            }
            out.push(')');
            steps(out, list);
        }
        ExprKind::Cast {
            operand,
            ty,
            module,
            steps: list,
            address_of,
        } => {
            let _ = write!(out, "{}@cast(", ampersand(*address_of));
            expr(out, operand);
            let _ = write!(out, ", {}", quoted(ty));
            if let Some(module) = module {
                let _ = write!(out, ", {}", quoted(module));
            }
            out.push(')');
            steps(out, list);
        }
        ExprKind::Autocast {
            operand,
            steps: list,
            address_of,
        } => {
            out.push_str(ampersand(*address_of));
            parenthesised(out, operand);
            steps(out, list);
        }
        ExprKind::Defined(operand) => at_call(out, "@defined", operand),
        ExprKind::ProbeWrite(operand) => at_call(out, "@probewrite", operand),
        ExprKind::Entry(operand) => at_call(out, "@entry", operand),
        ExprKind::Perf(name) => {
            let _ = write!(out, "@perf({})", quoted(name));
        }
        ExprKind::AtWord(word, list) => match (word.text.as_str(), list.as_slice()) {
            // stap takes it for embedded code with these marks.
            (
                "@const",
                [
                    Expr {
                        kind: ExprKind::Literal(Literal::String(text)),
                        ..
                    },
                ],
            ) => {
                let text = String::from_utf8_lossy(text);
                let _ = write!(
                    out,
                    "%{{ /* pure */ /* unprivileged */ /* stable */ {text} %}}"
                );
            }
            (word, list) => {
                let _ = write!(out, "{word}(");
                arguments(out, list);
                out.push(')');
            }
        },
        ExprKind::Print(form, list) => {
            let _ = write!(out, "{}(", print_name(*form));
            match list.split_first() {
                Some((
                    Expr {
                        kind: ExprKind::Literal(Literal::String(format)),
                        ..
                    },
                    rest,
                )) if form.format => {
                    // stap shows the format with its backslashes doubled.
                    let shown = encode_escapes(format)
                        .replace('\\', "\\\\")
                        .replace("\\\\\"", "\\\"");
                    let _ = write!(out, "\"{shown}\"");
                    if !rest.is_empty() {
                        out.push_str(", ");
                        arguments(out, rest);
                    }
                }
                _ => arguments(out, list),
            }
            out.push(')');
        }
        ExprKind::Embedded(embedded) => {
            let _ = write!(out, "%{{ {} %}}", embedded.code);
        }
    }
}

fn at_call(out: &mut String, word: &str, operand: &Expr) {
    let _ = write!(out, "{word}(");
    expr(out, operand);
    out.push(')');
}
