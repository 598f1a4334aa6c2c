//! `--json` of the commands that print values: a line of JSON for each value, in one form. PCP's own have no such option.
//!
//! ```text
//! {"timestamp":"2015-01-03T13:12:02.98314Z","metric":"disk.dev.read","instance":"sda","value":7,"units":"count"}
//! ```
//!
//! `instance` is null where a metric has none, `value` where there is none; `error` then says why. What a command knows
//! beside that stands behind `units`.

use pcp::{Atom, ErrorCode, Text, Timestamp};
use serde_json::{Value, json};

/// A value as JSON: numbers as such where JSON has them, everything else as text.
pub fn value(atom: &Atom) -> Value {
    match atom {
        Atom::I32(v) => json!(v),
        Atom::U32(v) => json!(v),
        Atom::I64(v) => json!(v),
        Atom::U64(v) => json!(v),
        Atom::Float(v) if v.is_finite() => json!(v),
        Atom::Double(v) if v.is_finite() => json!(v),
        Atom::Float(v) => json!(v.to_string()),
        Atom::Double(v) => json!(v.to_string()),
        Atom::String(text) => json!(text.to_str()),
        Atom::Aggregate(_) | Atom::Event(..) => json!(atom.brief()),
    }
}

/// A number as JSON.
pub fn number(value: f64) -> Value {
    self::value(&Atom::Double(value))
}

/// One value.
pub struct Line<'a> {
    /// When it held.
    pub time: Timestamp,
    /// What it is of.
    pub metric: &'a str,
    /// Whose.
    pub instance: Option<String>,
    /// The value, or why there is none.
    pub value: Result<Value, ErrorCode>,
    /// As PCP's tools write them; none are an empty text.
    pub units: String,
    /// What else is known.
    pub more: Vec<(&'static str, Value)>,
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{{\"timestamp\":{},\"metric\":{},\"instance\":{},\"value\":{},\"units\":{}",
            timestamp(self.time),
            json!(self.metric),
            json!(self.instance),
            self.value.as_ref().unwrap_or(&Value::Null),
            json!(self.units.trim_start())
        )?;
        for (name, value) in &self.more {
            write!(f, ",{}:{value}", json!(name))?;
        }
        if let Err(code) = &self.value {
            write!(f, ",\"error\":{}", json!(code.to_string()))?;
        }
        f.write_str("}")
    }
}

/// A time as RFC 3339 has it, in UTC.
pub fn timestamp(time: Timestamp) -> Value {
    match jiff::Timestamp::from_nanosecond(time.as_nanos()) {
        Ok(time) => json!(time.to_string()),
        Err(_) => Value::Null,
    }
}

/// How an instance is called: by its name, or by its number when that is not known.
pub fn instance(name: Option<&Text>, inst: i32) -> Option<String> {
    Some(name.map_or_else(|| inst.to_string(), ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_has_not_are_text() {
        assert_eq!(
            value(&Atom::U64(u64::MAX)).to_string(),
            u64::MAX.to_string()
        );
        assert_eq!(value(&Atom::Double(f64::NAN)), json!("NaN"));
        assert_eq!(
            value(&Atom::String("a\"b".into())).to_string(),
            "\"a\\\"b\""
        );
    }

    #[test]
    fn lines_have_one_form() {
        let mut line = Line {
            time: Timestamp::new(1_420_290_722, 983_140_000),
            metric: "a.b",
            instance: Some("one \"two\"".to_owned()),
            value: Ok(json!(7)),
            units: " / sec".to_owned(),
            more: Vec::new(),
        };
        assert_eq!(
            line.to_string(),
            "{\"timestamp\":\"2015-01-03T13:12:02.98314Z\",\"metric\":\"a.b\",\
             \"instance\":\"one \\\"two\\\"\",\"value\":7,\"units\":\"/ sec\"}"
        );
        line.instance = None;
        line.value = Err(ErrorCode::PMID);
        let parsed: Value = serde_json::from_str(&line.to_string()).expect("JSON");
        assert_eq!(parsed["value"], Value::Null);
        assert_eq!(parsed["instance"], Value::Null);
        assert_eq!(parsed["error"], ErrorCode::PMID.to_string());
    }
}
