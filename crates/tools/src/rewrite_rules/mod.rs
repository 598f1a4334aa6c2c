//! The rules by which pmlogrewrite changes an archive (pmlogrewrite(1)).

mod indom_rule;
mod label_rule;
mod metric_rule;
mod parser;
mod text_rule;
mod tokens;

pub use parser::Parser;

use std::collections::HashMap;

use pcp::pdu::TextKind;
use pcp::{InDom, Pmid, Semantics, Text, Type, Units};

/// Which of several values becomes the only one.
#[derive(Clone, PartialEq, Debug)]
pub enum Pick {
    /// The first.
    First,
    /// The last.
    Last,
    /// That of an instance.
    Inst(i32),
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their sum.
    Sum,
    /// Their mean.
    Avg,
}

/// What becomes of an instance.
#[derive(Clone, Default, Debug)]
pub struct InstanceRule {
    /// It goes.
    pub delete: bool,
    /// Its new number.
    pub number: Option<i32>,
    /// Its new name.
    pub name: Option<Text>,
}

/// What becomes of an instance domain.
#[derive(Clone, Default, Debug)]
pub struct IndomRule {
    /// Its new number.
    pub indom: Option<InDom>,
    /// Copies of it.
    pub duplicates: Vec<InDom>,
    /// Its instances by their old numbers.
    pub instances: HashMap<i32, InstanceRule>,
}

impl IndomRule {
    /// The domain that metrics of this one are in afterwards.
    pub fn moved_to(&self) -> Option<InDom> {
        self.indom.or(self.duplicates.last().copied())
    }
}

/// What becomes of a metric.
#[derive(Clone, Default, Debug)]
pub struct MetricRule {
    /// It goes.
    pub delete: bool,
    /// Its new number.
    pub pmid: Option<Pmid>,
    /// Its names: old and new.
    pub names: Vec<(Text, Text)>,
    /// Its new type.
    pub ty: Option<Type>,
    /// Its new domain.
    pub indom: Option<InDom>,
    /// Which value stays.
    pub pick: Option<Pick>,
    /// Its new semantics.
    pub sem: Option<Semantics>,
    /// Its new units.
    pub units: Option<Units>,
    /// Whether values follow new units of the same dimension.
    pub rescale: bool,
}

/// What becomes of a help text.
#[derive(Clone, Debug)]
pub struct TextRule {
    /// Which texts: kind and what they are of.
    pub texts: Vec<(TextKind, u32)>,
    /// Only those with this content.
    pub content: Option<String>,
    /// They go.
    pub delete: bool,
    /// What they are of now.
    pub ident: Option<u32>,
    /// Their new content.
    pub text: Option<String>,
}

/// What becomes of labels.
#[derive(Clone, Debug)]
pub struct LabelRule {
    /// Their level and what they are of.
    pub labels: Vec<(u32, u32)>,
    /// Only those of this instance.
    pub inst: Option<i32>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those of this value.
    pub value: Option<String>,
    /// They go.
    pub delete: bool,
    /// Their new name.
    pub new_name: Option<String>,
    /// Their new value.
    pub new_value: Option<String>,
    /// Labels that come, in a set of their own: names and values.
    pub added: Vec<(String, String)>,
    /// What they are of now.
    pub ident: Option<u32>,
}

/// All rules.
#[derive(Default, Debug)]
pub struct Rules {
    /// The new host name.
    pub hostname: Option<String>,
    /// The new time zone.
    pub timezone: Option<String>,
    /// The new name of the time zone.
    pub zoneinfo: Option<String>,
    /// The new feature bits.
    pub features: Option<u32>,
    /// What is added to all times, in nanoseconds.
    pub delta: Option<i128>,
    /// By domain.
    pub indoms: HashMap<InDom, IndomRule>,
    /// By metric.
    pub metrics: HashMap<Pmid, MetricRule>,
    /// The domains that rules name, in the order in which they were met.
    pub named_indoms: Vec<InDom>,
    /// The metrics that rules name.
    pub named_metrics: Vec<Pmid>,
    /// In order.
    pub texts: Vec<TextRule>,
    /// In order.
    pub labels: Vec<LabelRule>,
}

impl Rules {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.hostname.is_none()
            && self.timezone.is_none()
            && self.zoneinfo.is_none()
            && self.features.is_none()
            && self.delta.is_none_or(|d| d == 0)
            && self.indoms.is_empty()
            && self.metrics.is_empty()
            && self.texts.is_empty()
            && self.labels.is_empty()
    }
}
