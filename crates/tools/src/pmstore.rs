//! `pmstore`: changes values of a metric (pmstore(1)).

use std::io::{self, Write};

use pcp::{
    Atom, Context, Desc, ErrorCode, Fetched, INST_NULL, InstanceValue, Text, Timestamp, Type,
    ValueSet, print_value,
};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmstore",
    words: "[options] metricname value",
    rows: &[
        GENERAL,
        HOST,
        LOCAL,
        SPEC_LOCAL,
        NAMESPACE,
        SHOW_VERSION,
        HELP,
        section("Value options"),
        flag('F', "fetch", "perform pmFetch after pmStore to confirm value"),
        flag('f', "force", "store the value even if there is no current value set"),
        value('i', "insts", "INSTS", "restrict store to comma-separated list of instances"),
    ],
    words_end_options: true,
    ..Spec::PLAIN
};

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| store(spec, args))
}

fn store(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut source = Source::default();
    let mut request = Request::default();
    let words = spec.parse(args, &mut source, |option, value| {
        match option {
            'f' => request.force = true,
            'F' => request.confirm = true,
            'i' => {
                let names = value.split(|c: char| c == ',' || c.is_whitespace());
                let names = names.filter(|n| !n.is_empty()).map(str::to_owned);
                request.instances.extend(names);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let [name, value] = words.as_slice() else {
        return Err(Refusal::Usage(String::new()));
    };
    request.name.clone_from(name);
    request.value.clone_from(value);
    let mut opened = source.open(spec)?;
    match request.carry_out(&mut opened.context) {
        Ok(lines) => {
            io::stdout().lock().write_all(&lines)?;
            Ok(0)
        }
        Err(Failure::Said(text)) => {
            println!("{text}");
            Ok(1)
        }
        Err(Failure::Refused(text)) => {
            eprintln!("{text}");
            Ok(1)
        }
    }
}

/// Why nothing was stored.
enum Failure {
    /// What the other side said, for standard output as PCP has it.
    Said(String),
    /// What is wrong with the value, for standard error.
    Refused(String),
}

#[derive(Default)]
struct Request {
    name: String,
    value: String,
    instances: Vec<String>,
    force: bool,
    confirm: bool,
}

impl Request {
    /// Stores, and returns what there is to be said of it.
    fn carry_out(&self, context: &mut Context) -> Result<Vec<u8>, Failure> {
        let name = &self.name;
        let failed = |call: &str, code: ErrorCode| Failure::Said(format!("{name}: {call}: {code}"));
        let pmid = context
            .lookup_name(name)
            .map_err(|e| failed("pmLookupName", e.code()))?;
        let desc = context
            .desc(pmid)
            .map_err(|e| failed("pmLookupDesc", e.code()))?;
        let what = match desc.ty {
            Type::Aggregate | Type::AggregateStatic => Some("PM_TYPE_AGGREGATE"),
            Type::Event | Type::HighResEvent => Some("event type"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(Failure::Refused(format!(
                "pmstore: Cannot modify values for {what} metrics"
            )));
        }
        let mut wanted = Vec::new();
        for instance in &self.instances {
            let text = Text::from(instance.as_str());
            let found = context.lookup_instance(desc.indom, &text);
            wanted.push(found.map_err(|e| {
                let code = e.code();
                Failure::Said(format!("pmLookupInDom {name}[{instance}]: {code}"))
            })?);
        }
        let value = self.value(&desc)?;
        let mut old = self.fetch(context, &desc, &wanted)?;
        if old.is_empty() {
            if !self.force {
                return Err(Failure::Said(format!("{name}: No value(s) available!")));
            }
            let all = if desc.indom.is_null() {
                vec![INST_NULL]
            } else if wanted.is_empty() {
                let instances = context.instances(desc.indom);
                let instances = instances.map_err(|e| failed("pmGetInDom", e.code()))?;
                instances.iter().map(|i| i.inst).collect()
            } else {
                wanted.clone()
            };
            let empty = |inst| InstanceValue {
                inst,
                value: value.to_value(),
            };
            old = all.into_iter().map(empty).collect();
        }
        let new: Vec<InstanceValue> = old
            .iter()
            .map(|v| InstanceValue {
                inst: v.inst,
                value: value.to_value(),
            })
            .collect();
        let stored = context.store(&Fetched {
            time: Timestamp::now(),
            sets: vec![ValueSet::new(pmid, new.clone())],
        });
        stored.map_err(|e| {
            let (value, code) = (&self.value, e.code());
            Failure::Said(format!("{name}: new value=\"{value}\" pmStore: {code}"))
        })?;
        let new = if self.confirm {
            self.fetch(context, &desc, &wanted)?
        } else {
            new
        };
        let mut lines = Vec::new();
        for (old, new) in old.iter().zip(&new) {
            lines.extend_from_slice(name.as_bytes());
            if !desc.indom.is_null() {
                let label = match context.instance_name(desc.indom, old.inst) {
                    Ok(label) => format!(" or \"{label}\""),
                    Err(_) => String::new(),
                };
                lines.extend_from_slice(format!(" inst [{}{label}]", old.inst).as_bytes());
            }
            lines.extend_from_slice(b" old value=");
            lines.extend(print_value(&old.value, desc.ty, 1));
            lines.extend_from_slice(b" new value=");
            lines.extend(print_value(&new.value, desc.ty, 1));
            lines.push(b'\n');
        }
        Ok(lines)
    }

    fn value(&self, desc: &Desc) -> Result<Atom, Failure> {
        Atom::parse(&self.value, desc.ty).map_err(|code| {
            let what = match code {
                ErrorCode::CONV => "incompatible with",
                _ => "out of range for",
            };
            let value = &self.value;
            let ty = match desc.ty {
                Type::I32 => "32",
                Type::U32 => "U32",
                Type::I64 => "64",
                Type::U64 => "U64",
                Type::Float => "FLOAT",
                Type::Double => "DOUBLE",
                _ => "STRING",
            };
            Failure::Refused(format!(
                "The value \"{value}\" is {what} the data type (PM_TYPE_{ty})"
            ))
        })
    }

    /// The values of the instances that are wanted, of all without any.
    fn fetch(
        &self,
        context: &mut Context,
        desc: &Desc,
        wanted: &[i32],
    ) -> Result<Vec<InstanceValue>, Failure> {
        let said = |code: ErrorCode| Failure::Said(format!("{}: pmFetch: {code}", self.name));
        if !wanted.is_empty() {
            let profile = context.profile_mut();
            profile.remove(Some(desc.indom), &[]);
            profile.add(Some(desc.indom), wanted);
        }
        let fetched = context.fetch(&[desc.pmid]).map_err(|e| said(e.code()))?;
        let set = fetched.sets.into_iter().next();
        match set.map(|set| set.values) {
            Some(Ok(values)) => Ok(values),
            Some(Err(code)) => Err(Failure::Said(format!("{}: Error: {code}", self.name))),
            None => Ok(Vec::new()),
        }
    }
}
