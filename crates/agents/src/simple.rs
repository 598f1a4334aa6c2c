//! `simple`: an agent with a fixed and a configurable instance domain, stores and labels, to be tested against.

use std::path::{Path, PathBuf};

use nix::sys::resource::{UsageWho, getrusage};
use pcp::{
    Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics,
    TIME_SEC, Text, Type, Units,
};
use pmda::{Agent, Caller, Help, Values, label_set};

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 253;

/// Instances of `simple.color`.
const COLORS: [&str; 3] = ["red", "green", "blue"];
/// Instances that `simple.now` can have.
const TIMES: [&str; 3] = ["sec", "min", "hour"];

/// The agent.
pub struct Simple {
    domain: u32,
    help: Help,
    fetches: u32,
    colors: [i32; 3],
    times: PathBuf,
}

impl Simple {
    /// With the help texts of a folder, and its `simple.conf`, which says what instances `simple.now` has.
    pub fn new(domain: u32, folder: &Path) -> Simple {
        Simple {
            domain,
            help: crate::help_in(folder),
            fetches: 0,
            colors: [0, 100, 200],
            times: folder.join("simple.conf"),
        }
    }

    /// The instances that `simple.conf` names; all of them without such a file.
    fn times(&self) -> Vec<Instance> {
        let text = std::fs::read_to_string(&self.times);
        let text = text.unwrap_or_else(|_| TIMES.join(","));
        let named: Vec<&str> = text
            .split([',', '\n'])
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .collect();
        named
            .iter()
            .filter_map(|name| {
                let inst = TIMES.iter().position(|t| t == name)?;
                Some(Instance {
                    inst: inst as i32,
                    name: (*name).into(),
                })
            })
            .collect()
    }
}

fn now(inst: i32) -> u32 {
    let now = jiff::Zoned::now();
    let part = match inst {
        0 => now.second(),
        1 => now.minute(),
        _ => now.hour(),
    };
    u32::try_from(part).unwrap_or(0)
}

impl Agent for Simple {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        let seconds = Units::new(0, 1, 0, 0, TIME_SEC, 0);
        let indom = |serial| InDom::new(self.domain, serial);
        let (ty, indom, sem, units) = match (pmid.cluster(), pmid.item()) {
            (0, 0) => (Type::U32, InDom::NULL, Semantics::Instant, Units::NONE),
            (0, 1) => (Type::I32, indom(0), Semantics::Instant, Units::NONE),
            (1, 2 | 3) => (Type::Double, InDom::NULL, Semantics::Counter, seconds),
            (2, 4) => (Type::U32, indom(1), Semantics::Instant, Units::NONE),
            _ => return Err(ErrorCode::PMID),
        };
        Ok(Desc {
            pmid,
            ty,
            indom,
            sem,
            units,
        })
    }

    fn begin_fetch(&mut self, _: &Caller<'_>, _: &[Pmid]) {
        self.fetches = self.fetches.wrapping_add(1);
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        Ok(match (desc.pmid.cluster(), desc.pmid.item()) {
            (0, 0) => Values::single(Atom::U32(self.fetches)),
            (0, 1) => {
                let wanted = |inst| caller.profile.includes(desc.indom, inst);
                let colors = self.colors.iter_mut().zip(0..);
                let colors = colors
                    .filter(|(_, inst)| wanted(*inst))
                    .map(|(value, inst)| {
                        *value = (*value + 1) % 256;
                        (inst, Atom::I32(*value))
                    });
                Values(colors.collect())
            }
            (1, item) => {
                let used = getrusage(UsageWho::RUSAGE_SELF).map_err(|_| ErrorCode::AGAIN)?;
                let time = if item == 2 {
                    used.user_time()
                } else {
                    used.system_time()
                };
                let seconds = time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
                Values::single(Atom::Double(seconds))
            }
            _ => {
                let times = self.times().into_iter();
                Values(times.map(|i| (i.inst, Atom::U32(now(i.inst)))).collect())
            }
        })
    }

    fn instances(&mut self, _: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        match indom.serial() {
            0 => Ok(COLORS
                .iter()
                .zip(0..)
                .map(|(name, inst)| Instance {
                    inst,
                    name: (*name).into(),
                })
                .collect()),
            1 => Ok(self.times()),
            _ => Err(ErrorCode::INDOM),
        }
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.metric(pmid, one_line)
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.indom(indom, one_line)
    }

    fn store(&mut self, _: i32, desc: &Desc, inst: i32, value: &Atom) -> Result<(), ErrorCode> {
        match (desc.pmid.cluster(), desc.pmid.item(), value) {
            (0, 0, Atom::U32(value)) => {
                self.fetches = *value;
                Ok(())
            }
            (0, 1, Atom::I32(value)) => {
                let color = usize::try_from(inst).ok();
                let color = color.and_then(|n| self.colors.get_mut(n));
                let color = color.ok_or(ErrorCode::INST)?;
                *color = (*value).clamp(0, 255);
                if *color == *value {
                    Ok(())
                } else {
                    Err(ErrorCode::BADSTORE)
                }
            }
            _ => Err(ErrorCode::PERMISSION),
        }
    }

    fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        let serial = InDom(ident).serial();
        Ok(match level {
            LabelLevel::Domain => {
                vec![label_set(INST_NULL, level, &[("role", "\"testing\"", 0)])]
            }
            LabelLevel::InDom if serial == 0 => vec![label_set(
                INST_NULL,
                level,
                &[("indom_name", "\"color\"", 0), ("model", "\"RGB\"", 0)],
            )],
            LabelLevel::InDom => vec![label_set(
                INST_NULL,
                level,
                &[("indom_name", "\"time\"", 0), ("unitsystem", "\"SI\"", 0)],
            )],
            LabelLevel::Instances if serial == 1 => {
                let times = self.times().into_iter();
                let sets = times.map(|instance| {
                    let unit = format!("\"{}\"", instance.name);
                    label_set(instance.inst, level, &[("units", &unit, 0)])
                });
                sets.collect()
            }
            _ => Vec::new(),
        })
    }
}
