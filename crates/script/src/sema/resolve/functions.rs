//! Functions: overloads, calls, and the bodies of what is called.

use super::super::kernel_only;
use super::super::suggest::similar;
use super::*;

/// Priority of functions that do not say one: users' before the library's (stap(1), FUNCTIONS).
const USER_PRIORITY: i64 = 0;
const LIBRARY_PRIORITY: i64 = 1;

impl Resolver<'_> {
    /// Names that a near match may be looked for among.
    pub(super) fn function_names(&self) -> Vec<String> {
        let is_used = |at: &usize| self.functions[*at].id.is_some();
        let mut names: Vec<String> = (self.by_name.iter())
            .filter(|(_, all)| all.iter().any(is_used))
            .map(|(name, _)| name.clone())
            .collect();
        names.extend(self.library.function_names().map(str::to_string));
        names
    }

    /// Resolves the bodies of all functions called so far, and of those that they call.
    pub fn drain(&mut self) {
        while let Some((at, id)) = self.queue.pop_front() {
            let mut scope = Scope::new(Targets::Allowed);
            scope.built_in = self.library.is_built_in(self.functions[at].file);
            let decl = self.functions[at].decl.clone();
            for p in &decl.params {
                let local = scope.add(&p.name);
                scope.locals[local.0 as usize].slot.ty = p.ty.map_or(Ty::Unknown, declared);
            }
            scope.params = decl.params.len();
            let code = match &decl.body {
                ast::FunctionBody::Block(stmt) => {
                    let stmt = self.stmt(stmt, &mut scope);
                    Code::Script(scope.finish(stmt))
                }
                ast::FunctionBody::Embedded(code) => {
                    match self.intrinsic(code, &decl, self.functions[at].tapset) {
                        Some(i) => {
                            for (local, ty) in scope.locals.iter_mut().zip(i.params) {
                                local.slot.ty = from_ir(*ty);
                            }
                            Code::Intrinsic(i, scope.finish(Stmt::null(code.span)))
                        }
                        None => {
                            self.pragmas(code, id);
                            Code::Embedded(embedded_c(code), scope.finish(Stmt::null(code.span)))
                        }
                    }
                }
            };
            let function = &mut self.hir.functions[id.0 as usize];
            if let Code::Intrinsic(i, _) = &code {
                function.result.ty = from_ir(i.result);
            }
            function.code = code;
        }
    }

    pub(super) fn intrinsic(
        &mut self,
        code: &ast::EmbeddedCode,
        decl: &ast::FunctionDecl,
        tapset: bool,
    ) -> Option<&'static crate::intrinsics::Intrinsic> {
        let mut words = code.code.split_whitespace();
        if !tapset || words.next() != Some("intrinsic") {
            return None;
        }
        let found = words.next().and_then(crate::intrinsics::find);
        match found {
            Some(i) if i.params.len() == decl.params.len() => Some(i),
            _ => {
                self.report.error(
                    format!(
                        "function '{}' is bound to no such operation",
                        decl.name.text
                    ),
                    code.span,
                );
                None
            }
        }
    }

    pub(super) fn visible(&self, at: usize, from: FileId) -> bool {
        !self.functions[at].decl.private || self.functions[at].file == from
    }

    /// The overloads of that name and arity, first tried first.
    pub(super) fn overloads(&self, name: &str, arity: usize, from: FileId) -> Vec<usize> {
        let mut found: Vec<usize> = self
            .by_name
            .get(name)
            .into_iter()
            .flatten()
            .copied()
            .filter(|&at| self.visible(at, from) && self.functions[at].decl.params.len() == arity)
            .collect();
        // Each side has its own first: a user's function of the same name means nothing to the built-in library's.
        let built_in = |at: usize| self.library.is_built_in(self.functions[at].file);
        let own: &dyn Fn(usize) -> bool = match self.library.is_built_in(from) {
            true => &built_in,
            false => &|at| !self.functions[at].tapset,
        };
        if found.iter().any(|&at| own(at)) {
            found.retain(|&at| own(at));
        }
        found.sort_by_key(|&at| self.priority(at));
        found
    }

    pub(super) fn priority(&self, at: usize) -> i64 {
        let f = &self.functions[at];
        f.decl.priority.unwrap_or(if f.tapset {
            LIBRARY_PRIORITY
        } else {
            USER_PRIORITY
        })
    }

    /// The function that a call means.
    pub(super) fn function(&mut self, name: &ast::Name, arity: usize) -> Option<FunctionId> {
        let from = name.span.file;
        if self.library.is_built_in(from) {
            for file in self.library.built_in_files_of_function(&name.text) {
                self.pull(*file);
            }
        }
        let mut found = self.overloads(&name.text, arity, from);
        if found.is_empty() {
            for file in self.library.files_of_function(&name.text) {
                self.pull(file);
            }
            found = self.overloads(&name.text, arity, from);
        }
        if found.is_empty() {
            let other = self
                .by_name
                .get(&name.text)
                .into_iter()
                .flatten()
                .copied()
                .rfind(|&at| self.visible(at, from));
            match other {
                Some(at) => {
                    let f = &self.functions[at].decl;
                    let message = format!(
                        "arity mismatch found (function '{}' takes {} args)",
                        name.text,
                        f.params.len()
                    );
                    self.report
                        .push(Finding::error(message, name.span).also(f.name.span));
                }
                None => {
                    let hint = match kernel_only::reason(&name.text) {
                        Some(reason) => format!(" ({reason})"),
                        None => {
                            let names = self.function_names();
                            similar(&name.text, names.iter().map(String::as_str))
                        }
                    };
                    self.report.error(
                        format!("unresolved function {}{hint}", name.text),
                        name.span,
                    );
                }
            }
            return None;
        }
        // Functions of the library may (NEWS of SystemTap 4.0).
        let is_library = |from: FileId| self.functions.iter().any(|f| f.file == from && f.tapset);
        if !self.guru && found.iter().any(|&at| self.needs_guru(at)) && !is_library(from) {
            self.report
                .error("function may not be used unless -g is specified", name.span);
        }
        let mut next = None;
        for &at in found.iter().rev() {
            let id = match self.functions[at].id {
                Some(id) => id,
                None => self.allocate(at),
            };
            self.hir.functions[id.0 as usize].next = next;
            next = Some(id);
        }
        next
    }

    /// Embedded C as an expression or a statement: the call of a function without a name.
    pub(super) fn embedded_expression(&mut self, code: &ast::EmbeddedCode) -> ExprKind {
        let id = FunctionId(self.hir.functions.len() as u32);
        let ty = match code.code.contains("/* string */") {
            true => Ty::String,
            false => Ty::Long,
        };
        self.hir.functions.push(Function {
            name: String::new(),
            span: code.span,
            private: true,
            params: 0,
            result: Slot {
                ty,
                ..Slot::default()
            },
            code: Code::Embedded(
                embedded_c(code),
                Scope::new(Targets::Absent).finish(Stmt::null(code.span)),
            ),
            next: None,
            live: false,
            pure: None,
        });
        ExprKind::Call(id, Vec::new())
    }

    /// The globals that embedded C says it reads and writes, `/* pragma:read:NAME */` and `/* pragma:write:NAME */`.
    fn pragmas(&mut self, code: &ast::EmbeddedCode, function: FunctionId) {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (pragma, writes) in [("pragma:read", false), ("pragma:write", true)] {
            for rest in code.code.split(&format!("{pragma}:")).skip(1) {
                let name = rest.split(|c| !is_word(c)).next().unwrap_or_default();
                match self.global(name, code.span.file) {
                    Some(global) => self.hir.named_in_c.push((function, global, writes)),
                    None => {
                        let message = format!("unresolved {pragma} global {name}");
                        self.report.error(message, code.span);
                    }
                }
            }
        }
    }

    /// An operation that changes the program or holds it up.
    fn needs_guru(&self, at: usize) -> bool {
        match &self.functions[at].decl.body {
            ast::FunctionBody::Embedded(code) => code.code.split_whitespace().any(|w| w == "guru"),
            ast::FunctionBody::Block(_) => false,
        }
    }

    pub(super) fn allocate(&mut self, at: usize) -> FunctionId {
        let id = FunctionId(self.hir.functions.len() as u32);
        let f = &mut self.functions[at];
        f.id = Some(id);
        self.used.insert(f.file);
        self.hir.functions.push(Function {
            name: f.decl.name.text.clone(),
            span: f.decl.name.span,
            private: f.decl.private,
            params: f.decl.params.len(),
            result: Slot {
                ty: f.decl.ty.map_or(Ty::Unknown, declared),
                first: None,
                ..Slot::default()
            },
            code: Code::Script(Body {
                locals: Vec::new(),
                stmt: Stmt::null(f.decl.name.span),
            }),
            next: None,
            live: false,
            // A function of that name in a user's library is another.
            pure: crate::intrinsics::declared_pure(&f.decl.name.text).filter(|_| {
                let file = self.sources.file(f.decl.name.span.file);
                crate::tapset::is_embedded(file)
            }),
        });
        self.queue.push_back((at, id));
        id
    }
}

fn embedded_c(code: &ast::EmbeddedCode) -> EmbeddedC {
    EmbeddedC {
        span: code.span,
        pure: code.code.contains("/* pure */"),
        next: code.code.contains("STAP_NEXT"),
    }
}

fn declared(t: ast::TypeName) -> Ty {
    match t {
        ast::TypeName::Long => Ty::Long,
        ast::TypeName::String => Ty::String,
    }
}

fn from_ir(t: crate::ir::Type) -> Ty {
    match t {
        crate::ir::Type::Long => Ty::Long,
        crate::ir::Type::String => Ty::String,
        crate::ir::Type::Unit => Ty::Unknown,
    }
}
