//! Making label sets.

use bytes::Bytes;
use pcp::{Label, LabelFlags, LabelLevel, LabelSet};

/// A set of labels from names and values written as JSON, with further flags of [`LabelFlags`]; `inst` is
/// [`pcp::INST_NULL`] except at [`LabelLevel::Instances`]. Names are sorted. What does not fit into a set is left out.
#[must_use]
pub fn label_set(inst: i32, level: LabelLevel, labels: &[(&str, &str, u8)]) -> LabelSet {
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    let mut json = String::from("{");
    let mut places = Vec::new();
    for (name, value, flags) in labels.into_iter().take(pcp::LABELS_MAX) {
        if json.len() + name.len() + value.len() + 5 > pcp::LABEL_JSON_MAX {
            break;
        }
        let Ok(name_len) = u8::try_from(name.len()) else {
            continue;
        };
        if json.len() > 1 {
            json.push(',');
        }
        let at = json.len();
        json.push('"');
        json.push_str(name);
        json.push_str("\":");
        json.push_str(value);
        places.push(Label {
            name: at as u16 + 1,
            name_len,
            flags: LabelFlags(level as u8 | flags),
            value: (at + name.len() + 3) as u16,
            value_len: value.len() as u16,
        });
    }
    json.push('}');
    LabelSet {
        inst,
        json: Bytes::from(json),
        labels: places,
    }
}
