//! Metric labels (pmLookupLabels(3)): JSON objects at six levels, merged from the widest to the narrowest.

use bytes::Bytes;

/// The most labels in a set (`PM_MAXLABELS`).
pub const LABELS_MAX: usize = 255;
/// The longest JSON text of a set in bytes (`PM_MAXLABELJSONLEN`).
pub const LABEL_JSON_MAX: usize = 65_535;

/// The levels of labels, the bits of their sources (`PM_LABEL_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LabelLevel {
    /// The host.
    Context = 1,
    /// An agent.
    Domain = 2,
    /// An instance domain.
    InDom = 4,
    /// A cluster of metrics.
    Cluster = 8,
    /// A metric.
    Item = 16,
    /// The instances of a domain, a set each.
    Instances = 32,
}

impl LabelLevel {
    /// All levels, widest first.
    pub const ALL: [LabelLevel; 6] = [
        LabelLevel::Context,
        LabelLevel::Domain,
        LabelLevel::InDom,
        LabelLevel::Cluster,
        LabelLevel::Item,
        LabelLevel::Instances,
    ];

    /// From the number in a PDU or archive.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<LabelLevel> {
        Self::ALL.into_iter().find(|l| *l as u32 == raw)
    }
}

/// A label's flags: its level and whether it is optional or compound.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LabelFlags(pub u8);

impl LabelFlags {
    /// The name has several parts separated by dots.
    pub const COMPOUND: u8 = 1 << 6;
    /// Not part of what identifies the metric.
    pub const OPTIONAL: u8 = 1 << 7;

    /// Whether it is not part of what identifies the metric.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        self.0 & Self::OPTIONAL != 0
    }
}

/// Where in a set's JSON a label's name and value stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    /// Byte offset of the name.
    pub name: u16,
    /// Its length in bytes.
    pub name_len: u8,
    /// Level and kind.
    pub flags: LabelFlags,
    /// Byte offset of the value; quotes of a string belong to it.
    pub value: u16,
    /// Its length in bytes.
    pub value_len: u16,
}

/// Labels of one thing: JSON text and an index into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelSet {
    /// The instance for labels of instances, otherwise [`crate::INST_NULL`].
    pub inst: i32,
    /// A JSON object.
    pub json: Bytes,
    /// Its members.
    pub labels: Vec<Label>,
}

impl LabelSet {
    /// A label's name.
    #[must_use]
    pub fn name(&self, label: &Label) -> &[u8] {
        let at = usize::from(label.name);
        self.json
            .get(at..at + usize::from(label.name_len))
            .unwrap_or_default()
    }

    /// A label's value as JSON.
    #[must_use]
    pub fn value(&self, label: &Label) -> &[u8] {
        let at = usize::from(label.value);
        self.json
            .get(at..at + usize::from(label.value_len))
            .unwrap_or_default()
    }
}

/// Merges sets given from the widest to the narrowest level into one JSON object, members sorted by name; of labels
/// with the same name the narrowest stays (pmMergeLabelSets(3)).
#[must_use]
pub fn merge<'a>(
    sets: impl IntoIterator<Item = &'a LabelSet>,
    keep: impl Fn(&Label) -> bool,
) -> Vec<u8> {
    let mut members: std::collections::BTreeMap<&[u8], &[u8]> = std::collections::BTreeMap::new();
    for set in sets {
        for label in set.labels.iter().filter(|l| keep(l)) {
            members.insert(set.name(label), set.value(label));
        }
    }
    let mut json = vec![b'{'];
    for (name, value) in members {
        if json.len() > 1 {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(name);
        json.extend_from_slice(b"\":");
        json.extend_from_slice(value);
    }
    json.push(b'}');
    json
}
