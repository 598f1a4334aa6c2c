//! Results of fetches as diagnostics show them (`-Dfetch`).

use crate::archive::Archive;
use crate::context::Context;
use crate::desc::{Desc, Type};
use crate::error::Result;
use crate::host::HostContext;
use crate::indom::{INST_NULL, InDom};
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::timezone::Zone;
use crate::value::{Fetched, Value, print_value};

/// What is known of metrics and instances where a result comes from.
trait Known {
    fn names(&mut self, pmid: Pmid) -> Vec<Text>;
    fn desc(&mut self, pmid: Pmid) -> Option<Desc>;
    fn instance(&mut self, indom: InDom, inst: i32) -> Option<Text>;
}

impl Known for Context {
    fn names(&mut self, pmid: Pmid) -> Vec<Text> {
        self.names_of(pmid).unwrap_or_default()
    }

    fn desc(&mut self, pmid: Pmid) -> Option<Desc> {
        Context::desc(self, pmid).ok()
    }

    fn instance(&mut self, indom: InDom, inst: i32) -> Option<Text> {
        self.instance_name(indom, inst).ok()
    }
}

impl Known for HostContext {
    fn names(&mut self, pmid: Pmid) -> Vec<Text> {
        self.names_of(pmid).unwrap_or_default()
    }

    fn desc(&mut self, pmid: Pmid) -> Option<Desc> {
        HostContext::desc(self, pmid).ok()
    }

    fn instance(&mut self, indom: InDom, inst: i32) -> Option<Text> {
        self.instance_name(indom, inst).ok()
    }
}

impl Known for &Archive {
    fn names(&mut self, pmid: Pmid) -> Vec<Text> {
        self.meta.names.names_of(pmid)
    }

    fn desc(&mut self, pmid: Pmid) -> Option<Desc> {
        self.meta.descs.get(pmid.0).copied()
    }

    fn instance(&mut self, indom: InDom, inst: i32) -> Option<Text> {
        let all = self.meta.all_instances(indom).unwrap_or_default();
        let found = all.into_iter().find(|i| i.inst == inst);
        found.map(|i| i.name)
    }
}

/// What a fetch returned, as `pmDumpResult(3)`'s successor prints it.
pub(crate) fn fetched(context: &mut Context, fetched: &Result<Fetched>, zone: &Zone) -> String {
    match fetched {
        Ok(fetched) => dump(context, fetched, zone),
        Err(error) => format!("Error: {}\n", error.code()),
    }
}

/// The values that a host sent, in the same way.
pub(crate) fn received(host: &mut HostContext, fetched: &Fetched) -> String {
    dump(host, fetched, &Zone::local())
}

/// A record of an archive in the same way, its time in a zone.
#[must_use]
pub fn dump_record(mut archive: &Archive, record: &Fetched, zone: &Zone) -> String {
    dump(&mut archive, record, zone)
}

/// The same of values that were taken out of their archive: instances have no names.
#[must_use]
pub fn dump_values(archive: &Archive, values: &Fetched, zone: &Zone) -> String {
    dump(&mut Nameless(archive), values, zone)
}

/// An archive whose instances go without names.
struct Nameless<'a>(&'a Archive);

impl Known for Nameless<'_> {
    fn names(&mut self, pmid: Pmid) -> Vec<Text> {
        self.0.meta.names.names_of(pmid)
    }

    fn desc(&mut self, pmid: Pmid) -> Option<Desc> {
        self.0.meta.descs.get(pmid.0).copied()
    }

    fn instance(&mut self, _: InDom, _: i32) -> Option<Text> {
        None
    }
}

/// A time of day to the nanosecond, as diagnostics show it.
pub(crate) fn clock(time: Timestamp) -> String {
    Zone::local().clock(time, 9)
}

fn dump(known: &mut impl Known, fetched: &Fetched, zone: &Zone) -> String {
    let clock = zone.clock(fetched.time, 9);
    let mut out = format!(
        "__pmResult dump from {:#x} timestamp: {}.{:09} {clock} numpmid: {}\n",
        std::ptr::from_ref(fetched) as usize,
        fetched.time.sec,
        fetched.time.nsec,
        fetched.sets.len()
    );
    for set in &fetched.sets {
        let names = known.names(set.pmid);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
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
        let desc = known.desc(set.pmid);
        let ty = desc.map_or(Type::Unknown, |d| d.ty);
        let indom = desc.map_or(InDom::NULL, |d| d.indom);
        // Derived metrics have their own numbers of type FLOAT out of line with PCP's library.
        let block = values.iter().any(|v| matches!(v.value, Value::Block(_)))
            || set.pmid.is_derived() && ty == Type::Float;
        let format = match set.format {
            2 => 2,
            _ => u8::from(block),
        };
        out.push_str(&format!(
            "numval: {} valfmt: {format} vlist[]:\n",
            values.len()
        ));
        for value in values {
            if value.inst == INST_NULL && indom.is_null() {
                out.push_str("  ");
            } else {
                let inst = value.inst;
                match known.instance(indom, inst) {
                    Some(name) => out.push_str(&format!("    inst [{inst} or \"{name}\"]")),
                    None => out.push_str(&format!("    inst [{inst} or ???]")),
                }
            }
            let shown = print_value(&value.value, ty, 1);
            out.push_str(&format!(" value {}\n", String::from_utf8_lossy(&shown)));
        }
    }
    out
}
