//! Debug files from servers (debuginfod(8)), kept where elfutils' own client keeps them, so that both find what the other
//! has fetched.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use super::{Notice, hex};

/// A server that sends less than this within the time-out is given up (debuginfod-find(1)).
const LEAST_PROGRESS: u64 = 100 << 10;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);
/// How long it is remembered that no server has a file, unless the cache's control file says otherwise.
const DEFAULT_MISS: u64 = 600;
/// How often a download's progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
const CHUNK: usize = 256 << 10;

/// Why nothing could be fetched; that no server has a file is no error.
#[derive(Debug, thiserror::Error)]
pub enum DebuginfodError {
    /// The server can't be reached or answers with an error.
    #[error("{url}: {reason}")]
    Server {
        /// What was asked.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server stopped sending.
    #[error("{url}: less than 100 KiB came in {seconds} seconds (DEBUGINFOD_TIMEOUT)")]
    Stalled {
        /// What was asked.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The download took longer than `DEBUGINFOD_MAXTIME`.
    #[error("{url}: not complete after {seconds} seconds (DEBUGINFOD_MAXTIME)")]
    TooSlow {
        /// What was asked.
        url: String,
        /// How long it was allowed to take.
        seconds: u64,
    },
    /// The file is larger than `DEBUGINFOD_MAXSIZE`.
    #[error("{url}: larger than {limit} bytes (DEBUGINFOD_MAXSIZE)")]
    TooLarge {
        /// What was asked.
        url: String,
        /// Most bytes that are taken.
        limit: u64,
    },
    /// The cache can't be written to.
    #[error("{}: {source}", path.display())]
    Cache {
        /// Which file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Servers and the cache of what they sent.
#[derive(Clone)]
pub struct Debuginfod {
    urls: Vec<String>,
    cache: PathBuf,
    timeout: Option<Duration>,
    longest: Option<Duration>,
    largest: Option<u64>,
    headers: Vec<(String, String)>,
}

impl fmt::Debug for Debuginfod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses and headers may hold passwords.
        f.debug_struct("Debuginfod")
            .field("servers", &self.urls.len())
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Debuginfod {
    /// Servers by the prefixes of their addresses, and the directory in which files are kept.
    pub fn new(urls: Vec<String>, cache: PathBuf) -> Debuginfod {
        Debuginfod {
            urls,
            cache,
            timeout: Some(DEFAULT_TIMEOUT),
            longest: None,
            largest: None,
            headers: Vec::new(),
        }
    }

    /// As the environment's `DEBUGINFOD_…` variables say (debuginfod-find(1)); `None` when `DEBUGINFOD_URLS` names no
    /// server.
    pub fn from_environment() -> Option<Debuginfod> {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str| text(name)?.trim().parse::<i64>().ok();
        let urls: Vec<String> = text("DEBUGINFOD_URLS")?
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
        if urls.is_empty() {
            return None;
        }
        let mut made = Debuginfod::new(urls, cache_directory()?);
        if let Some(seconds) = number("DEBUGINFOD_TIMEOUT") {
            made.timeout = positive(seconds).map(Duration::from_secs);
        }
        made.longest = number("DEBUGINFOD_MAXTIME")
            .and_then(positive)
            .map(Duration::from_secs);
        made.largest = number("DEBUGINFOD_MAXSIZE").and_then(positive);
        if let Some(file) = text("DEBUGINFOD_HEADERS_FILE") {
            // One that can't be read has no headers, as for elfutils' client.
            made.headers = parse_headers(&fs::read_to_string(file).unwrap_or_default());
        }
        Some(made)
    }

    /// How long a server may take to send 100 KiB; `None`: for ever.
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Debuginfod {
        self.timeout = timeout;
        self
    }

    /// The file with the debugging information of a build-id, from the cache or a server; `None` when no server has it.
    ///
    /// # Errors
    /// When no server has it and one of them failed.
    pub fn debug_info(
        &self,
        id: &[u8],
        tell: &dyn Fn(Notice),
    ) -> Result<Option<PathBuf>, DebuginfodError> {
        let directory = self.cache.join(hex(id));
        let path = directory.join("debuginfo");
        match self.cached(&path) {
            Cached::File => return Ok(Some(path)),
            Cached::Missing => return Ok(None),
            Cached::Unknown => {}
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| DebuginfodError::Cache { path, source }
        };
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let mut failure = None;
        for server in &self.urls {
            let url = format!(
                "{}/buildid/{}/debuginfo",
                server.trim_end_matches('/'),
                hex(id)
            );
            match self.fetch(&url, &path, tell) {
                Ok(true) => return Ok(Some(path)),
                Ok(false) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => {
                // An empty file says that it was not there.
                File::create(&path).map_err(failed(&path))?;
                Ok(None)
            }
        }
    }

    fn cached(&self, path: &Path) -> Cached {
        let Ok(metadata) = path.metadata() else {
            return Cached::Unknown;
        };
        if metadata.len() > 0 {
            return Cached::File;
        }
        let control = fs::read_to_string(self.cache.join("cache_miss_s"));
        let limit = control.ok().and_then(|text| text.trim().parse().ok());
        let limit = Duration::from_secs(limit.unwrap_or(DEFAULT_MISS));
        let age = metadata
            .modified()
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        match age {
            Some(age) if age > limit => Cached::Unknown,
            _ => Cached::Missing,
        }
    }

    /// Whether the server had it. The file appears whole or not at all.
    fn fetch(
        &self,
        url: &str,
        path: &Path,
        tell: &dyn Fn(Notice),
    ) -> Result<bool, DebuginfodError> {
        // The connection is read by a thread of its own, which is left to itself when the server is silent for too long.
        let (sender, receiver) = sync_channel(4);
        let request = Request {
            url: url.to_owned(),
            timeout: self.timeout,
            headers: self.headers.clone(),
        };
        std::thread::spawn(move || request.run(&sender));
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}.{number}", std::process::id()));
        let received = self.receive(url, &receiver, &temporary, tell);
        let failed = |source| DebuginfodError::Cache {
            path: path.to_owned(),
            source,
        };
        match received {
            Ok(true) => fs::rename(&temporary, path).map_err(failed).map(|()| true),
            other => {
                // Nothing may have been written yet.
                let _ = fs::remove_file(&temporary);
                other
            }
        }
    }

    fn receive(
        &self,
        url: &str,
        receiver: &Receiver<Part>,
        temporary: &Path,
        tell: &dyn Fn(Notice),
    ) -> Result<bool, DebuginfodError> {
        let started = Instant::now();
        let failed = |source| DebuginfodError::Cache {
            path: temporary.to_owned(),
            source,
        };
        let mut file = None;
        let mut total = None;
        let (mut received, mut counted) = (0u64, 0u64);
        let mut since = started;
        let mut told: Option<Instant> = None;
        loop {
            let mut wait = Duration::from_secs(3600);
            if let Some(timeout) = self.timeout {
                wait = wait.min(timeout.saturating_sub(since.elapsed()));
            }
            if let Some(longest) = self.longest {
                wait = wait.min(longest.saturating_sub(started.elapsed()));
            }
            let part = match receiver.recv_timeout(wait) {
                Ok(part) => part,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(longest) = self.longest.filter(|l| started.elapsed() >= *l) {
                        return Err(DebuginfodError::TooSlow {
                            url: shown(url),
                            seconds: longest.as_secs(),
                        });
                    }
                    if let Some(timeout) = self.timeout.filter(|t| since.elapsed() >= *t) {
                        return Err(DebuginfodError::Stalled {
                            url: shown(url),
                            seconds: timeout.as_secs(),
                        });
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(DebuginfodError::Server {
                        url: shown(url),
                        reason: "the download broke off".into(),
                    });
                }
            };
            match part {
                Part::NotThere => return Ok(false),
                Part::Failed(reason) => {
                    return Err(DebuginfodError::Server {
                        url: shown(url),
                        reason,
                    });
                }
                Part::Start(length) => {
                    total = length;
                    file = Some(File::create(temporary).map_err(failed)?);
                }
                Part::Bytes(bytes) => {
                    received = received.saturating_add(bytes.len() as u64);
                    if let Some(limit) = self
                        .largest
                        .filter(|l| received.max(total.unwrap_or(0)) > *l)
                    {
                        return Err(DebuginfodError::TooLarge {
                            url: shown(url),
                            limit,
                        });
                    }
                    if let Some(file) = &mut file {
                        file.write_all(&bytes).map_err(failed)?;
                    }
                    if received - counted >= LEAST_PROGRESS {
                        counted = received;
                        since = Instant::now();
                    }
                    if told.is_none_or(|t| t.elapsed() >= PROGRESS_INTERVAL) {
                        told = Some(Instant::now());
                        tell(Notice::Progress {
                            url: shown(url),
                            received,
                            total,
                        });
                    }
                }
                Part::End => {
                    if total.is_some_and(|total| total != received) {
                        return Err(DebuginfodError::Server {
                            url: shown(url),
                            reason: format!(
                                "{received} of {} bytes came",
                                total.unwrap_or_default()
                            ),
                        });
                    }
                    tell(Notice::Progress {
                        url: shown(url),
                        received,
                        total: Some(received),
                    });
                    return Ok(received > 0);
                }
            }
        }
    }
}

enum Cached {
    File,
    /// No server had it not long ago.
    Missing,
    Unknown,
}

/// What comes of a download.
enum Part {
    NotThere,
    Failed(String),
    /// The file begins; its length, if known.
    Start(Option<u64>),
    Bytes(Vec<u8>),
    End,
}

struct Request {
    url: String,
    timeout: Option<Duration>,
    headers: Vec<(String, String)>,
}

impl Request {
    /// Ends when nobody listens any more.
    fn run(&self, sender: &SyncSender<Part>) {
        let answer = match self.ask(sender) {
            Ok(answer) => answer,
            Err(reason) => Part::Failed(reason),
        };
        let _ = sender.send(answer);
    }

    #[cfg(feature = "debuginfod")]
    fn ask(&self, sender: &SyncSender<Part>) -> Result<Part, String> {
        use std::io::Read as _;
        use ureq::tls::{RootCerts, TlsConfig};
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_connect(self.timeout)
            .timeout_recv_response(self.timeout)
            .http_status_as_error(false)
            .user_agent(concat!("spile-symbols/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.get(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.call().map_err(|e| e.to_string())?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(Part::NotThere),
            status => return Err(format!("the server answers with status {status}")),
        }
        let number = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok()?.trim().parse::<u64>().ok()
        };
        // Files out of packages are sent before their size is known to HTTP.
        let length = number("content-length").or_else(|| number("x-debuginfod-size"));
        if sender.send(Part::Start(length)).is_err() {
            return Ok(Part::End);
        }
        let mut body = response.into_body().into_reader();
        loop {
            let mut chunk = vec![0; CHUNK];
            let count = body.read(&mut chunk).map_err(|e| e.to_string())?;
            if count == 0 {
                return Ok(Part::End);
            }
            chunk.truncate(count);
            if sender.send(Part::Bytes(chunk)).is_err() {
                return Ok(Part::End);
            }
        }
    }

    #[cfg(not(feature = "debuginfod"))]
    fn ask(&self, _sender: &SyncSender<Part>) -> Result<Part, String> {
        Err("built without an HTTP client (feature \"debuginfod\")".into())
    }
}

/// An address without a name and password in it.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) if rest.contains('@') => {
            format!("{scheme}://{host}")
        }
        _ => url.to_owned(),
    }
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|n| *n > 0)
}

/// `Name: value` in each line.
fn parse_headers(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// `DEBUGINFOD_CACHE_PATH`, an old cache in the home directory, or `debuginfod_client` in the user's cache directory.
fn cache_directory() -> Option<PathBuf> {
    let path = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(given) = path("DEBUGINFOD_CACHE_PATH") {
        return Some(given);
    }
    let home = path("HOME");
    let old = home.as_ref().map(|h| h.join(".debuginfod_client_cache"));
    if let Some(old) = old.filter(|old| old.is_dir()) {
        return Some(old);
    }
    let caches = path("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")))?;
    Some(caches.join("debuginfod_client"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("http://a:b@host/x"), "http://host/x");
        assert_eq!(shown("http://host/x"), "http://host/x");
    }

    #[test]
    fn headers_are_lines() {
        let parsed = parse_headers("A: b\n\n  \nX-Key:  c:d \n");
        let wanted = [("A", "b"), ("X-Key", "c:d")];
        assert_eq!(parsed.len(), 2);
        for ((name, value), wanted) in parsed.iter().zip(wanted) {
            assert_eq!((name.as_str(), value.as_str()), wanted);
        }
    }
}
