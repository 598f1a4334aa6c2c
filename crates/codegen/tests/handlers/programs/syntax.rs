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
    /// `isinstr(s, t)`.
    Contains(Box<Text>, Box<Text>),
    /// `stringat(s, n)`.
    ByteAt(Box<Text>, Box<Long>),
    /// `w[k]` of the array that wraps.
    Wrapped(Box<Long>),
    /// A call of a function of numbers: which one, its numbers, its text.
    Call(usize, Box<[Long; 2]>, Box<Text>),
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
    /// `str_replace(s, "…", "…")`.
    Replace(Box<Text>, &'static str, &'static str),
    /// `sprintf` of a number: flag, width, precision, conversion.
    Padded(Directive, Box<Long>),
    /// `sprintf("%-W.Ps", …)`: whether to the left, width, precision.
    Fitted(bool, usize, Option<usize>, Box<Text>),
    /// A call of the function that gives a text.
    Call(Box<[Long; 2]>, Box<Text>),
}

/// How `sprintf` is to show a number.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// One of `-`, `0`, `+`, a space, `#`.
    pub flag: Option<char>,
    pub width: usize,
    pub precision: Option<usize>,
    /// One of `d`, `u`, `x`, `X`, `o`.
    pub conversion: char,
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
    /// `w[k] = e`: the oldest element makes room.
    SetWrapped(Long, Long),
    /// `o[k] = e`: fails when the array is full.
    SetBounded(Long, Long),
    /// All of the array that wraps, by its keys.
    ShowWrapped,
    Delete(Long),
    DeleteWrapped(Long),
    DeleteNamed(Text),
    DeletePairs(Long),
    DeleteAll(&'static str),
    Try(Vec<Statement>, Vec<Statement>),
    Error(Text),
    Break,
    Continue,
    /// `if (e) next`.
    Next(Long),
    /// `if (e) return p`, in the function of texts `w`.
    Return(Long, bool),
    Divide(&'static str, Long, Long, bool),
}

/// A function of two numbers and a text: statements, then what it returns.
#[derive(Clone, Debug)]
pub struct Function {
    /// It calls itself while `p` is 1 or 2.
    pub recursive: bool,
    pub body: Vec<Statement>,
    pub result: Value,
}

/// What a function returns.
#[derive(Clone, Debug)]
pub enum Value {
    Long(Long),
    Text(Text),
}

/// Handlers that run one after the other, and the functions that they call.
#[derive(Clone, Debug)]
pub struct Program {
    pub functions: Vec<Function>,
    pub handlers: Vec<Vec<Statement>>,
}

/// Local numbers, local texts, global ones of either kind.
pub const NUMBERS: [&str; 5] = ["x", "y", "z", "g", "h"];
pub const TEXTS: [&str; 4] = ["s", "t", "u", "gs"];
/// A function's own; its text is `w`.
pub const PARAMETERS: [&str; 2] = ["p", "q"];
/// The function that gives a text; those before it give numbers.
pub const TEXT_FUNCTION: usize = 2;
/// Elements of the array that wraps, and of the one that fails when it is full.
pub const WRAPPED: usize = 3;
pub const BOUNDED: usize = 4;

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
            Long::Call(f, numbers, s) => call(*f, numbers, s),
            Long::Contains(s, t) => format!("isinstr({}, {})", s.text(), t.text()),
            Long::ByteAt(s, n) => format!("stringat({}, {})", s.text(), n.text()),
            Long::Wrapped(k) => format!("wr[{}]", k.text()),
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
            Text::Replace(s, a, b) => format!("str_replace({}, \"{a}\", \"{b}\")", s.text()),
            Text::Padded(directive, e) => {
                format!("sprintf(\"{}\", {})", directive.text(), e.text())
            }
            Text::Fitted(left, width, precision, s) => {
                let sign = if *left { "-" } else { "" };
                let precision = precision.map_or(String::new(), |p| format!(".{p}"));
                format!("sprintf(\"%{sign}{width}{precision}s\", {})", s.text())
            }
            Text::Call(numbers, s) => call(TEXT_FUNCTION, numbers, s),
        }
    }
}

/// The functions of each program of a batch have names of their own: `@` is put in place of the number.
fn call(function: usize, numbers: &[Long; 2], s: &Text) -> String {
    let [p, q] = numbers;
    format!("f@_{function}({}, {}, {})", p.text(), q.text(), s.text())
}

impl Directive {
    pub fn text(self) -> String {
        let flag = self.flag.map_or(String::new(), String::from);
        let precision = self.precision.map_or(String::new(), |p| format!(".{p}"));
        let width = match self.width {
            0 => String::new(),
            width => width.to_string(),
        };
        format!("%{flag}{width}{precision}{}", self.conversion)
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
            S::SetWrapped(k, e) => format!("wr[{}] = {};", k.text(), e.text()),
            S::SetBounded(k, e) => format!("bo[{}] = {};", k.text(), e.text()),
            S::ShowWrapped => "foreach (wk+ in wr) printf(\"%d~%d \", wk, wr[wk]);".into(),
            S::DeleteWrapped(k) => format!("delete wr[{}];", k.text()),
            S::Next(e) => format!("if ({}) next;", e.text()),
            S::Return(e, text) => {
                format!(
                    "if ({}) return {};",
                    e.text(),
                    if *text { "w" } else { "p" }
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

/// What stands before the programs of a script: the globals, a function that brings them back to how they began (and
/// tells their types), and one that shows all variables.
const HEAD: &str = "global g = 0, h = 0, gs = \"\", a, m, n, st, sa, wr%[3], bo[4]
function reset() { delete bo; g = h = 0; gs = \"\"; a[0] = 0; m[\"\"] = 0; n[0, \"\"] = \"\"; st <<< 1; sa[0] <<< 1; wr[0] = 0; bo[0] = 0
    delete a; delete m; delete n; delete st; delete sa; delete wr; delete bo }
function show(x, y, z, s, t, u) {
    println(x, \" \", y, \" \", z, \" \", g, \" \", h, \"|\", s, \"|\", t, \"|\", u, \"|\", gs) }
";

/// Stands before what each program prints, which has no such character.
pub const SEPARATOR: char = '#';

/// The text of a script in which programs run one after the other.
pub fn batch(programs: &[Program]) -> String {
    let mut out = String::from(HEAD);
    for (number, program) in programs.iter().enumerate() {
        out += &program.text(number);
    }
    out
}

impl Program {
    /// The program as the one of that number in a script.
    fn text(&self, number: usize) -> String {
        let joined = |list: &[Statement]| {
            let inner: Vec<String> = list.iter().map(Statement::text).collect();
            inner.join("\n")
        };
        let mut out = String::new();
        for (i, f) in self.functions.iter().enumerate() {
            let result = match &f.result {
                Value::Long(e) => e.text(),
                Value::Text(e) => e.text(),
            };
            let again = match f.recursive {
                true => format!("if (p > 0 && p < 3) return f@_{i}(p - 1, q, w)\n"),
                false => String::new(),
            };
            let body = joined(&f.body);
            out += &format!("function f@_{i}(p, q, w) {{ {again}{body}\nreturn {result} }}\n");
        }
        for (i, handler) in self.handlers.iter().enumerate() {
            let first = match i {
                0 => format!("reset(); print(\"{SEPARATOR}\");"),
                _ => String::new(),
            };
            out += &format!(
                "probe begin {{ {first} x = y = z = 0; s = t = u = \"\";\n{}\nshow(x, y, z, s, t, u) }}\n",
                joined(handler)
            );
        }
        out.replace("f@_", &format!("f{number}_"))
    }
}
