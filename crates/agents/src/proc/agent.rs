//! What a pmcd asks of the agent.

use std::collections::HashSet;

use pcp::pdu::attr;
use pcp::pmns::Pmns;
use pcp::{Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Text};
use pmda::{Agent, Caller, Values, label_set};

use super::process::Process;
use super::{
    CONTROL_GROUPS, ENDED, Fetched, HOT, PRIVATE, PROCESSES, Place, Proc, device_type, is_within,
};

impl Agent for Proc {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        let metric = self.metrics.get(&pmid).ok_or(ErrorCode::PMID)?;
        Ok(metric.desc)
    }

    fn begin_fetch(&mut self, caller: &Caller<'_>, _: &[Pmid]) {
        self.not_found = !self.look_for(caller.client);
        self.system.refresh();
        self.fetched = Fetched::default();
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let metric = self.metrics.get(&desc.pmid).ok_or(ErrorCode::PMID)?;
        if self.not_found {
            return Err(ErrorCode::NOCONTAINER);
        }
        let place = Place {
            group: metric.group,
            field: metric.field,
            ty: desc.ty,
        };
        if let Some(values) = self.single(caller.client, place) {
            return values;
        }
        let serial = desc.indom.serial();
        let user = self.user(caller.client);
        if serial == HOT && user.is_none() {
            return Ok(Values::default());
        }
        if let Some(values) = self.several(caller.client, place) {
            return values;
        }
        let user = user.ok_or(ErrorCode::PERMISSION)?;
        let Place { group, field, ty } = place;
        self.find(caller, serial);
        self.collect(serial, group);
        let Some(rows) = self.fetched.groups.get(&(serial, group)) else {
            return Ok(Values::default());
        };
        let mut values = Vec::new();
        let processes = self.fetched.processes.get(&serial);
        for process in processes.into_iter().flatten() {
            let is_shown = user == 0 || user == process.uid || !PRIVATE.contains(&group);
            if !is_shown || !caller.profile.includes(desc.indom, process.pid) {
                continue;
            }
            let value = rows.get(&process.pid).and_then(|row| row.get(field));
            if let Some(value) = value {
                values.push((process.pid, value.atom(ty)?));
            }
        }
        Ok(Values(values))
    }

    fn instances(&mut self, client: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        let instance = |process: &Process| Instance {
            inst: process.pid,
            name: process.instance_name().into(),
        };
        if !self.look_for(client) {
            return Err(ErrorCode::NOCONTAINER);
        }
        match indom.serial() {
            PROCESSES | HOT if self.user(client).is_none() => Err(ErrorCode::PERMISSION),
            PROCESSES => Ok(self.listed(client).iter().map(instance).collect()),
            HOT => {
                let all = self.hot.processes().into_iter();
                let all = all.filter_map(|pid| Process::find(&self.system, pid));
                Ok(all.map(|process| instance(&process)).collect())
            }
            ENDED => {
                self.accounting.refresh();
                let all = self.accounting.instances().map(|(inst, name)| Instance {
                    inst,
                    name: name.into(),
                });
                Ok(all.collect())
            }
            serial if CONTROL_GROUPS.iter().any(|(known, _)| *known == serial) => {
                self.system.refresh();
                self.fetched.cgroups.clear();
                let groups = CONTROL_GROUPS.iter().find(|(known, _)| *known == serial);
                let contained = self.contained(client);
                let rows = groups.map_or(&[][..], |(_, group)| self.control_groups(group));
                let rows = rows
                    .iter()
                    .filter(|row| is_within(row, contained.as_deref()));
                let all = rows.map(|row| Instance {
                    inst: row.inst,
                    name: row.name.as_str().into(),
                });
                Ok(all.collect())
            }
            serial => {
                let known: HashSet<u32> = self
                    .metrics
                    .values()
                    .map(|m| m.desc.indom)
                    .filter(|i| !i.is_null())
                    .map(InDom::serial)
                    .collect();
                let is_known = known.contains(&serial);
                is_known.then(Vec::new).ok_or(ErrorCode::INDOM)
            }
        }
    }

    fn instance_named(&mut self, client: i32, indom: InDom, name: &[u8]) -> Option<i32> {
        // The number alone does, of at most the six digits that names begin with.
        if indom.serial() != PROCESSES || self.user(client).is_none() {
            return None;
        }
        let is_number = name.len() <= 6 && name.iter().all(u8::is_ascii_digit);
        let digits = Some(name).filter(|_| is_number)?;
        let pid = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Process::find(&self.system, pid).map(|process| process.pid)
    }

    fn store(&mut self, client: i32, desc: &Desc, _: i32, value: &Atom) -> Result<(), ErrorCode> {
        let metric = self.metrics.get(&desc.pmid).ok_or(ErrorCode::PMID)?;
        let (group, field) = (metric.group, metric.field);
        match group {
            "control" => self.control(client, field, value),
            // Everybody has to live with them.
            "hotcontrol" if self.user(client) == Some(0) => self.hot.store(field, value),
            "acctcontrol" if self.user(client) == Some(0) => self.accounting.store(field, value),
            _ => Err(ErrorCode::PERMISSION),
        }
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.metric(pmid, one_line)
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.indom(indom, one_line)
    }

    fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        Ok(match level {
            LabelLevel::Domain => vec![label_set(INST_NULL, level, &[("agent", "\"proc\"", 0)])],
            LabelLevel::Cluster => device_type(Pmid(ident).cluster())
                .map(|kind| label_set(INST_NULL, level, &[("device_type", kind, 0)]))
                .into_iter()
                .collect(),
            LabelLevel::Instances => self.instance_labels(InDom(ident).serial()),
            _ => Vec::new(),
        })
    }

    fn names(&mut self) -> Option<&Pmns> {
        Some(&self.names)
    }

    fn attribute(&mut self, client: i32, attribute: u32, value: &[u8]) {
        if attribute == attr::CONTAINER {
            let name = String::from_utf8_lossy(value).into_owned();
            let client = self.clients.entry(client).or_default();
            client.container = Some(name).filter(|name| !name.is_empty());
            return;
        }
        let user = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        if let (attr::USERID, Some(user)) = (attribute, user) {
            self.clients.entry(client).or_default().user = Some(user);
        }
    }

    fn client_ended(&mut self, client: i32) {
        self.clients.remove(&client);
    }
}
