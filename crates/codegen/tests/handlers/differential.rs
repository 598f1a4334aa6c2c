//! Integer expressions against a tree-walking evaluator.

use crate::session::Session;
use proptest::prelude::*;

/// An expression over two variables.
#[derive(Clone, Debug)]
enum Tree {
    Number(i64),
    Variable(bool),
    Unary(&'static str, Box<Tree>),
    Binary(&'static str, Box<Tree>, Box<Tree>),
    Choice(Box<Tree>, Box<Tree>, Box<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        match self {
            // The least number has no literal of its own.
            Tree::Number(i64::MIN) => "(-9223372036854775807 - 1)".into(),
            Tree::Number(n) => format!("({n})"),
            Tree::Variable(first) => if *first { "x" } else { "y" }.into(),
            Tree::Unary(op, a) => format!("({op} {})", a.text()),
            Tree::Binary(op, a, b) => format!("({} {op} {})", a.text(), b.text()),
            Tree::Choice(c, a, b) => format!("({} ? {} : {})", c.text(), a.text(), b.text()),
        }
    }

    /// `None` for a division by 0.
    fn value(&self, x: i64, y: i64) -> Option<i64> {
        Some(match self {
            Tree::Number(n) => *n,
            Tree::Variable(first) => {
                if *first {
                    x
                } else {
                    y
                }
            }
            Tree::Unary(op, a) => {
                let a = a.value(x, y)?;
                match *op {
                    "-" => a.wrapping_neg(),
                    "~" => !a,
                    _ => i64::from(a == 0),
                }
            }
            Tree::Binary("&&", a, b) => i64::from(a.value(x, y)? != 0 && b.value(x, y)? != 0),
            Tree::Binary("||", a, b) => i64::from(a.value(x, y)? != 0 || b.value(x, y)? != 0),
            Tree::Binary(op, a, b) => {
                let (a, b) = (a.value(x, y)?, b.value(x, y)?);
                match *op {
                    "+" => a.wrapping_add(b),
                    "-" => a.wrapping_sub(b),
                    "*" => a.wrapping_mul(b),
                    "/" if b == 0 => return None,
                    "%" if b == 0 => return None,
                    "/" => a.wrapping_div(b),
                    "%" => a.wrapping_rem(b),
                    "&" => a & b,
                    "|" => a | b,
                    "^" => a ^ b,
                    "<<" => a.wrapping_shl(b as u32),
                    ">>" => a.wrapping_shr(b as u32),
                    "<" => i64::from(a < b),
                    "<=" => i64::from(a <= b),
                    ">" => i64::from(a > b),
                    ">=" => i64::from(a >= b),
                    "==" => i64::from(a == b),
                    _ => i64::from(a != b),
                }
            }
            Tree::Choice(c, a, b) => {
                if c.value(x, y)? != 0 {
                    a.value(x, y)?
                } else {
                    b.value(x, y)?
                }
            }
        })
    }
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..4,
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX),
        Just(1 << 32),
        0i64..64,
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        number().prop_map(Tree::Number),
        any::<bool>().prop_map(Tree::Variable)
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let binary = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "<", "<=", ">", ">=", "==", "!=",
            "&&", "||",
        ]);
        prop_oneof![
            (prop::sample::select(vec!["-", "~", "!"]), inner.clone())
                .prop_map(|(op, a)| Tree::Unary(op, a.into())),
            (binary, inner.clone(), inner.clone()).prop_map(|(op, a, b)| Tree::Binary(
                op,
                a.into(),
                b.into()
            )),
            (inner.clone(), inner.clone(), inner).prop_map(|(c, a, b)| Tree::Choice(
                c.into(),
                a.into(),
                b.into()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn expressions(trees in prop::collection::vec((tree(), number(), number()), 6)) {
        let mut script = String::new();
        let mut expected = String::new();
        for (tree, x, y) in &trees {
            let (x_text, y_text) = (Tree::Number(*x).text(), Tree::Number(*y).text());
            script += &format!(
                "probe begin {{ x = {x_text}; y = {y_text}; try {{ printf(\"%d\\n\", {}) }} catch {{ println(\"error\") }} }}\n",
                tree.text()
            );
            expected += &match tree.value(*x, *y) {
                Some(n) => format!("{n}\n"),
                None => "error\n".into(),
            };
        }
        let mut session = Session::new(&script);
        session.run("begin");
        prop_assert_eq!(session.output().text, expected, "{}", script);
    }
}
