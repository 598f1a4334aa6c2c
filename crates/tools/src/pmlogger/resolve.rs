//! From the names of a configuration to metrics and instances.

use std::collections::HashMap;

use pcp::pmns::{Place, Pmns};
use pcp::{Context, Desc, Error, ErrorCode, Text, instance_name_matches};

use super::config::{InstanceSpec, MetricSpec, Statement, Wanted};
use super::states::{Request, States};

/// Takes specifications in.
pub struct Resolver {
    file: String,
    names: Option<Pmns>,
    /// The states that were asked for.
    pub states: States,
    /// Whether something was named that is not there, and may come.
    pub waits: bool,
    /// What was said of the last name that is not there.
    pub unbound: Option<ErrorCode>,
    /// Statements about subtrees, in which metrics may appear later.
    dynamic: Vec<Statement>,
    /// What names of metrics were found to be: a configuration may name one a thousand times, for its instances.
    leaves: HashMap<String, Resolved>,
}

/// Names and what they stand for.
type Resolved = Vec<(Text, Result<Desc, ErrorCode>)>;

impl Resolver {
    /// For the configuration in a file, with names of a file in the place of the source's own.
    pub fn new(file: &str, names: Option<Pmns>) -> Resolver {
        Resolver {
            file: file.to_owned(),
            names,
            states: States::default(),
            waits: false,
            unbound: None,
            dynamic: Vec::new(),
            leaves: HashMap::new(),
        }
    }

    /// The metrics at and below a name.
    fn metrics(&self, context: &mut Context, name: &str) -> Result<Resolved, Error> {
        let (names, pmids): (Vec<Text>, Vec<_>) = match &self.names {
            Some(space) => {
                let leaves = space.leaves(name.as_bytes())?;
                leaves.into_iter().map(|(n, pmid)| (n, Ok(pmid))).unzip()
            }
            None => {
                let names = context.traverse(&name.into())?;
                let pmids = context.lookup_names(&names)?;
                (names, pmids)
            }
        };
        if names.is_empty() {
            return Err(ErrorCode::NAME.into());
        }
        let known: Vec<_> = pmids.iter().filter_map(|p| p.ok()).collect();
        let mut descs = context.descs(&known)?.into_iter();
        let mut found = Vec::new();
        for (name, pmid) in names.into_iter().zip(pmids) {
            let desc = match pmid {
                Ok(_) => descs.next().unwrap_or(Err(ErrorCode::PMID)),
                Err(code) => Err(code),
            };
            found.push((name, desc));
        }
        Ok(found)
    }

    fn is_leaf(&self, context: &mut Context, name: &str) -> bool {
        match &self.names {
            Some(space) => matches!(space.lookup(name.as_bytes()), Ok(Place::Leaf(_))),
            None => context.lookup_name(name).is_ok(),
        }
    }

    /// Takes a statement in; the text is what is to be said of it.
    ///
    /// # Errors
    /// When the source of metrics is lost.
    pub fn statement(
        &mut self,
        context: &mut Context,
        statement: &Statement,
    ) -> Result<String, Error> {
        let mut said = String::new();
        for spec in &statement.metrics {
            self.spec(context, statement, spec, &mut said)?;
        }
        Ok(said)
    }

    fn spec(
        &mut self,
        context: &mut Context,
        statement: &Statement,
        spec: &MetricSpec,
        said: &mut String,
    ) -> Result<(), Error> {
        let head = format!("Warning [{}, line {}]\n", self.file, spec.line);
        let known = self.leaves.get(&spec.name).cloned();
        let is_leaf = known.is_some() || self.is_leaf(context, &spec.name);
        if !is_leaf {
            let mut alone = statement.clone();
            alone.metrics = vec![spec.clone()];
            self.dynamic.push(alone);
        }
        let metrics = match known.map_or_else(|| self.metrics(context, &spec.name), Ok) {
            Ok(metrics) => {
                if is_leaf {
                    self.leaves.insert(spec.name.clone(), metrics.clone());
                }
                metrics
            }
            Err(error) if super::is_lost(&error) => return Err(error),
            Err(error) => {
                self.waits = true;
                self.unbound = Some(error.code());
                said.push_str(&format!(
                    "{head}Problem with lookup for metric \"{}\" ... logging not activated\nReason: {}\n",
                    spec.name,
                    error.code()
                ));
                return Ok(());
            }
        };
        for (name, desc) in metrics {
            let desc = match desc {
                Ok(desc) => desc,
                Err(code) => {
                    said.push_str(&format!(
                        "{head}Description unavailable for metric \"{name}\" ... not logged\nReason: {code}\n"
                    ));
                    continue;
                }
            };
            let mut instances = None;
            if let Some(specs) = &spec.instances {
                let known = if desc.indom.is_null() {
                    Vec::new()
                } else {
                    match context.instances(desc.indom) {
                        Ok(known) => known,
                        Err(error) if super::is_lost(&error) => return Err(error),
                        Err(_) => Vec::new(),
                    }
                };
                let mut found = Vec::new();
                for spec in specs {
                    let (wanted, inst) = match spec {
                        InstanceSpec::Name(wanted) => {
                            let named = known
                                .iter()
                                .find(|i| instance_name_matches(&i.name, wanted.as_bytes()));
                            (wanted.clone(), named.map(|i| i.inst))
                        }
                        InstanceSpec::Number(number) => {
                            let there = known.iter().find(|i| i.inst == *number);
                            (number.to_string(), there.map(|i| i.inst))
                        }
                    };
                    match inst {
                        Some(inst) => {
                            let now = self.states.level(desc.pmid, inst);
                            if !now.mandatory || statement.mandatory {
                                found.push(inst);
                                continue;
                            }
                            let called = known.iter().find(|i| i.inst == inst);
                            let called = called.map_or(wanted, |i| i.name.to_string());
                            let asked = match statement.wanted {
                                Wanted::On(_) => "ON",
                                Wanted::Off => "OFF",
                                Wanted::Maybe => "MAYBE",
                            };
                            let now = if now.on.is_some() { "ON" } else { "OFF" };
                            said.push_str(&format!(
                                "{head}Incompatible request for metric \"{name}\" and instance \"{called}\"\n\
                                 Request for (advisory) {asked} conflicts with current (mandatory) {now} state\n"
                            ));
                        }
                        None => said.push_str(&format!(
                            "{head}Instance \"{wanted}\" is not defined for the metric \"{name}\"\n"
                        )),
                    }
                }
                if found.is_empty() {
                    self.waits = true;
                    continue;
                }
                instances = Some(found);
            }
            let request = Request {
                instances: instances.as_deref(),
                mandatory: statement.mandatory,
                wanted: statement.wanted,
                may_split: true,
            };
            if !self.states.apply(&name.to_str(), desc, request) {
                said.push_str(&format!(
                    "{head}Incompatible request for metric \"{name}\"\n"
                ));
            }
        }
        Ok(())
    }

    /// Looks for metrics that appeared in the subtrees of the configuration; whether there are any.
    ///
    /// # Errors
    /// When the source of metrics is lost.
    pub fn refresh(&mut self, context: &mut Context) -> Result<bool, Error> {
        let before = self.states.metrics().len();
        for statement in self.dynamic.clone() {
            for spec in &statement.metrics {
                let found = match self.metrics(context, &spec.name) {
                    Ok(found) => found,
                    Err(error) if super::is_lost(&error) => return Err(error),
                    Err(_) => continue,
                };
                for (name, desc) in found {
                    let Ok(desc) = desc else { continue };
                    if self.states.get(desc.pmid).is_some() || spec.instances.is_some() {
                        continue;
                    }
                    let request = Request {
                        instances: None,
                        mandatory: statement.mandatory,
                        wanted: statement.wanted,
                        may_split: true,
                    };
                    self.states.apply(&name.to_str(), desc, request);
                }
            }
        }
        Ok(self.states.metrics().len() != before)
    }
}
