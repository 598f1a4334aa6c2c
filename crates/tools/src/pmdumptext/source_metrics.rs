//! Metrics of several hosts and archives, and their values of now.

use pcp::timewindow::TimeWindow;
use pcp::timezone::Zone;
use pcp::{
    Atom, Context, Desc, INST_NULL, Instance, Pmid, Semantics, TIME_SEC, Text, Timestamp, Type,
    Units,
};

use crate::options::{Refusal, Spec};
use crate::source::{Opened, Source};

/// A value as it is shown.
#[derive(Clone, PartialEq, Debug)]
pub enum Shown {
    /// A number, in the metric's unit or per second.
    Number(f64),
    /// A text.
    Text(String),
}

/// One column: a metric's instance.
pub struct Column {
    context: usize,
    /// The metric's name.
    pub name: String,
    /// What it is.
    pub desc: Desc,
    /// The instance, if the metric has any.
    pub instance: Option<Instance>,
    /// What values are divided by; 0 for nothing.
    pub normal: f64,
    /// Whether it is shown per second.
    pub rate: bool,
    /// The value of now.
    pub value: Option<Shown>,
    before: Option<(Timestamp, f64)>,
}

impl Column {
    /// The unit of what is shown where people do not read it: times per second are no shares there.
    pub fn rate_words(&self) -> String {
        match self.is_share() {
            true => format!("{} / sec", self.desc.units),
            false => self.units().to_string(),
        }
    }

    /// Whether it is time per second.
    pub fn is_share(&self) -> bool {
        let units = self.desc.units;
        self.desc.sem == Semantics::Counter
            && units.dim_time == 1
            && units.dim_space == 0
            && units.dim_count == 0
    }

    /// The unit of what is shown.
    pub fn units(&self) -> Units {
        let mut units = self.desc.units;
        if self.desc.sem == Semantics::Counter {
            units.dim_time -= 1;
            if units.dim_time == -1 {
                units.scale_time = TIME_SEC;
            }
        }
        units
    }
}

struct Place {
    /// `archives/x/`, `host:`.
    label: String,
    opened: Opened,
}

/// The contexts, and the columns over them.
pub struct Sources {
    places: Vec<Place>,
    /// Times per second are shown as shares.
    pub shares: bool,
    /// What is shown.
    pub columns: Vec<Column>,
    /// The time window of the first source.
    pub window: TimeWindow,
    /// The zone that times are shown in.
    pub zone: Zone,
    /// When the first source's data begin, or the tool began.
    pub begin: Timestamp,
}

/// `[host:|archive/]metric[instances]`
struct Parts {
    place: Option<(char, String)>,
    metric: String,
    instances: Vec<String>,
}

fn parts(text: &str) -> Result<Parts, String> {
    let (head, instances) = match text.split_once('[') {
        Some((head, rest)) => match rest.trim_end().strip_suffix(']') {
            Some(inner) => (head, crate::pmval::instance_list(inner)),
            None => {
                return Err(format!(
                    "{text}\n{:1$}^ -- closing ] expected",
                    "",
                    text.len()
                ));
            }
        },
        None => (text, Vec::new()),
    };
    let (place, metric) = match (head.rsplit_once(':'), head.rsplit_once('/')) {
        (Some((host, metric)), _) => (Some(('h', host.to_owned())), metric),
        (None, Some((archive, metric))) => (Some(('a', archive.to_owned())), metric),
        (None, None) => (None, head),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    if let Some(at) = metric.find(|c: char| !is_name(c)) {
        let at = text.len() - metric.len() + at;
        return Err(format!(
            "{text}\n{:at$}^ -- unexpected character in metric name",
            ""
        ));
    }
    Ok(Parts {
        place,
        metric: metric.to_owned(),
        instances,
    })
}

impl Sources {
    /// Opens what metrics come from and looks the metrics up; those that can't be had are reported and left out.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn open(
        spec: &Spec,
        source: &Source,
        wanted: &[(String, f64)],
        raw: bool,
    ) -> Result<Sources, Refusal> {
        let mut places: Vec<Place> = Vec::new();
        let mut columns = Vec::new();
        let mut ignored = false;
        let mut complain = |what: String| {
            eprintln!("pmdumptext: Error: {what}");
            ignored = true;
        };
        let mut default = match (&source.host, &source.archives) {
            (Some(host), _) => Some(('h', host.clone())),
            (None, Some(archives)) => Some(('a', archives.clone())),
            (None, None) => None,
        };
        for (text, normal) in wanted {
            let parts = match parts(text) {
                Ok(parts) => parts,
                Err(what) => {
                    complain(format!("Unable to parse metric spec:\n{what}\n"));
                    continue;
                }
            };
            if default.is_none() {
                default.clone_from(&parts.place);
            }
            let place = parts.place.clone().or_else(|| default.clone());
            let (letter, name) = place.unwrap_or(('h', "local:".to_owned()));
            let label = match letter {
                'a' => format!("{name}/"),
                _ => format!("{name}:"),
            };
            let context = match places.iter().position(|p| p.label == label) {
                Some(context) => context,
                None => {
                    let own = Source {
                        archives: (letter == 'a').then(|| name.clone()),
                        host: (letter == 'h').then(|| name.clone()),
                        ..source.clone()
                    };
                    let opened = match own.open(spec) {
                        Ok(opened) => opened,
                        Err(refusal) if places.is_empty() => {
                            let said = refusal.text();
                            let code = said.rsplit_once(": ").map_or("", |(_, code)| code);
                            return Err(Refusal::Failed(format!(
                                "pmdumptext: Error: {name}: {code}"
                            )));
                        }
                        Err(refusal) => {
                            let text = refusal.text();
                            let said = text.trim_end().trim_start_matches("pmdumptext: ");
                            complain(said.to_owned());
                            continue;
                        }
                    };
                    places.push(Place { label, opened });
                    places.len() - 1
                }
            };
            let Some(place) = places.get_mut(context) else {
                continue;
            };
            let found = columns_of(
                &mut place.opened.context,
                (context, &place.label),
                &parts,
                *normal,
                raw,
                &mut complain,
            );
            columns.extend(found);
        }
        if ignored && !columns.is_empty() {
            eprintln!("pmdumptext: Warning: Some metrics ignored, continuing with valid metrics");
        }
        let (Some(first), false) = (places.first(), columns.is_empty()) else {
            return Err(Refusal::Failed(
                "pmdumptext: no valid metrics, exiting.\n".to_owned(),
            ));
        };
        let begin = match &first.opened.context {
            Context::Archive(archive) => archive.label().start,
            Context::Host(_) => Timestamp::now(),
        };
        Ok(Sources {
            window: first.opened.window,
            zone: first.opened.zone.clone(),
            begin,
            places,
            shares: false,
            columns,
        })
    }

    /// Whether the first source is an archive.
    pub fn is_archive(&self) -> bool {
        matches!(
            self.places.first().map(|p| &p.opened.context),
            Some(Context::Archive(_))
        )
    }

    /// All contexts.
    pub fn contexts(&mut self) -> impl Iterator<Item = &mut Context> {
        self.places.iter_mut().map(|p| &mut p.opened.context)
    }

    /// A column's source as metrics are written, and the name of its host.
    pub fn source_of(&self, column: &Column) -> (&str, &str) {
        let place = self.places.get(column.context);
        place.map_or(("", ""), |p| (p.label.as_str(), p.opened.hostname.as_str()))
    }

    /// Fetches all columns. Returns the time of the first source's values, or the planned one.
    pub fn fetch(&mut self, planned: Timestamp) -> Timestamp {
        let mut time = planned;
        for (context, place) in self.places.iter_mut().enumerate() {
            let mut pmids: Vec<Pmid> = Vec::new();
            for column in self.columns.iter().filter(|c| c.context == context) {
                if !pmids.contains(&column.desc.pmid) {
                    pmids.push(column.desc.pmid);
                }
            }
            let fetched = place.opened.context.fetch(&pmids).ok();
            if context == 0
                && let Some(fetched) = &fetched
            {
                // Between records it may be told in seconds and a billion nanoseconds.
                time = Timestamp::from_nanos(fetched.time.as_nanos());
            }
            for column in self.columns.iter_mut().filter(|c| c.context == context) {
                let inst = column.instance.as_ref().map_or(INST_NULL, |i| i.inst);
                let value = fetched.as_ref().and_then(|f| {
                    let set = f.sets.iter().find(|s| s.pmid == column.desc.pmid)?;
                    let found = set
                        .instances()
                        .iter()
                        .find(|v| v.inst == inst || column.instance.is_none())?;
                    Some((f.time, Atom::extract(&found.value, column.desc.ty).ok()?))
                });
                column.take(value, self.shares);
            }
        }
        time
    }
}

impl Column {
    fn take(&mut self, value: Option<(Timestamp, Atom)>, shares: bool) {
        let before = self.before.take();
        self.value = None;
        let Some((time, atom)) = value else {
            return;
        };
        if let Atom::String(text) = &atom {
            self.value = Some(Shown::Text(text.to_string()));
            return;
        }
        let Some(mut number) = atom.as_f64() else {
            return;
        };
        if self.rate {
            self.before = Some((time, number));
            let Some((then, last)) = before else {
                return;
            };
            let elapsed = (time - then).as_secs_f64();
            let mut delta = number - last;
            let wraps = std::env::var_os("PCP_COUNTER_WRAP").is_some();
            if delta < 0.0 && wraps && matches!(self.desc.ty, Type::I32 | Type::U32) {
                delta += 4_294_967_296.0;
            }
            if elapsed <= 0.0 || delta < 0.0 {
                return;
            }
            number = delta / elapsed;
            if shares && self.desc.units.dim_time == 1 {
                // The share of time that was spent.
                let own = Units::new(0, 1, 0, 0, self.desc.units.scale_time, 0);
                number *= own
                    .conversion(Units::new(0, 1, 0, 0, TIME_SEC, 0))
                    .unwrap_or(1.0);
            }
        }
        if self.normal != 0.0 {
            number /= self.normal;
        }
        self.value = Some(Shown::Number(number));
    }
}

/// The columns of a metric, or of those below a name; what is wrong with any is complained of.
fn columns_of(
    context: &mut Context,
    place: (usize, &str),
    parts: &Parts,
    normal: f64,
    raw: bool,
    complain: &mut dyn FnMut(String),
) -> Vec<Column> {
    let name = &parts.metric;
    let leaves = match context.traverse(&Text::from(name.as_str())) {
        Ok(leaves) => leaves,
        Err(error) => {
            let code = error.code();
            complain(match parts.instances.is_empty() {
                true => format!("{name}: {code}"),
                false => format!("{}{name}: {code}", place.1),
            });
            return Vec::new();
        }
    };
    let mut columns = Vec::new();
    for leaf in leaves {
        match leaf_columns(context, place, &leaf.to_string(), parts, normal, raw) {
            Ok(found) => columns.extend(found),
            Err(what) => complain(what),
        }
    }
    columns
}

fn leaf_columns(
    context: &mut Context,
    (number, source): (usize, &str),
    leaf: &str,
    parts: &Parts,
    normal: f64,
    raw: bool,
) -> Result<Vec<Column>, String> {
    let failed = |error: pcp::Error| format!("{leaf}: {}", error.code());
    let pmid = context.lookup_name(leaf).map_err(failed)?;
    let desc = context.desc(pmid).map_err(failed)?;
    if !desc.ty.is_numeric() && desc.ty != Type::String {
        return Err(format!("{leaf}: Not a supported metric value"));
    }
    let column = |instance| Column {
        context: number,
        name: leaf.to_owned(),
        desc,
        instance,
        normal: if raw { 0.0 } else { normal },
        rate: !raw && desc.sem == Semantics::Counter,
        value: None,
        before: None,
    };
    if desc.indom.is_null() {
        return Ok(vec![column(None)]);
    }
    let all = match &mut *context {
        Context::Archive(archive) => archive.all_instances(desc.indom),
        host => host.instances(desc.indom),
    };
    // The label of a source has its slash or colon.
    let all = all.map_err(|e| format!("{source}{leaf}: {}", e.code()))?;
    if parts.instances.is_empty() {
        return Ok(all.into_iter().map(|i| column(Some(i))).collect());
    }
    let mut columns = Vec::new();
    for wanted in &parts.instances {
        let text = Text::from(wanted.as_str());
        let found = all
            .iter()
            .find(|i| pcp::instance_name_matches(&i.name, &text));
        let Some(instance) = found else {
            let code = pcp::ErrorCode::INST;
            return Err(format!("{source}{leaf}[{wanted}]: {code}"));
        };
        columns.push(column(Some(instance.clone())));
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_places_and_instances() {
        let found = parts("myhost:kernel.all.load[\"1 minute\",\"5 minute\"]").expect("parts");
        assert_eq!(found.place, Some(('h', "myhost".to_owned())));
        assert_eq!(found.instances, ["1 minute", "5 minute"]);
        let found = parts("/a/b/hinv.ncpu").expect("parts");
        assert_eq!(
            (found.place, found.metric.as_str()),
            (Some(('a', "/a/b".to_owned())), "hinv.ncpu")
        );
        let wrong = parts("kernel.all.load[1").err().expect("a complaint");
        assert_eq!(
            wrong,
            "kernel.all.load[1\n                 ^ -- closing ] expected"
        );
        assert!(parts("minute]").is_err());
    }
}
