//! Expressions.

use super::procfs::{is_file_value, is_target};
use super::*;
use crate::format::parse_format;
use crate::token::number_value;

/// The registers by DWARF's numbers (System V ABI, AMD64 supplement, figure 3.36).
const DWARF_REGISTERS: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];

/// What stands against reading a counter.
const COUNTERS: &str =
    "@perf is not supported: counters that handlers read are those of a kernel module";

impl Resolver<'_> {
    pub(super) fn keys(
        &mut self,
        keys: &[Option<ast::Expr>],
        scope: &mut Scope,
    ) -> Vec<Option<Expr>> {
        keys.iter()
            .map(|k| k.as_ref().map(|k| self.expr(k, scope)))
            .collect()
    }

    pub(super) fn index(
        &mut self,
        e: &ast::Expr,
        base: &ast::Expr,
        keys: &[Option<ast::Expr>],
        wildcards: bool,
        scope: &mut Scope,
    ) -> Expr {
        let keys = self.keys(keys, scope);
        if !wildcards && keys.iter().any(Option::is_none) {
            self.report
                .error("wildcard not allowed in array index", base.span);
            return Expr::long(0, e.span);
        }
        let base_ = match &base.kind {
            ast::ExprKind::Symbol(name) => match self.array(name, base.span, keys.len(), scope) {
                Some(v) => Base::Var(v),
                None => return Expr::long(0, e.span),
            },
            ast::ExprKind::Hist(op, stat) => {
                Base::Hist(op.clone(), Box::new(self.expr(stat, scope)))
            }
            _ => {
                self.report.error("unknown type in dereference", e.span);
                return Expr::long(0, e.span);
            }
        };
        Expr {
            kind: ExprKind::Index(base_, keys),
            ty: Ty::Unknown,
            span: base.span,
        }
    }

    /// What is assigned to; `is_plain` for `=`.
    pub(super) fn lvalue(
        &mut self,
        operator: Span,
        is_plain: bool,
        e: &ast::Expr,
        scope: &mut Scope,
    ) -> Expr {
        match e.kind {
            ast::ExprKind::Symbol(_) | ast::ExprKind::Index(..) => {}
            ast::ExprKind::Target { .. }
            | ast::ExprKind::AtVar { .. }
            | ast::ExprKind::Cast { .. }
            | ast::ExprKind::Autocast { .. } => {
                let absent = scope.targets == Targets::Absent
                    && matches!(
                        e.kind,
                        ast::ExprKind::Target { .. } | ast::ExprKind::AtVar { .. }
                    );
                // Whether that is a target expression is known when its operand's type is.
                let is_certain = !matches!(e.kind, ast::ExprKind::Autocast { .. });
                if !self.guru && !absent && !self.is_dead && !self.is_conditional {
                    if is_certain {
                        self.report.error(
                            "write to target variable not permitted; need stap -g",
                            e.span,
                        );
                    }
                } else if self.guru && !absent && !self.is_dead {
                    self.writable(operator, is_plain, e);
                }
            }
            // What can't be assigned to is refused with its type.
            _ => {}
        }
        self.expr(e, scope)
    }

    /// Whether there may be an assignment to a target expression of that form.
    fn writable(&mut self, operator: Span, is_plain: bool, e: &ast::Expr) {
        let (name, steps, address_of) = match &e.kind {
            ast::ExprKind::Target {
                name,
                steps,
                address_of,
            } => (&**name, steps, *address_of),
            ast::ExprKind::AtVar {
                steps, address_of, ..
            }
            | ast::ExprKind::Cast {
                steps, address_of, ..
            }
            | ast::ExprKind::Autocast {
                steps, address_of, ..
            } => ("", steps, *address_of),
            _ => return,
        };
        if matches!(steps.last(), Some(ast::TargetStep::Pretty(_))) {
            self.report
                .error("cannot write to pretty-printed variable", e.span);
        } else if name.starts_with("$$") {
            self.report
                .error("cannot write to context variable", e.span);
        } else if address_of {
            self.report.error("cannot write to member address", e.span);
        } else if !is_plain {
            self.report.error(
                "Only the following assign operator is implemented on target variables:  =",
                operator,
            );
        }
    }

    /// Whether the operand of an `@defined` is known to mean something, or not to.
    fn definition(&self, operand: &ast::Expr, scope: &Scope) -> Option<bool> {
        let operand = match &operand.kind {
            ast::ExprKind::Entry(inner) => inner,
            _ => operand,
        };
        let mut known = scope.definitions.iter().chain(&self.definitions);
        known
            .find(|(place, _)| *place == operand.span)
            .map(|(_, known)| *known)
    }

    /// `@defined` of what is no target expression itself: whether that is replaced while target expressions are looked up,
    /// as stap does with the operators that it decides then.
    fn defined_otherwise(&mut self, operand: &ast::Expr, scope: &mut Scope) -> ExprKind {
        let is_process = scope.targets == Targets::Allowed;
        match &operand.kind {
            ast::ExprKind::Entry(_) if !scope.returns => ExprKind::Long(0),
            ast::ExprKind::Entry(inner) => {
                let span = inner.span;
                let inner = self.boxed(inner, &mut Scope::new(scope.targets));
                match inner.kind {
                    ExprKind::Target(_) => ExprKind::Defined(inner),
                    _ => Expr::long(1, span).kind,
                }
            }
            _ => {
                self.expr(operand, scope);
                ExprKind::Long((is_process && is_decided(operand)).into())
            }
        }
    }

    pub(super) fn unsupported(&mut self, what: &str, span: Span) -> ExprKind {
        self.report.error(format!("{what} is not supported"), span);
        ExprKind::Long(0)
    }

    /// An expression.
    pub fn expr(&mut self, e: &ast::Expr, scope: &mut Scope) -> Expr {
        use ast::ExprKind as A;
        let kind = match &e.kind {
            A::Literal(ast::Literal::Number(n)) => ExprKind::Long(*n),
            A::Literal(ast::Literal::String(s)) => ExprKind::Str(s.clone()),
            A::Symbol(name) => {
                let name = ast::Name {
                    text: name.clone(),
                    span: e.span,
                };
                ExprKind::Var(self.var(&name, scope))
            }
            A::Index(base, keys) => return self.index(e, base, keys, false, scope),
            A::In(keys, base) => {
                let keys = self.keys(keys, scope);
                match &base.kind {
                    A::Symbol(name) => match self.array(name, base.span, keys.len(), scope) {
                        Some(v) => ExprKind::In(keys, v, base.span),
                        None => ExprKind::Long(0),
                    },
                    // As stap has it: the count of that bucket.
                    A::Hist(op, stat) => {
                        let histogram = Base::Hist(op.clone(), Box::new(self.expr(stat, scope)));
                        return Expr {
                            kind: ExprKind::Index(histogram, keys),
                            ty: Ty::Unknown,
                            span: base.span,
                        };
                    }
                    _ => {
                        self.report.error("array expected", base.span);
                        ExprKind::Long(0)
                    }
                }
            }
            A::Call(name, args) => {
                let args: Vec<Expr> = args.iter().map(|a| self.expr(a, scope)).collect();
                match self.function(name, args.len()) {
                    Some(id) => ExprKind::Call(id, args),
                    None => ExprKind::Long(0),
                }
            }
            A::Unary(op, a) => ExprKind::Unary(*op, self.boxed(a, scope)),
            A::Binary(op, a, b) => {
                ExprKind::Binary(*op, self.boxed(a, scope), self.boxed(b, scope))
            }
            A::Match(a, pattern, negated) => {
                let subject = self.boxed(a, scope);
                match &pattern.kind {
                    A::Literal(ast::Literal::String(p)) => {
                        ExprKind::Match(subject, p.clone(), *negated, pattern.span)
                    }
                    _ => {
                        self.report.error("expected literal string", pattern.span);
                        ExprKind::Long(0)
                    }
                }
            }
            A::Ternary(c, a, b) => ExprKind::Ternary(
                self.boxed(c, scope),
                self.boxed(a, scope),
                self.boxed(b, scope),
            ),
            A::Assign(op, a, b) if scope.targets.is_file() && is_target(a) => {
                self.assign_file_value(*op, a, b, scope)
            }
            A::Assign(op, a, b) if scope.returns && matches!(a.kind, A::Entry(_)) => {
                self.assign_entry(*op, a, b, scope)
            }
            A::Assign(op, a, b) => {
                let target = Box::new(self.lvalue(e.span, *op == ast::AssignOp::Set, a, scope));
                ExprKind::Assign(*op, target, self.boxed(b, scope))
            }
            A::Step { operand, .. } if scope.targets.is_file() && is_target(operand) => {
                self.step_file_value(operand, scope)
            }
            A::Step {
                increment,
                prefix,
                operand,
            } => ExprKind::Step {
                increment: *increment,
                prefix: *prefix,
                operand: Box::new(self.lvalue(e.span, false, operand, scope)),
            },
            A::Stat(op, a, shift) => {
                let shift = shift.unwrap_or(0);
                ExprKind::Stat(*op, self.boxed(a, scope), shift)
            }
            A::Hist(op, a) => ExprKind::Hist(op.clone(), self.boxed(a, scope)),
            A::Target { .. } if scope.targets.is_file() => self.file_value(e, scope),
            A::Target {
                name,
                steps,
                address_of,
            } => {
                if scope.returns && !matches!(name.as_str(), "$return" | "$$return") {
                    let shown = crate::unparse::expr_to_string(e);
                    let message = format!(
                        "confusing usage, value is captured as @entry({shown}) in .return probe [man stapprobes] RETURN PROBES"
                    );
                    self.report.warning(message, e.span);
                }
                // What is an index of it has been told of with it.
                let returns = std::mem::replace(&mut scope.returns, false);
                let base = TargetBase::Variable(name.clone());
                let target = self.target(base, steps, *address_of, scope);
                scope.returns = returns;
                target
            }
            A::AtVar {
                name,
                module,
                steps,
                address_of,
            } => self.target(
                TargetBase::AtVar(text(name), module.as_deref().map(text)),
                steps,
                *address_of,
                scope,
            ),
            A::Cast {
                operand,
                ty,
                module,
                steps,
                address_of,
            } => {
                let operand = self.boxed(operand, scope);
                self.target(
                    TargetBase::Cast(operand, text(ty), module.as_deref().map(text)),
                    steps,
                    *address_of,
                    scope,
                )
            }
            A::Autocast {
                operand,
                steps,
                address_of,
            } => {
                let operand = self.boxed(operand, scope);
                self.target(
                    TargetBase::Autocast(operand, Vec::new()),
                    steps,
                    *address_of,
                    scope,
                )
            }
            A::Defined(a) if scope.targets.is_file() => {
                let is_known = scope.targets == Targets::Written && is_file_value(a);
                ExprKind::Long(is_known.into())
            }
            A::Defined(a)
                if scope.targets == Targets::Allowed && self.definition(a, scope).is_some() =>
            {
                ExprKind::Long(self.definition(a, scope).unwrap_or_default().into())
            }
            A::Defined(a)
                if !matches!(
                    a.kind,
                    A::Target { .. } | A::AtVar { .. } | A::Cast { .. } | A::Autocast { .. }
                ) && !matches!(&a.kind, A::AtWord(name, _) if name.text.trim_start_matches('@').starts_with("enum")) =>
            {
                self.defined_otherwise(a, scope)
            }
            A::Defined(a) => {
                let returns = std::mem::replace(&mut scope.returns, false);
                let inner = self.boxed(a, scope);
                scope.returns = returns;
                if scope.targets == Targets::Absent {
                    ExprKind::Long(0)
                } else {
                    match &inner.kind {
                        ExprKind::Target(_) => ExprKind::Defined(inner),
                        _ => self.unsupported("@defined of this expression", e.span),
                    }
                }
            }
            A::ProbeWrite(operand) => match (&scope.written, &operand.kind) {
                (Some(written), A::Symbol(name) | A::Target { name, .. }) => {
                    ExprKind::Long(written.contains(name).into())
                }
                _ => {
                    self.report.error("unexpected @probewrite", e.span);
                    ExprKind::Long(0)
                }
            },
            A::Entry(a) => self.entry(a, scope),
            A::Perf(counter) => {
                match scope.targets {
                    Targets::Allowed if self.counters.contains(counter.as_slice()) => {
                        self.report.late(COUNTERS, e.span);
                    }
                    Targets::Allowed => {
                        let message = format!("perf counter '{}' not defined", text(counter));
                        self.report.push(Finding::error_nowhere(message));
                    }
                    _ => self
                        .report
                        .late("cannot translate general @perf expression", e.span),
                }
                ExprKind::Long(0)
            }
            A::AtWord(name, args) if name.text.trim_start_matches('@') == "enum" => {
                let name = args.first().and_then(literal).unwrap_or_default();
                self.target(TargetBase::Enum(name), &[], false, scope)
            }
            A::AtWord(name, args) if name.text.trim_start_matches('@') == "enumname" => {
                let mut rest = args.iter().skip(1).map(literal);
                let (ty, module) = (rest.next().flatten(), rest.next().flatten());
                match args.first() {
                    Some(operand) => {
                        let operand = self.boxed(operand, scope);
                        self.target(TargetBase::EnumName(operand, ty, module), &[], false, scope)
                    }
                    None => ExprKind::Long(0),
                }
            }
            A::AtWord(name, args) if name.text.trim_start_matches('@') == "const" => {
                let text = args.first().and_then(literal).unwrap_or_default();
                match number_value(text.trim(), false) {
                    Some(n) => ExprKind::Long(n),
                    None if text.trim() == "MAXSTRINGLEN" => {
                        self.library_call("__max_string_length", Vec::new(), e.span)
                    }
                    // What else C knows stap takes for embedded code with these marks.
                    None => self.embedded_expression(&ast::EmbeddedCode {
                        code: format!("/* pure */ /* unprivileged */ /* stable */ {text}"),
                        span: e.span,
                    }),
                }
            }
            A::AtWord(name, args) => match self.raw_access(name, args, scope) {
                Some(call) => call,
                None => {
                    let shown = format!("@{}", name.text.trim_start_matches('@'));
                    self.unsupported(&shown, e.span)
                }
            },
            A::Print(form, args) => return self.print(*form, args, e.span, scope),
            A::Embedded(code) => self.embedded_expression(code),
        };
        let ty = match &kind {
            ExprKind::Long(_) => Ty::Long,
            ExprKind::Str(_) => Ty::String,
            _ => Ty::Unknown,
        };
        Expr {
            kind,
            ty,
            span: e.span,
        }
    }

    /// `@uderef(size, address)` and `@uregister(number)`, as calls of the library. The registers of the program are all
    /// that handlers run with, so `@kregister` means the same.
    fn raw_access(
        &mut self,
        name: &ast::Name,
        args: &[ast::Expr],
        scope: &mut Scope,
    ) -> Option<ExprKind> {
        let number = |e: &ast::Expr| match e.kind {
            ast::ExprKind::Literal(ast::Literal::Number(n)) => Some(n),
            _ => None,
        };
        let first = args.first().and_then(number)?;
        let (function, argument) = match (name.text.trim_start_matches('@'), args) {
            ("uderef", [_, address]) => {
                let function = match first {
                    1 => "user_uint8_error",
                    2 => "user_uint16_error",
                    4 => "user_uint32_error",
                    8 => "user_uint64_error",
                    _ => return None,
                };
                (function, self.expr(address, scope))
            }
            ("uregister" | "kregister", [operand]) => {
                let register = usize::try_from(first)
                    .ok()
                    .and_then(|n| DWARF_REGISTERS.get(n))?;
                let name = Expr {
                    kind: ExprKind::Str(register.as_bytes().to_vec()),
                    ty: Ty::String,
                    span: operand.span,
                };
                ("u_register", name)
            }
            _ => return None,
        };
        let callee = ast::Name {
            text: function.to_string(),
            span: name.span,
        };
        let id = self.function(&callee, 1)?;
        Some(ExprKind::Call(id, vec![argument]))
    }

    /// `@entry(a)`: evaluated when the function is entered, by another handler, which has locals of its own.
    fn entry(&mut self, a: &ast::Expr, scope: &Scope) -> ExprKind {
        let mut own = Scope::new(scope.targets);
        let inner = self.boxed(a, &mut own);
        if let Some(local) = own.locals.first().filter(|_| scope.returns) {
            self.report.error("unresolved type ", local.span);
            return ExprKind::Long(0);
        }
        ExprKind::Entry(inner)
    }

    /// What is assigned to `@entry(…)` goes to the variable that holds the entry's value for the handler: nobody else sees it.
    fn assign_entry(
        &mut self,
        op: ast::AssignOp,
        entry: &ast::Expr,
        value: &ast::Expr,
        scope: &mut Scope,
    ) -> ExprKind {
        let mut held = self.expr(entry, scope);
        let span = match &held.kind {
            ExprKind::Entry(inner) => inner.span,
            _ => held.span,
        };
        held.span = span;
        let mut value = self.expr(value, scope);
        if let ast::AssignOp::Binary(op) = op {
            let span = value.span;
            let (a, b) = (Box::new(held), Box::new(value));
            value = Expr {
                kind: ExprKind::Binary(op, a, b),
                ty: Ty::Unknown,
                span,
            };
        }
        let local = scope.add(&ast::Name {
            text: "__global_entry_tvar_entry_0_tmp".into(),
            span,
        });
        let target = Expr {
            kind: ExprKind::Var(Var::Local(local)),
            ty: Ty::Unknown,
            span,
        };
        ExprKind::Assign(ast::AssignOp::Set, Box::new(target), Box::new(value))
    }

    pub(super) fn boxed(&mut self, e: &ast::Expr, scope: &mut Scope) -> Box<Expr> {
        Box::new(self.expr(e, scope))
    }

    pub(super) fn target(
        &mut self,
        base: TargetBase,
        steps: &[ast::TargetStep],
        address_of: bool,
        scope: &mut Scope,
    ) -> ExprKind {
        let operators = steps.iter().map(|s| match s {
            ast::TargetStep::Member(_, at) | ast::TargetStep::Index(_, at) => Some(*at),
            ast::TargetStep::Pretty(_) => None,
        });
        let operators = operators.collect();
        let steps = steps
            .iter()
            .map(|s| match s {
                ast::TargetStep::Member(n, _) => TargetStep::Member(n.text.clone()),
                ast::TargetStep::Index(e, _) => TargetStep::Index(self.expr(e, scope)),
                ast::TargetStep::Pretty(depth) => TargetStep::Pretty(*depth),
            })
            .collect();
        let mut target = Target {
            base,
            steps,
            operators,
            address_of,
            resolvable: scope.targets == Targets::Allowed,
        };
        target.resolvable |= target.own_module();
        ExprKind::Target(Box::new(target))
    }

    pub(super) fn print(
        &mut self,
        form: ast::PrintForm,
        args: &[ast::Expr],
        span: Span,
        scope: &mut Scope,
    ) -> Expr {
        let mut rest = args;
        let mut format = None;
        let mut delimiter = None;
        if form.format || form.delimiter {
            let text = match args.first().map(|a| &a.kind) {
                Some(ast::ExprKind::Literal(ast::Literal::String(s))) => s.clone(),
                _ => {
                    let at = args.first().map_or(span, |a| a.span);
                    self.report.error("expected literal string", at);
                    Vec::new()
                }
            };
            rest = args.get(1..).unwrap_or_default();
            if form.format {
                match parse_format(&text) {
                    Ok(f) => format = Some(f),
                    Err(e) => self
                        .report
                        .error(e.to_string(), args.first().map_or(span, |a| a.span)),
                }
            } else {
                delimiter = Some(text);
            }
        }
        let args: Vec<Expr> = rest.iter().map(|a| self.expr(a, scope)).collect();
        if let Some(f) = &format
            && super::super::formats::arguments(f) != args.len()
        {
            self.report
                .error("Wrong number of args to formatted print operator", span);
        }
        Expr {
            kind: ExprKind::Print(Box::new(Print {
                form,
                format,
                delimiter,
                args,
            })),
            ty: Ty::Unknown,
            span,
        }
    }
}

/// Whether what stands in `@defined` is decided together with the target expressions in it.
fn is_decided(e: &ast::Expr) -> bool {
    match &e.kind {
        ast::ExprKind::Target { .. }
        | ast::ExprKind::AtVar { .. }
        | ast::ExprKind::Cast { .. }
        | ast::ExprKind::Autocast { .. } => true,
        ast::ExprKind::Defined(inner) => is_decided(inner),
        _ => false,
    }
}

/// The text of a literal string.
fn literal(e: &ast::Expr) -> Option<String> {
    match &e.kind {
        ast::ExprKind::Literal(ast::Literal::String(s)) => Some(text(s)),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
