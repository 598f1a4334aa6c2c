//! Programs from a seed. Loops are bounded, arrays are not changed inside loops over them, and operands whose order of
//! evaluation the language does not fix have no effects.

use super::syntax::{
    Directive, Function, Long, NUMBERS, PARAMETERS, Program, Statement, TEXT_FUNCTION, TEXTS, Text,
    Value,
};

/// Xorshift: good enough to choose with.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

struct Generator {
    random: Random,
    /// In a function: parameters instead of the handlers' locals, and only earlier functions are called.
    function: Option<usize>,
    functions: usize,
    loops: usize,
    /// Loops over an array: nothing may be written to arrays, and no function called.
    arrays_read: usize,
    /// Statements may have effects inside expressions.
    effects: bool,
}

/// The program of a seed.
pub fn program(seed: u64) -> Program {
    let mut g = Generator {
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        function: None,
        functions: 0,
        loops: 0,
        arrays_read: 0,
        effects: true,
    };
    let mut functions = Vec::new();
    for i in 0..=TEXT_FUNCTION {
        g.function = Some(i);
        g.functions = i;
        let recursive = g.random.one_in(3);
        let body = g.statements(2, 1);
        // All parameters are read, which says what their types are.
        let numbers = Long::Binary(
            "^",
            Box::new(Long::Variable("p")),
            Box::new(Long::Variable("q")),
        );
        let result = if i == TEXT_FUNCTION {
            let s = g.string(2);
            Value::Text(Text::Concat(vec![
                Text::Variable("w"),
                Text::Sprint(Box::new(numbers)),
                s,
            ]))
        } else {
            let length = Long::Length(Box::new(Text::Variable("w")));
            let known = Long::Binary("+", Box::new(numbers), Box::new(length));
            Value::Long(Long::Binary("+", Box::new(known), Box::new(g.long(2))))
        };
        functions.push(Function {
            recursive,
            body,
            result,
        });
    }
    g.function = None;
    g.functions = TEXT_FUNCTION + 1;
    Program {
        functions,
        // Small ones find as much as large ones, and there can be more of them.
        handlers: (0..1 + usize::from(g.random.one_in(4)))
            .map(|_| {
                let (most, depth) = g
                    .random
                    .of(&[(2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (9, 3)]);
                g.statements(most, depth)
            })
            .collect(),
    }
}

const LITERALS: [&str; 6] = ["", "a", "b", "ab", "key", "Zebra and more"];

impl Generator {
    fn number_name(&mut self) -> &'static str {
        match self.function {
            Some(_) if self.random.one_in(2) => self.random.of(&PARAMETERS),
            Some(_) => self.random.of(&NUMBERS[3..]),
            None => self.random.of(&NUMBERS),
        }
    }

    fn text_name(&mut self) -> &'static str {
        match self.function {
            Some(_) => self.random.of(&["gs", "w"]),
            None => self.random.of(&TEXTS),
        }
    }

    fn number(&mut self) -> i64 {
        match self.random.below(8) {
            0 => i64::MAX,
            1 => i64::MIN,
            2 => 1 << self.random.below(63),
            3 => -(self.random.below(1000) as i64),
            _ => self.random.below(5) as i64,
        }
    }

    fn key(&mut self) -> Box<Long> {
        Box::new(match self.random.one_in(3) {
            true => self.long(1),
            false => Long::Number(self.random.below(4) as i64),
        })
    }

    fn long(&mut self, depth: usize) -> Long {
        if depth == 0 {
            return match self.random.one_in(3) {
                true => Long::Number(self.number()),
                false => Long::Variable(self.number_name()),
            };
        }
        let d = depth - 1;
        match self.random.below(21) {
            0 => Long::Unary(self.random.of(&["-", "~", "!"]), Box::new(self.long(d))),
            1..=4 => {
                let op = self.random.of(&[
                    "+", "-", "*", "&", "|", "^", "<<", ">>", "<", "<=", ">", ">=", "==", "!=",
                    "&&", "||",
                ]);
                let a = self.long(d);
                Long::Binary(op, Box::new(a), Box::new(self.long(d)))
            }
            5 => {
                let op = self.random.of(&["<", "<=", ">", ">=", "==", "!="]);
                let a = self.string(d);
                Long::Compare(op, Box::new(a), Box::new(self.string(d)))
            }
            6 => {
                let c = self.long(d);
                let a = self.long(d);
                Long::Choice(Box::new(c), Box::new(a), Box::new(self.long(d)))
            }
            7 => Long::In(self.key()),
            8 => Long::NamedIn(Box::new(self.string(d))),
            9 => Long::Element(self.key()),
            10 => Long::Named(Box::new(self.string(d))),
            11 if self.effects => {
                let op = self.random.of(&["++", "--"]);
                let before = self.random.one_in(2);
                Long::Step(op, before, self.number_name())
            }
            12 if self.effects => {
                let name = self.number_name();
                Long::Assign(name, Box::new(self.long(d)))
            }
            13 => Long::Length(Box::new(self.string(d))),
            14 if self.effects && self.functions > 0 && self.arrays_read == 0 => {
                let f = self.random.below(self.functions.min(TEXT_FUNCTION));
                let (numbers, s) = self.arguments(d);
                Long::Call(f, numbers, s)
            }
            15 => Long::Extract(self.random.of(&["count", "sum"])),
            16 => {
                let op = self.random.of(&["count", "sum"]);
                Long::ExtractElement(op, self.key())
            }
            17 => {
                let s = self.string(d);
                Long::Contains(Box::new(s), Box::new(self.string(0)))
            }
            18 => {
                // Beyond the end it fails, and folding may drop an operand that fails.
                let s = Text::Concat(vec![Text::Literal("key"), self.string(d)]);
                let at = Long::Number(self.random.below(3) as i64);
                Long::ByteAt(Box::new(s), Box::new(at))
            }
            19 => Long::Wrapped(self.key()),
            20 => {
                let value = Long::Variable(self.number_name());
                Long::Binary(">>>", Box::new(value), Box::new(self.long(d)))
            }
            _ => Long::Variable(self.number_name()),
        }
    }

    fn string(&mut self, depth: usize) -> Text {
        if depth == 0 {
            return match self.random.one_in(2) {
                true => Text::Literal(self.random.of(&LITERALS)),
                false => Text::Variable(self.text_name()),
            };
        }
        let d = depth - 1;
        match self.random.below(12) {
            0 | 1 => {
                let n = 2 + self.random.below(2);
                Text::Concat((0..n).map(|_| self.string(d)).collect())
            }
            2 => {
                let c = self.long(d);
                let a = self.string(d);
                Text::Choice(Box::new(c), Box::new(a), Box::new(self.string(d)))
            }
            3 => Text::Sprint(Box::new(self.long(d))),
            4 => {
                let a = self.long(d);
                Text::Sprintf(Box::new(a), Box::new(self.string(d)))
            }
            5 => {
                let s = self.string(d);
                let from = Long::Number(self.random.below(4) as i64);
                let length = Long::Number(self.random.below(6) as i64);
                Text::Substr(Box::new(s), Box::new(from), Box::new(length))
            }
            6 => {
                let k = self.key();
                Text::Element(k, Box::new(self.string(d)))
            }
            7 => {
                let s = self.string(d);
                let old = self.random.of(&["a", "b", "ab", "e"]);
                Text::Replace(Box::new(s), old, self.random.of(&["", "a", "bb", "xyz"]))
            }
            8 => {
                let directive = Directive {
                    flag: self.random.of(&[
                        None,
                        Some('-'),
                        Some('0'),
                        Some('+'),
                        Some(' '),
                        Some('#'),
                    ]),
                    width: self.random.below(9),
                    precision: self.random.of(&[None, None, Some(0), Some(1), Some(4)]),
                    conversion: self.random.of(&['d', 'd', 'u', 'x', 'X', 'o', 'i']),
                };
                Text::Padded(directive, Box::new(self.long(d)))
            }
            9 => {
                let left = self.random.one_in(2);
                let width = 1 + self.random.below(8);
                let precision = self.random.of(&[None, Some(1), Some(5)]);
                Text::Fitted(left, width, precision, Box::new(self.string(d)))
            }
            10 if self.effects && self.functions > TEXT_FUNCTION && self.arrays_read == 0 => {
                let (numbers, s) = self.arguments(d);
                Text::Call(numbers, s)
            }
            _ => Text::Variable(self.text_name()),
        }
    }

    fn arguments(&mut self, depth: usize) -> (Box<[Long; 2]>, Box<Text>) {
        let first = self.long(depth);
        let second = self.long(depth);
        (Box::new([first, second]), Box::new(self.string(depth)))
    }

    /// A condition that folding does not decide: what then follows a jump is dropped, and with it what only that reads,
    /// though it may fail.
    fn undecided(&mut self) -> Long {
        let op = self.random.of(&["<", "==", "!="]);
        let against = Long::Number(self.random.below(3) as i64);
        let global = Long::Variable(self.random.of(&["g", "h"]));
        Long::Binary(op, Box::new(global), Box::new(against))
    }

    /// Without effects: where the order of evaluation is nobody's promise.
    fn pure_long(&mut self, depth: usize) -> Long {
        let before = std::mem::replace(&mut self.effects, false);
        let e = self.long(depth);
        self.effects = before;
        e
    }

    fn pure_key(&mut self) -> Long {
        let before = std::mem::replace(&mut self.effects, false);
        let e = self.key();
        self.effects = before;
        *e
    }

    fn pure_string(&mut self, depth: usize) -> Text {
        let before = std::mem::replace(&mut self.effects, false);
        let e = self.string(depth);
        self.effects = before;
        e
    }

    fn statements(&mut self, n: usize, depth: usize) -> Vec<Statement> {
        let n = 1 + self.random.below(n);
        (0..n).map(|_| self.statement(depth)).collect()
    }

    fn statement(&mut self, depth: usize) -> Statement {
        use Statement as S;
        let compound = depth > 0;
        let d = depth.saturating_sub(1);
        let in_handler = self.function.is_none();
        let writable = self.arrays_read == 0;
        match self.random.below(37) {
            0 => S::SetText(self.text_name(), self.string(2)),
            1 => {
                let op = self.random.of(&["+", "-", "*", "&", "|", "^", "<<", ">>"]);
                S::Update(self.number_name(), op, self.pure_long(2))
            }
            2 => S::Append(self.text_name(), self.pure_string(2)),
            3 | 4 if writable => S::SetElement(self.pure_key(), self.pure_long(2)),
            5 if writable => {
                let op = self.random.of(&["+", "-", "|"]);
                S::UpdateElement(op, self.pure_key(), self.pure_long(1))
            }
            6 | 7 if writable => S::SetNamed(self.pure_string(1), self.pure_long(2)),
            8 if writable => S::StepNamed(self.pure_string(1)),
            9 | 10 if writable => {
                S::SetPair(self.pure_key(), self.pure_string(1), self.pure_string(1))
            }
            11 => S::Aggregate(self.long(1)),
            12 => S::AggregateElement(self.pure_key(), self.pure_long(1)),
            13 => S::Print(self.long(3)),
            14 => S::PrintText(self.string(3)),
            15 if compound => {
                let c = self.long(2);
                let a = self.statements(3, d);
                let b = match self.random.one_in(2) {
                    true => self.statements(2, d),
                    false => Vec::new(),
                };
                S::If(c, a, b)
            }
            16 | 17 if compound && in_handler && self.loops < 2 => {
                let counter = ["i", "j"][self.loops];
                self.loops += 1;
                let body = self.statements(3, d);
                self.loops -= 1;
                let n = 1 + self.random.below(4) as i64;
                S::Loop(counter, n, self.random.one_in(2), body)
            }
            18 if compound && in_handler && writable => {
                let limit = match self.random.one_in(2) {
                    true => Some(Long::Number(self.random.below(4) as i64)),
                    false => None,
                };
                let up = self.random.one_in(2);
                S::Foreach(up, limit, self.array_body(d))
            }
            19 if compound && in_handler && writable => {
                let up = self.random.one_in(2);
                S::ForeachNamed(up, self.array_body(d))
            }
            20 if in_handler => S::CountPairs(match self.random.one_in(2) {
                true => Some(self.pure_string(0)),
                false => None,
            }),
            21 if writable => S::Delete(self.pure_key()),
            22 if writable => S::DeleteNamed(self.pure_string(1)),
            23 if writable => match self.random.below(4) {
                0 => S::DeleteAll("a"),
                1 => S::DeleteAll("st"),
                2 => S::DeleteAll("g"),
                _ => S::DeletePairs(self.pure_key()),
            },
            24 | 25 if compound => {
                let a = self.statements(4, d);
                let b = match self.random.one_in(2) {
                    true => self.statements(2, d),
                    false => Vec::new(),
                };
                S::Try(a, b)
            }
            26 if self.random.one_in(3) => S::Error(self.string(1)),
            27 if self.loops + self.arrays_read > 0 => match self.random.one_in(2) {
                true => S::Break,
                false => S::Continue,
            },
            28 => {
                let rest = self.random.one_in(2);
                S::Divide(
                    self.number_name(),
                    self.pure_long(1),
                    self.pure_long(1),
                    rest,
                )
            }
            // These fail for empty statistics, and folding may drop an operand that fails.
            29 => {
                let op = self.random.of(&["min", "max", "avg"]);
                let value = match self.random.one_in(2) {
                    true => Long::Extract(op),
                    false => Long::ExtractElement(op, Box::new(self.pure_key())),
                };
                S::Set(self.number_name(), value)
            }
            30 if writable => S::SetWrapped(self.pure_key(), self.pure_long(1)),
            31 if writable => S::SetBounded(self.pure_key(), self.pure_long(1)),
            32 => S::ShowWrapped,
            33 if writable => S::DeleteWrapped(self.pure_key()),
            34 if self.random.one_in(3) => match self.function {
                None => S::Next(self.undecided()),
                Some(f) => S::Return(self.undecided(), f == TEXT_FUNCTION),
            },
            _ => S::Set(self.number_name(), self.long(3)),
        }
    }

    fn array_body(&mut self, depth: usize) -> Vec<Statement> {
        self.arrays_read += 1;
        let body = self.statements(3, depth);
        self.arrays_read -= 1;
        body
    }
}
