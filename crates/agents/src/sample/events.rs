//! The events of `sample`: a fixed cycle of four setups, as its help texts say.

use bytes::Bytes;
use pcp::{
    Atom, Block, EventArray, EventFlags, EventParam, EventRecord, Pmid, Timestamp, Type, Value,
};

/// Items of the parameters.
const TYPE: u32 = 127;
const P_32: u32 = 128;
const P_U32: u32 = 129;
const P_64: u32 = 130;
const P_U64: u32 = 131;
const P_FLOAT: u32 = 132;
const P_DOUBLE: u32 = 133;
const P_STRING: u32 = 134;
const P_AGGREGATE: u32 = 135;

fn param(pmid: Pmid, value: &Atom) -> EventParam {
    let ty = value.ty().raw() as u8;
    let bytes = match (value, value.to_value()) {
        // Strings in events have no NUL at the end.
        (Atom::String(text), _) => Bytes::copy_from_slice(text.as_bytes()),
        (_, Value::Insitu(word)) => Bytes::copy_from_slice(&word.to_be_bytes()),
        (_, Value::Block(block)) => block.bytes,
    };
    EventParam {
        pmid,
        block: Block { ty, bytes },
    }
}

fn text(text: &str) -> Atom {
    Atom::String(text.into())
}

struct Maker {
    domain: u32,
    first: Timestamp,
    records: Vec<EventRecord>,
}

impl Maker {
    /// Adds an event, a second after the one before.
    fn add(&mut self, flags: EventFlags, params: &[(u32, Atom)]) {
        let after = i64::try_from(self.records.len()).unwrap_or(0);
        let params = params
            .iter()
            .map(|(item, value)| param(Pmid::new(self.domain, 0, *item), value));
        let params: Vec<_> = params.collect();
        self.records.push(EventRecord {
            time: Timestamp::new(self.first.sec + after, self.first.nsec),
            flags,
            count: params.len() as u32,
            params,
        });
    }
}

/// The events of instance `fungus` at a setup, from ten seconds ago.
pub fn fungus(domain: u32, setup: i32, now: Timestamp, ty: Type) -> EventArray {
    let mut maker = Maker {
        domain,
        first: Timestamp::new(now.sec - 10, now.nsec),
        records: Vec::new(),
    };
    let point = EventFlags::POINT;
    match setup {
        0 => {}
        1 => maker.add(point, &[]),
        2 => {
            maker.add(point, &[(TYPE, Atom::I32(1))]);
            maker.add(point, &[(TYPE, Atom::I32(2)), (P_64, Atom::I64(-3))]);
        }
        3 => {
            let start = EventFlags(EventFlags::START.0 | EventFlags::ID.0 | EventFlags::PARENT.0);
            maker.add(
                start,
                &[
                    (TYPE, Atom::I32(4)),
                    (P_U64, Atom::U64(5)),
                    (P_STRING, text("6")),
                ],
            );
            maker.add(
                point,
                &[
                    (TYPE, Atom::I32(7)),
                    (P_DOUBLE, Atom::Double(8.0)),
                    (P_DOUBLE, Atom::Double(-9.0)),
                ],
            );
            maker.add(
                EventFlags::END,
                &[
                    (TYPE, Atom::I32(10)),
                    (P_U64, Atom::U64(11)),
                    (P_STRING, text("twelve")),
                    (P_STRING, text("thirteen")),
                    (P_32, Atom::I32(-14)),
                    (P_U32, Atom::U32(15)),
                ],
            );
            maker.add(EventFlags::MISSED, &[]);
            if let Some(missed) = maker.records.last_mut() {
                missed.count = if ty == Type::HighResEvent { 0 } else { 7 };
            }
            let bytes = Bytes::from_static(&[1, 3, 7, 0xf, 0x1f, 0x3f, 0x7f, 0xff]);
            maker.add(
                point,
                &[
                    (TYPE, Atom::I32(16)),
                    (P_FLOAT, Atom::Float(-17.0)),
                    (P_AGGREGATE, Atom::Aggregate(bytes)),
                ],
            );
        }
        // Not in the cycle: an event whose parameter nobody knows.
        _ => {
            maker.add(point, &[(TYPE, Atom::I32(-1))]);
            if let Some(record) = maker.records.last_mut() {
                record
                    .params
                    .push(param(Pmid::new(0, 100, 200), &Atom::I32(0)));
                record.count += 1;
            }
        }
    }
    EventArray {
        records: maker.records,
    }
}

/// Those of instance `bogus` and of the metric without instances, now.
pub fn bogus(domain: u32, fetch: i32, now: Timestamp) -> EventArray {
    let mut maker = Maker {
        domain,
        first: now,
        records: Vec::new(),
    };
    let name = format!("fetch #{fetch}");
    maker.add(EventFlags::POINT, &[(P_STRING, text(&name))]);
    if fetch % 3 == 0 {
        maker.add(EventFlags::POINT, &[(P_STRING, text("bingo!"))]);
        if let Some(bingo) = maker.records.last_mut() {
            bingo.time = now;
        }
    }
    EventArray {
        records: maker.records,
    }
}
