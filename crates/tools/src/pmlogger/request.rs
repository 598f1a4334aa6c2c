//! What pmlc(1) may ask of a logger about metrics.

use pcp::pdu::log::{
    CONTROL_ADVISORY, CONTROL_ENQUIRE, CONTROL_MANDATORY, STATE_MAYBE, STATE_OFF, STATE_ON,
};
use pcp::pdu::{LogControl, LogControlSet};
use pcp::{
    Context, Desc, Error, ErrorCode, Fetched, INST_NULL, Instance, InstanceValue, Pmid, Text,
    Timestamp, Value, ValueSet,
};

use super::access::Operations;
use super::config::{DELTA_MAX, Wanted};
use super::states::{Request, States, Wish};

/// What came of a request.
pub struct Answer {
    /// The states of what the request is about.
    pub result: Fetched,
    /// For the log; empty when nobody needs to know.
    pub said: String,
    /// Metrics to be logged once, now.
    pub once: Vec<Wish>,
    /// Whether states changed.
    pub changed: bool,
}

/// What a request wants, if it makes sense.
pub fn wanted(control: &LogControl) -> Option<Wanted> {
    Some(match control.state {
        STATE_ON => Wanted::On(
            u32::try_from(control.delta)
                .ok()
                .filter(|d| u64::from(*d) <= DELTA_MAX)?,
        ),
        STATE_OFF => Wanted::Off,
        STATE_MAYBE => Wanted::Maybe,
        _ => return None,
    })
}

/// The operation that a request is.
pub fn operation(control: &LogControl) -> Option<Operations> {
    Some(match control.control {
        CONTROL_MANDATORY => Operations::MANDATORY,
        CONTROL_ADVISORY => Operations::ADVISORY,
        // Whoever may do anything may ask.
        CONTROL_ENQUIRE => Operations::ALL,
        _ => return None,
    })
}

/// A request in words.
pub fn describe(control: &LogControl) -> String {
    let kind = if control.control == CONTROL_MANDATORY {
        "mandatory"
    } else {
        "advisory"
    };
    match control.state {
        STATE_ON if control.delta == 0 => format!("{kind} on once"),
        STATE_ON => format!("{kind} on {:.1} sec", f64::from(control.delta) / 1000.0),
        STATE_OFF => format!("{kind} off"),
        _ => format!("{kind} maybe"),
    }
}

fn names(context: &mut Context, pmid: Pmid) -> String {
    match context.names_of(pmid) {
        Ok(names) => {
            let names: Vec<_> = names.iter().map(Text::to_string).collect();
            names.join(" or ")
        }
        Err(_) => pmid.to_string(),
    }
}

/// Does what a request asks.
///
/// # Errors
/// When the source of metrics is lost.
pub fn carry_out(
    control: &LogControl,
    states: &mut States,
    context: &mut Context,
) -> Result<Answer, Error> {
    let mut answer = Answer {
        result: Fetched {
            time: Timestamp::ZERO,
            sets: Vec::new(),
        },
        said: String::new(),
        once: Vec::new(),
        changed: false,
    };
    for set in &control.sets {
        let result = match context.desc(set.pmid) {
            Ok(desc) => one_metric(control, set, desc, states, context, &mut answer)?,
            Err(error) if super::is_lost(&error) => return Err(error),
            Err(error) => ValueSet::error(set.pmid, error.code()),
        };
        answer.result.sets.push(result);
    }
    Ok(answer)
}

fn one_metric(
    control: &LogControl,
    set: &LogControlSet,
    desc: Desc,
    states: &mut States,
    context: &mut Context,
    answer: &mut Answer,
) -> Result<ValueSet, Error> {
    let asked: Option<Vec<i32>> = match &set.values {
        Ok(values) if !values.is_empty() && !desc.indom.is_null() => {
            Some(values.iter().map(|(inst, _)| *inst).collect())
        }
        Ok(_) => None,
        Err(code) => return Ok(ValueSet::error(set.pmid, *code)),
    };
    let known: Vec<Instance> = if desc.indom.is_null() {
        Vec::new()
    } else {
        match context.instances(desc.indom) {
            Ok(known) => known,
            Err(error) if super::is_lost(&error) => return Err(error),
            Err(_) => Vec::new(),
        }
    };
    let about: Vec<i32> = match &asked {
        Some(instances) => instances.clone(),
        None if desc.indom.is_null() => vec![INST_NULL],
        None => known.iter().map(|i| i.inst).collect(),
    };
    if control.control != CONTROL_ENQUIRE {
        let Some(wanted) = wanted(control) else {
            return Ok(ValueSet::error(set.pmid, ErrorCode(-22)));
        };
        let request = Request {
            instances: asked.as_deref(),
            mandatory: control.control == CONTROL_MANDATORY,
            wanted,
            may_split: false,
        };
        let names = names(context, set.pmid);
        // As PCP's logger names instances of what it was never told to log.
        let nameless = wanted == Wanted::Maybe && states.get(set.pmid).is_none();
        let accepted = states.apply(&first_name(&names), desc, request);
        let refused = !accepted;
        if accepted && wanted == Wanted::On(0) {
            answer.once.push((desc, asked.clone()));
        }
        answer.changed |= accepted;
        answer.said.push_str(&format!("  metric: {names}"));
        if desc.indom.is_null() && refused {
            answer.said.push_str(" [request failed]");
        }
        answer.said.push('\n');
        if !desc.indom.is_null() {
            for inst in &about {
                let known = known.iter().find(|i| i.inst == *inst && !nameless);
                let name = known.map_or_else(|| format!("#{inst}"), |i| i.name.to_string());
                let failed = if refused { " [request failed]" } else { "" };
                answer
                    .said
                    .push_str(&format!("    instance: {name}{failed}\n"));
            }
        }
    }
    let values = about.into_iter().map(|inst| InstanceValue {
        inst,
        value: Value::Insitu(states.state(set.pmid, inst).raw()),
    });
    Ok(ValueSet::new(set.pmid, values.collect()))
}

fn first_name(names: &str) -> String {
    names.split(" or ").last().unwrap_or(names).to_owned()
}
