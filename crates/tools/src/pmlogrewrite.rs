//! `pmlogrewrite`: changes what an archive says, by rules (pmlogrewrite(1)).

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use pcp::archive::{Archive, Cursor, DataRecord, Label, MetaRecord, Version, encode_data};
use pcp::{Atom, Desc, ErrorCode, INST_NULL, InDom, InstanceValue, Pmid, Timestamp, ValueSet};

use crate::logmerge::LogWriter;
use crate::options::Spec;
use crate::pmlogextract::create;
use crate::rewrite_rules::{MetricRule, Parser, Pick, Rules, type_macro};

const USAGE: &str = "\
Usage: pmlogrewrite [options] input-archive [output-archive]

Options:
  -c PATH, --config=PATH
                        file or directory to load rules from
  -C, --check           parse config file(s) and quit (verbose warnings also)
  -d, --desperate       desperate, save output archive even after error
  -i                    rewrite in place, input-archive will be over-written
  -q, --quick           quick mode, no output if no change
  -s, --scale           do scale conversion
  -v, --verbose         increased diagnostic verbosity
  -V N, --version=N     output archive in version N [2/3] format
  -w, --warnings        emit warnings [default is silence]
  -?, --help            show this usage message and exit

output-archive is required unless -i is specified
";

const SPEC: Spec = Spec {
    tool: "pmlogrewrite",
    short: "c:CdD:iqsvV:w?",
    long: &[
        ("config", 'c'),
        ("check", 'C'),
        ("desperate", 'd'),
        ("debug", 'D'),
        ("quick", 'q'),
        ("scale", 's'),
        ("verbose", 'v'),
        ("version", 'V'),
        ("warnings", 'w'),
        ("help", '?'),
    ],
    usage: USAGE,
};

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    match rewrite(args) {
        Ok(()) => Ok(0),
        Err(message) => {
            eprint!("{message}");
            Ok(1)
        }
    }
}

fn configs(path: &str) -> Result<Vec<(String, String)>, String> {
    let cannot = |path: &str, error: &io::Error| {
        format!(
            "pmlogrewrite: Cannot open config file \"{path}\": {}\n",
            ErrorCode::from(error)
        )
    };
    if !Path::new(path).is_dir() {
        let text = std::fs::read_to_string(path).map_err(|e| cannot(path, &e))?;
        return Ok(vec![(path.to_owned(), text)]);
    }
    let mut names: Vec<String> = std::fs::read_dir(path)
        .map_err(|e| cannot(path, &e))?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let path = format!("{}/{name}", path.trim_end_matches('/'));
        let text = std::fs::read_to_string(&path).map_err(|e| cannot(&path, &e))?;
        found.push((path, text));
    }
    Ok(found)
}

fn rewrite(args: Vec<String>) -> Result<(), String> {
    let parsed = SPEC.parse(args)?;
    let (mut check, mut desperate, mut in_place, mut quick) = (false, false, false, false);
    let (mut scale, mut verbose, mut warnings, mut version) = (false, false, false, None);
    let mut paths = Vec::new();
    for (option, value) in parsed.options {
        match option {
            'c' => paths.extend(value),
            'C' => {
                check = true;
                verbose = true;
                warnings = true;
            }
            'd' => desperate = true,
            'D' => {}
            'i' => in_place = true,
            'q' => quick = true,
            's' => scale = true,
            'v' => verbose = true,
            'V' => {
                version = Some(match value.as_deref() {
                    Some("2") => Version::V2,
                    Some("3") => Version::V3,
                    other => {
                        return Err(format!(
                            "pmlogrewrite: Error: unsupported version ({}) requested\n{USAGE}",
                            other.unwrap_or("")
                        ));
                    }
                });
            }
            'w' => warnings = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let (input, output) = match parsed.words.as_slice() {
        [input] if in_place || check => (input.clone(), input.clone()),
        [input, output] if !in_place => (input.clone(), output.clone()),
        _ => return Err(USAGE.to_owned()),
    };
    let archive = Archive::open(Path::new(&input)).map_err(|error| {
        format!(
            "pmlogrewrite: Error: cannot open archive \"{input}\": {}\n",
            error.code()
        )
    })?;
    let version = version.unwrap_or(archive.label.version);
    if version < archive.label.version {
        return Err(format!(
            "pmlogrewrite: Error: cannot create a v2 archive from v3 ({input})\n"
        ));
    }
    let mut parser = Parser::new(&archive, version, warnings, scale);
    for path in &paths {
        for (path, text) in configs(path)? {
            if verbose && check {
                println!("Start configfile: {path}");
            }
            parser.read(&path, &text)?;
        }
    }
    let rules = parser.rules;
    if verbose {
        summary(&archive, &rules);
    }
    let unchanged = quick && rules.is_empty() && version == archive.label.version;
    if unchanged && pcp::debug::on(pcp::debug::Flag::Appl3) {
        eprintln!("Done, no rewriting required");
    }
    if check || unchanged {
        return Ok(());
    }
    let base = if in_place {
        let base = archive.files.base.display();
        format!("{base}.rewrite-{}", std::process::id())
    } else {
        output.clone()
    };
    let writer = Rewriter::create(&archive, rules, version, &base)?;
    let first = archive.first_volume();
    match writer {
        Some(mut rewriter) => {
            let done = rewriter.run();
            let last = rewriter.out.files.label().volume;
            if let Err(message) = done {
                if !desperate {
                    rewriter.out.files.abandon();
                    return Err(format!("{message}Archive \"{output}\" not created.\n"));
                }
                return Err(message);
            }
            rewriter.finish()?;
            if in_place {
                replace(&archive, &base, first, last)?;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// Puts the new files in the place of the old ones.
fn replace(archive: &Archive, base: &str, first: i32, last: i32) -> Result<(), String> {
    let failed = |error: io::Error| format!("pmlogrewrite: {}\n", ErrorCode::from(&error));
    let target = archive.files.base.display().to_string();
    let old = archive.files.volumes.values();
    let old = old.chain(&archive.files.meta).chain(&archive.files.index);
    let volumes = (first..=last).map(|v| v.to_string());
    for suffix in volumes.chain(["index".to_owned(), "meta".to_owned()]) {
        let to = format!("{target}.{suffix}");
        std::fs::rename(format!("{base}.{suffix}"), to).map_err(failed)?;
    }
    for path in old {
        let name = path.display().to_string();
        let plain = name.strip_prefix(&format!("{target}."));
        // A compressed file that has an uncompressed successor now.
        if plain.is_some_and(|p| p.contains('.')) {
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

fn summary(archive: &Archive, rules: &Rules) {
    println!("PCP Archive Log Rewrite Specifications Summary");
    if rules.is_empty() {
        println!("No changes");
        return;
    }
    let label = &archive.label;
    if let Some(name) = &rules.hostname {
        println!("Hostname:\t{} -> {name}", label.hostname);
    }
    if let Some(zone) = &rules.timezone {
        println!("Timezone:\t{} -> {zone}", label.timezone);
    }
    if let Some(zone) = &rules.zoneinfo {
        println!("Zoneinfo:\t{} -> {zone}", label.zoneinfo);
    }
    if let Some(features) = rules.features {
        println!("Features:\t{} -> {features}", label.features);
    }
    if let Some(delta) = rules.delta.filter(|d| *d != 0) {
        let sign = if delta < 0 { "-" } else { "" };
        let time = Timestamp::from_nanos(delta.abs());
        let (hours, minutes) = (time.sec / 3600, time.sec / 60 % 60);
        println!(
            "Delta:\t\t-> {sign}{hours:02}:{minutes:02}:{:02}.{:09}",
            time.sec % 60,
            time.nsec
        );
    }
    for (pmid, desc) in archive.meta.descs.iter() {
        let pmid = Pmid(pmid);
        let Some(rule) = rules.metrics.get(&pmid) else {
            continue;
        };
        let names = archive.meta.names.names_of(pmid);
        let name = names.first().cloned().unwrap_or_default();
        println!("\nMetric: {name} ({pmid})");
        if rule.delete {
            println!("DELETE");
            continue;
        }
        if let Some(new) = rule.pmid {
            println!("pmID:\t\t{pmid} -> {new}");
        }
        for (old, new) in &rule.names {
            println!("Name:\t\t{old} -> {new}");
        }
        if let Some(ty) = rule.ty {
            println!("Type:\t\t{} -> {}", type_macro(desc.ty), type_macro(ty));
        }
        if let Some(indom) = rule.indom {
            println!("InDom:\t\t{} -> {indom}", desc.indom);
        }
        if let Some(sem) = rule.sem {
            println!("Semantics:\t{} -> {sem}", desc.sem);
        }
        if let Some(units) = rule.units {
            println!("Units:\t\t{} -> {units}", desc.units);
        }
    }
}

struct Rewriter {
    archive: Arc<Archive>,
    rules: Rules,
    out: LogWriter,
    /// The domains of metrics that are written.
    used: HashSet<InDom>,
    /// The domains that lost all their metrics.
    unused: HashSet<InDom>,
    /// Which metadata record describes a metric first.
    desc_at: HashMap<Pmid, usize>,
    next_meta: usize,
}

impl Rewriter {
    fn create(
        archive: &Arc<Archive>,
        rules: Rules,
        version: Version,
        base: &str,
    ) -> Result<Option<Rewriter>, String> {
        let old = &archive.label;
        let mut label = Label {
            version,
            ..old.clone()
        };
        if let Some(name) = &rules.hostname {
            label.hostname = name.as_str().into();
        }
        if let Some(zone) = &rules.timezone {
            label.timezone = zone.as_str().into();
        }
        if let Some(zone) = &rules.zoneinfo {
            label.zoneinfo = zone.as_str().into();
        }
        if let Some(features) = rules.features {
            label.features = features;
        }
        label.start = moved(&rules, old.start);
        let files =
            create(base, label).map_err(|text| text.replace("pmlogTOOL", "pmlogrewrite"))?;
        let mut rewriter = Rewriter {
            archive: archive.clone(),
            rules,
            out: LogWriter::new(files),
            used: HashSet::new(),
            unused: HashSet::new(),
            desc_at: HashMap::new(),
            next_meta: 0,
        };
        for (number, (_, record)) in archive.meta.records.iter().enumerate() {
            if let MetaRecord::Desc { desc, .. } = record {
                rewriter.desc_at.entry(desc.pmid).or_insert(number);
            }
        }
        for (_, desc) in archive.meta.descs.iter() {
            if let Some(new) = rewriter.desc(*desc) {
                rewriter.used.insert(new.indom);
            }
        }
        let descs = archive.meta.descs.iter();
        let unused = descs
            .map(|(_, d)| d.indom)
            .filter(|i| !rewriter.used.contains(i));
        // What is copied stays as well.
        let copied = |i: &InDom| {
            let rule = rewriter.rules.indoms.get(i);
            rule.is_some_and(|r| !r.duplicates.is_empty())
        };
        rewriter.unused = unused.filter(|i| !copied(i)).collect();
        Ok(Some(rewriter))
    }

    /// A descriptor by the rules; `None` for a metric that goes.
    fn desc(&self, mut desc: Desc) -> Option<Desc> {
        if let Some(rule) = self.rules.indoms.get(&desc.indom)
            && let Some(indom) = rule.indom
        {
            let own = self.rules.metrics.get(&desc.pmid).and_then(|r| r.indom);
            if own.is_none() {
                desc.indom = indom;
            }
        }
        if let Some(rule) = self.rules.metrics.get(&desc.pmid) {
            if rule.delete {
                return None;
            }
            desc.pmid = rule.pmid.unwrap_or(desc.pmid);
            desc.ty = rule.ty.unwrap_or(desc.ty);
            desc.sem = rule.sem.unwrap_or(desc.sem);
            desc.units = rule.units.unwrap_or(desc.units);
            desc.indom = rule.indom.unwrap_or(desc.indom);
        }
        Some(desc)
    }

    fn failed(error: &io::Error) -> String {
        format!(
            "pmlogrewrite: Error: __pmLogPutResult: log data: {}\n",
            ErrorCode::from(error)
        )
    }

    fn run(&mut self) -> Result<(), String> {
        let archive = self.archive.clone();
        let base = archive.files.base.display().to_string();
        let bad = |error: pcp::Error| {
            format!(
                "pmlogrewrite: Error: __pmLogRead[log {base}]: {}\n",
                error.code()
            )
        };
        let mut cursor = Cursor::at_start(archive.clone()).map_err(bad)?;
        let mut volume = archive.first_volume();
        while let Some(record) = cursor.following().map_err(bad)? {
            if record.volume != volume {
                volume = record.volume;
                self.out.next_volume().map_err(|e| Self::failed(&e))?;
            }
            let before = self.out.files.offsets();
            let changed = self.metadata(Some(&record))?;
            let time = moved(&self.rules, record.time);
            let payload = self.record(&record, time)?;
            if let Some(payload) = payload {
                self.out
                    .data(time, before, changed, &payload)
                    .map_err(|e| Self::failed(&e))?;
            }
        }
        self.metadata(None)?;
        for record in self.fresh_labels() {
            let payload = record.encode(self.out.version());
            let written = self.out.files.meta(&payload);
            written.map_err(|e| Self::failed(&e))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        self.out.finish_at_last().map_err(|e| Self::failed(&e))
    }

    /// Writes the metadata up to a time, or all that is left; true when instances or labels were among it.
    fn metadata(&mut self, until: Option<&DataRecord>) -> Result<bool, String> {
        let mut changed = false;
        let archive = self.archive.clone();
        let end = match until {
            Some(record) => self.needed(record),
            None => archive.meta.records.len(),
        };
        while self.next_meta < end {
            let Some((_, record)) = archive.meta.records.get(self.next_meta) else {
                break;
            };
            self.next_meta += 1;
            for record in self.meta(record) {
                changed |= matches!(
                    record,
                    MetaRecord::Indom { .. }
                        | MetaRecord::IndomDelta { .. }
                        | MetaRecord::Labels { .. }
                );
                let payload = record.encode(self.out.version());
                self.out
                    .files
                    .meta(&payload)
                    .map_err(|e| Self::failed(&e))?;
            }
        }
        Ok(changed)
    }

    /// How many metadata records a data record needs ahead of it: what describes its metrics, and what has its time.
    fn needed(&self, record: &DataRecord) -> usize {
        let mut end = self.next_meta;
        let later = self.archive.meta.records.iter().enumerate();
        for (number, (_, meta)) in later.skip(self.next_meta) {
            match meta {
                MetaRecord::Desc { .. } | MetaRecord::Text { .. } => {}
                MetaRecord::Indom { time, .. }
                | MetaRecord::IndomDelta { time, .. }
                | MetaRecord::Labels { time, .. } => {
                    if *time > record.time {
                        break;
                    }
                    end = number + 1;
                }
            }
        }
        let fetched = record.decode().ok();
        let sets = fetched.iter().flat_map(|f| &f.sets);
        let described = sets.filter_map(|s| self.desc_at.get(&s.pmid));
        let end = described.fold(end, |end, number| end.max(number + 1));
        let texts = self.archive.meta.records.iter().skip(end);
        end + texts
            .take_while(|(_, r)| matches!(r, MetaRecord::Text { .. }))
            .count()
    }

    /// What a metadata record becomes.
    fn meta(&self, record: &MetaRecord) -> Vec<MetaRecord> {
        let rules = &self.rules;
        match record {
            MetaRecord::Desc { desc, names } => {
                let Some(new) = self.desc(*desc) else {
                    return Vec::new();
                };
                let mut names = names.clone();
                if let Some(rule) = rules.metrics.get(&desc.pmid) {
                    for (old, new) in &rule.names {
                        for name in names.iter_mut().filter(|n| *n == old) {
                            *name = new.clone();
                        }
                    }
                }
                vec![MetaRecord::Desc { desc: new, names }]
            }
            MetaRecord::Indom {
                time,
                indom,
                instances,
            } => {
                let time = moved(rules, *time);
                let mut instances = instances.clone();
                let mut indoms = vec![*indom];
                if let Some(rule) = rules.indoms.get(indom) {
                    instances.retain(|i| rule.instances.get(&i.inst).is_none_or(|r| !r.delete));
                    for instance in &mut instances {
                        if let Some(change) = rule.instances.get(&instance.inst) {
                            instance.inst = change.number.unwrap_or(instance.inst);
                            if let Some(name) = &change.name {
                                instance.name = name.clone();
                            }
                        }
                    }
                    indoms = vec![rule.indom.unwrap_or(*indom)];
                    indoms.extend(&rule.duplicates);
                }
                let kept = indoms.into_iter().filter(|i| !self.unused.contains(i));
                kept.map(|indom| MetaRecord::Indom {
                    time,
                    indom,
                    instances: instances.clone(),
                })
                .collect()
            }
            MetaRecord::IndomDelta {
                time,
                indom,
                changes,
            } => {
                let time = moved(rules, *time);
                let mut changes = changes.clone();
                let mut indoms = vec![*indom];
                if let Some(rule) = rules.indoms.get(indom) {
                    changes.retain(|(i, _)| rule.instances.get(i).is_none_or(|r| !r.delete));
                    for (inst, name) in &mut changes {
                        if let Some(change) = rule.instances.get(inst) {
                            *inst = change.number.unwrap_or(*inst);
                            if let (Some(name), Some(new)) = (name, &change.name) {
                                *name = new.clone();
                            }
                        }
                    }
                    indoms = vec![rule.indom.unwrap_or(*indom)];
                    indoms.extend(&rule.duplicates);
                }
                let kept = indoms.into_iter().filter(|i| !self.unused.contains(i));
                kept.map(|indom| MetaRecord::IndomDelta {
                    time,
                    indom,
                    changes: changes.clone(),
                })
                .collect()
            }
            MetaRecord::Labels {
                time,
                level,
                ident,
                sets,
            } => self.labels(moved(rules, *time), *level, *ident, sets.clone()),
            MetaRecord::Text { kind, ident, text } => {
                let (mut ident, mut text) = (*ident, text.clone());
                let old = ident;
                let metric = rules.metrics.get(&Pmid(ident)).filter(|_| !kind.is_indom());
                if let Some(rule) = metric {
                    if rule.delete {
                        return Vec::new();
                    }
                    ident = rule.pmid.map_or(ident, |p| p.0);
                }
                if kind.is_indom()
                    && let Some(new) = rules.indoms.get(&InDom(ident)).and_then(|r| r.indom)
                {
                    ident = new.0;
                }
                if kind.is_indom() && self.unused.contains(&InDom(ident)) {
                    return Vec::new();
                }
                let of_it = |r: &&crate::rewrite_rules::TextRule| {
                    r.texts.contains(&(*kind, old))
                        && r.content
                            .as_ref()
                            .is_none_or(|c| c.as_bytes() == text.as_bytes())
                };
                let rules: Vec<_> = rules.texts.iter().filter(of_it).collect();
                for rule in rules {
                    if rule.delete {
                        return Vec::new();
                    }
                    ident = rule.ident.unwrap_or(ident);
                    if let Some(new) = &rule.text {
                        text = new.as_str().into();
                    }
                }
                vec![MetaRecord::Text {
                    kind: *kind,
                    ident,
                    text,
                }]
            }
        }
    }

    /// Metrics that get other numbers, and these.
    fn moved_metrics(&self) -> impl Iterator<Item = (Pmid, Pmid)> + '_ {
        let rules = self.rules.metrics.iter();
        rules.filter_map(|(old, rule)| Some((*old, rule.pmid?)))
    }

    /// Labels that rules give to what had none.
    fn fresh_labels(&self) -> Vec<MetaRecord> {
        let time = moved(&self.rules, self.archive.label.start);
        let known = &self.archive.meta.labels;
        let (mut fresh, mut done) = (Vec::new(), HashSet::new());
        for rule in self.rules.labels.iter().filter(|r| !r.added.is_empty()) {
            for key in rule.labels.iter().filter(|key| !known.contains_key(key)) {
                if !done.insert(*key) {
                    continue;
                }
                let sets = vec![pcp::LabelSet {
                    inst: rule.inst.unwrap_or(pcp::INST_NULL),
                    json: Default::default(),
                    labels: Vec::new(),
                }];
                fresh.extend(self.labels(time, key.0, key.1, sets));
            }
        }
        fresh
    }

    fn labels(
        &self,
        time: Timestamp,
        level: u32,
        ident: u32,
        mut sets: Vec<pcp::LabelSet>,
    ) -> Vec<MetaRecord> {
        let rules = &self.rules;
        let old = ident;
        let mut ident = ident;
        match pcp::LabelLevel::from_raw(level) {
            // With a metric that goes to another domain or cluster go the labels of that.
            Some(pcp::LabelLevel::Domain) => {
                let moved = |(old, new): (Pmid, Pmid)| {
                    (old.domain() == ident && new.domain() != ident).then(|| new.domain())
                };
                ident = self.moved_metrics().find_map(moved).unwrap_or(ident);
            }
            Some(pcp::LabelLevel::Cluster) => {
                let cluster = |pmid: Pmid| pmid.without_item().0;
                let moved = |(old, new): (Pmid, Pmid)| {
                    (cluster(old) == ident && cluster(new) != ident).then(|| cluster(new))
                };
                ident = self.moved_metrics().find_map(moved).unwrap_or(ident);
            }
            Some(pcp::LabelLevel::Item) => {
                if let Some(rule) = rules.metrics.get(&Pmid(ident)) {
                    if rule.delete {
                        return Vec::new();
                    }
                    ident = rule.pmid.map_or(ident, |p| p.0);
                }
            }
            Some(pcp::LabelLevel::InDom | pcp::LabelLevel::Instances) => {
                if let Some(rule) = rules.indoms.get(&InDom(ident)) {
                    ident = rule.indom.map_or(ident, |i| i.0);
                    if ident != old {
                        // In the order in which PCP's tool writes them.
                        sets.reverse();
                    }
                    sets.retain(|s| rule.instances.get(&s.inst).is_none_or(|r| !r.delete));
                    for set in &mut sets {
                        if let Some(number) = rule.instances.get(&set.inst).and_then(|r| r.number) {
                            set.inst = number;
                        }
                    }
                }
                if self.unused.contains(&InDom(ident)) {
                    return Vec::new();
                }
            }
            _ => {}
        }
        for rule in rules
            .labels
            .iter()
            .filter(|r| r.labels.contains(&(level, old)))
        {
            ident = rule.ident.unwrap_or(ident);
            // What a rule leaves without labels goes; what had none to begin with stays.
            sets.retain_mut(|set| {
                let had = !set.labels.is_empty();
                if rule.inst.is_none_or(|i| i == set.inst) {
                    crate::labelset::change(set, rule);
                }
                !(had && set.labels.is_empty())
            });
        }
        if sets.is_empty() {
            return Vec::new();
        }
        vec![MetaRecord::Labels {
            time,
            level,
            ident,
            sets,
        }]
    }

    /// What a data record becomes; `None` when all its metrics go.
    fn record(&self, record: &DataRecord, time: Timestamp) -> Result<Option<Vec<u8>>, String> {
        if record.is_mark() {
            return Ok(Some(encode_data(self.out.version(), time, &[])));
        }
        let unchanged = self.rules.metrics.is_empty()
            && self.rules.indoms.is_empty()
            && self.rules.delta.is_none()
            && self.out.version() == self.archive.label.version;
        if unchanged {
            return Ok(Some(record.record.payload.to_vec()));
        }
        let fetched = record
            .decode()
            .map_err(|error| format!("pmlogrewrite: Error: __pmLogRead: {}\n", error.code()))?;
        let mut sets = Vec::new();
        for set in fetched.sets {
            if let Some(set) = self.set(set)? {
                sets.push(set);
            }
        }
        if sets.is_empty() {
            return Ok(None);
        }
        Ok(Some(encode_data(self.out.version(), time, &sets)))
    }

    fn set(&self, mut set: ValueSet) -> Result<Option<ValueSet>, String> {
        let Some(desc) = self.archive.meta.descs.get(set.pmid.0).copied() else {
            return Ok(Some(set));
        };
        let rule = self.rules.metrics.get(&set.pmid);
        if rule.is_some_and(|r| r.delete) {
            return Ok(None);
        }
        if let Ok(values) = &mut set.values {
            if let Some(rule) = rule
                && let Some(indom) = rule.indom
                && !values.is_empty()
            {
                pick(values, rule, desc, indom);
                if values.is_empty() {
                    return Ok(None);
                }
            }
            if let Some(change) = self.rules.indoms.get(&desc.indom)
                && rule.is_none_or(|r| r.indom != Some(InDom::NULL))
            {
                let had = !values.is_empty();
                values.retain(|v| change.instances.get(&v.inst).is_none_or(|r| !r.delete));
                if had && values.is_empty() {
                    return Ok(None);
                }
                for value in values.iter_mut() {
                    if let Some(number) = change.instances.get(&value.inst).and_then(|r| r.number) {
                        value.inst = number;
                    }
                }
            }
            if let Some(rule) = rule {
                convert(values, rule, desc).map_err(|code| {
                    let names = self.archive.meta.names.names_of(desc.pmid);
                    format!(
                        "pmlogrewrite: Error: {} ({}): extracting value from type {} to {}: {code}\n",
                        names.first().cloned().unwrap_or_default(),
                        desc.pmid,
                        type_macro(desc.ty),
                        type_macro(rule.ty.unwrap_or(desc.ty)),
                    )
                })?;
            }
        }
        set.pmid = rule.and_then(|r| r.pmid).unwrap_or(set.pmid);
        Ok(Some(set))
    }
}

fn moved(rules: &Rules, time: Timestamp) -> Timestamp {
    match rules.delta {
        Some(delta) => Timestamp::from_nanos(time.as_nanos() + delta),
        None => time,
    }
}

/// Leaves the value that stands for all, or numbers the only one.
fn pick(values: &mut Vec<InstanceValue>, rule: &MetricRule, desc: Desc, indom: InDom) {
    let inst = if indom.is_null() { INST_NULL } else { 0 };
    let how = match (&rule.pick, desc.indom.is_null(), indom.is_null()) {
        (Some(how), _, _) => how.clone(),
        (None, _, true) | (None, true, _) => Pick::First,
        (None, false, false) => return,
    };
    let numbers = || -> Vec<(f64, usize)> {
        let number = |(n, v): (usize, &InstanceValue)| {
            Some((Atom::extract(&v.value, desc.ty).ok()?.as_f64()?, n))
        };
        values.iter().enumerate().filter_map(number).collect()
    };
    let mut chosen = match how {
        Pick::First => values.first().cloned(),
        Pick::Last => values.last().cloned(),
        Pick::Inst(inst) => values.iter().find(|v| v.inst == inst).cloned(),
        Pick::Min => {
            let least = numbers().into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
            least.and_then(|(_, n)| values.get(n).cloned())
        }
        Pick::Max => {
            let most = numbers().into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
            most.and_then(|(_, n)| values.get(n).cloned())
        }
        Pick::Sum | Pick::Avg => {
            let all = numbers();
            let sum: f64 = all.iter().map(|(v, _)| v).sum();
            let value = if how == Pick::Avg {
                sum / all.len().max(1) as f64
            } else {
                sum
            };
            let atom = Atom::Double(value).convert(desc.ty).ok();
            atom.map(|atom| InstanceValue {
                inst: 0,
                value: atom.to_value(),
            })
        }
    };
    if let Some(value) = &mut chosen
        && (indom.is_null()
            || desc.indom.is_null()
            || !matches!(how, Pick::First | Pick::Last | Pick::Inst(_)))
    {
        value.inst = inst;
    }
    *values = chosen.into_iter().collect();
}

fn convert(values: &mut [InstanceValue], rule: &MetricRule, desc: Desc) -> Result<(), ErrorCode> {
    let ty = rule.ty.unwrap_or(desc.ty);
    let units = rule.units.filter(|_| rule.rescale);
    if ty == desc.ty && units.is_none() {
        return Ok(());
    }
    for value in values {
        let mut atom = Atom::extract(&value.value, desc.ty)?;
        if let Some(units) = units {
            atom = atom.rescale(desc.units, units)?;
        }
        value.value = atom.convert(ty)?.to_value();
    }
    Ok(())
}
