//! From requests to an agent's methods and back.

use bytes::{BufMut, BytesMut};
use pcp::pdu::{Pdu, Profile};
use pcp::{
    Atom, Block, Desc, ErrorCode, Fetched, INST_NULL, InDom, Instance, InstanceValue, LabelLevel,
    Pmid, Text, Timestamp, Type, Value, ValueSet, instance_name_matches,
};

use crate::agent::{Agent, Caller};

/// The most bytes that room is made of at once for the values of a fetch.
const ROOM: usize = 64 * 1024;

/// Answers pmcd's requests with an agent's methods. The profile that it was sent last is that of the next fetch, whoever
/// asks: a pmcd sends one again only when it is another.
#[derive(Debug, Default)]
pub struct Answerer {
    profile: Profile,
    /// Where the blocks of values are made: many are small, and one allocation does for them all.
    room: BytesMut,
}

impl Answerer {
    /// One that has seen no client.
    #[must_use]
    pub fn new() -> Answerer {
        Answerer::default()
    }

    /// The instances that are wanted from now on, as by a PROFILE PDU.
    pub fn set_profile(&mut self, profile: &Profile) {
        if self.profile != *profile {
            self.profile = profile.clone();
        }
    }

    /// Whether a PDU has an answer.
    #[must_use]
    pub fn answers(pdu: &Pdu) -> bool {
        !matches!(
            pdu,
            Pdu::Profile { .. } | Pdu::Error { .. } | Pdu::Attr { .. } | Pdu::Creds(_)
        )
    }

    /// The answer to a PDU that was sent for a client; `None` for one that has none.
    pub fn answer(&mut self, agent: &mut dyn Agent, client: i32, pdu: Pdu) -> Option<Pdu> {
        let answer = match pdu {
            Pdu::Profile { profile, .. } => {
                self.profile = profile;
                return None;
            }
            Pdu::Error { code, .. } => {
                if code == ErrorCode::NOTCONN {
                    agent.client_ended(client);
                }
                return None;
            }
            Pdu::Attr { attr, value } => {
                let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
                agent.attribute(client, attr, value.get(..end).unwrap_or_default());
                return None;
            }
            Pdu::Creds(_) => return None,
            Pdu::Fetch { pmids, .. } => Ok(Pdu::Result(self.fetch(agent, client, &pmids))),
            Pdu::DescReq(pmid) => agent.desc(pmid).map(Pdu::Desc),
            Pdu::InstanceReq { indom, inst, name } => instances(agent, client, indom, inst, &name),
            Pdu::TextReq { ident, kind } => if kind.is_indom() {
                agent.indom_text(InDom(ident), kind.is_oneline())
            } else {
                agent.metric_text(Pmid(ident), kind.is_oneline())
            }
            // PCP sends it in the byte order of the host, here x86's.
            .map(|text| Pdu::Text {
                ident: ident.swap_bytes(),
                text,
            }),
            Pdu::LabelReq { ident, level } => LabelLevel::from_raw(level)
                .ok_or(ErrorCode::NOLABELS)
                .and_then(|l| agent.labels(ident, l))
                .map(|sets| Pdu::Label { ident, level, sets }),
            Pdu::Result(fetched) => store(agent, client, &fetched).map(|()| error(ErrorCode::OK)),
            Pdu::PmnsNames { names, .. } => lookup(agent, &names),
            Pdu::PmnsIds { pmids, .. } => match pmids.first() {
                Some(pmid) => agent.names_of(*pmid).map(|names| Pdu::PmnsNames {
                    names,
                    status: Vec::new(),
                }),
                None => Err(ErrorCode::PMID),
            },
            Pdu::PmnsChild { name, with_status } => agent.children(&name).map(|found| {
                let status = found.iter().map(|n| i32::from(n.is_node));
                Pdu::PmnsNames {
                    status: if with_status {
                        status.collect()
                    } else {
                        Vec::new()
                    },
                    names: found.into_iter().map(|n| n.name).collect(),
                }
            }),
            Pdu::PmnsTraverse { name } => agent.traverse(&name).map(|names| Pdu::PmnsNames {
                names,
                status: Vec::new(),
            }),
            _ => Err(ErrorCode::IPC),
        };
        Some(answer.unwrap_or_else(error))
    }

    fn fetch(&mut self, agent: &mut dyn Agent, client: i32, pmids: &[Pmid]) -> Fetched {
        let (profile, room) = (&self.profile, &mut self.room);
        // What was given out before is gone by now, as a rule, so that the same room does again.
        room.reserve((16 * pmids.len()).min(ROOM));
        let caller = Caller { client, profile };
        agent.begin_fetch(&caller, pmids);
        let sets = pmids.iter().map(|&pmid| {
            let (values, format) = match agent.desc(pmid) {
                Ok(desc) => match agent.values(&caller, &desc) {
                    Ok(values) => (Ok(encode(&desc, profile, room, values.0)), format_of(&desc)),
                    Err(code) => (Err(code), 0),
                },
                Err(code) => (Err(code), 0),
            };
            ValueSet {
                pmid,
                values,
                format,
            }
        });
        Fetched {
            time: Timestamp::new(0, 0),
            sets: sets.collect(),
        }
    }
}

fn error(code: ErrorCode) -> Pdu {
    Pdu::Error { code, info: None }
}

fn format_of(desc: &Desc) -> i32 {
    i32::from(!matches!(desc.ty, Type::I32 | Type::U32))
}

fn encode(
    desc: &Desc,
    profile: &Profile,
    room: &mut BytesMut,
    values: Vec<(i32, Atom)>,
) -> Vec<InstanceValue> {
    values
        .into_iter()
        .filter(|(inst, _)| desc.indom.is_null() || profile.includes(desc.indom, *inst))
        .map(|(inst, atom)| InstanceValue {
            inst,
            value: stuff(&atom, room),
        })
        .collect()
}

/// A value as PCP's agents put it into a result: all but integers of 32 bits in blocks, floats too (pmStuffValue(3)).
fn stuff(atom: &Atom, room: &mut BytesMut) -> Value {
    match atom {
        Atom::Float(value) => room.put_f32(*value),
        Atom::I64(value) => room.put_i64(*value),
        Atom::U64(value) => room.put_u64(*value),
        Atom::Double(value) => room.put_f64(*value),
        other => return other.to_value(),
    }
    Value::Block(Block {
        ty: atom.ty().raw() as u8,
        bytes: room.split().freeze(),
    })
}

fn instances(
    agent: &mut dyn Agent,
    client: i32,
    indom: InDom,
    inst: i32,
    name: &Text,
) -> Result<Pdu, ErrorCode> {
    let all = agent.instances(client, indom)?;
    // What the asker said of the one that it wants is not told to it again.
    let instances = if inst != INST_NULL {
        let found = all.into_iter().find(|i| i.inst == inst);
        let name = found.ok_or(ErrorCode::INST)?.name;
        vec![Instance {
            inst: INST_NULL,
            name,
        }]
    } else if !name.is_empty() {
        let found = all.iter().find(|i| instance_name_matches(&i.name, name));
        let found = match found {
            Some(found) => Some(found.inst),
            None => agent.instance_named(client, indom, name),
        };
        vec![Instance {
            inst: found.ok_or(ErrorCode::INST)?,
            name: Text::default(),
        }]
    } else {
        all
    };
    Ok(Pdu::Instance { indom, instances })
}

fn store(agent: &mut dyn Agent, client: i32, fetched: &Fetched) -> Result<(), ErrorCode> {
    for set in &fetched.sets {
        let desc = agent.desc(set.pmid)?;
        let values = set.values.as_ref().map_err(|code| *code)?;
        for value in values {
            // What is stored into events is a filter: text.
            let ty = match desc.ty {
                Type::Event | Type::HighResEvent => Type::String,
                ty => ty,
            };
            let atom = Atom::extract(&value.value, ty)?;
            agent.store(client, &desc, value.inst, &atom)?;
        }
    }
    Ok(())
}

fn lookup(agent: &mut dyn Agent, names: &[Text]) -> Result<Pdu, ErrorCode> {
    let mut found = 0;
    let mut failed = ErrorCode::NAME;
    let pmids = names
        .iter()
        .map(|name| match agent.lookup(name) {
            Ok(pmid) => {
                found += 1;
                pmid
            }
            Err(code) => {
                failed = code;
                Pmid::NULL
            }
        })
        .collect();
    if found == 0 {
        return Err(failed);
    }
    Ok(Pdu::PmnsIds {
        status: found,
        pmids,
    })
}
