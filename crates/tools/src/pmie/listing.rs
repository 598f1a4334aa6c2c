//! Expressions and rules as the dialogue of `pmie -d` lists them: with all that was left out, and every operand in
//! parentheses that is not a value.

use super::ast::{
    Action, Body, ClockPart, Dimension, Expr, Form, Kind, Operator, Reduction, Statement,
};
use super::show::number;
use super::source::Sources;

/// A statement's name and text.
pub fn statement(statement: &Statement, sources: &Sources) -> String {
    let rule = |(condition, then): &(Expr, Action)| {
        format!("{} -> {}", expression(condition, sources), action(then))
    };
    let text = match &statement.body {
        Body::Expr(e) => expression(e, sources),
        Body::Rule(condition, then) => {
            format!("{} -> {}", expression(condition, sources), action(then))
        }
        Body::Rules {
            rules,
            unknown,
            otherwise,
        } => {
            let all = alternatives(&rules.iter().map(rule).collect::<Vec<_>>());
            let always = |then: &Option<Action>| match then {
                Some(then) => format!("(true -> {})", action(then)),
                None => "false".to_owned(),
            };
            if unknown.is_none() && otherwise.is_none() {
                format!("ruleset ({all})")
            } else {
                let (unknown, otherwise) = (always(unknown), always(otherwise));
                format!("({all}) ruleset ({unknown} other {otherwise})")
            }
        }
    };
    format!("{} =\n{text};\n", statement.name)
}

fn alternatives(rules: &[String]) -> String {
    match rules {
        [] => String::new(),
        [rule] => rule.clone(),
        [rule, rest @ ..] => format!("({rule}) || ({})", alternatives(rest)),
    }
}

fn action(of: &Action) -> String {
    match of {
        Action::Both(one, other) => format!("({}) & ({})", action(one), action(other)),
        Action::Either(one, other) => format!("({}) | ({})", action(one), action(other)),
        Action::One {
            verb,
            holdoff,
            texts,
            ..
        } => {
            let mut words = vec![verb.clone()];
            words.extend(holdoff.map(|time| number(time.as_secs_f64())));
            if verb == "syslog" {
                words.push("[level=5 tag=\"pcp-pmie\"]".to_owned());
            }
            words.extend(texts.iter().map(|text| format!("\"{text}\"")));
            words.join(" ")
        }
    }
}

fn expression(of: &Expr, sources: &Sources) -> String {
    let unary =
        |operator: &str, operand: &Expr| format!("{operator} ({})", expression(operand, sources));
    match &of.form {
        Form::Number(value) | Form::Delta(value) => number(*value),
        Form::Text(text) => format!("\"{text}\""),
        Form::Truth(value) => value.to_string(),
        Form::Clock(part) => clock(*part).to_owned(),
        Form::Fetch {
            metrics,
            samples: (newest, oldest),
            instant,
        } => {
            let mut text = sources.spoken(metrics);
            if (*newest, *oldest) != (0, 0) {
                text.push_str(&format!(" @{newest}..{oldest}"));
            }
            match instant {
                true => format!("instant ({text})"),
                false => text,
            }
        }
        Form::Negate(e) => match e.constant() {
            Some(value) => number(-value),
            None => unary("-", e),
        },
        Form::Not(e) => unary("!", e),
        Form::Rate(e) => unary("rate", e),
        Form::Rising(e) => unary("rising", e),
        Form::Falling(e) => unary("falling", e),
        Form::Match(_, true, e) => unary("match_inst /<regex>/", e),
        Form::Match(_, false, e) => unary("nomatch_inst /<regex>/", e),
        Form::Reduce(how, dimension, e) => {
            let dimension = match dimension {
                Dimension::Host => "host",
                Dimension::Instance => "inst",
                Dimension::Sample => "sample",
            };
            let operator = match how {
                Reduction::Some => format!("some_{dimension}"),
                Reduction::All => format!("all_{dimension}"),
                Reduction::Percent(share) => format!("pcnt_{dimension} {}%", number(*share)),
                Reduction::Count => format!("count_{dimension}"),
                Reduction::Min => format!("min_{dimension}"),
                Reduction::Max => format!("max_{dimension}"),
                Reduction::Sum => format!("sum_{dimension}"),
                Reduction::Average => format!("avg_{dimension}"),
            };
            unary(&operator, e)
        }
        Form::Binary(operator, left, right) => {
            let (left, right) = (operand(left, sources), operand(right, sources));
            format!("{left} {} {right}", sign(*operator))
        }
    }
}

/// An operand of an operator between two.
fn operand(of: &Expr, sources: &Sources) -> String {
    let text = expression(of, sources);
    let alone = match &of.form {
        Form::Number(_) | Form::Delta(_) | Form::Text(_) | Form::Truth(_) => true,
        Form::Clock(_) | Form::Fetch { .. } => true,
        Form::Binary(..) => false,
        _ => of.kind == Kind::Number,
    };
    if alone { text } else { format!("({text})") }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Equal => "==",
        Operator::GreaterOrEqual => ">=",
        Operator::Greater => ">",
        Operator::NotEqual => "!=",
        Operator::And => "&&",
        Operator::Or => "||",
    }
}

fn clock(part: ClockPart) -> &'static str {
    match part {
        ClockPart::Minute => "$minute",
        ClockPart::Hour => "$hour",
        ClockPart::Day => "$day",
        ClockPart::Month => "$month",
        ClockPart::Year => "$year",
        ClockPart::DayOfWeek => "$day_of_week",
    }
}
