//! Results of fetches as diagnostics show them (`-Dfetch`).

use crate::context::Context;
use crate::desc::Type;
use crate::error::Result;
use crate::indom::{INST_NULL, InDom};
use crate::timezone::Zone;
use crate::value::{Fetched, Value, print_value};

/// A result as `pmDumpResult(3)`'s successor prints it.
pub(crate) fn fetched(context: &mut Context, fetched: &Result<Fetched>) -> String {
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => return format!("Error: {}\n", error.code()),
    };
    let clock = Zone::local().clock(fetched.time, 9);
    let mut out = format!(
        "__pmResult dump from {:#x} timestamp: {}.{:09} {clock} numpmid: {}\n",
        std::ptr::from_ref(fetched) as usize,
        fetched.time.sec,
        fetched.time.nsec,
        fetched.sets.len()
    );
    for set in &fetched.sets {
        let names: Vec<String> = match context.names_of(set.pmid) {
            Ok(names) => names.iter().map(ToString::to_string).collect(),
            Err(_) => Vec::new(),
        };
        let names = match names.is_empty() {
            true => "<noname>".to_owned(),
            false => names.join(", "),
        };
        out.push_str(&format!("  {} ({names}): ", set.pmid));
        let values = match &set.values {
            Ok(values) if values.is_empty() => {
                out.push_str("No values returned!\n");
                continue;
            }
            Ok(values) => values,
            Err(code) => {
                out.push_str(&format!("{code}\n"));
                continue;
            }
        };
        // Derived metrics have their own numbers of type FLOAT out of line with PCP's library.
        let block = values.iter().any(|v| matches!(v.value, Value::Block(_)))
            || set.pmid.is_derived() && context.desc(set.pmid).is_ok_and(|d| d.ty == Type::Float);
        out.push_str(&format!(
            "numval: {} valfmt: {} vlist[]:\n",
            values.len(),
            u8::from(block)
        ));
        let (ty, indom) = match context.desc(set.pmid) {
            Ok(desc) => (desc.ty, desc.indom),
            Err(_) => (Type::Unknown, InDom::NULL),
        };
        for value in values {
            if value.inst == INST_NULL && indom.is_null() {
                out.push_str("  ");
            } else {
                let inst = value.inst;
                match context.instance_name(indom, inst) {
                    Ok(name) => out.push_str(&format!("    inst [{inst} or \"{name}\"]")),
                    Err(_) => out.push_str(&format!("    inst [{inst} or ???]")),
                }
            }
            let shown = print_value(&value.value, ty, 1);
            out.push_str(&format!(" value {}\n", String::from_utf8_lossy(&shown)));
        }
    }
    out
}
