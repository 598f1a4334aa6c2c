//! LABEL PDUs.

use bytes::Bytes;

use super::wire::{Reader, Writer};
use crate::error::{Error, Result};
use crate::label::{LABELS_MAX, Label, LabelFlags, LabelSet};

const SET_HEADER: usize = 16;
const LABEL_SIZE: usize = 8;

/// Reads the index entries of one set's labels.
pub(crate) fn labels(reader: &mut Reader, count: usize, json: &Bytes) -> Result<Vec<Label>> {
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        let label = Label {
            name: reader.u16()?,
            name_len: reader.u8()?,
            flags: LabelFlags(reader.u8()?),
            value: reader.u16()?,
            value_len: reader.u16()?,
        };
        let name_end = usize::from(label.name) + usize::from(label.name_len);
        let value_end = usize::from(label.value) + usize::from(label.value_len);
        if name_end > json.len() || value_end > json.len() {
            return Err(Error::ipc("a label outside of its JSON"));
        }
        labels.push(label);
    }
    Ok(labels)
}

pub(crate) fn decode(reader: &mut Reader) -> Result<Vec<LabelSet>> {
    let count = reader.i32()?;
    let Ok(count) = usize::try_from(count) else {
        return Err(crate::ErrorCode(count).into());
    };
    if count > reader.remaining() / SET_HEADER {
        return Err(Error::ipc(format!(
            "{count} label sets in {} bytes",
            reader.remaining()
        )));
    }
    let mut sets = Vec::with_capacity(count);
    for _ in 0..count {
        let inst = reader.i32()?;
        let nlabels = reader.i32()?;
        let offset = reader.length()?;
        let length = reader.length()?;
        let json = offset
            .checked_add(length)
            .filter(|&end| end <= reader.frame().len())
            .map(|end| reader.frame().slice(offset..end))
            .ok_or_else(|| Error::ipc(format!("label JSON of {length} bytes at byte {offset}")))?;
        let Ok(nlabels) = usize::try_from(nlabels) else {
            // The agent's error for this instance.
            sets.push(LabelSet {
                inst,
                json,
                labels: Vec::new(),
            });
            continue;
        };
        if nlabels > LABELS_MAX || nlabels > reader.remaining() / LABEL_SIZE {
            return Err(Error::ipc(format!(
                "{nlabels} labels in {} bytes",
                reader.remaining()
            )));
        }
        let labels = labels(reader, nlabels, &json)?;
        sets.push(LabelSet { inst, json, labels });
    }
    Ok(sets)
}

pub(crate) fn write_labels(out: &mut Vec<u8>, labels: &[Label]) {
    for label in labels {
        out.extend_from_slice(&label.name.to_be_bytes());
        out.push(label.name_len);
        out.push(label.flags.0);
        out.extend_from_slice(&label.value.to_be_bytes());
        out.extend_from_slice(&label.value_len.to_be_bytes());
    }
}

pub(crate) fn encode(writer: &mut Writer<'_>, sets: &[LabelSet]) {
    writer.count(sets.len());
    let index: usize = sets
        .iter()
        .map(|s| SET_HEADER + s.labels.len() * LABEL_SIZE)
        .sum();
    let mut offset = writer.len() + index;
    for set in sets {
        writer.i32(set.inst);
        writer.count(set.labels.len());
        writer.count(offset);
        writer.count(set.json.len());
        write_labels(writer.out, &set.labels);
        offset += set.json.len();
    }
    for set in sets {
        writer.bytes(&set.json);
    }
}
