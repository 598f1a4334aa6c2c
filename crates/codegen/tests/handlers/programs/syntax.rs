//! The programs' syntax, and its text in the script language.

/// An expression that is a number.
#[derive(Clone, Debug)]
pub enum Long {
    Number(i64),
    Variable(&'static str),
    /// `a[k]` of an array of numbers.
    Element(Box<Long>),
    /// `m[k]` of the array of numbers by text.
    Named(Box<Text>),
    Unary(&'static str, Box<Long>),
    Binary(&'static str, Box<Long>, Box<Long>),
    /// Comparison of texts.
    Compare(&'static str, Box<Text>, Box<Text>),
    Choice(Box<Long>, Box<Long>, Box<Long>),
    In(Box<Long>),
    NamedIn(Box<Text>),
    /// Operator before the variable or behind it.
    Step(&'static str, bool, &'static str),
    Assign(&'static str, Box<Long>),
    Length(Box<Text>),
    Call(usize, Vec<Long>),
    /// `@count` and its kin of the statistic.
    Extract(&'static str),
    /// The same of an element of the array of statistics.
    ExtractElement(&'static str, Box<Long>),
}

/// An expression that is a text.
#[derive(Clone, Debug)]
pub enum Text {
    Literal(&'static str),
    Variable(&'static str),
    /// `n[k, s]`.
    Element(Box<Long>, Box<Text>),
    Concat(Vec<Text>),
    Choice(Box<Long>, Box<Text>, Box<Text>),
    Sprint(Box<Long>),
    /// `sprintf("%d:%s", …)`.
    Sprintf(Box<Long>, Box<Text>),
    Substr(Box<Text>, Box<Long>, Box<Long>),
}

/// A statement.
#[derive(Clone, Debug)]
pub enum Statement {
    Set(&'static str, Long),
    SetText(&'static str, Text),
    Update(&'static str, &'static str, Long),
    Append(&'static str, Text),
    SetElement(Long, Long),
    UpdateElement(&'static str, Long, Long),
    SetNamed(Text, Long),
    StepNamed(Text),
    SetPair(Long, Text, Text),
    Aggregate(Long),
    AggregateElement(Long, Long),
    Print(Long),
    PrintText(Text),
    If(Long, Vec<Statement>, Vec<Statement>),
    /// The counter's name, the bound, the body; with `for` or `while`.
    Loop(&'static str, i64, bool, Vec<Statement>),
    /// `foreach (k+ in a limit n)`.
    Foreach(bool, Option<Long>, Vec<Statement>),
    /// `foreach (name = key- in m)`.
    ForeachNamed(bool, Vec<Statement>),
    /// `foreach ([k, s+] in n[*, s])` and the sum of what is there, whatever the order.
    CountPairs(Option<Text>),
    Delete(Long),
    DeleteNamed(Text),
    DeletePairs(Long),
    DeleteAll(&'static str),
    Try(Vec<Statement>, Vec<Statement>),
    Error(Text),
    Break,
    Continue,
    Divide(&'static str, Long, Long, bool),
}

/// A function of two numbers: statements, then what it returns.
#[derive(Clone, Debug)]
pub struct Function {
    pub body: Vec<Statement>,
    pub result: Long,
}

/// Two handlers that run one after the other, and the functions that they call.
#[derive(Clone, Debug)]
pub struct Program {
    pub functions: Vec<Function>,
    pub handlers: Vec<Vec<Statement>>,
}

/// Local numbers, local texts, global ones of either kind.
pub const NUMBERS: [&str; 5] = ["x", "y", "z", "g", "h"];
pub const TEXTS: [&str; 4] = ["s", "t", "u", "gs"];
/// A function's own.
pub const PARAMETERS: [&str; 2] = ["p", "q"];

impl Long {
    pub fn text(&self) -> String {
        match self {
            Long::Number(i64::MIN) => "(-9223372036854775807 - 1)".into(),
            Long::Number(n) => format!("({n})"),
            Long::Variable(name) => (*name).into(),
            Long::Element(k) => format!("a[{}]", k.text()),
            Long::Named(k) => format!("m[{}]", k.text()),
            Long::Unary(op, a) => format!("({op} {})", a.text()),
            Long::Binary(op, a, b) => format!("({} {op} {})", a.text(), b.text()),
            Long::Compare(op, a, b) => format!("({} {op} {})", a.text(), b.text()),
            Long::Choice(c, a, b) => format!("({} ? {} : {})", c.text(), a.text(), b.text()),
            Long::In(k) => format!("([{}] in a)", k.text()),
            Long::NamedIn(k) => format!("([{}] in m)", k.text()),
            Long::Step(op, true, name) => format!("({op}{name})"),
            Long::Step(op, false, name) => format!("({name}{op})"),
            Long::Assign(name, value) => format!("({name} = {})", value.text()),
            Long::Length(s) => format!("strlen({})", s.text()),
            Long::Call(f, arguments) => {
                let list: Vec<String> = arguments.iter().map(Long::text).collect();
                format!("f{f}({})", list.join(", "))
            }
            Long::Extract(op) => format!("@{op}(st)"),
            Long::ExtractElement(op, k) => format!("@{op}(sa[{}])", k.text()),
        }
    }
}

impl Text {
    pub fn text(&self) -> String {
        match self {
            Text::Literal(s) => format!("\"{s}\""),
            Text::Variable(name) => (*name).into(),
            Text::Element(k, s) => format!("n[{}, {}]", k.text(), s.text()),
            Text::Concat(parts) => {
                let list: Vec<String> = parts.iter().map(Text::text).collect();
                format!("({})", list.join(" . "))
            }
            Text::Choice(c, a, b) => format!("({} ? {} : {})", c.text(), a.text(), b.text()),
            Text::Sprint(a) => format!("sprint({})", a.text()),
            Text::Sprintf(a, s) => format!("sprintf(\"%d:%s\", {}, {})", a.text(), s.text()),
            Text::Substr(s, a, b) => format!("substr({}, {}, {})", s.text(), a.text(), b.text()),
        }
    }
}

fn block(list: &[Statement]) -> String {
    let inner: Vec<String> = list.iter().map(Statement::text).collect();
    format!("{{ {} }}", inner.join("\n"))
}

impl Statement {
    fn text(&self) -> String {
        use Statement as S;
        match self {
            S::Set(name, e) => format!("{name} = {};", e.text()),
            S::SetText(name, e) => format!("{name} = {};", e.text()),
            S::Update(name, op, e) => format!("{name} {op}= {};", e.text()),
            S::Append(name, e) => format!("{name} .= {};", e.text()),
            S::SetElement(k, e) => format!("a[{}] = {};", k.text(), e.text()),
            S::UpdateElement(op, k, e) => format!("a[{}] {op}= {};", k.text(), e.text()),
            S::SetNamed(k, e) => format!("m[{}] = {};", k.text(), e.text()),
            S::StepNamed(k) => format!("m[{}]++;", k.text()),
            S::SetPair(k, s, e) => format!("n[{}, {}] = {};", k.text(), s.text(), e.text()),
            S::Aggregate(e) => format!("st <<< {};", e.text()),
            S::AggregateElement(k, e) => format!("sa[{}] <<< {};", k.text(), e.text()),
            S::Print(e) => format!("printf(\"%d \", {});", e.text()),
            S::PrintText(e) => format!("println({});", e.text()),
            S::If(c, a, b) if b.is_empty() => format!("if ({}) {}", c.text(), block(a)),
            S::If(c, a, b) => format!("if ({}) {} else {}", c.text(), block(a), block(b)),
            S::Loop(i, n, true, body) => {
                format!("for ({i} = 0; {i} < {n}; {i}++) {}", block(body))
            }
            S::Loop(i, n, false, body) => {
                format!("{i} = 0; while ({i}++ < {n}) {}", block(body))
            }
            S::Foreach(up, limit, body) => {
                let sign = if *up { "+" } else { "-" };
                let limit = limit
                    .as_ref()
                    .map_or(String::new(), |l| format!(" limit {}", l.text()));
                format!(
                    "foreach (k{sign} in a{limit}) {{ printf(\"%d=%d \", k, a[k])\n{} }}",
                    block(body)
                )
            }
            S::ForeachNamed(up, body) => {
                let sign = if *up { "+" } else { "-" };
                format!(
                    "foreach (v = w{sign} in m) {{ printf(\"%s=%d \", w, v)\n{} }}",
                    block(body)
                )
            }
            S::CountPairs(only) => {
                let slice = only
                    .as_ref()
                    .map_or(String::new(), |s| format!("[*, {}]", s.text()));
                format!(
                    "c = 0; foreach ([i1, i2] in n{slice}) c += i1 * strlen(n[i1, i2]) + strlen(i2); printf(\"%d \", c);"
                )
            }
            S::Delete(k) => format!("delete a[{}];", k.text()),
            S::DeleteNamed(k) => format!("delete m[{}];", k.text()),
            S::DeletePairs(k) => format!("delete n[{}, *];", k.text()),
            S::DeleteAll(name) => format!("delete {name};"),
            S::Try(a, b) => format!("try {} catch (e) {{ println(e);\n{} }}", block(a), {
                let inner: Vec<String> = b.iter().map(Statement::text).collect();
                inner.join("\n")
            }),
            S::Error(e) => format!("error({});", e.text()),
            S::Break => "break;".into(),
            S::Continue => "continue;".into(),
            S::Divide(name, a, b, rest) => {
                format!(
                    "{name} = {} {} {};",
                    a.text(),
                    if *rest { "%" } else { "/" },
                    b.text()
                )
            }
        }
    }
}

impl Program {
    pub fn text(&self) -> String {
        let mut out = String::from(
            "global g = 0, h = 0, gs = \"\", a, m, n, st, sa\n\
             probe begin { a[0] = 0; m[\"\"] = 0; n[0, \"\"] = \"\"; st <<< 1; sa[0] <<< 1\n\
             delete a; delete m; delete n; delete st; delete sa }\n",
        );
        for (i, f) in self.functions.iter().enumerate() {
            out += &format!("function f{i}(p, q) {}\n", {
                let inner: Vec<String> = f.body.iter().map(Statement::text).collect();
                format!("{{ {}\nreturn {} }}", inner.join("\n"), f.result.text())
            });
        }
        for handler in &self.handlers {
            let inner: Vec<String> = handler.iter().map(Statement::text).collect();
            out += &format!(
                "probe begin {{ x = y = z = 0; s = t = u = \"\";\n{}\nprintln(x, \" \", y, \" \", z, \" \", g, \" \", h, \"|\", s, \"|\", t, \"|\", u, \"|\", gs) }}\n",
                inner.join("\n")
            );
        }
        out
    }
}
