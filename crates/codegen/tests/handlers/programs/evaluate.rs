//! A plain tree-walking evaluator: what stap(1) says about each construct, in the simplest way.

use std::collections::{BTreeMap, HashMap};

use super::syntax::{
    BOUNDED, Directive, Long, NUMBERS, Program, Statement, TEXT_FUNCTION, TEXTS, Text, Value,
    WRAPPED,
};

/// MAXSTRINGLEN without the terminating NUL.
const LONGEST: usize = 511;

/// What leaves a statement before its end.
enum Leave {
    Break,
    Continue,
    Next,
    Return,
    Error(String),
}

type Run<T> = Result<T, Leave>;

#[derive(Default)]
struct Statistic {
    count: i64,
    sum: i64,
    min: i64,
    max: i64,
}

impl Statistic {
    fn add(&mut self, value: i64) {
        let first = self.count == 0;
        self.count += 1;
        self.sum = self.sum.wrapping_add(value);
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
    }

    fn get(statistic: Option<&Statistic>, op: &str) -> Run<i64> {
        let empty = || Leave::Error("empty aggregate".into());
        let filled = statistic.filter(|s| s.count > 0);
        Ok(match op {
            "count" => filled.map_or(0, |s| s.count),
            "sum" => filled.map_or(0, |s| s.sum),
            "min" => filled.ok_or_else(empty)?.min,
            "max" => filled.ok_or_else(empty)?.max,
            _ => {
                let s = filled.ok_or_else(empty)?;
                s.sum.wrapping_div(s.count)
            }
        })
    }
}

struct Machine<'p> {
    program: &'p Program,
    numbers: HashMap<&'static str, i64>,
    texts: HashMap<&'static str, String>,
    /// `p`, `q` and `w` of the running functions.
    parameters: Vec<([i64; 2], String)>,
    /// In order of insertion.
    wrapped: Vec<(i64, i64)>,
    bounded: BTreeMap<i64, i64>,
    a: BTreeMap<i64, i64>,
    m: BTreeMap<String, i64>,
    n: BTreeMap<(i64, String), String>,
    st: Statistic,
    sa: BTreeMap<i64, Statistic>,
    out: String,
}

/// What the program prints.
pub fn run(program: &Program) -> String {
    let mut machine = Machine {
        program,
        numbers: NUMBERS.iter().map(|n| (*n, 0)).collect(),
        texts: TEXTS.iter().map(|t| (*t, String::new())).collect(),
        parameters: Vec::new(),
        wrapped: Vec::new(),
        bounded: BTreeMap::new(),
        a: BTreeMap::new(),
        m: BTreeMap::new(),
        n: BTreeMap::new(),
        st: Statistic::default(),
        sa: BTreeMap::new(),
        out: String::new(),
    };
    for handler in &program.handlers {
        for name in ["x", "y", "z"] {
            machine.numbers.insert(name, 0);
        }
        for name in ["s", "t", "u"] {
            machine.texts.insert(name, String::new());
        }
        machine.parameters.clear();
        if machine.block(handler).is_ok() {
            let numbers = NUMBERS.map(|n| machine.numbers[n].to_string()).join(" ");
            let texts = TEXTS.map(|t| machine.texts[t].as_str()).join("|");
            machine.out += &format!("{numbers}|{texts}\n");
        }
    }
    machine.out
}

/// What a function gave.
enum Returned {
    Long(i64),
    Text(String),
}

/// A number as stap's run time shows it: like printf(3), but that a zero always has its digit and, with `#`, its prefix,
/// and that `0` counts beside a precision.
fn show(directive: Directive, value: i64) -> String {
    let Directive {
        flag,
        width,
        precision,
        conversion,
    } = directive;
    let digits = match conversion {
        'd' | 'i' => value.unsigned_abs().to_string(),
        'u' => (value as u64).to_string(),
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        _ => format!("{value:o}"),
    };
    let least = precision.unwrap_or(0);
    let digits = format!("{digits:0>least$}");
    let prefix = match (flag, conversion) {
        (_, 'd' | 'i') if value < 0 => "-",
        (Some('+'), 'd' | 'i') => "+",
        (Some(' '), 'd' | 'i') => " ",
        (Some('#'), 'x') => "0x",
        (Some('#'), 'X') => "0X",
        (Some('#'), 'o') => "0",
        _ => "",
    };
    let room = width.saturating_sub(prefix.len());
    match flag {
        Some('-') => format!("{prefix}{digits:<room$}"),
        Some('0') => format!("{prefix}{digits:0>room$}"),
        _ => format!("{:>width$}", format!("{prefix}{digits}")),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(LONGEST);
    text
}

fn apply(op: &str, a: i64, b: i64) -> i64 {
    match op {
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "<<" => a.wrapping_shl(b as u32),
        ">>" => a.wrapping_shr(b as u32),
        ">>>" => (a as u64).wrapping_shr(b as u32) as i64,
        _ => truth(op, a.cmp(&b)),
    }
}

fn truth(op: &str, order: std::cmp::Ordering) -> i64 {
    i64::from(match op {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "==" => order.is_eq(),
        _ => order.is_ne(),
    })
}

impl Machine<'_> {
    fn variable(&mut self, name: &'static str) -> &mut i64 {
        match (name, self.parameters.last_mut()) {
            ("p", Some(([p, _], _))) => p,
            ("q", Some(([_, q], _))) => q,
            _ => self.numbers.get_mut(name).expect("a variable"),
        }
    }

    fn text_variable(&mut self, name: &'static str) -> &mut String {
        match (name, self.parameters.last_mut()) {
            ("w", Some((_, w))) => w,
            _ => self.texts.get_mut(name).expect("a variable"),
        }
    }

    /// The arguments of a call, then the function.
    fn call(&mut self, number: usize, numbers: &[Long; 2], s: &Text) -> Run<Returned> {
        let arguments = (
            [self.long(&numbers[0])?, self.long(&numbers[1])?],
            self.text(s)?,
        );
        self.enter(number, arguments)
    }

    fn enter(&mut self, number: usize, arguments: ([i64; 2], String)) -> Run<Returned> {
        let function = &self.program.functions[number];
        let p = arguments.0[0];
        self.parameters.push(arguments);
        let result = self.function(number, p);
        let ([p, _], w) = self.parameters.pop().expect("the call's own");
        match result {
            Err(Leave::Return) => Ok(match &function.result {
                Value::Long(_) => Returned::Long(p),
                Value::Text(_) => Returned::Text(w),
            }),
            other => other,
        }
    }

    fn function(&mut self, number: usize, p: i64) -> Run<Returned> {
        let function = &self.program.functions[number];
        if function.recursive && p > 0 && p < 3 {
            let (mut numbers, w) = self.parameters.last().cloned().expect("the call's own");
            numbers[0] = p - 1;
            return self.enter(number, (numbers, w));
        }
        self.block(&function.body)?;
        Ok(match &function.result {
            Value::Long(e) => Returned::Long(self.long(e)?),
            Value::Text(e) => Returned::Text(self.text(e)?),
        })
    }

    fn long(&mut self, e: &Long) -> Run<i64> {
        Ok(match e {
            Long::Number(n) => *n,
            Long::Variable(name) => *self.variable(name),
            Long::Element(k) => {
                let k = self.long(k)?;
                self.a.get(&k).copied().unwrap_or(0)
            }
            Long::Named(k) => {
                let k = self.text(k)?;
                self.m.get(&k).copied().unwrap_or(0)
            }
            Long::Unary(op, a) => {
                let a = self.long(a)?;
                match *op {
                    "-" => a.wrapping_neg(),
                    "~" => !a,
                    _ => i64::from(a == 0),
                }
            }
            Long::Binary("&&", a, b) => i64::from(self.long(a)? != 0 && self.long(b)? != 0),
            Long::Binary("||", a, b) => i64::from(self.long(a)? != 0 || self.long(b)? != 0),
            Long::Binary(op, a, b) => {
                let a = self.long(a)?;
                apply(op, a, self.long(b)?)
            }
            Long::Compare(op, a, b) => {
                let a = self.text(a)?;
                truth(op, a.cmp(&self.text(b)?))
            }
            Long::Choice(c, a, b) => match self.long(c)? {
                0 => self.long(b)?,
                _ => self.long(a)?,
            },
            Long::In(k) => {
                let k = self.long(k)?;
                i64::from(self.a.contains_key(&k))
            }
            Long::NamedIn(k) => {
                let k = self.text(k)?;
                i64::from(self.m.contains_key(&k))
            }
            Long::Step(op, before, name) => {
                let variable = self.variable(name);
                let old = *variable;
                let change = if *op == "++" { 1 } else { -1 };
                *variable = old.wrapping_add(change);
                if *before { *variable } else { old }
            }
            Long::Assign(name, value) => {
                let value = self.long(value)?;
                *self.variable(name) = value;
                value
            }
            Long::Length(s) => self.text(s)?.len() as i64,
            Long::Call(f, numbers, s) => match self.call(*f, numbers, s)? {
                Returned::Long(value) => value,
                Returned::Text(_) => unreachable!("a function of numbers"),
            },
            Long::Contains(s, t) => {
                let s = self.text(s)?;
                i64::from(s.contains(&self.text(t)?))
            }
            Long::ByteAt(s, n) => {
                let s = self.text(s)?;
                let at = self.long(n)?;
                let byte = usize::try_from(at).ok().and_then(|at| s.as_bytes().get(at));
                let outside = || Leave::Error("Position out of bounds".to_string());
                i64::from(*byte.ok_or_else(outside)?)
            }
            Long::Wrapped(k) => {
                let k = self.long(k)?;
                let found = self.wrapped.iter().find(|(key, _)| *key == k);
                found.map_or(0, |(_, value)| *value)
            }
            Long::Extract(op) => Statistic::get(Some(&self.st), op)?,
            Long::ExtractElement(op, k) => {
                let k = self.long(k)?;
                Statistic::get(self.sa.get(&k), op)?
            }
        })
    }

    fn text(&mut self, e: &Text) -> Run<String> {
        Ok(match e {
            Text::Literal(s) => (*s).to_string(),
            Text::Variable(name) => self.text_variable(name).clone(),
            Text::Element(k, s) => {
                let key = (self.long(k)?, self.text(s)?);
                self.n.get(&key).cloned().unwrap_or_default()
            }
            Text::Concat(parts) => {
                let mut all = String::new();
                for part in parts {
                    all += &self.text(part)?;
                }
                cut(all)
            }
            Text::Choice(c, a, b) => match self.long(c)? {
                0 => self.text(b)?,
                _ => self.text(a)?,
            },
            Text::Sprint(a) => self.long(a)?.to_string(),
            Text::Sprintf(a, s) => {
                let a = self.long(a)?;
                cut(format!("{a}:{}", self.text(s)?))
            }
            Text::Substr(s, from, length) => {
                let s = self.text(s)?;
                let from = self.long(from)? as usize;
                let length = self.long(length)? as usize;
                s.chars().skip(from).take(length).collect()
            }
            Text::Replace(s, old, new) => cut(self.text(s)?.replace(old, new)),
            Text::Padded(directive, e) => show(*directive, self.long(e)?),
            Text::Fitted(left, width, precision, s) => {
                let mut s = self.text(s)?;
                if let Some(precision) = precision {
                    s.truncate(*precision);
                }
                cut(match left {
                    true => format!("{s:<width$}"),
                    false => format!("{s:>width$}"),
                })
            }
            Text::Call(numbers, s) => match self.call(TEXT_FUNCTION, numbers, s)? {
                Returned::Text(value) => value,
                Returned::Long(_) => unreachable!("the function of texts"),
            },
        })
    }

    fn block(&mut self, list: &[Statement]) -> Run<()> {
        list.iter().try_for_each(|s| self.statement(s))
    }

    /// A loop's body; true when the loop is to be left.
    fn body(&mut self, list: &[Statement]) -> Run<bool> {
        match self.block(list) {
            Ok(()) | Err(Leave::Continue) => Ok(false),
            Err(Leave::Break) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn statement(&mut self, s: &Statement) -> Run<()> {
        use Statement as S;
        match s {
            S::Set(name, e) => {
                let value = self.long(e)?;
                *self.variable(name) = value;
            }
            S::SetText(name, e) => {
                let value = self.text(e)?;
                *self.text_variable(name) = value;
            }
            S::Update(name, op, e) => {
                let value = self.long(e)?;
                let variable = self.variable(name);
                *variable = apply(op, *variable, value);
            }
            S::Append(name, e) => {
                let more = self.text(e)?;
                let variable = self.text_variable(name);
                *variable = cut(format!("{variable}{more}"));
            }
            S::SetElement(k, e) => {
                let k = self.long(k)?;
                let value = self.long(e)?;
                self.a.insert(k, value);
            }
            S::UpdateElement(op, k, e) => {
                let k = self.long(k)?;
                let value = self.long(e)?;
                let element = self.a.entry(k).or_default();
                *element = apply(op, *element, value);
            }
            S::SetNamed(k, e) => {
                let k = self.text(k)?;
                let value = self.long(e)?;
                self.m.insert(k, value);
            }
            S::StepNamed(k) => {
                let k = self.text(k)?;
                let element = self.m.entry(k).or_default();
                *element = element.wrapping_add(1);
            }
            S::SetPair(k, s, e) => {
                let key = (self.long(k)?, self.text(s)?);
                let value = self.text(e)?;
                self.n.insert(key, value);
            }
            S::Aggregate(e) => {
                let value = self.long(e)?;
                self.st.add(value);
            }
            S::AggregateElement(k, e) => {
                let k = self.long(k)?;
                let value = self.long(e)?;
                self.sa.entry(k).or_default().add(value);
            }
            S::Print(e) => {
                let value = self.long(e)?;
                self.out += &format!("{value} ");
            }
            S::PrintText(e) => {
                let value = self.text(e)?;
                self.out += &format!("{value}\n");
            }
            S::If(c, a, b) => match self.long(c)? {
                0 => self.block(b)?,
                _ => self.block(a)?,
            },
            S::Loop(_, n, _, body) => {
                for _ in 0..*n {
                    if self.body(body)? {
                        break;
                    }
                }
            }
            S::Foreach(up, limit, body) => {
                let limit = match limit {
                    Some(e) => self.long(e)?.max(0) as usize,
                    None => usize::MAX,
                };
                let mut list: Vec<(i64, i64)> = self.a.clone().into_iter().collect();
                if !up {
                    list.reverse();
                }
                for (k, value) in list.into_iter().take(limit) {
                    self.out += &format!("{k}={value} ");
                    if self.body(body)? {
                        break;
                    }
                }
            }
            S::ForeachNamed(up, body) => {
                let mut list: Vec<(String, i64)> = self.m.clone().into_iter().collect();
                if !up {
                    list.reverse();
                }
                for (k, value) in list {
                    self.out += &format!("{k}={value} ");
                    if self.body(body)? {
                        break;
                    }
                }
            }
            S::CountPairs(only) => {
                let only = match only {
                    Some(e) => Some(self.text(e)?),
                    None => None,
                };
                let mut sum = 0i64;
                for ((k, s), value) in &self.n {
                    if only.as_ref().is_none_or(|o| o == s) {
                        sum = sum
                            .wrapping_add(k.wrapping_mul(value.len() as i64))
                            .wrapping_add(s.len() as i64);
                    }
                }
                self.out += &format!("{sum} ");
            }
            S::Delete(k) => {
                let k = self.long(k)?;
                self.a.remove(&k);
            }
            S::DeleteNamed(k) => {
                let k = self.text(k)?;
                self.m.remove(&k);
            }
            S::DeletePairs(k) => {
                let k = self.long(k)?;
                self.n.retain(|key, _| key.0 != k);
            }
            S::DeleteAll("a") => self.a.clear(),
            S::DeleteAll("st") => self.st = Statistic::default(),
            S::DeleteAll(name) => *self.variable(name) = 0,
            S::Try(a, b) => match self.block(a) {
                Err(Leave::Error(message)) => {
                    self.out += &format!("{message}\n");
                    self.block(b)?;
                }
                other => other?,
            },
            S::Error(e) => {
                let message = self.text(e)?;
                return Err(Leave::Error(message));
            }
            S::SetWrapped(k, e) => {
                let k = self.long(k)?;
                let value = self.long(e)?;
                match self.wrapped.iter_mut().find(|(key, _)| *key == k) {
                    Some((_, old)) => *old = value,
                    None => {
                        if self.wrapped.len() == WRAPPED {
                            self.wrapped.remove(0);
                        }
                        self.wrapped.push((k, value));
                    }
                }
            }
            S::SetBounded(k, e) => {
                let k = self.long(k)?;
                let value = self.long(e)?;
                if self.bounded.len() == BOUNDED && !self.bounded.contains_key(&k) {
                    let message = format!("Array overflow, check size limit ({BOUNDED})");
                    return Err(Leave::Error(message));
                }
                self.bounded.insert(k, value);
            }
            S::ShowWrapped => {
                let mut list = self.wrapped.clone();
                list.sort_unstable();
                for (k, value) in list {
                    self.out += &format!("{k}~{value} ");
                }
            }
            S::DeleteWrapped(k) => {
                let k = self.long(k)?;
                self.wrapped.retain(|(key, _)| *key != k);
            }
            S::Next(e) => {
                if self.long(e)? != 0 {
                    return Err(Leave::Next);
                }
            }
            S::Return(e, _) => {
                if self.long(e)? != 0 {
                    return Err(Leave::Return);
                }
            }
            S::Break => return Err(Leave::Break),
            S::Continue => return Err(Leave::Continue),
            S::Divide(name, a, b, rest) => {
                let a = self.long(a)?;
                let b = self.long(b)?;
                if b == 0 {
                    return Err(Leave::Error("division by 0".into()));
                }
                let value = match rest {
                    true => a.wrapping_rem(b),
                    false => a.wrapping_div(b),
                };
                *self.variable(name) = value;
            }
        }
        Ok(())
    }
}
