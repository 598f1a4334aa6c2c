//! Derived metrics: expressions of metrics under names of their own (pmRegisterDerived(3), pmLoadDerivedConfig(3)).

mod arithmetic;
mod bound;
mod expression;
pub(crate) mod trace;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

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

/// Metrics of which there can be a derived one: items of domain 511 beside the roots of dynamic subtrees.
const MOST: usize = 1 << 21;

#[derive(Clone, Debug)]
struct Definition {
    name: String,
    expression: Expression,
    oneline: Option<String>,
    help: Option<String>,
}

/// Definitions, to be used with any context.
#[derive(Clone, Debug, Default)]
pub struct DerivedMetrics {
    definitions: Vec<Definition>,
}

/// Whether a name can be one of a derived metric.
fn is_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

impl DerivedMetrics {
    /// Those that every context has: what event records use, and what the files say that `$PCP_DERIVED_CONFIG` names, or
    /// those of PCP's own folder. The texts are what is wrong in those files.
    #[must_use]
    pub fn configured() -> (DerivedMetrics, Vec<String>) {
        let mut metrics = DerivedMetrics::default();
        for (name, oneline, help) in [
            (
                "event.flags",
                "Flags for event records",
                "An anonymous derived metric that is used to encode the event flags\nassociated with event records.   See pmUnpackEventRecords(3).",
            ),
            (
                "event.missed",
                "Count of missed event records",
                "An anonymous derived metric that is used to encode the number of\nevent records missed because either the PMDA could not keep up\nor the PMAPI client did not collect the event records fast\nenough.  See pmUnpackEventRecords(3).",
            ),
        ] {
            // The text is sound.
            let _ = metrics.register(name, "anon(PM_TYPE_U32)");
            if let Some(definition) = metrics.definitions.last_mut() {
                definition.oneline = Some(oneline.to_owned());
                definition.help = Some(help.to_owned());
            }
        }
        let configured = std::env::var("PCP_DERIVED_CONFIG");
        if trace::derive() && configured.as_ref().is_ok_and(|path| !path.is_empty()) {
            eprintln!("Derived metric initialization from $PCP_DERIVED_CONFIG");
        }
        let path = configured.unwrap_or_else(|_| {
            let var = crate::config("PCP_VAR_DIR").unwrap_or("/var/lib/pcp".to_owned());
            format!("{var}/config/derived")
        });
        if trace::derive() && std::env::var_os("PCP_DERIVED_CONFIG").is_none() {
            eprintln!("Derived metric initialization from {path}");
        }
        let said = metrics.load(&path).unwrap_or_default();
        (metrics, said)
    }

    /// Defines a metric.
    ///
    /// # Errors
    /// What is wrong with the expression, or with a name that is there already.
    pub fn register(&mut self, name: &str, text: &str) -> std::result::Result<(), SyntaxError> {
        if trace::wanted() {
            eprintln!(
                "pmRegisterDerived: name=\"{name}\" expr=\"{}\"",
                text.trim_start()
            );
        }
        if self.definitions.iter().any(|d| d.name == name) {
            return Err(SyntaxError {
                at: text.len() - text.trim_start().len(),
                what: "Duplicate global derived metric name".to_owned(),
            });
        }
        let expression = expression::parse(text)?;
        trace::registered(self.definitions.len(), name, text.trim_start(), &expression);
        if self.definitions.len() < MOST {
            self.definitions.push(Definition {
                name: name.to_owned(),
                expression,
                oneline: None,
                help: None,
            });
        }
        Ok(())
    }

    /// Reads definitions from files and folders, their names separated by colons. The texts are what is wrong in them.
    ///
    /// # Errors
    /// `ENOENT` and the like for what can't be opened.
    pub fn load(&mut self, path: &str) -> Result<Vec<String>> {
        let mut said = Vec::new();
        for part in path.split(':').filter(|p| !p.is_empty()) {
            let mut files = Vec::new();
            if let Err(error) = files_below(Path::new(part), &mut files, 0) {
                if trace::derive() {
                    let code = error.code();
                    eprintln!("Warning: derived metrics path component: {part}: {code}");
                }
                return Err(error);
            }
            for file in files {
                let text = fs::read(&file)?;
                if trace::derive() {
                    eprintln!("pmLoadDerivedConfig(\"{}\")", file.display());
                }
                let shown = file.display().to_string();
                self.read(&shown, &String::from_utf8_lossy(&text), &mut said);
            }
        }
        Ok(said)
    }

    /// Reads definitions from a text.
    pub fn read(&mut self, file: &str, text: &str, said: &mut Vec<String>) {
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            number += 1;
            let mut used = after;
            if !line.starts_with('#') && !line.trim().is_empty() {
                let place = format!("[{file}:{number}]");
                match self.line(line, after) {
                    Ok((remaining, warning)) => {
                        number += lines(after) - lines(remaining);
                        used = remaining;
                        said.extend(
                            warning.map(|w| format!("{place} Warning: pmLoadDerivedConfig: {w}\n")),
                        );
                    }
                    Err(what) => said.push(format!("{place} Error: {what}\n")),
                }
                // Beside the traces they belong where they are found.
                if trace::derive() {
                    eprint!("{}", std::mem::take(said).concat());
                }
            }
            rest = used;
        }
    }

    /// One declaration, which may go on in what follows its line. Returns what follows it, and a warning.
    fn line<'a>(
        &mut self,
        line: &'a str,
        after: &'a str,
    ) -> std::result::Result<(&'a str, Option<String>), String> {
        let load = |what: String| Err(format!("pmLoadDerivedConfig: {what}"));
        let trimmed = line.trim_start();
        let end = trimmed
            .find(|c: char| c == '=' || c == '(' || c.is_whitespace())
            .unwrap_or(trimmed.len());
        let (name, rest) = trimmed.split_at(end);
        if name.is_empty() {
            return load(format!("derived metric name missing\n{line}"));
        }
        let rest = rest.trim_start();
        if let Some(attribute) = rest.strip_prefix('(') {
            return self.attribute(name, attribute, after);
        }
        let Some(text) = rest.strip_prefix('=') else {
            return load(format!("missing ``='' after derived metric name\n{line}"));
        };
        if !is_name(name) {
            return load(format!("illegal derived metric name ({name})"));
        }
        if text.trim().is_empty() {
            return load(format!("expression missing\n{line}"));
        }
        self.register(name, text).map_err(|error| {
            let at = error.at.min(text.len());
            // White space stays as it is, so that the caret stands below its place.
            let before: String = text
                .chars()
                .scan(0, |used, c| {
                    let here = *used;
                    *used += c.len_utf8();
                    (here < at).then_some(if c.is_whitespace() { c } else { ' ' })
                })
                .collect();
            let behind = " ".repeat((text.len() - at).saturating_sub(1));
            let what = error.to_string();
            let separator = if what.is_empty() { "" } else { "\n" };
            format!(
                "pmRegisterDerived({name}, ...) syntax error\n{text}\n{before}^{behind}{separator}{what}"
            )
        })?;
        Ok((after, None))
    }

    /// `NAME(oneline) = TEXT` behind its parenthesis.
    fn attribute<'a>(
        &mut self,
        name: &str,
        text: &'a str,
        after: &'a str,
    ) -> std::result::Result<(&'a str, Option<String>), String> {
        let load = |what: String| Err(format!("pmLoadDerivedConfig: {what}"));
        let Some((attribute, rest)) = text.split_once(')') else {
            return load("missing ')' after attribute".to_owned());
        };
        let attribute = attribute.trim();
        if attribute.is_empty() {
            return load("attribute name missing".to_owned());
        }
        let Some(value) = rest.trim_start().strip_prefix('=') else {
            return load(format!("missing ``='' after attribute {attribute}"));
        };
        let value = value.trim_start();
        if value.trim().is_empty() {
            return load("attribute value missing".to_owned());
        }
        let mut warning = None;
        let (value, remaining) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                // A value in quotes may go on in the lines that follow.
                let whole = format!("{value}\n{after}");
                let Some((text, used)) = quoted(&whole, quote) else {
                    return load(format!("missing termination ({quote}) for value"));
                };
                let behind = whole.get(used..).unwrap_or("");
                let (extra, _) = behind.split_once('\n').unwrap_or((behind, ""));
                if !extra.trim().is_empty() {
                    let extra = extra.trim();
                    warning = Some(format!(
                        "extra text ({extra}) after attribute value will be ignored"
                    ));
                }
                let consumed = used + extra.len();
                let from_after = consumed.saturating_sub(value.len());
                let remaining = after.get(from_after..).unwrap_or("");
                (text, remaining)
            }
            _ => (value.trim_end().to_owned(), after),
        };
        let Some(definition) = self.definitions.iter_mut().find(|d| d.name == name) else {
            return load(format!(
                "cannot set attribute, derived metric name({name}) not defined"
            ));
        };
        if trace::wanted() {
            eprintln!("setattr: name=\"{name}\" attr=\"{attribute}\" value=\"{value}\"");
        }
        match attribute {
            "oneline" => definition.oneline = Some(value),
            "helptext" => definition.help = Some(value),
            _ => {
                return load(format!(
                    "attribute ({attribute}) is unknown for metric ({name})"
                ));
            }
        }
        Ok((remaining, warning))
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// A text in quotes, and the bytes that it takes with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, at + c.len_utf8())),
            '\\' => match chars.next() {
                Some((_, '\n')) => {}
                Some((_, c)) => value.push(c),
                None => return None,
            },
            c => value.push(c),
        }
    }
    None
}

/// All files at and below a path, in the order of their names.
fn files_below(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > 20 {
        return Ok(());
    }
    let names: Vec<PathBuf> = fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    // In the folder's own order, as PCP's library has them.
    for name in names {
        files_below(&name, files, depth + 1)?;
    }
    Ok(())
}

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
    pub(crate) fn new(metrics: &DerivedMetrics, context: &mut Context) -> Result<DerivedSet> {
        let mut names = Vec::new();
        for definition in &metrics.definitions {
            collect_names(&definition.expression, &mut names);
        }
        let mut set = DerivedSet::default();
        set.look_up(context, &names)?;
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
        Ok(set)
    }

    /// Asks for what is known of metrics in expressions.
    fn look_up(&mut self, context: &mut Context, names: &[Text]) -> Result<()> {
        let mut seen = HashSet::new();
        let names: Vec<Text> = names
            .iter()
            .filter(|n| seen.insert(n.as_bytes().to_vec()))
            .cloned()
            .collect();
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
        let fetched = if wanted.is_empty() && !between {
            // Constants need no values, but a time.
            Fetched {
                time: crate::Timestamp::now(),
                sets: Vec::new(),
            }
        } else {
            context.fetch_untraced(&wanted)?
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
