//! A context over a live host: requests to pmcd.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::connection::{Connection, HostSpec};
use crate::debug;
use crate::derived::DerivedSet;
use crate::desc::Desc;
use crate::dump;
use crate::error::{Error, ErrorCode, Result};
use crate::indom::{INST_NULL, InDom, Instance, instance_name_matches};
use crate::label::{Label, LabelFlags, LabelLevel, LabelSet};
use crate::pdu::{Features, Pdu, Profile, TextKind};
use crate::pmid::Pmid;
use crate::pmns::{Place, Pmns};
use crate::text::Text;
use crate::value::Fetched;

/// A connection to pmcd and what it was told.
pub struct HostContext {
    connection: Connection,
    spec: HostSpec,
    name: String,
    profile: Profile,
    profile_sent: bool,
    changes: i32,
    names: Option<Pmns>,
    /// Of a local context: the domains that have an agent.
    agents: Option<Vec<u32>>,
    /// Descriptors that were asked for together and not given out yet.
    prefetched: HashMap<Pmid, Desc>,
    /// Metrics that are computed here.
    pub(crate) derived: Option<Box<DerivedSet>>,
}

fn unexpected(pdu: &Pdu) -> Error {
    Error::ipc(format!("PDU {:#x} as an answer", pdu.kind()))
}

impl HostContext {
    /// Connects.
    ///
    /// # Errors
    /// What the connection or the server says.
    pub fn new(spec: HostSpec, name: &str) -> Result<HostContext> {
        let connection = Connection::open(&spec)?;
        debug::contexts::host(&spec, name, connection.as_fd().as_raw_fd());
        Ok(HostContext {
            connection,
            spec,
            name: name.to_owned(),
            profile: Profile::default(),
            profile_sent: false,
            changes: 0,
            names: None,
            agents: None,
            prefetched: HashMap::new(),
            derived: None,
        })
    }

    /// Connects anew after the connection was lost; the profile is kept (pmReconnectContext(3)).
    ///
    /// # Errors
    /// As [`HostContext::new`].
    pub fn reconnect(&mut self) -> Result<()> {
        self.connection = Connection::open(&self.spec)?;
        self.profile_sent = false;
        self.prefetched.clear();
        Ok(())
    }

    /// The host specification this was opened with.
    #[must_use]
    pub fn spec_text(&self) -> &str {
        &self.name
    }

    /// The connection, for requests that this type has no method for.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The socket, to wait on it.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// The profile; the next fetch sends it if it was changed.
    pub fn profile_mut(&mut self) -> &mut Profile {
        self.profile_sent = false;
        &mut self.profile
    }

    /// What pmcd reported of its agents since the last call: `PMCD_ADD_AGENT` 1, `PMCD_RESTART_AGENT` 2,
    /// `PMCD_DROP_AGENT` 4, labels 8, names 16 (pmFetch(3)).
    pub fn take_changes(&mut self) -> i32 {
        std::mem::take(&mut self.changes)
    }

    /// Uses these names instead of those of pmcd (pmLoadNameSpace(3)).
    pub fn use_names(&mut self, names: Pmns) {
        self.names = Some(names);
    }

    /// Whether the names are not the server's own.
    pub(crate) fn has_names(&self) -> bool {
        self.names.is_some()
    }

    /// Makes it a local context with agents of these domains only: metrics of others are `PM_ERR_NOAGENT`.
    pub fn use_agents(&mut self, domains: Vec<u32>) {
        self.agents = Some(domains);
    }

    fn lacks_agent(&self, pmid: Pmid) -> bool {
        let agents = self.agents.as_ref();
        agents.is_some_and(|domains| !domains.contains(&pmid.domain()))
    }

    /// See [`crate::Context::lookup_names`].
    pub fn lookup_names(
        &mut self,
        names: &[Text],
    ) -> Result<Vec<std::result::Result<Pmid, ErrorCode>>> {
        if let Some(space) = &self.names {
            let find = |name: &Text| match space.lookup(name)? {
                Place::Leaf(pmid) => Ok(pmid),
                Place::Node => Err(ErrorCode::NONLEAF),
            };
            return Ok(names.iter().map(find).collect());
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let request = Pdu::PmnsNames {
            names: names.to_vec(),
            status: Vec::new(),
        };
        match self.connection.request(&request) {
            Ok(Pdu::PmnsIds { status, pmids }) if pmids.len() == names.len() => {
                let missing = if status < 0 {
                    ErrorCode(status)
                } else {
                    ErrorCode::NAME
                };
                Ok(pmids
                    .into_iter()
                    .map(|p| if p == Pmid::NULL { Err(missing) } else { Ok(p) })
                    .collect())
            }
            Ok(other) => Err(unexpected(&other)),
            Err(Error::Code(code @ (ErrorCode::NAME | ErrorCode::NONLEAF))) => {
                Ok(vec![Err(code); names.len()])
            }
            Err(error) => Err(error),
        }
    }

    fn answered_names(&mut self, request: &Pdu) -> Result<(Vec<Text>, Vec<i32>)> {
        match self.connection.request(request)? {
            Pdu::PmnsNames { names, status } => Ok((names, status)),
            other => Err(unexpected(&other)),
        }
    }

    /// See [`crate::Context::names_of`].
    pub fn names_of(&mut self, pmid: Pmid) -> Result<Vec<Text>> {
        if let Some(space) = &self.names {
            let names = space.names_of(pmid);
            return if names.is_empty() {
                Err(ErrorCode::PMID.into())
            } else {
                Ok(names)
            };
        }
        let request = Pdu::PmnsIds {
            status: 0,
            pmids: vec![pmid],
        };
        Ok(self.answered_names(&request)?.0)
    }

    /// See [`crate::Context::children`].
    pub fn children(&mut self, name: &Text) -> Result<Vec<(Text, bool)>> {
        if let Some(space) = &self.names {
            let children = space.children(name)?.into_iter();
            return Ok(children
                .map(|(name, place)| (name, matches!(place, Place::Leaf(_))))
                .collect());
        }
        let request = Pdu::PmnsChild {
            name: name.clone(),
            with_status: true,
        };
        let (names, status) = self.answered_names(&request)?;
        let status = status.into_iter().chain(std::iter::repeat(0));
        Ok(names
            .into_iter()
            .zip(status)
            .map(|(n, s)| (n, s == 0))
            .collect())
    }

    /// See [`crate::Context::traverse`].
    pub fn traverse(&mut self, name: &Text) -> Result<Vec<Text>> {
        if let Some(space) = &self.names {
            let leaves = space.leaves(name)?.into_iter();
            return Ok(leaves.map(|(name, _)| name).collect());
        }
        Ok(self
            .answered_names(&Pdu::PmnsTraverse { name: name.clone() })?
            .0)
    }

    /// See [`crate::Context::prefetch_descs`].
    pub fn prefetch_descs(&mut self, pmids: &[Pmid]) -> Result<()> {
        if !self.connection.features().has(Features::DESCS) {
            return Ok(());
        }
        let found = self.descs(pmids)?;
        self.prefetched = found
            .into_iter()
            .filter_map(|desc| desc.ok().map(|desc| (desc.pmid, desc)))
            .collect();
        Ok(())
    }

    /// See [`crate::Context::desc`].
    pub fn desc(&mut self, pmid: Pmid) -> Result<Desc> {
        if let Some(desc) = self.prefetched.remove(&pmid) {
            return Ok(desc);
        }
        if self.lacks_agent(pmid) {
            return Err(ErrorCode::NOAGENT.into());
        }
        match self.connection.request(&Pdu::DescReq(pmid))? {
            Pdu::Desc(desc) => Ok(desc),
            other => Err(unexpected(&other)),
        }
    }

    /// See [`crate::Context::descs`].
    pub fn descs(&mut self, pmids: &[Pmid]) -> Result<Vec<std::result::Result<Desc, ErrorCode>>> {
        if pmids.len() > 1 && self.connection.features().has(Features::DESCS) {
            match self.connection.request(&Pdu::DescIds(pmids.to_vec())) {
                Ok(Pdu::Descs(descs)) if descs.len() == pmids.len() => {
                    return Ok(descs
                        .into_iter()
                        .zip(pmids)
                        .map(|(found, wanted)| match found.pmid {
                            Pmid::NULL if self.lacks_agent(*wanted) => Err(ErrorCode::NOAGENT),
                            Pmid::NULL => Err(ErrorCode::PMID),
                            _ => Ok(found),
                        })
                        .collect());
                }
                Ok(other) => return Err(unexpected(&other)),
                // One unknown metric fails the whole request: ask one by one.
                Err(Error::Code(_)) => {}
                Err(error) => return Err(error),
            }
        }
        pmids
            .iter()
            .map(|&pmid| match self.desc(pmid) {
                Ok(desc) => Ok(Ok(desc)),
                Err(Error::Code(code)) => Ok(Err(code)),
                Err(error) => Err(error),
            })
            .collect()
    }

    fn instance_request(&mut self, indom: InDom, inst: i32, name: Text) -> Result<Vec<Instance>> {
        match self
            .connection
            .request(&Pdu::InstanceReq { indom, inst, name })?
        {
            Pdu::Instance { instances, .. } => Ok(instances),
            other => Err(unexpected(&other)),
        }
    }

    /// See [`crate::Context::instances`].
    pub fn instances(&mut self, indom: InDom) -> Result<Vec<Instance>> {
        self.instance_request(indom, INST_NULL, Text::default())
    }

    /// See [`crate::Context::lookup_instance`].
    pub fn lookup_instance(&mut self, indom: InDom, name: &Text) -> Result<i32> {
        let found = self.instance_request(indom, INST_NULL, name.clone())?;
        found
            .iter()
            .find(|i| i.name.is_empty() || instance_name_matches(&i.name, name))
            .map(|i| i.inst)
            .ok_or(ErrorCode::INST.into())
    }

    /// See [`crate::Context::instance_name`].
    pub fn instance_name(&mut self, indom: InDom, inst: i32) -> Result<Text> {
        let found = self.instance_request(indom, inst, Text::default())?;
        found
            .into_iter()
            .next()
            .map(|i| i.name)
            .ok_or(ErrorCode::INST.into())
    }

    /// See [`crate::Context::text`].
    pub fn text(&mut self, ident: u32, kind: TextKind) -> Result<Text> {
        let request = Pdu::TextReq { ident, kind };
        match self.connection.request(&request)? {
            Pdu::Text { text, .. } => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// See [`crate::Context::labels`].
    pub fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>> {
        if !self.connection.features().has(Features::LABELS) {
            return Err(ErrorCode::NOLABELS.into());
        }
        let request = Pdu::LabelReq {
            ident,
            level: level as u32,
        };
        match self.connection.request(&request) {
            Ok(Pdu::Label { sets, .. }) => Ok(sets),
            Ok(other) => Err(unexpected(&other)),
            // Its name a host has always, as a label, too.
            Err(Error::Code(code)) if level == LabelLevel::Context => self
                .name_label()
                .map(|set| vec![set])
                .map_err(|_| code.into()),
            Err(error) => Err(error),
        }
    }

    fn name_label(&mut self) -> Result<LabelSet> {
        let found = self.lookup_names(&["pmcd.hostname".into()])?;
        let pmid = found.into_iter().next().unwrap_or(Err(ErrorCode::NAME))?;
        let desc = self.desc(pmid)?;
        let fetched = self.fetch(&[pmid])?;
        let value = fetched.sets.first().and_then(|set| set.instances().first());
        let value = value.ok_or(ErrorCode::VALUE)?;
        let name = crate::value::print_value(&value.value, desc.ty, 0);
        let json = [br#"{"hostname":"#, &*name, b"}"].concat();
        Ok(LabelSet {
            inst: INST_NULL,
            labels: vec![Label {
                name: 2,
                name_len: 8,
                flags: LabelFlags(LabelLevel::Context as u8),
                value: 12,
                value_len: u16::try_from(name.len()).map_err(|_| ErrorCode::GENERIC)?,
            }],
            json: json.into(),
        })
    }

    /// See [`crate::Context::fetch`].
    pub fn fetch(&mut self, pmids: &[Pmid]) -> Result<Fetched> {
        if !self.profile_sent {
            debug::contexts::sent(&self.profile);
            let profile = Pdu::Profile {
                context: 0,
                profile: self.profile.clone(),
            };
            self.connection.send(&profile)?;
            self.profile_sent = true;
        }
        let pmids = pmids.to_vec();
        let request = if self.connection.features().has(Features::HIGHRES) {
            Pdu::HighResFetch { context: 0, pmids }
        } else {
            Pdu::Fetch { context: 0, pmids }
        };
        self.connection.send(&request)?;
        loop {
            match self.connection.receive()? {
                Pdu::Error { code, .. } if code.is_error() => return Err(code.into()),
                // Changes among the agents, ahead of the values.
                Pdu::Error { code, .. } => self.changes |= code.0,
                Pdu::Result(fetched) | Pdu::HighResResult(fetched) => {
                    if debug::on(debug::Flag::Pdu) {
                        let shown = debug::quietly(|| dump::received(self, &fetched));
                        eprint!("{shown}");
                    }
                    return Ok(fetched);
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// See [`crate::Context::store`].
    pub fn store(&mut self, values: &Fetched) -> Result<()> {
        match self.connection.request(&Pdu::Result(values.clone()))? {
            Pdu::Error { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
