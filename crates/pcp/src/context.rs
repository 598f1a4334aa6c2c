//! Contexts: where metrics come from.

use std::collections::HashSet;

use crate::archive::ArchiveContext;
use crate::debug;
use crate::derived::{DerivedMetrics, DerivedSet, Wanted, trace};
use crate::desc::Desc;
use crate::dump;
use crate::error::{ErrorCode, Result};
use crate::host::HostContext;
use crate::indom::{InDom, Instance};
use crate::label::{LabelLevel, LabelSet};
use crate::pdu::{Profile, TextKind};
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timezone::Zone;
use crate::value::Fetched;

/// A source of metrics (pmNewContext(3)).
///
/// ```no_run
/// use pcp::{Context, Text};
///
/// let mut context = Context::host("local:")?;
/// let name = Text::from("kernel.all.load");
/// let pmid = context.lookup_names(&[name])?[0]?;
/// let desc = context.desc(pmid)?;
/// for value in context.fetch(&[pmid])?.sets[0].instances() {
///     println!("{} {}", value.inst, String::from_utf8_lossy(&pcp::print_value(&value.value, desc.ty, 1)));
/// }
/// # Ok::<(), pcp::Error>(())
/// ```
pub enum Context {
    /// A live host.
    Host(Box<HostContext>),
    /// A set of archives.
    Archive(Box<ArchiveContext>),
}

macro_rules! dispatch {
    ($self:ident, $context:ident => $call:expr) => {
        match $self {
            Context::Host($context) => $call,
            Context::Archive($context) => $call,
        }
    };
}

impl Context {
    /// Connects to the pmcd of a host specification: `local:`, `unix:`, a host name, `pcp://host:port`.
    ///
    /// # Errors
    /// What the connection or the server says; `PM_ERR_GENERIC` for a specification that is none.
    pub fn host(spec: &str) -> Result<Context> {
        let parsed = spec.parse().map_err(|error| crate::Error::Malformed {
            code: ErrorCode::GENERIC,
            what: format!("pmNewContext: bad host specification: {error}"),
        })?;
        Ok(Context::Host(Box::new(HostContext::new(parsed, spec)?)))
    }

    /// A context over archives: names separated by commas, of archives or of folders of them.
    ///
    /// # Errors
    /// `ENOENT`, `PM_ERR_LOGFILE`, `PM_ERR_LABEL`, `PM_ERR_LOGREC`, and what is said of archives that do not go together.
    pub fn archive(names: &str) -> Result<Context> {
        Ok(Context::Archive(Box::new(ArchiveContext::open(names)?)))
    }

    /// Adds derived metrics, in the place of those that it has. Those that make no sense here, and those whose metrics are
    /// not there, have a name and nothing else (`PM_ERR_BADDERIVE`); of the former standard error says why when they are
    /// first used.
    pub fn use_derived(&mut self, metrics: &DerivedMetrics) {
        *self.derived() = Some(Box::new(DerivedSet::new(metrics)));
    }

    /// Asks for the operands of derived metrics that are about to be used.
    fn look_up_operands(&mut self, wanted: &Wanted<'_>) -> Result<()> {
        let Some(mut derived) = self.derived().take() else {
            return Ok(());
        };
        let found = derived.look_up(self, wanted);
        *self.derived() = Some(derived);
        found
    }

    fn derived(&mut self) -> &mut Option<Box<DerivedSet>> {
        dispatch!(self, c => &mut c.derived)
    }

    /// The identifiers of metrics, an error for each that is not known (pmLookupName(3)).
    ///
    /// # Errors
    /// What the connection says.
    pub fn lookup_names(
        &mut self,
        names: &[Text],
    ) -> Result<Vec<std::result::Result<Pmid, ErrorCode>>> {
        let mut found = dispatch!(self, c => c.lookup_names(names))?;
        if let Some(derived) = self.derived() {
            for (name, found) in names.iter().zip(&mut found) {
                if found.is_err()
                    && let Some(pmid) = derived.lookup(name)
                {
                    *found = Ok(pmid);
                }
            }
        }
        Ok(found)
    }

    /// The identifier of one metric.
    ///
    /// # Errors
    /// `PM_ERR_NAME` when it is not known, and what the connection says.
    pub fn lookup_name(&mut self, name: &str) -> Result<Pmid> {
        let found = self.lookup_names(&[name.into()])?;
        Ok(found.into_iter().next().unwrap_or(Err(ErrorCode::NAME))?)
    }

    /// All names of a metric (pmNameAll(3)).
    ///
    /// # Errors
    /// `PM_ERR_PMID` when there is none.
    pub fn names_of(&mut self, pmid: Pmid) -> Result<Vec<Text>> {
        if let Some(name) = self.derived().as_ref().and_then(|d| d.name_of(pmid)) {
            return Ok(vec![name]);
        }
        dispatch!(self, c => c.names_of(pmid))
    }

    /// The names directly below a node, without the node's own, and whether each is a leaf (pmGetChildrenStatus(3)).
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such node.
    pub fn children(&mut self, name: &Text) -> Result<Vec<(Text, bool)>> {
        let found = dispatch!(self, c => c.children(name));
        let Some(derived) = self.derived() else {
            return found;
        };
        let mut more = Vec::new();
        for (_, rest) in derived.below(name).filter(|(_, rest)| !rest.is_empty()) {
            let mut parts = rest.splitn(2, |b| *b == b'.');
            let child = Text::from(parts.next().unwrap_or_default());
            more.push((child, parts.next().is_none()));
        }
        let mut found = match found {
            Err(_) if !more.is_empty() => Vec::new(),
            other => other?,
        };
        for child in more {
            if !found.iter().any(|(name, _)| *name == child.0) {
                found.push(child);
            }
        }
        Ok(found)
    }

    /// All metrics at and below a node (pmTraversePMNS(3)); the empty name is the root.
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such node.
    pub fn traverse(&mut self, name: &Text) -> Result<Vec<Text>> {
        let found = dispatch!(self, c => c.traverse(name));
        let live = matches!(self, Context::Host(host) if !host.has_names());
        if !live && trace::derive() {
            self.trace_children(name);
        }
        if live {
            self.look_up_operands(&Wanted::Below(name))?;
        }
        let Some(derived) = self.derived() else {
            return found;
        };
        let more: Vec<Text> = match live {
            true => derived.below_with_sense(name),
            false => derived.below(name).map(|(name, _)| name.clone()).collect(),
        };
        match found {
            Err(_) if !more.is_empty() => Ok(more),
            found => {
                let mut found = found?;
                // An archive may have been recorded with derived metrics of these names.
                let known: HashSet<Text> = match live {
                    true => HashSet::new(),
                    false => found.iter().cloned().collect(),
                };
                found.extend(more.into_iter().filter(|name| !known.contains(name)));
                Ok(found)
            }
        }
    }

    /// What a walk through names that are known here meets, as `-Dderive` shows it.
    fn trace_children(&mut self, name: &Text) {
        let regular = dispatch!(self, c => c.children(name));
        let (count, leaf) = match self.derived() {
            Some(derived) => derived.child_count(name),
            None => (0, false),
        };
        let mut line = format!("pmGetChildren(name=\"{name}\") ");
        match &regular {
            Ok(children) => line.push_str(&format!("{} regular children", children.len())),
            Err(error) => line.push_str(&format!("no regular children ({})", error.code())),
        }
        line.push_str(", ");
        match (count, leaf) {
            (0, true) => line.push_str("derived leaf"),
            (0, false) => line.push_str(&format!("no derived children ({})", ErrorCode::NAME)),
            (count, _) => line.push_str(&format!("{count} derived children")),
        }
        eprintln!("{line}");
        let below = |child: &Text| match name.is_empty() {
            true => child.clone(),
            false => Text::from(format!("{name}.{child}")),
        };
        if let Ok(children) = self.children(name) {
            for (child, _) in &children {
                self.trace_children(&below(child));
            }
        }
    }

    /// A metric's descriptor (pmLookupDesc(3)).
    ///
    /// # Errors
    /// `PM_ERR_PMID`, `PM_ERR_NOAGENT` and what the agent says.
    pub fn desc(&mut self, pmid: Pmid) -> Result<Desc> {
        if pmid.is_derived() {
            self.look_up_operands(&Wanted::Metrics(&[pmid]))?;
        }
        if let Some(desc) = self.derived().as_mut().and_then(|d| d.desc(pmid)) {
            return Ok(desc?);
        }
        dispatch!(self, c => c.desc(pmid))
    }

    /// Asks for descriptors that [`Context::desc`] is about to be called for, each once: a live host is asked for all at once.
    ///
    /// # Errors
    /// What the connection says.
    pub fn prefetch_descs(&mut self, pmids: &[Pmid]) -> Result<()> {
        match self {
            Context::Host(host) => host.prefetch_descs(pmids),
            _ => Ok(()),
        }
    }

    /// The descriptors of many metrics (pmLookupDescs(3)), in one request where the server can.
    ///
    /// # Errors
    /// What the connection says.
    pub fn descs(&mut self, pmids: &[Pmid]) -> Result<Vec<std::result::Result<Desc, ErrorCode>>> {
        if pmids.iter().any(|pmid| pmid.is_derived()) {
            self.look_up_operands(&Wanted::Metrics(pmids))?;
        }
        let Some(derived) = self.derived() else {
            return dispatch!(self, c => c.descs(pmids));
        };
        let own: Vec<Option<std::result::Result<Desc, ErrorCode>>> =
            pmids.iter().map(|p| derived.desc(*p)).collect();
        let others: Vec<Pmid> = pmids
            .iter()
            .zip(&own)
            .filter_map(|(pmid, own)| own.is_none().then_some(*pmid))
            .collect();
        let mut found = Vec::new();
        if !others.is_empty() {
            found = dispatch!(self, c => c.descs(&others))?;
        }
        let mut found = found.into_iter();
        let both = own.into_iter().map(|own| match own {
            Some(desc) => desc,
            None => found.next().unwrap_or(Err(ErrorCode::PMID)),
        });
        Ok(both.collect())
    }

    /// The instances of a domain (pmGetInDom(3)).
    ///
    /// # Errors
    /// `PM_ERR_INDOM` when there is no such domain.
    pub fn instances(&mut self, indom: InDom) -> Result<Vec<Instance>> {
        dispatch!(self, c => c.instances(indom))
    }

    /// The number of the instance of that name (pmLookupInDom(3)).
    ///
    /// # Errors
    /// `PM_ERR_INST` when there is none.
    pub fn lookup_instance(&mut self, indom: InDom, name: &Text) -> Result<i32> {
        dispatch!(self, c => c.lookup_instance(indom, name))
    }

    /// The name of an instance (pmNameInDom(3)).
    ///
    /// # Errors
    /// `PM_ERR_INST` when there is none.
    pub fn instance_name(&mut self, indom: InDom, inst: i32) -> Result<Text> {
        dispatch!(self, c => c.instance_name(indom, inst))
    }

    /// Help text of a metric or instance domain (pmLookupText(3)); `ident` is the number of either.
    ///
    /// # Errors
    /// `PM_ERR_TEXT` when there is none.
    pub fn text(&mut self, ident: u32, kind: TextKind) -> Result<Text> {
        if !kind.is_indom()
            && let Some(derived) = self.derived()
            && let Some(text) = derived.text(Pmid(ident), kind)
        {
            return text;
        }
        dispatch!(self, c => c.text(ident, kind))
    }

    /// Labels of one level (pmGetInDomLabels(3) and its siblings). `ident` is a domain, an instance domain (for
    /// [`LabelLevel::InDom`] and [`LabelLevel::Instances`]) or a PMID, and −1 for the context's own.
    ///
    /// # Errors
    /// `PM_ERR_NOLABELS` when the other end knows no labels.
    pub fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>> {
        dispatch!(self, c => c.labels(ident, level))
    }

    /// Values of metrics now (pmFetch(3)), those of instances that the profile includes.
    ///
    /// # Errors
    /// What the connection says. A metric that fails has its error in its set.
    pub fn fetch(&mut self, pmids: &[Pmid]) -> Result<Fetched> {
        self.fetch_traced_in(pmids, None)
    }

    /// The same; what `-Dfetch` shows has its times in a zone, the local one without any.
    ///
    /// # Errors
    /// As before.
    pub fn fetch_traced_in(&mut self, pmids: &[Pmid], zone: Option<&Zone>) -> Result<Fetched> {
        let fetched = self.fetch_untraced(pmids);
        if debug::on(debug::Flag::Fetch) {
            let zone = zone.cloned().unwrap_or_else(Zone::local);
            let shown = debug::quietly(|| dump::fetched(self, &fetched, &zone));
            eprint!("pmFetch returns ...\n{shown}");
        }
        fetched
    }

    pub(crate) fn fetch_untraced(&mut self, pmids: &[Pmid]) -> Result<Fetched> {
        let has_derived = pmids.iter().any(|p| p.is_derived());
        if has_derived {
            self.look_up_operands(&Wanted::Metrics(pmids))?;
        }
        if has_derived && let Some(mut derived) = self.derived().take() {
            let fetched = derived.fetch(self, pmids);
            *self.derived() = Some(derived);
            return fetched;
        }
        dispatch!(self, c => c.fetch(pmids))
    }

    /// Changes values (pmStore(3)).
    ///
    /// # Errors
    /// `PM_ERR_PERMISSION`, and what the agent says.
    pub fn store(&mut self, values: &Fetched) -> Result<()> {
        dispatch!(self, c => c.store(values))
    }

    /// Which instances fetches return.
    pub fn profile_mut(&mut self) -> &mut Profile {
        dispatch!(self, c => c.profile_mut())
    }
}
