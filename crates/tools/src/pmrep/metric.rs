//! The metrics that are reported: looked up, their units, widths and instances settled.

use std::collections::HashMap;

use pcp::{
    Context, Desc, ErrorCode, InDom, Instance, LabelFlags, LabelLevel, ScaledUnits, Semantics,
    Text, Timestamp, Type, Units,
};

use super::instances::Filter;
use super::metricspec::{MetricSpec, short_label};
use super::settings::Settings;
use crate::options::Refusal;

/// The narrowest column.
const NARROWEST: usize = 3;

/// What a value is multiplied by to be in the wanted unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// From the metric's unit to the one shown.
    pub factor: f64,
}

/// A metric that is reported.
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The column's heading.
    pub label: String,
    /// The unit as it is shown; empty for none.
    pub unit: String,
    /// The column's width.
    pub width: usize,
    /// Digits behind the point.
    pub precision: usize,
    /// What it is.
    pub desc: Desc,
    /// Whether it is shown per second.
    pub rate: bool,
    /// Whether a rate is shown as a number of the metric's own type.
    pub raw: bool,
    /// Set when values are in another unit than the metric's.
    pub scale: Option<Scale>,
    /// The instances that columns are made for: those that the filter let pass at the start.
    pub instances: Vec<Instance>,
    /// Names of instances that are known.
    pub names: HashMap<i32, Text>,
    /// What instances have to pass.
    pub filter: Filter,
    /// How its values are fetched.
    pub fetched: Fetching,
    /// Labels, by instance; the null instance for metrics without.
    pub labels: HashMap<i32, String>,
}

/// How values of a metric are fetched, as PCP's fetch groups have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fetching {
    /// Of all instances that have names at the time.
    Named,
    /// Of instances chosen at the start.
    Chosen,
    /// Not at all: none of the chosen instances is there at an archive's end.
    Nothing,
}

impl Metric {
    /// Whether it has one value only.
    pub fn is_flat(&self) -> bool {
        self.desc.indom.is_null()
    }

    /// Characters of the heading.
    pub fn label_width(&self) -> usize {
        self.label.chars().count().max(NARROWEST)
    }

    /// The name of an instance.
    pub fn instance_name(&self, inst: i32) -> String {
        self.names
            .get(&inst)
            .map_or_else(String::new, |n| n.to_str().into_owned())
    }
}

/// `PM_ERR_NAME Unknown metric name`
pub fn code_text(code: ErrorCode) -> String {
    match code.name() {
        Some(name) => format!("PM_ERR_{name} {code}"),
        None => code.to_string(),
    }
}

/// The unit of a rate, and any other with a quotient, in short words.
fn short_units(text: &str) -> String {
    if !text.contains('/') {
        return text.to_owned();
    }
    let words = text.split(" / ").map(|side| {
        let words = side.split(' ').map(|word| match word {
            "nanosec" | "nsec" => "ns",
            "microsec" | "usec" => "us",
            "millisec" | "msec" => "ms",
            "sec" | "second" | "seconds" => "s",
            "hour" | "hours" => "h",
            other => other,
        });
        words.collect::<Vec<_>>().join(" ")
    });
    words.collect::<Vec<_>>().join("/")
}

/// Why a metric can't be reported.
enum Unfit {
    /// Its name, or what it leads to, is not known.
    Unknown(ErrorCode),
    /// It has no values that can be shown, or not in the unit.
    Incompatible(Refusal),
}

/// Whether a metric's instances are processes.
fn is_process(name: &str) -> bool {
    name.starts_with("proc.") || name.starts_with("hotproc.")
}

struct Lookup<'a> {
    settings: &'a Settings,
    context: &'a mut Context,
    global: &'a [String],
}

/// What is wrong with the first of metrics that can't be reported: metrics are looked at in their order, names and all.
fn unfit(
    settings: &Settings,
    context: &mut Context,
    named: &[(Text, &MetricSpec)],
) -> Option<Refusal> {
    let mut lookup = Lookup {
        settings,
        context,
        global: &settings.instances,
    };
    named
        .iter()
        .find_map(|(name, spec)| match lookup.metric(&name.to_str(), spec) {
            Err(Unfit::Unknown(code)) if !settings.ignore_incompatible => {
                Some(invalid(&name.to_str(), code))
            }
            _ => None,
        })
}

/// Looks up what specifications mean. Later ones of the same metric replace earlier ones in their place.
///
/// # Errors
/// Names that are not known, and metrics that can't be shown, unless they are to be ignored.
pub fn look_up(
    settings: &Settings,
    context: &mut Context,
    specs: &[MetricSpec],
) -> Result<Vec<Metric>, Refusal> {
    let mut named: Vec<(Text, &MetricSpec)> = Vec::new();
    for spec in specs {
        let leaves = match context.traverse(&Text::from(spec.name.as_str())) {
            Ok(leaves) => leaves,
            Err(_) if settings.ignore_unknown => continue,
            Err(error) => {
                let first = unfit(settings, context, &named);
                return Err(first.unwrap_or_else(|| invalid(&spec.name, error.code())));
            }
        };
        for leaf in leaves {
            match named.iter_mut().find(|(name, _)| *name == leaf) {
                Some(entry) => entry.1 = spec,
                None => named.push((leaf, spec)),
            }
        }
    }
    if named.is_empty() {
        return Err(Refusal::Failed("Not one known metric found.\n".to_owned()));
    }
    let mut lookup = Lookup {
        settings,
        context,
        global: &settings.instances,
    };
    let mut metrics: Vec<Metric> = Vec::new();
    let has = |metrics: &[Metric], metric: &Metric| {
        metrics.iter().any(|m| m.desc.pmid == metric.desc.pmid)
    };
    let mut filtered = false;
    for (name, spec) in named {
        match lookup.metric(&name.to_str(), spec) {
            // Of several names of a metric the first stands for all.
            Ok(Some(metric)) if has(&metrics, &metric) => {}
            Ok(Some(metric)) => metrics.push(metric),
            Ok(None) => filtered = true,
            Err(_) if settings.ignore_incompatible => {}
            Err(Unfit::Unknown(_)) if settings.ignore_unknown => {}
            Err(Unfit::Unknown(code)) => return Err(invalid(&name.to_str(), code)),
            Err(Unfit::Incompatible(refusal)) => return Err(refusal),
        }
    }
    if metrics.is_empty() && (filtered || settings.ignore_incompatible) {
        eprintln!("No matching instances found.");
        if !settings.instances.is_empty() {
            let quoted: Vec<String> = settings
                .instances
                .iter()
                .map(|i| format!("'{i}'"))
                .collect();
            println!("\nRequested global instances:\n[{}]", quoted.join(", "));
        }
        return Err(Refusal::Failed(String::new()));
    }
    if metrics.is_empty() {
        return Err(Refusal::Failed("Not one known metric found.\n".to_owned()));
    }
    let predicates = metrics.iter();
    for metric in predicates.filter(|m| settings.predicates.contains(&m.name)) {
        if metric.desc.indom.is_null() {
            let what = "Predicate metric must have instances.\n";
            return Err(Refusal::Failed(what.to_owned()));
        }
        let ranked = settings.overall_rank || settings.overall_rank_alt;
        if !metric.desc.ty.is_numeric() && !ranked {
            let what = "Predicate metric values must be numeric.\n";
            return Err(Refusal::Failed(what.to_owned()));
        }
    }
    Ok(metrics)
}

fn invalid(name: &str, code: ErrorCode) -> Refusal {
    Refusal::Failed(format!("Invalid metric {name} ({}).\n", code_text(code)))
}

impl Lookup<'_> {
    /// The metric of a name; `None` when no instance passes its filter.
    fn metric(&mut self, name: &str, spec: &MetricSpec) -> Result<Option<Metric>, Unfit> {
        let settings = self.settings;
        let unknown = |error: pcp::Error| Unfit::Unknown(error.code());
        let pmid = self.context.lookup_name(name).map_err(unknown)?;
        let desc = self.context.desc(pmid).map_err(unknown)?;
        if !desc.ty.is_numeric() && desc.ty != Type::String {
            return Err(Unfit::Unknown(ErrorCode::TYPE));
        }
        let flat = desc.indom.is_null();
        if flat && settings.omit_flat {
            return Ok(None);
        }
        let patterns = if spec.instances.is_empty() {
            self.global
        } else {
            &spec.instances
        };
        let filter = Filter::new(patterns, is_process(name)).map_err(Unfit::Incompatible)?;
        let mut instances = Vec::new();
        if !flat {
            let all = match &mut *self.context {
                Context::Archive(archive) => archive.all_instances(desc.indom),
                host => host.instances(desc.indom),
            };
            instances = all.map_err(unknown)?;
        }
        let names = instances.iter().map(|i| (i.inst, i.name.clone())).collect();
        let mut fetched = Fetching::Named;
        if !settings.live_filter && !filter.is_empty() && !flat {
            instances = filter.chosen(&instances);
            if instances.is_empty() {
                return Ok(None);
            }
            fetched = self.choose(desc.indom, &mut instances);
        }
        let raw = settings.raw || spec.raw.unwrap_or(settings.raw_prefer);
        let rate = !raw && desc.sem == Semantics::Counter && desc.ty.is_numeric();
        let (unit, scale) = self.unit(spec, &desc, rate).map_err(Unfit::Incompatible)?;
        if spec.malformed {
            let what = format!("Non-negative integer expected: {name}\n");
            return Err(Unfit::Incompatible(Refusal::Failed(what)));
        }
        let label = spec.label.clone().unwrap_or_else(|| short_label(name));
        let own_width = match settings.width {
            0 => label.chars().count(),
            width => width,
        };
        let width = settings
            .width_force
            .or(spec.width.filter(|w| *w > 0))
            .unwrap_or(own_width);
        let precision = settings
            .precision_force
            .or(spec.precision)
            .unwrap_or(settings.precision);
        // Counters without units are rates all the same, as PCP's fetch groups have them.
        let unitless = desc.units.to_string().is_empty() && spec.unit.is_none();
        let rate = rate || (unitless && desc.sem == Semantics::Counter && desc.ty.is_numeric());
        let mut metric = Metric {
            name: name.to_owned(),
            label,
            unit,
            width: width.max(NARROWEST),
            precision,
            desc,
            rate,
            raw,
            scale,
            instances,
            names,
            filter,
            fetched,
            labels: HashMap::new(),
        };
        if settings.labels {
            self.labels(&mut metric);
        }
        Ok(Some(metric))
    }

    /// Leaves of chosen instances those that an archive's domain has at the end, unless that would be none.
    fn choose(&self, indom: InDom, instances: &mut Vec<Instance>) -> Fetching {
        let Context::Archive(archive) = &*self.context else {
            return Fetching::Chosen;
        };
        let last = archive.meta().instances_at(indom, Timestamp::MAX);
        let last = last.map(|entry| entry.instances.as_slice());
        let last = last.unwrap_or_default();
        let there = |instance: &Instance| last.iter().any(|i| i.name == instance.name);
        if !instances.iter().any(there) {
            return Fetching::Nothing;
        }
        instances.retain(there);
        Fetching::Chosen
    }

    /// The unit to show, and what values are multiplied by for it.
    fn unit(
        &self,
        spec: &MetricSpec,
        desc: &Desc,
        rate: bool,
    ) -> Result<(String, Option<Scale>), Refusal> {
        let own = desc.units;
        let dims = [own.dim_count, own.dim_space, own.dim_time];
        // A general scale is for metrics of that one dimension.
        let general = |scales: &[Option<String>; 3]| {
            let mut found = None;
            for (at, scale) in scales.iter().enumerate() {
                let alone = dims
                    .iter()
                    .enumerate()
                    .all(|(d, dim)| *dim == i8::from(d == at));
                if alone && scale.is_some() {
                    found = scale.clone();
                }
            }
            found
        };
        let wanted = general(&self.settings.scales_force)
            .or_else(|| spec.unit.clone())
            .or_else(|| general(&self.settings.scales));
        let numeric = desc.ty.is_numeric();
        if !numeric && spec.unit.is_some() {
            return Err(Refusal::Failed(format!("pmrep: {}\n", ErrorCode::CONV)));
        }
        let per_second = |text: String| match (rate, text.contains('/')) {
            (true, false) => short_units(format!("{text} / sec").trim_start_matches(' ')),
            // What is nothing but per time keeps its words.
            _ if text.trim_start().starts_with('/') => text,
            _ => short_units(&text),
        };
        let Some(text) = wanted.filter(|_| numeric) else {
            let text = own.to_string();
            return Ok((
                if rate && text.is_empty() {
                    "/s".to_owned()
                } else {
                    per_second(text)
                },
                None,
            ));
        };
        let to: ScaledUnits = text.parse().map_err(|error| {
            let code = code_text(ErrorCode::CONV);
            Refusal::Failed(format!("{code} {error}: {text}.\n"))
        })?;
        let incompatible = |code: ErrorCode| Refusal::Failed(format!("pmrep: {code}\n"));
        let mut from = own;
        if rate {
            let mut quotient = own;
            quotient.dim_time -= 1;
            if quotient.same_dimension(to.units) && !own.same_dimension(to.units) {
                // The unit is that of the rate.
                from = Units {
                    dim_time: quotient.dim_time,
                    ..own
                };
                if own.dim_time == 0 {
                    from.scale_time = pcp::TIME_SEC;
                }
            }
        }
        let factor = from.conversion(to.units).map_err(incompatible)? * to.multiplier;
        let same = from == to.units && (to.multiplier - 1.0).abs() < f64::EPSILON;
        let scale = (!same).then_some(Scale { factor });
        Ok((per_second(text), scale))
    }

    /// Whether an archive has labels of its host, and none yet at this time: PCP's library then finds nothing.
    fn ahead_of_labels(&self) -> bool {
        let Context::Archive(archive) = &*self.context else {
            return false;
        };
        let meta = archive.meta();
        let known = |time| meta.labels_at(LabelLevel::Context, u32::MAX, time);
        known(archive.origin()).is_none() && known(Timestamp::MAX).is_some()
    }

    /// Labels by instance, from the widest level to the narrowest; those made of several parts are left out.
    fn labels(&mut self, metric: &mut Metric) {
        let desc = metric.desc;
        let levels = [
            (LabelLevel::Context, u32::MAX),
            (LabelLevel::Domain, desc.pmid.domain()),
            (LabelLevel::InDom, desc.indom.0),
            (LabelLevel::Cluster, desc.pmid.without_item().0),
            (LabelLevel::Item, desc.pmid.0),
            (LabelLevel::Instances, desc.indom.0),
        ];
        let mut sets = Vec::new();
        for (level, ident) in levels {
            let of_indom = matches!(level, LabelLevel::InDom | LabelLevel::Instances);
            // PCP's library does not find the labels of clusters in archives.
            let archive = matches!(self.context, Context::Archive(_));
            if (of_indom && desc.indom.is_null()) || (archive && level == LabelLevel::Cluster) {
                continue;
            }
            if level == LabelLevel::Context && self.ahead_of_labels() {
                continue;
            }
            let found = self.context.labels(ident, level).unwrap_or_default();
            sets.extend(found.into_iter().map(|set| (level, set)));
        }
        let mut instances: Vec<i32> = metric.instances.iter().map(|i| i.inst).collect();
        if metric.is_flat() {
            instances.push(pcp::INST_NULL);
        }
        for inst in instances {
            let mut members: Vec<(String, String)> = Vec::new();
            for (level, set) in &sets {
                if *level == LabelLevel::Instances && set.inst != inst {
                    continue;
                }
                for label in &set.labels {
                    if label.flags.0 & LabelFlags::COMPOUND != 0 {
                        continue;
                    }
                    let name = String::from_utf8_lossy(set.name(label)).into_owned();
                    let value = String::from_utf8_lossy(set.value(label)).into_owned();
                    let value = value.trim_matches('"').to_owned();
                    match members.iter_mut().find(|(n, _)| *n == name) {
                        Some(member) => member.1 = value,
                        None => members.push((name, value)),
                    }
                }
            }
            let texts: Vec<_> = members
                .iter()
                .map(|(n, v)| format!("'{n}':'{v}'"))
                .collect();
            metric
                .labels
                .insert(inst, format!("{{{}}}", texts.join(",")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_short_words() {
        for (long, short) in [
            ("count / sec", "count/s"),
            ("millisec / sec", "ms/s"),
            ("hour / sec", "h/s"),
            ("count x 10 / sec", "count x 10/s"),
            ("KB/s", "KB/s"),
            ("millisec", "millisec"),
            ("sec", "sec"),
        ] {
            assert_eq!(short_units(long), short);
        }
    }
}
