//! Event records (pmUnpackEventRecords(3)).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::desc::Type;
use crate::error::ErrorCode;
use crate::pmid::Pmid;
use crate::timestamp::Timestamp;
use crate::value::{Block, Value};

/// An event record's flags (`PM_EVENT_FLAG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventFlags(pub u32);

impl EventFlags {
    /// An observation.
    pub const POINT: EventFlags = EventFlags(1);
    /// The beginning of something that has an identifier.
    pub const START: EventFlags = EventFlags(2);
    /// Its end.
    pub const END: EventFlags = EventFlags(4);
    /// The first parameter is an identifier.
    pub const ID: EventFlags = EventFlags(8);
    /// The second parameter is the parent's identifier.
    pub const PARENT: EventFlags = EventFlags(16);
    /// No event: `parameters` says how many were lost.
    pub const MISSED: EventFlags = EventFlags(0x8000_0000);

    /// Whether records were lost here.
    #[must_use]
    pub const fn is_missed(self) -> bool {
        self.0 & Self::MISSED.0 != 0
    }
}

/// As pmEventFlagsStr(3) prints them.
impl fmt::Display for EventFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_missed() {
            return f.write_str("missed");
        }
        let names = ["point", "start", "end", "id", "parent"];
        let set = names
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.0 >> bit & 1 != 0);
        let text: Vec<&str> = set.map(|(_, name)| *name).collect();
        f.write_str(&text.join(","))
    }
}

/// One parameter of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventParam {
    /// The metric whose value this is.
    pub pmid: Pmid,
    /// Its type, a `PM_TYPE_*` number, and its value.
    pub block: Block,
}

impl EventParam {
    /// The parameter's value in the form a result has it: words in place, the rest in blocks.
    #[must_use]
    pub fn value(&self) -> Value {
        match (
            Type::from_raw(self.block.ty.into()),
            self.block.bytes.first_chunk(),
        ) {
            (Type::I32 | Type::U32 | Type::Float, Some(word)) => {
                Value::Insitu(u32::from_be_bytes(*word))
            }
            _ => Value::Block(self.block.clone()),
        }
    }
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRecord {
    /// When it happened.
    pub time: Timestamp,
    /// What it is.
    pub flags: EventFlags,
    /// For a MISSED record how many were lost, otherwise the number of parameters.
    pub count: u32,
    /// The parameters.
    pub params: Vec<EventParam>,
}

/// The events in one value of type `EVENT` or `HIGHRES_EVENT`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventArray {
    /// The records, oldest first.
    pub records: Vec<EventRecord>,
}

fn word(bytes: &Bytes, at: usize) -> Result<u32, ErrorCode> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|b| u32::from_be_bytes(*b))
        .ok_or(ErrorCode::TOOSMALL)
}

fn word64(bytes: &Bytes, at: usize) -> Result<u64, ErrorCode> {
    Ok(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at + 4)?))
}

impl EventArray {
    /// The number of records that a value says it has, by looking at nothing else.
    ///
    /// # Errors
    /// `PM_ERR_TOOSMALL` when it is too short to say.
    pub fn count(_ty: Type, bytes: &Bytes) -> Result<u32, ErrorCode> {
        word(bytes, 0)
    }

    /// Decodes a value without its block header.
    ///
    /// # Errors
    /// `PM_ERR_TOOSMALL` when a record reaches beyond the value, `PM_ERR_TOOBIG` when counts do.
    pub fn decode(ty: Type, bytes: &Bytes) -> Result<EventArray, ErrorCode> {
        let count = word(bytes, 0)?;
        let header = if ty == Type::HighResEvent { 24 } else { 16 };
        let mut at = 4;
        if count as usize > bytes.len() / header {
            return Err(ErrorCode::TOOSMALL);
        }
        let mut records = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let time = if ty == Type::HighResEvent {
                Timestamp::new(word64(bytes, at)? as i64, word64(bytes, at + 8)? as i32)
            } else {
                Timestamp::from_micros(
                    (word(bytes, at)? as i32).into(),
                    word(bytes, at + 4)? as i32,
                )
            };
            at += header - 8;
            let flags = EventFlags(word(bytes, at)?);
            let count = word(bytes, at + 4)?;
            at += 8;
            let mut params = Vec::new();
            if !flags.is_missed() {
                if count as usize > bytes.len().saturating_sub(at) / 8 {
                    return Err(ErrorCode::TOOSMALL);
                }
                params.reserve_exact(count as usize);
                for _ in 0..count {
                    let pmid = Pmid(word(bytes, at)?);
                    let head = word(bytes, at + 4)?;
                    let length = (head & 0x00ff_ffff) as usize;
                    let end = at + 4 + length;
                    if length < 4 || end > bytes.len() {
                        return Err(ErrorCode::TOOSMALL);
                    }
                    params.push(EventParam {
                        pmid,
                        block: Block {
                            ty: (head >> 24) as u8,
                            bytes: bytes.slice(at + 8..end),
                        },
                    });
                    at += 4 + length.next_multiple_of(4);
                }
            }
            records.push(EventRecord {
                time,
                flags,
                count,
                params,
            });
        }
        Ok(EventArray { records })
    }

    /// Encodes a value, without its block header.
    #[must_use]
    pub fn encode(&self, ty: Type) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32(self.records.len() as u32);
        for record in &self.records {
            if ty == Type::HighResEvent {
                out.put_i64(record.time.sec);
                out.put_i64(record.time.nsec.into());
            } else {
                out.put_i32(record.time.sec as i32);
                out.put_i32(record.time.usec());
            }
            out.put_u32(record.flags.0);
            if record.flags.is_missed() {
                out.put_u32(record.count);
                continue;
            }
            out.put_u32(record.params.len() as u32);
            for param in &record.params {
                out.put_u32(param.pmid.0);
                let length = param.block.bytes.len() + 4;
                out.put_u32(u32::from(param.block.ty) << 24 | (length as u32 & 0x00ff_ffff));
                out.put_slice(&param.block.bytes);
                out.put_bytes(0, length.next_multiple_of(4) - length);
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_the_sample_agent_sends() {
        let words: [u32; 17] = [
            2,
            0x6b04_049f,
            0x0005_aab7,
            1,
            1,
            0x0740_0086,
            0x0600_000c,
            0x6665_7463,
            0x6820_2330,
            0x6b04_049f,
            0x0005_aab7,
            0x8000_0000,
            7,
            0,
            0,
            0,
            0,
        ];
        let bytes: Bytes = words[..13].iter().flat_map(|w| w.to_be_bytes()).collect();
        let array = EventArray::decode(Type::Event, &bytes).expect("an event array");
        assert_eq!(array.records.len(), 2);
        assert_eq!(array.records[0].params[0].block.bytes.as_ref(), b"fetch #0");
        assert_eq!(array.records[1].count, 7);
        assert!(array.records[1].params.is_empty());
        assert_eq!(array.encode(Type::Event), bytes);
        for end in 0..bytes.len() {
            assert!(EventArray::decode(Type::Event, &bytes.slice(..end)).is_err());
        }
    }

    #[test]
    fn flags_print_as_pmeventflagsstr() {
        assert_eq!(EventFlags(0x1f).to_string(), "point,start,end,id,parent");
        assert_eq!(EventFlags(0x8000_0001).to_string(), "missed");
        assert_eq!(EventFlags(0x20).to_string(), "");
    }
}
