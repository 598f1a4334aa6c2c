//! Derived metrics: expressions of metrics under names of their own (pmRegisterDerived(3), pmLoadDerivedConfig(3)).

mod arithmetic;
mod bound;
mod definitions;
mod expression;
mod parser;
mod token;
pub(crate) mod trace;

use std::collections::{HashMap, HashSet};

pub use definitions::DerivedMetrics;
pub use expression::SyntaxError;

use bound::{BindError, Bound, Operands, Sample};
use expression::Expression;

use crate::context::Context;
use crate::desc::Desc;
use crate::error::{ErrorCode, Result};
use crate::pdu::TextKind;
use crate::pmid::Pmid;
use crate::text::Text;
use crate::value::{Fetched, InstanceValue, ValueSet};

/// A derived metric of a context.
#[derive(Debug)]
struct Metric {
    name: Text,
    pmid: Pmid,
    expression: Expression,
    /// What it means in the context, once it was looked at; nothing when it makes no sense there.
    bound: Option<Option<Bound>>,
    /// The first number of its tree in traces.
    tree: u64,
    oneline: Option<Text>,
    help: Option<Text>,
}

/// Derived metrics of a context.
pub(crate) enum Wanted<'a> {
    /// Those at and below a node.
    Below(&'a Text),
    /// Those among these metrics.
    Metrics(&'a [Pmid]),
}

/// The derived metrics of a context.
#[derive(Debug, Default)]
pub(crate) struct DerivedSet {
    metrics: Vec<Metric>,
    operands: Operands,
    /// Metrics of expressions that are not known, or of which there is no descriptor.
    unknown: HashMap<String, (Option<Pmid>, ErrorCode)>,
}

impl Metric {
    /// Puts it together with what its metrics are, when that was not done; what makes no sense is said on standard error.
    fn bind(
        &mut self,
        operands: &Operands,
        unknown: &HashMap<String, (Option<Pmid>, ErrorCode)>,
    ) -> Option<&mut Bound> {
        if self.bound.is_none() {
            let bound = match Bound::new(&self.expression, operands) {
                Ok(bound) => {
                    self.trace(&bound, unknown);
                    Some(bound)
                }
                Err(BindError::Semantic(what)) => {
                    eprintln!("Semantic error: derived metric {}: {what}", self.name);
                    None
                }
                Err(BindError::Operand(operand)) => {
                    self.trace_unknown(&operand, unknown);
                    None
                }
            };
            self.bound = Some(bound);
        }
        self.bound.as_mut().and_then(Option::as_mut)
    }

    fn trace(&mut self, bound: &Bound, unknown: &HashMap<String, (Option<Pmid>, ErrorCode)>) {
        if !trace::derive() {
            return;
        }
        trace_undefined(&self.expression, unknown);
        eprintln!("__dmbind: bind metric[{}] {}", self.number(), self.name);
        self.tree = trace::Tree::of(&self.expression).first();
        if trace::trees() {
            let tree = trace::Tree::again(&self.expression, self.tree, self.pmid);
            eprint!("{}", tree.titled_with(bound));
        }
    }

    fn trace_unknown(&self, operand: &str, unknown: &HashMap<String, (Option<Pmid>, ErrorCode)>) {
        if !trace::derive() {
            return;
        }
        let name = &self.name;
        match unknown.get(operand) {
            Some((Some(pmid), code)) => eprintln!(
                "bind_expr: error: derived metric {name}: operand ({operand} [{pmid}]): {code}"
            ),
            other => {
                let code = other.map_or(ErrorCode::NAME, |(_, code)| *code);
                eprintln!("__dmgetpmid: metric \"{operand}\" -> {code}");
                eprintln!("bind_expr: error: derived metric {name}: operand: {operand}: {code}");
            }
        }
    }

    /// Its place among all definitions.
    fn number(&self) -> u32 {
        (self.pmid.cluster() << 10 | self.pmid.item()).saturating_sub(1)
    }
}

impl DerivedSet {
    /// Readies definitions for a context. What they mean there is found when they are first used.
    pub(crate) fn new(metrics: &DerivedMetrics) -> DerivedSet {
        let mut set = DerivedSet::default();
        for (definition, index) in metrics.definitions.iter().zip(1u32..) {
            set.metrics.push(Metric {
                name: definition.name.as_str().into(),
                pmid: Pmid::new(Pmid::DYNAMIC_DOMAIN, index >> 10, index),
                expression: definition.expression.clone(),
                bound: None,
                tree: 0,
                oneline: definition.oneline.as_deref().map(Text::from),
                help: definition.help.as_deref().map(Text::from),
            });
        }
        if trace::trees() {
            let number = set.metrics.len();
            eprintln!("__dmopencontext(->ctx 0) called, {number} derived metrics");
        }
        set
    }

    /// Asks for what is known of the metrics in expressions that are about to be looked at, of each once. The context has no
    /// derived metrics of its own meanwhile.
    ///
    /// # Errors
    /// What the connection says.
    pub(crate) fn look_up(&mut self, context: &mut Context, wanted: &Wanted<'_>) -> Result<()> {
        let mut names = Vec::new();
        for metric in self.metrics.iter().filter(|m| m.bound.is_none()) {
            let is_wanted = match wanted {
                Wanted::Below(node) => behind(&metric.name, node).is_some(),
                Wanted::Metrics(pmids) => pmids.contains(&metric.pmid),
            };
            if is_wanted {
                collect_names(&metric.expression, &mut names);
            }
        }
        let mut seen = HashSet::new();
        names.retain(|name| {
            let text = name.to_string();
            !self.operands.contains_key(&text)
                && !self.unknown.contains_key(&text)
                && seen.insert(text)
        });
        if names.is_empty() {
            return Ok(());
        }
        let mut known = Vec::new();
        for (name, pmid) in names.iter().zip(context.lookup_names(&names)?) {
            match pmid {
                Ok(pmid) => known.push((name.to_string(), pmid)),
                Err(code) => {
                    self.unknown.insert(name.to_string(), (None, code));
                }
            }
        }
        let pmids: Vec<Pmid> = known.iter().map(|(_, pmid)| *pmid).collect();
        let descs = if pmids.is_empty() {
            Vec::new()
        } else {
            context.descs(&pmids)?
        };
        for ((name, pmid), desc) in known.into_iter().zip(descs) {
            match desc {
                Ok(desc) => {
                    self.operands.insert(name, desc);
                }
                Err(code) => {
                    self.unknown.insert(name, (Some(pmid), code));
                }
            }
        }
        Ok(())
    }

    fn metric(&self, pmid: Pmid) -> Option<&Metric> {
        self.metrics.iter().find(|m| m.pmid == pmid)
    }

    /// The metric of a name.
    pub(crate) fn lookup(&self, name: &Text) -> Option<Pmid> {
        let found = self
            .metrics
            .iter()
            .find(|m| m.name == *name)
            .map(|m| m.pmid);
        if trace::derive() {
            match found {
                Some(pmid) => eprintln!("__dmgetpmid: metric \"{name}\" -> PMID {pmid}"),
                None => eprintln!("__dmgetpmid: metric \"{name}\" -> {}", ErrorCode::NAME),
            }
        }
        found
    }

    /// The name of a metric.
    pub(crate) fn name_of(&self, pmid: Pmid) -> Option<Text> {
        self.metric(pmid).map(|m| m.name.clone())
    }

    /// The names at and below a node, and the parts of them behind it with its dot.
    pub(crate) fn below<'a>(
        &'a self,
        node: &'a Text,
    ) -> impl Iterator<Item = (&'a Text, &'a [u8])> + 'a {
        self.metrics
            .iter()
            .filter_map(|metric| Some((&metric.name, behind(&metric.name, node)?)))
    }

    /// How many names are directly below a node, and whether it is one itself.
    pub(crate) fn child_count(&self, node: &Text) -> (usize, bool) {
        let mut children = HashSet::new();
        let mut leaf = false;
        for (_, rest) in self.below(node) {
            match rest.split(|b| *b == b'.').next() {
                Some(child) if !child.is_empty() => {
                    children.insert(child);
                }
                _ => leaf = true,
            }
        }
        (children.len(), leaf)
    }

    /// The names at and below a node of a live host's name space, which is without those that can't be had.
    pub(crate) fn below_with_sense(&mut self, node: &Text) -> Vec<Text> {
        let mut names = Vec::new();
        for metric in &mut self.metrics {
            if behind(&metric.name, node).is_none() {
                continue;
            }
            let name = metric.name.clone();
            if trace::derive() && metric.bound.is_none() {
                eprintln!("__dmgetpmid: metric \"{name}\" -> PMID {}", metric.pmid);
            }
            let sound = metric.bind(&self.operands, &self.unknown).is_some();
            if trace::derive() {
                match sound {
                    true => eprintln!("__dmtraverse: name=\"{node}\" added \"{name}\""),
                    false => eprintln!(
                        "__dmtraverse: name=\"{node}\", omitting invalid child \"{name}\""
                    ),
                }
            }
            if sound {
                names.push(name);
            }
        }
        names
    }

    /// The descriptor of a metric.
    pub(crate) fn desc(&mut self, pmid: Pmid) -> Option<std::result::Result<Desc, ErrorCode>> {
        let metric = self.metrics.iter_mut().find(|m| m.pmid == pmid)?;
        let bound = metric.bind(&self.operands, &self.unknown);
        let bound = bound.ok_or(ErrorCode::BADDERIVE);
        Some(bound.map(|bound| Desc { pmid, ..bound.desc }))
    }

    /// The help text of a metric.
    pub(crate) fn text(&self, pmid: Pmid, kind: TextKind) -> Option<Result<Text>> {
        let metric = self.metric(pmid)?;
        let text = if kind.is_oneline() {
            &metric.oneline
        } else {
            &metric.help
        };
        Some(text.clone().ok_or_else(|| ErrorCode::TEXT.into()))
    }

    /// Fetches with a context that has no derived metrics of its own meanwhile.
    pub(crate) fn fetch(&mut self, context: &mut Context, pmids: &[Pmid]) -> Result<Fetched> {
        let mut wanted: Vec<Pmid> = Vec::with_capacity(pmids.len());
        for pmid in pmids {
            match self.metrics.iter_mut().find(|m| m.pmid == *pmid) {
                Some(metric) => {
                    if let Some(bound) = metric.bind(&self.operands, &self.unknown) {
                        bound.collect(&mut wanted);
                    }
                }
                None if wanted.contains(pmid) => {}
                None => wanted.push(*pmid),
            }
        }
        if trace::values() {
            let added: Vec<String> = wanted
                .iter()
                .filter(|p| !pmids.contains(p))
                .map(ToString::to_string)
                .collect();
            if !added.is_empty() {
                let (number, added) = (added.len(), added.join(" "));
                eprintln!("derived metrics prefetch added {number} metrics: {added}");
            }
        }
        let between = matches!(context, Context::Archive(archive) if archive.interpolates());
        let fetched = match &mut *context {
            // Constants need no values, but a time: that of the next record, whatever is in it.
            Context::Archive(archive) if wanted.is_empty() && !between => Fetched {
                time: archive.fetch_record()?.time,
                sets: Vec::new(),
            },
            Context::Host(_) if wanted.is_empty() => Fetched {
                time: crate::Timestamp::now(),
                sets: Vec::new(),
            },
            context => context.fetch_untraced(&wanted)?,
        };
        let time = fetched.time;
        let sets: HashMap<Pmid, ValueSet> = fetched
            .sets
            .into_iter()
            .map(|set| (set.pmid, set))
            .collect();
        let mut name = |indom, inst| {
            if let Ok(name) = context.instance_name(indom, inst) {
                return Some(name);
            }
            // A value between records can be of an instance that is not in its domain just then.
            let Context::Archive(archive) = &*context else {
                return None;
            };
            let all = archive.all_instances(indom).ok()?;
            all.into_iter().find(|i| i.inst == inst).map(|i| i.name)
        };
        let mut sample = Sample {
            sets: &sets,
            time,
            name: &mut name,
        };
        let mut result = Vec::with_capacity(pmids.len());
        for (number, pmid) in pmids.iter().enumerate() {
            let metric = self.metrics.iter_mut().find(|m| m.pmid == *pmid);
            result.push(match metric {
                None => match sets.get(pmid) {
                    Some(set) => set.clone(),
                    None => ValueSet::error(*pmid, ErrorCode::VALUE),
                },
                Some(Metric {
                    bound: Some(Some(bound)),
                    expression,
                    tree,
                    ..
                }) => {
                    let values = bound.values(&mut sample);
                    if trace::values() {
                        trace::missing_instances(expression, bound, *tree);
                        trace::posted(number, *pmid, &values);
                        let tree = trace::Tree::again(expression, *tree, *pmid);
                        eprint!("{}", tree.show(Some(bound)));
                    }
                    match values {
                        Ok(values) => {
                            let values = values.into_iter().map(|(inst, value)| InstanceValue {
                                inst,
                                value: value.to_value(),
                            });
                            ValueSet::new(*pmid, values.collect())
                        }
                        Err(code) => ValueSet::error(*pmid, code),
                    }
                }
                Some(_) => ValueSet::error(*pmid, ErrorCode::BADDERIVE),
            });
        }
        Ok(Fetched { time, sets: result })
    }
}

/// Says of each name in `defined()` that there is no such metric.
fn trace_undefined(expression: &Expression, unknown: &HashMap<String, (Option<Pmid>, ErrorCode)>) {
    let mut names = Vec::new();
    collect_names(expression, &mut names);
    for name in names {
        if let Some((None, code)) = unknown.get(&name.to_string()) {
            eprintln!("__dmgetpmid: metric \"{name}\" -> {code}");
        }
    }
}

fn collect_names(expression: &Expression, names: &mut Vec<Text>) {
    match expression {
        Expression::Metric(name) | Expression::Defined(name) => names.push(name.as_str().into()),
        Expression::Constant(_) | Expression::Anonymous(_) => {}
        Expression::Negation(of)
        | Expression::Not(of)
        | Expression::Function(_, of)
        | Expression::Rescale(of, _)
        | Expression::Match { of, .. }
        | Expression::Instance(of, _) => collect_names(of, names),
        Expression::Binary(_, a, b) => {
            collect_names(a, names);
            collect_names(b, names);
        }
        Expression::Ternary(parts) => parts.iter().for_each(|p| collect_names(p, names)),
    }
}

/// What stands behind a node and its dot in a name that is at or below it.
fn behind<'a>(name: &'a Text, node: &Text) -> Option<&'a [u8]> {
    match name.strip_prefix(node.as_bytes())? {
        rest if node.is_empty() => Some(rest),
        [] => Some(&[]),
        [b'.', rest @ ..] => Some(rest),
        _ => None,
    }
}
