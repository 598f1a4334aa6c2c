//! What a logger says of itself in its archive.

use pcp::{Atom, Context, INST_NULL, InstanceValue, Pmid, Timestamp, Type, ValueSet};

use super::super::log::hostname;
use super::super::recorder::OwnMetric;
use super::Daemon;

/// One string of pmcd's.
pub(super) fn string(context: &mut Context, name: &str) -> Option<String> {
    let pmid = context.lookup_name(name).ok()?;
    let fetched = context.fetch(&[pmid]).ok()?;
    let value = fetched.sets.first()?.instances().first()?;
    match Atom::extract(&value.value, Type::String).ok()? {
        Atom::String(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The name that this host has first in its own list of hosts.
fn canonical_hostname() -> String {
    let own = hostname();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let line = hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace().skip(1);
        let first = words.clone().next()?;
        words.any(|word| word == own).then(|| first.to_owned())
    });
    // The first address of a host decides, and its first name.
    let address = hosts.lines().find_map(|line| {
        let words: Vec<&str> = line.split('#').next()?.split_whitespace().collect();
        let known = words.iter().skip(1).any(|word| *word == own);
        known.then(|| words.first().map(|w| (*w).to_owned()))?
    });
    let by_address = address.and_then(|address| {
        hosts.lines().find_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            (words.next()? == address).then(|| words.next().map(str::to_owned))?
        })
    });
    by_address.or(line).unwrap_or(own)
}

/// This process's time zone in the form of `$TZ`.
pub(super) fn own_timezone() -> String {
    if let Some(zone) = std::env::var("TZ").ok().filter(|zone| !zone.is_empty()) {
        return zone;
    }
    // Hours behind Greenwich stand behind the name, with the sign that POSIX has.
    let now = jiff::Zoned::now();
    let west = -now.offset().seconds();
    let name = now.strftime("%Z").to_string();
    match (west / 3600, (west % 3600).abs() / 60) {
        (0, 0) => "UTC".to_owned(),
        (hours, 0) => format!("{name}{hours:+}"),
        (hours, minutes) => format!("{name}{hours:+}:{minutes:02}"),
    }
}

impl Daemon<'_> {
    pub(super) fn find_own_metrics(&mut self) {
        for name in [
            "pmcd.pmlogger.host",
            "pmcd.pmlogger.port",
            "pmcd.pmlogger.archive",
            "pmcd.pid",
            "pmcd.seqnum",
        ] {
            let pmid = self.context.lookup_name(name);
            if let Ok(desc) = pmid.and_then(|pmid| self.context.desc(pmid)) {
                self.own_descs.push((name.into(), desc));
            }
        }
    }

    /// The record that an archive begins and ends with.
    pub(super) fn own_record(&mut self, time: Timestamp) -> std::io::Result<()> {
        let fetched: Vec<Pmid> = self
            .own_descs
            .iter()
            .filter(|(_, desc)| desc.indom.is_null())
            .map(|(_, desc)| desc.pmid)
            .collect();
        let mut sets = Vec::new();
        if self.connected && !fetched.is_empty() {
            *self.context.profile_mut() = pcp::pdu::Profile::default();
            sets = self
                .context
                .fetch(&fetched)
                .map(|f| f.sets)
                .unwrap_or_default();
        }
        let mut metrics = Vec::new();
        for (name, desc) in &self.own_descs {
            let text = |text: &str| Atom::String(text.into());
            let own = match &*name.to_str() {
                "pmcd.pmlogger.host" => Some(text(&canonical_hostname())),
                "pmcd.pmlogger.port" => Some(Atom::U32(self.control.port.into())),
                "pmcd.pmlogger.archive" => Some(text(&self.archive_path.to_string_lossy())),
                _ => None,
            };
            let set = match own {
                Some(atom) => {
                    let inst = if desc.indom.is_null() {
                        INST_NULL
                    } else {
                        self.instance.inst
                    };
                    let value = atom.to_value();
                    ValueSet::new(desc.pmid, vec![InstanceValue { inst, value }])
                }
                None => match sets.iter().find(|s| s.pmid == desc.pmid) {
                    Some(set) => set.clone(),
                    None => continue,
                },
            };
            metrics.push(OwnMetric {
                name: name.clone(),
                desc: *desc,
                set,
            });
        }
        if metrics.is_empty() {
            return Ok(());
        }
        self.recorder.own_record(time, &metrics, &self.instance)
    }
}
