//! Where texts come from: the files of the configuration folder (pmdaopenmetrics(1), "CONFIGURATION SOURCES").

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pcp::Type;
use regex::Regex;

use super::exposition::Described;

/// The longest text that is taken of a source.
const TEXT_MAX: u64 = 64 << 20;

/// A file of the configuration folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name of its metrics below the agent's: its path, parts set off by dots, without its suffix.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// When it was changed last; with its size what tells that it is another one.
    pub changed: (SystemTime, u64),
}

/// The sources in a folder and those in it: files that end in `.url`, and those that can be executed. The second part has the files
/// that cannot be named in a name space.
///
/// # Errors
/// What the system says of the folder itself.
pub fn entries(folder: &Path, sorted: bool) -> io::Result<(Vec<Entry>, Vec<PathBuf>)> {
    let (mut found, mut unsuitable) = (Vec::new(), Vec::new());
    let mut folders = vec![(folder.to_owned(), String::new())];
    let mut first = true;
    while let Some((folder, prefix)) = folders.pop() {
        let listed = match fs::read_dir(&folder) {
            Err(error) if first => return Err(error),
            listed => listed,
        };
        first = false;
        for file in listed.into_iter().flatten().flatten() {
            let path = file.path();
            let name = file.file_name().to_string_lossy().into_owned();
            let Ok(status) = fs::metadata(&path) else {
                continue;
            };
            if status.is_dir() {
                folders.push((path, format!("{prefix}{name}.")));
                continue;
            }
            let is_url = name.ends_with(".url");
            if !status.is_file() || !is_url && status.permissions().mode() & 0o111 == 0 {
                continue;
            }
            let stem = name.rsplit_once('.').map_or(name.as_str(), |(s, _)| s);
            let name = format!("{prefix}{stem}");
            if !is_name(&name) {
                unsuitable.push(path);
                continue;
            }
            let time = status.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Entry {
                name,
                path,
                changed: (time, status.len()),
            });
        }
    }
    if sorted {
        found.sort();
    }
    Ok((found, unsuitable))
}

/// Whether each part of a name can stand in a name space.
fn is_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// What a filter does with what it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is taken.
    Include,
    /// It is left out.
    Exclude,
    /// A label that is told, but is no part of an instance's name.
    Optional,
}

/// What a source file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The URL; `None` for a script.
    pub url: Option<String>,
    headers: Vec<(String, String)>,
    metrics: Vec<(Verdict, Regex)>,
    labels: Vec<(Verdict, Regex)>,
    described: Vec<(Regex, String)>,
}

/// Names are matched from their beginning.
fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{text})")).map_err(|error| error.to_string())
}

fn verdict(rules: &[(Verdict, Regex)], name: &str) -> Verdict {
    let rule = rules.iter().find(|(_, pattern)| pattern.is_match(name));
    rule.map_or(Verdict::Include, |(verdict, _)| *verdict)
}

impl Config {
    /// Reads what stands in a `.url` file. The second part of the result are lines that are not understood, with the reason.
    pub fn parse(text: &str) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let mut wrong = Vec::new();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if config.url.is_none() {
                config.url = Some(line.to_owned());
                continue;
            }
            if let Err(reason) = config.line(line) {
                wrong.push(format!("{line}: {reason}"));
            }
        }
        config.url.get_or_insert_default();
        (config, wrong)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (keyword, rest) = line.split_once(':').ok_or("a keyword was due")?;
        let rest = rest.trim();
        match keyword.trim().to_ascii_uppercase().as_str() {
            "HEADER" => {
                let (name, value) = rest.split_once(':').ok_or("a header was due")?;
                self.headers
                    .push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "FILTER" => {
                let mut words = rest.splitn(3, char::is_whitespace);
                let mut word = || words.next().map(str::trim).unwrap_or_default();
                let (does, what, rule) = (word(), word(), word());
                let verdict = match does.to_ascii_uppercase().as_str() {
                    "INCLUDE" => Verdict::Include,
                    "EXCLUDE" => Verdict::Exclude,
                    "OPTIONAL" => Verdict::Optional,
                    _ => return Err("INCLUDE, EXCLUDE or OPTIONAL was due".to_owned()),
                };
                match what.to_ascii_uppercase().as_str() {
                    "METRIC" => self.metrics.push((verdict, pattern(rule)?)),
                    "LABEL" => self.labels.push((verdict, pattern(rule)?)),
                    _ => return Err("METRIC or LABEL was due".to_owned()),
                }
            }
            "METADATA" => {
                let (rule, words) = rest
                    .split_once(char::is_whitespace)
                    .ok_or("a pattern and what is to be known was due")?;
                Described::typed("", words)
                    .filter(|d| d.ty != Type::String)
                    .ok_or("type, domain, semantics and units were due")?;
                self.described.push((pattern(rule)?, words.to_owned()));
            }
            _ => return Err("unrecognised".to_owned()),
        }
        Ok(())
    }

    /// Whether metrics of this name are taken.
    pub fn takes(&self, metric: &str) -> bool {
        verdict(&self.metrics, metric) != Verdict::Exclude
    }

    /// What is done with labels of this name.
    pub fn label(&self, name: &str) -> Verdict {
        verdict(&self.labels, name)
    }

    /// What a `METADATA:` line says of a metric.
    pub fn described(&self, metric: &str) -> Option<Described> {
        let rules = self.described.iter();
        let (_, words) = rules.into_iter().find(|(p, _)| p.is_match(metric))?;
        let described = Described::typed(metric, words)?;
        Some(Described {
            named_instances: false,
            ..described
        })
    }

    /// The host of a URL of the web, with its port.
    pub fn host(&self) -> Option<&str> {
        let (scheme, rest) = self.url.as_deref()?.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let host = rest.split(['/', '?', '#']).next()?;
        Some(host.rsplit_once('@').map_or(host, |(_, host)| host))
    }
}

/// What came of a source.
#[derive(Debug)]
pub struct Answer {
    /// The text, or why there is none.
    pub text: Result<String, String>,
    /// The status of HTTP; 0 where there was none.
    pub code: i32,
}

impl Answer {
    fn of(text: Result<String, String>) -> Answer {
        Answer { text, code: 0 }
    }
}

/// Asks a source.
pub fn ask(path: &Path, config: &Config, timeout: Duration) -> Answer {
    let Some(url) = config.url.as_deref() else {
        return Answer::of(script(path, timeout));
    };
    if let Some(file) = url.strip_prefix("file://") {
        let read = fs::File::open(file).and_then(whole);
        return Answer::of(read.map_err(|error| error.to_string()));
    }
    match url.split_once("://") {
        Some(("http" | "https", _)) => get(url, &config.headers, timeout),
        Some((scheme, _)) => Answer::of(Err(format!("No connection adapters for {scheme}"))),
        None => Answer::of(Err(format!(
            "Invalid URL '{url}': No scheme supplied. Perhaps you meant http://{url}?"
        ))),
    }
}

fn whole(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(TEXT_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_MAX {
        let said = format!("more than {TEXT_MAX} bytes");
        return Err(io::Error::other(said));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn get(url: &str, headers: &[(String, String)], timeout: Duration) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .tls_config(
            ureq::tls::TlsConfig::builder()
                .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                .build(),
        )
        .build()
        .into();
    let mut request = agent.get(url);
    for (name, value) in headers {
        request = request.header(name.as_str(), value.as_str());
    }
    let mut answer = match request.call() {
        Ok(answer) => answer,
        Err(error) => return Answer::of(Err(error.to_string())),
    };
    let status = answer.status();
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let text = match status.as_u16() {
        code @ 400..500 => Err(format!("{code} Client Error: {reason} for url: {url}")),
        code @ 500.. => Err(format!("{code} Server Error: {reason} for url: {url}")),
        _ => whole(answer.body_mut().as_reader()).map_err(|error| error.to_string()),
    };
    Answer {
        text,
        code: status.as_u16().into(),
    }
}

/// Runs a script in a process group of its own, which is killed when it does not end in time.
fn script(path: &Path, timeout: Duration) -> Result<String, String> {
    let mut child = Command::new(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + timeout;
    let Some(output) = child.stdout.take() else {
        return Err("no output".to_owned());
    };
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (done, ended) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let text = whole(output);
        let _ = done.send(text);
    });
    let text = ended.recv_timeout(timeout);
    let mut late = text.is_err();
    // It may have closed its output and go on.
    while !late && child.try_wait().is_ok_and(|status| status.is_none()) {
        late = Instant::now() >= deadline;
        std::thread::sleep(Duration::from_millis(2));
    }
    if late {
        let _ = killpg(group, Signal::SIGKILL);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let text = match text {
        Ok(text) if !late => text.map_err(|error| error.to_string())?,
        _ => {
            let seconds = timeout.as_secs_f64();
            let path = path.display();
            return Err(format!(
                "Command '{path}' timed out after {seconds} seconds"
            ));
        }
    };
    let _ = reader.join();
    if !status.success() {
        let path = path.display();
        return Err(match status.code() {
            Some(code) => {
                format!("Command '{path}' returned non-zero exit status {code}.")
            }
            None => format!("Command '{path}' died with {status}."),
        });
    }
    Ok(text)
}
