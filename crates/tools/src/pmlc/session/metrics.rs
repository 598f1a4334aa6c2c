//! Which metrics a command's list means.

use pcp::{Desc, Error, ErrorCode, Instance, Text, Type, instance_name_matches};

use super::super::command::{InstanceSpec, MetricSpec};
use super::{Session, complain};

/// A metric that a command is about.
pub(super) struct Metric {
    /// Its name.
    pub name: String,
    /// Its descriptor.
    pub desc: Desc,
    /// The instances that there are.
    pub known: Vec<Instance>,
    /// The instances that are meant; none for all.
    pub wanted: Vec<i32>,
}

const EXPLANATION: &str = "    - you may only specify metric instances active now.  However if no
      instances are specified, pmlogger will use all of the instances
      available at the time the metric is logged
";

/// Adds a metric to a list that may have it already.
fn add(found: &mut Vec<Metric>, metric: Metric, instances: &[InstanceSpec]) {
    let same = |m: &&mut Metric| m.desc.pmid == metric.desc.pmid;
    let Some(before) = found.iter_mut().find(same) else {
        found.push(metric);
        return;
    };
    let name = &metric.name;
    match (before.wanted.is_empty(), instances.is_empty()) {
        (true, true) if metric.desc.indom.is_null() => {
            complain(&format!("Warning: {name} has already been specified\n"));
        }
        (true, true) => complain(&format!(
            "Warning: already using all instances for {name}\n"
        )),
        (true, false) => complain(&format!(
            "Warning: instance(s) specified for {name}\n         (already using all instances)\n"
        )),
        (false, true) => {
            complain(&format!(
                "Warning: {name} had instance(s) specified previously.\n         \
                 Using all instances since none specified this time\n"
            ));
            before.wanted.clear();
        }
        (false, false) => {
            for inst in metric.wanted {
                if !before.wanted.contains(&inst) {
                    before.wanted.push(inst);
                }
            }
        }
    }
}

impl Metric {
    /// What an instance is called in messages.
    pub fn instance(&self, inst: i32) -> String {
        match self.known.iter().find(|i| i.inst == inst) {
            Some(known) => format!("[{inst} or \"{}\"]", known.name),
            None => format!("[{inst}]"),
        }
    }
}

impl Session {
    /// The metrics that a list means; `None` when something about it is wrong, which was said.
    pub(super) fn metrics(&mut self, specs: &[MetricSpec]) -> Option<Vec<Metric>> {
        let found = self.look_up(specs);
        if found.is_none() {
            complain("Logging statement ignored due to error(s)\n");
        }
        found
    }

    /// The metrics, each once. Behind one that is wrong all others are, for the same reason unless they have one of their own.
    pub(super) fn look_up(&mut self, specs: &[MetricSpec]) -> Option<Vec<Metric>> {
        let mut found: Vec<Metric> = Vec::new();
        let mut wrong: Option<ErrorCode> = None;
        for spec in specs {
            let result = match (self.leaves(&spec.name), wrong) {
                (Ok(_), Some(reason)) => Err(reason.into()),
                (leaves, _) => leaves.and_then(|leaves| self.spec(spec, leaves, &found)),
            };
            match result {
                Ok(Some(metrics)) => {
                    for metric in metrics {
                        add(&mut found, metric, &spec.instances);
                    }
                }
                Ok(None) => wrong = Some(ErrorCode::INST),
                Err(error) => {
                    complain(&format!(
                        "Warning [<stdin>, line {}]\nProblem with lookup for metric \"{}\" ...\nReason: {}\n",
                        spec.line,
                        spec.name,
                        error.code()
                    ));
                    wrong = Some(error.code());
                }
            }
        }
        wrong.is_none().then_some(found)
    }

    fn leaves(&mut self, name: &str) -> Result<Vec<Text>, Error> {
        Ok(match &self.names {
            Some(space) => {
                let leaves = space.leaves(name.as_bytes())?;
                leaves.into_iter().map(|(name, _)| name).collect()
            }
            None => self.source()?.traverse(&name.into())?,
        })
    }

    fn spec(
        &mut self,
        spec: &MetricSpec,
        names: Vec<Text>,
        before: &[Metric],
    ) -> Result<Option<Vec<Metric>>, Error> {
        let pmids = self.source()?.lookup_names(&names)?;
        let mut metrics = Vec::new();
        for (name, pmid) in names.into_iter().zip(pmids) {
            let pmid = pmid?;
            let Ok(desc) = self.source()?.desc(pmid) else {
                continue;
            };
            if desc.ty == Type::NoSupport {
                continue;
            }
            let known = if desc.indom.is_null() {
                Vec::new()
            } else {
                self.source()?.instances(desc.indom).unwrap_or_default()
            };
            metrics.push(Metric {
                name: name.to_string(),
                desc,
                known,
                wanted: Vec::new(),
            });
        }
        if metrics.is_empty() {
            // There are names, and nothing behind them.
            complain(&format!(
                "Warning [<stdin>, line {}]\nProblem with lookup for metric \"{}\" ...\n",
                spec.line, spec.name
            ));
            return Ok(None);
        }
        if spec.instances.is_empty() {
            return Ok(Some(metrics));
        }
        let mut good = true;
        for metric in metrics.iter().filter(|m| m.desc.indom.is_null()) {
            good = false;
            complain(&format!(
                "Error: {} has no instance domain but an instance was specified\n",
                metric.name
            ));
        }
        let first = metrics.first().map(|m| m.desc.indom);
        if metrics.iter().any(|m| Some(m.desc.indom) != first) {
            let mut text = "Error: different instance domains:\n".to_owned();
            let mut last = None;
            for metric in metrics.iter().filter(|m| !m.desc.indom.is_null()) {
                if last != Some(metric.desc.indom) || good {
                    text.push_str(&format!("    {} ({})\n", metric.name, metric.desc.indom));
                }
                last = Some(metric.desc.indom);
            }
            complain(&text);
            return Ok(None);
        }
        if !good {
            return Ok(None);
        }
        for metric in &mut metrics {
            let before = before.iter().find(|m| m.desc.pmid == metric.desc.pmid);
            let has_all = before.is_some_and(|m| m.wanted.is_empty());
            for instance in &spec.instances {
                let (found, what) = match instance {
                    InstanceSpec::Name(name) => (
                        metric
                            .known
                            .iter()
                            .find(|i| instance_name_matches(&i.name, name.as_bytes())),
                        format!("named {name}"),
                    ),
                    InstanceSpec::Number(number) => (
                        metric.known.iter().find(|i| i.inst == *number),
                        format!("number {number}"),
                    ),
                };
                match found {
                    Some(found) if metric.wanted.contains(&found.inst) => {
                        let what = match instance {
                            InstanceSpec::Name(name) => format!("name {name}"),
                            InstanceSpec::Number(number) => format!("number {number}"),
                        };
                        complain(&format!(
                            "Warning: instance {what} already specified for metric {}\n",
                            metric.name
                        ));
                    }
                    Some(found) => metric.wanted.push(found.inst),
                    None if has_all => {
                        let what = match instance {
                            InstanceSpec::Name(name) => format!("name {name}"),
                            InstanceSpec::Number(number) => format!("number {number}"),
                        };
                        complain(&format!(
                            "Warning: instance {what} not currently in metric {}'s instance domain\n         \
                             (getting all instances anyway)\n",
                            metric.name
                        ));
                    }
                    None => {
                        complain(&format!(
                            "Error: metric {} currently has no instance {what}\n",
                            metric.name
                        ));
                        if !self.explained {
                            self.explained = true;
                            complain(EXPLANATION);
                        }
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(metrics))
    }
}
