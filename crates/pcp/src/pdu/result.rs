//! Result PDUs, in both resolutions of time, and the same values in archives.

use bytes::Bytes;

use super::wire::{Reader, Writer};
use crate::error::{Error, ErrorCode, Result};
use crate::pmid::Pmid;
use crate::timestamp::Timestamp;
use crate::value::{Block, Fetched, InstanceValue, Value, ValueSet};

/// Words before the payload that a value block's index counts (the PDU header).
const HEADER_WORDS: usize = 3;

/// Decodes the sets of a result. `payload` begins where a PDU's header ends (an archive record's payload begins there,
/// too), and `at` is where in it the sets begin.
pub(crate) fn decode_sets(payload: &Bytes, at: usize, count: usize) -> Result<Vec<ValueSet>> {
    decode_sets_of(payload, at, count, |_| true)
}

/// [`decode_sets`] for the metrics that are wanted; the others are passed over.
pub(crate) fn decode_sets_of(
    payload: &Bytes,
    at: usize,
    count: usize,
    wanted: impl Fn(Pmid) -> bool,
) -> Result<Vec<ValueSet>> {
    let mut reader = Reader::new(payload.clone(), at);
    if count > reader.remaining() / 8 {
        return Err(Error::ipc(format!(
            "{count} metrics in {} bytes",
            reader.remaining()
        )));
    }
    let mut sets = Vec::new();
    for _ in 0..count {
        let pmid = Pmid(reader.u32()?);
        let numval = reader.i32()?;
        let wanted = wanted(pmid);
        if numval <= 0 {
            if !wanted {
                continue;
            }
            let values = if numval == 0 {
                Ok(Vec::new())
            } else {
                Err(ErrorCode(numval))
            };
            sets.push(ValueSet {
                pmid,
                values,
                format: 0,
            });
            continue;
        }
        let format = reader.i32()?;
        let numval = numval as usize;
        if numval > reader.remaining() / 8 {
            return Err(Error::ipc(format!(
                "{numval} values in {} bytes",
                reader.remaining()
            )));
        }
        if !wanted {
            reader.take(numval * 8)?;
            continue;
        }
        let mut values = Vec::with_capacity(numval);
        for _ in 0..numval {
            let inst = reader.i32()?;
            let word = reader.u32()?;
            let value = match format {
                0 => Value::Insitu(word),
                1 | 2 => Value::Block(block(payload, word)?),
                _ => {
                    return Err(Error::ipc(format!(
                        "value format {format} of metric {pmid}"
                    )));
                }
            };
            values.push(InstanceValue { inst, value });
        }
        sets.push(ValueSet {
            pmid,
            values: Ok(values),
            format,
        });
    }
    Ok(sets)
}

/// Appends the metrics of `count` sets, and looks at nothing else in them.
pub(crate) fn metrics_of(sets: &[u8], count: usize, pmids: &mut Vec<Pmid>) -> Result<()> {
    let mut rest = sets;
    let mut next = |bytes: usize| {
        let (taken, after) = rest
            .split_at_checked(bytes)
            .ok_or_else(|| Error::ipc(format!("result ends at byte {}", sets.len())))?;
        rest = after;
        Ok::<_, Error>(taken)
    };
    for _ in 0..count {
        let head = next(8)?;
        pmids.push(Pmid(word(head, 0)?));
        let numval = word(head, 4)? as i32;
        if numval > 0 {
            next((numval as usize).saturating_mul(8).saturating_add(4))?;
        }
    }
    Ok(())
}

/// The value block at a word index.
pub(crate) fn block(payload: &Bytes, index: u32) -> Result<Block> {
    let bad = || {
        Error::ipc(format!(
            "value block at word {index} of {} bytes",
            payload.len()
        ))
    };
    let at = (index as usize)
        .checked_sub(HEADER_WORDS)
        .and_then(|words| words.checked_mul(4))
        .ok_or_else(bad)?;
    let head = payload
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|b| u32::from_be_bytes(*b))
        .ok_or_else(bad)?;
    let length = (head & 0x00ff_ffff) as usize;
    if length < 4 || at + length > payload.len() {
        return Err(bad());
    }
    Ok(Block {
        ty: (head >> 24) as u8,
        bytes: payload.slice(at + 4..at + length),
    })
}

/// Encodes the sets of a result behind what is in the writer; all blocks follow the sets.
pub(crate) fn encode_sets(writer: &mut Writer<'_>, sets: &[ValueSet]) {
    let mut blocks: Vec<(usize, &Block)> = Vec::new();
    for set in sets {
        writer.u32(set.pmid.0);
        let values = match &set.values {
            Ok(values) => values,
            Err(code) => {
                writer.i32(code.0);
                continue;
            }
        };
        writer.count(values.len());
        if values.is_empty() {
            continue;
        }
        let in_blocks = values.iter().any(|v| matches!(v.value, Value::Block(_)));
        writer.i32(if in_blocks { set.format.max(1) } else { 0 });
        for value in values {
            writer.i32(value.inst);
            match &value.value {
                Value::Insitu(word) => writer.u32(*word),
                Value::Block(block) => {
                    blocks.push((writer.len(), block));
                    writer.u32(0);
                }
            }
        }
    }
    for (at, block) in blocks {
        let index = writer.len() / 4;
        writer.patch(at, u32::try_from(index).unwrap_or(u32::MAX));
        let length = block.bytes.len() + 4;
        writer.u32(u32::from(block.ty) << 24 | (length as u32 & 0x00ff_ffff));
        writer.bytes(&block.bytes);
        writer.pad();
    }
}

/// Decodes a RESULT PDU's payload.
pub(crate) fn decode(frame: &Bytes) -> Result<Fetched> {
    let payload = frame.slice(12.min(frame.len())..);
    let mut reader = Reader::new(payload.clone(), 0);
    let time = Timestamp::from_micros(reader.i32()?.into(), reader.i32()?);
    let count = reader.length()?;
    Ok(Fetched {
        time,
        sets: decode_sets(&payload, 12, count)?,
    })
}

/// Decodes a HIGHRES_RESULT PDU's payload.
pub(crate) fn decode_high_res(frame: &Bytes) -> Result<Fetched> {
    let payload = frame.slice(12.min(frame.len())..);
    let mut reader = Reader::new(payload.clone(), 0);
    let count = reader.length()?;
    let sec = reader.i64()?;
    let nsec =
        i32::try_from(reader.i64()?).map_err(|_| Error::ipc("nanoseconds beyond a second"))?;
    Ok(Fetched {
        time: Timestamp::new(sec, nsec),
        sets: decode_sets(&payload, 20, count)?,
    })
}

pub(crate) fn encode(writer: &mut Writer<'_>, fetched: &Fetched) {
    writer.i32(fetched.time.sec as i32);
    writer.i32(fetched.time.usec());
    writer.count(fetched.sets.len());
    encode_sets(writer, &fetched.sets);
}

pub(crate) fn encode_high_res(writer: &mut Writer<'_>, fetched: &Fetched) {
    writer.count(fetched.sets.len());
    writer.i64(fetched.time.sec);
    writer.i64(fetched.time.nsec.into());
    encode_sets(writer, &fetched.sets);
}

/// Where in a RESULT PDU's payload the sets begin, and in a HIGHRES_RESULT PDU's.
const SETS_AT: usize = 12;
const HIGH_RES_SETS_AT: usize = 20;

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map(|b| u32::from_be_bytes(*b))
        .ok_or_else(|| Error::ipc(format!("result ends at byte {}", bytes.len())))
}

/// Walks over the sets of a result, telling each metric, and each index of a value block with its place. The result is where
/// the sets end.
fn walk(
    payload: &[u8],
    mut metric: impl FnMut(Pmid),
    mut block: impl FnMut(usize, u32) -> Result<()>,
) -> Result<usize> {
    let count = word(payload, SETS_AT - 4)?;
    let mut at = SETS_AT;
    for _ in 0..count {
        let pmid = Pmid(word(payload, at)?);
        let numval = word(payload, at + 4)? as i32;
        at += 8;
        metric(pmid);
        if numval <= 0 {
            continue;
        }
        let format = word(payload, at)?;
        if format > 2 {
            return Err(Error::ipc(format!(
                "value format {format} of metric {pmid}"
            )));
        }
        at += 4;
        for _ in 0..numval {
            let value = word(payload, at + 4)?;
            if format != 0 {
                block(at + 4, value)?;
            }
            at += 8;
        }
    }
    Ok(at)
}

/// A RESULT PDU from an agent, to be passed on to a client without looking into the values.
#[derive(Clone, Debug)]
pub struct RawResult {
    frame: Bytes,
}

impl RawResult {
    /// Takes a whole RESULT PDU, once everything in it is known to be where it says.
    ///
    /// # Errors
    /// `PM_ERR_IPC` for what is no result.
    pub fn check(frame: Bytes) -> Result<RawResult> {
        let payload = frame.get(12..).unwrap_or_default();
        let mut first = usize::MAX;
        let end = walk(
            payload,
            |_| {},
            |_, index| {
                let at = (index as usize)
                    .checked_sub(HEADER_WORDS)
                    .map(|words| words * 4)
                    .ok_or_else(|| Error::ipc(format!("value block at word {index}")))?;
                first = first.min(at);
                let length = (word(payload, at)? & 0x00ff_ffff) as usize;
                if length < 4 || length > payload.len() - at {
                    return Err(Error::ipc(format!(
                        "value block of {length} bytes at word {index} of {} bytes",
                        payload.len()
                    )));
                }
                Ok(())
            },
        )?;
        if first < end {
            return Err(Error::ipc(format!(
                "value block at byte {first}, among the metrics"
            )));
        }
        Ok(RawResult { frame })
    }

    fn payload(&self) -> &[u8] {
        self.frame.get(12..).unwrap_or_default()
    }

    /// Whether it has the values of these metrics, in this order.
    #[must_use]
    pub fn is_of(&self, pmids: &[Pmid]) -> bool {
        let mut wanted = pmids.iter();
        let mut same = true;
        let walked = walk(
            self.payload(),
            |pmid| same &= wanted.next() == Some(&pmid),
            |_, _| Ok(()),
        );
        walked.is_ok() && same && wanted.next().is_none()
    }

    /// Its values.
    ///
    /// # Errors
    /// None after [`RawResult::check`].
    pub fn decode(&self) -> Result<Fetched> {
        decode(&self.frame)
    }

    /// Appends it as a PDU with another time: a RESULT, or a HIGHRES_RESULT, in which all is two words further on.
    pub fn encode(&self, time: Timestamp, high_res: bool, out: &mut Vec<u8>) {
        let kind = if high_res {
            super::kind::HIGHRES_RESULT
        } else {
            super::kind::RESULT
        };
        let payload = self.payload();
        let count = word(payload, SETS_AT - 4).unwrap_or(0);
        let mut writer = Writer::new(out, kind, 0);
        if high_res {
            writer.u32(count);
            writer.i64(time.sec);
            writer.i64(time.nsec.into());
        } else {
            writer.i32(time.sec as i32);
            writer.i32(time.usec());
            writer.u32(count);
        }
        writer.bytes(payload.get(SETS_AT..).unwrap_or_default());
        if high_res {
            let further = HIGH_RES_SETS_AT - SETS_AT;
            // It was walked over before, so nothing is found wrong now.
            let _ = walk(
                payload,
                |_| {},
                |at, index| {
                    let index = index.wrapping_add((further / 4) as u32);
                    writer.patch(12 + at + further, index);
                    Ok(())
                },
            );
        }
        writer.finish();
    }
}
