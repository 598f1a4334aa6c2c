//! Metric specifications of pmrep(1): a name and how its values are to be shown.

use super::settings::pattern_list;

/// What is wanted of a metric, or of all metrics below a name.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct MetricSpec {
    /// The name.
    pub name: String,
    /// The column's heading.
    pub label: Option<String>,
    /// Patterns of instances.
    pub instances: Vec<String>,
    /// The unit to show.
    pub unit: Option<String>,
    /// Whether counters are shown as they are, if it is said.
    pub raw: Option<bool>,
    /// The column's width.
    pub width: Option<usize>,
    /// Digits behind the point.
    pub precision: Option<usize>,
    /// What makes it, if it is derived.
    pub formula: Option<String>,
    /// Whether a number was none.
    pub malformed: bool,
}

/// Fields between commas. Quotes keep commas together, and lists of quoted texts stay one field.
fn fields(text: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    let mut field = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            Some(q) => {
                field.push(c);
                if c == q {
                    quote = None;
                    let mut ahead = chars.clone();
                    // 'a','b' is a list in one field.
                    if ahead.next() == Some(',') && ahead.next() == Some(q) {
                        chars.next();
                        field.push(',');
                    }
                }
            }
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                field.push(c);
            }
            None if c == ',' => fields.push(std::mem::take(&mut field)),
            None => field.push(c),
        }
    }
    fields.push(field);
    fields
}

impl MetricSpec {
    /// All metrics at and below a name, as they are.
    pub fn named(name: &str) -> MetricSpec {
        MetricSpec {
            name: name.to_owned(),
            ..MetricSpec::default()
        }
    }

    /// `metric[,label[,instances[,unit/scale[,type[,width[,precision[,limit]]]]]]]`
    pub fn compact(text: &str) -> MetricSpec {
        let mut fields = fields(text).into_iter();
        let mut spec = MetricSpec::named(fields.next().unwrap_or_default().trim());
        spec.parts(fields);
        spec
    }

    /// Sets the parts behind a name, in their order.
    fn parts(&mut self, fields: impl Iterator<Item = String>) {
        let names = [
            "label",
            "instances",
            "unit",
            "type",
            "width",
            "precision",
            "limit",
        ];
        for (name, value) in names.iter().zip(fields) {
            if !value.is_empty() {
                self.specify(name, &value);
            }
        }
    }

    /// Sets one part.
    pub fn specify(&mut self, part: &str, value: &str) {
        if part == "label" && value.contains(',') {
            // The other parts may follow; a comma in quotes parts nothing.
            let fields = fields(value);
            if fields.len() > 1 {
                return self.parts(fields.into_iter());
            }
        }
        let mut number = || {
            let number = value.trim().parse().ok();
            self.malformed |= number.is_none();
            number
        };
        match part {
            "label" => self.label = Some(value.to_owned()),
            "instances" => {
                // The list may be quoted as a whole.
                let inner = ['"', '\''].into_iter().find_map(|quote| {
                    let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
                    (!inner.contains(quote)).then_some(inner)
                });
                self.instances = pattern_list(inner.unwrap_or(value));
            }
            "unit" => self.unit = Some(value.to_owned()),
            "type" => self.raw = Some(value == "raw"),
            "width" => self.width = number(),
            "precision" => self.precision = number(),
            "formula" => self.formula = Some(value.replace('\n', " ")),
            // PCP 6.0 reads limits of single metrics and does not heed them.
            _ => {}
        }
    }
}

/// The heading of a metric without one: the first letters of its name's parts, and the last part.
pub fn short_label(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop().unwrap_or("");
    let mut label = String::new();
    for part in parts {
        label.extend(part.chars().next());
        label.push('.');
    }
    label.push_str(last);
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_forms() {
        let spec = MetricSpec::compact("kernel.all.sysfork,forks,,,,8");
        assert_eq!(
            (spec.label.as_deref(), spec.width),
            (Some("forks"), Some(8))
        );
        let spec = MetricSpec::compact("disk.dev.read,,'sda','sdb',,,16");
        assert_eq!(
            (spec.instances, spec.width),
            (vec!["sda".to_owned(), "sdb".to_owned()], Some(16))
        );
        let spec = MetricSpec::compact("disk.dev.read,,\"'sdd','sdb'\"");
        assert_eq!(spec.instances, ["sdd", "sdb"]);
        assert!(MetricSpec::compact("a,,,,,x").malformed);
        let spec = MetricSpec::compact("a,'b,c',,,,7");
        assert_eq!(
            (spec.label.as_deref(), spec.width),
            (Some("'b,c'"), Some(7))
        );
    }

    #[test]
    fn labels() {
        assert_eq!(short_label("kernel.percpu.cpu.user"), "k.p.c.user");
        assert_eq!(short_label("a"), "a");
    }
}
