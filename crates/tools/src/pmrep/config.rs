//! The files of pmrep.conf(5): sections of settings and metrics.

use std::path::{Path, PathBuf};

use super::metricspec::MetricSpec;
use super::settings::{Settings, is_setting};
use crate::options::Refusal;

/// A section's keys and values, in order.
type Section = Vec<(String, String)>;

/// What a file, or a folder of files, says.
#[derive(Default)]
pub struct Config {
    options: Section,
    global: Section,
    sets: Vec<(String, Section, PathBuf)>,
    path: PathBuf,
}

/// What may stand behind an identifier and a dot.
const SPECIFIERS: &[&str] = &[
    "label",
    "formula",
    "instances",
    "unit",
    "type",
    "width",
    "precision",
    "limit",
];

/// Where the configuration is looked for without `-c`.
fn default_path() -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let system = pcp::config("PCP_SYSCONF_DIR").unwrap_or_else(|| "/etc/pcp".to_owned());
    let places = [
        "./pmrep.conf".to_owned(),
        format!("{home}/.pmrep.conf"),
        format!("{home}/pcp/pmrep.conf"),
        format!("{system}/pmrep/pmrep.conf"),
        format!("{system}/pmrep"),
    ];
    places.into_iter().map(PathBuf::from).find(|p| p.exists())
}

/// Sections of one text: keys and values around an equals sign, comments on lines of their own, values that go on in
/// indented lines; `%%` stands for a percent sign.
fn sections(text: &str) -> Result<Vec<(String, Section)>, String> {
    let mut found: Vec<(String, Section)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with(char::is_whitespace)
            && let Some((_, value)) = found.last_mut().and_then(|(_, s)| s.last_mut())
        {
            value.push('\n');
            value.push_str(trimmed);
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|r| r.split_once(']')) {
            found.push((name.0.to_owned(), Vec::new()));
            continue;
        }
        let (Some((key, value)), Some((_, section))) = (trimmed.split_once('='), found.last_mut())
        else {
            return Err(format!("line {}: {trimmed}", number + 1));
        };
        section.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    for (_, section) in &mut found {
        for (_, value) in section {
            *value = value.replace("%%", "%");
            let quoted = value.len() > 1
                && [b'"', b'\''].iter().any(|q| {
                    value.as_bytes().first() == Some(q) && value.as_bytes().last() == Some(q)
                });
            // Quotes keep white space at the ends; those of an instance list belong to it.
            if quoted && !value[1..value.len() - 1].contains(['"', '\'']) {
                *value = value[1..value.len() - 1].to_owned();
            }
        }
    }
    Ok(found)
}

/// Reads a text with all its sets; what is wrong in it is refused.
pub(crate) fn read_text(text: &str, file: &Path) {
    let mut config = Config::default();
    for (name, section) in sections(text).unwrap_or_default() {
        config.add(file, name, section);
    }
    for (_, section, file) in &config.sets {
        let _ = config.metrics(section, file);
    }
}

impl Config {
    /// Reads the configuration of `-c`, or the one found in the usual places.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub fn read(path: Option<&str>) -> Result<Config, Refusal> {
        let Some(path) = path.map(PathBuf::from).or_else(default_path) else {
            return Ok(Config::default());
        };
        let failed = |why: &dyn std::fmt::Display| {
            let place = path.display();
            Refusal::Failed(format!(
                "Failed to read configuration from '{place}':\n{why}.\n"
            ))
        };
        let system = |error: &std::io::Error| failed(&pcp::ErrorCode::from(error));
        let mut files = vec![path.clone()];
        if std::fs::metadata(&path).map_err(|e| system(&e))?.is_dir() {
            let entries = std::fs::read_dir(&path).map_err(|e| system(&e))?;
            files = entries.filter_map(|e| Some(e.ok()?.path())).collect();
            files.retain(|f| f.extension().is_some_and(|e| e == "conf"));
            files.sort();
        }
        let mut config = Config {
            path: path.clone(),
            ..Config::default()
        };
        for file in files {
            let bytes = std::fs::read(&file).map_err(|e| system(&e))?;
            let read = sections(&String::from_utf8_lossy(&bytes));
            for (name, section) in read.map_err(|line| failed(&line))? {
                config.add(&file, name, section);
            }
        }
        Ok(config)
    }

    fn add(&mut self, file: &Path, name: String, section: Section) {
        match name.as_str() {
            "options" => self.options.extend(section),
            "global" => self.global.extend(section),
            _ => {
                self.sets.retain(|(n, ..)| *n != name);
                self.sets.push((name, section, file.to_owned()));
            }
        }
    }

    /// The settings of the options section.
    ///
    /// # Errors
    /// What is wrong with a value.
    pub fn apply_options(&self, settings: &mut Settings) -> Result<(), Refusal> {
        for (key, value) in self.options.iter().filter(|(key, _)| is_setting(key)) {
            settings.set(key, value)?;
        }
        Ok(())
    }

    /// The metrics of the global section.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn globals(&self) -> Result<Vec<MetricSpec>, Refusal> {
        self.metrics(&self.global, &self.path)
    }

    /// Takes a set's settings in.
    ///
    /// # Errors
    /// When there is no such set, or a value is wrong.
    pub fn apply_set(&self, name: &str, settings: &mut Settings) -> Result<(), Refusal> {
        let Some((_, section, _)) = self.sets.iter().find(|(n, ..)| n == name) else {
            return Err(Refusal::Failed(format!(
                "Metricset definition ':{name}' not found.\n"
            )));
        };
        for (key, value) in section.iter().filter(|(key, _)| is_setting(key)) {
            settings.set(key, value)?;
        }
        Ok(())
    }

    /// The metrics of a set.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn set(&self, name: &str) -> Result<Vec<MetricSpec>, Refusal> {
        match self.sets.iter().find(|(n, ..)| n == name) {
            Some((_, section, file)) => self.metrics(section, file),
            None => Ok(Vec::new()),
        }
    }

    fn metrics(&self, section: &Section, file: &Path) -> Result<Vec<MetricSpec>, Refusal> {
        let mut found: Vec<(String, MetricSpec)> = Vec::new();
        for (key, value) in section.iter().filter(|(key, _)| !is_setting(key)) {
            let part = key.rsplit_once('.').filter(|(_, s)| SPECIFIERS.contains(s));
            if let Some((identifier, specifier)) = part {
                if let Some((_, spec)) = found.iter_mut().find(|(k, _)| k == identifier) {
                    spec.specify(specifier, value);
                    continue;
                }
                if !identifier.contains('.') {
                    return Err(Refusal::Failed(format!(
                        "Failed to read configuration file '{}':\nUndeclared metric key {identifier}.\n",
                        file.display()
                    )));
                }
            }
            // With commas it is a name's specification, whatever the name.
            if key.contains('.') || value.contains(',') {
                found.push((key.clone(), MetricSpec::compact(&format!("{key},{value}"))));
            } else {
                found.push((key.clone(), MetricSpec::named(value)));
            }
        }
        Ok(found.into_iter().map(|(_, spec)| spec).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_keys_values_and_comments() {
        let text = "# c\n[a]\nx = %%y\n; c\n\n[b]\ndelimiter = \" \"\nlong = one\n  two\n";
        let found = sections(text).expect("sections");
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(found[0], ("a".to_owned(), vec![pair("x", "%y")]));
        let b = vec![pair("delimiter", " "), pair("long", "one\ntwo")];
        assert_eq!(found[1], ("b".to_owned(), b));
        assert_eq!(sections("x = 1\n"), Err("line 1: x = 1".to_owned()));
    }
}
