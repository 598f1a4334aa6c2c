//! The files of the kernel, and what was read from them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hashbrown::{DefaultHashBuilder, HashTable};

use pcp::{Atom, ErrorCode, INST_NULL, InDom, Type};
use pmda::{Container, InstanceCache, Namespace};

use super::bandwidth::Bandwidths;

/// A value as it was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A whole number; negative ones are as C's conversion makes them.
    Number(u64),
    /// A number with a fraction.
    Real(f64),
    /// Characters.
    Text(String),
}

impl Raw {
    /// As a metric's type has it; what is too large is cut as C's conversion cuts it.
    pub fn atom(&self, ty: Type) -> Result<Atom, ErrorCode> {
        Ok(match (self, ty) {
            (Raw::Number(n), Type::I32) => Atom::I32(*n as i32),
            (Raw::Number(n), Type::U32) => Atom::U32(*n as u32),
            (Raw::Number(n), Type::I64) => Atom::I64(*n as i64),
            (Raw::Number(n), Type::U64) => Atom::U64(*n),
            (Raw::Number(n), Type::Float) => Atom::Float(*n as f32),
            (Raw::Number(n), Type::Double) => Atom::Double(*n as f64),
            (Raw::Real(n), Type::Float) => Atom::Float(*n as f32),
            (Raw::Real(n), Type::Double) => Atom::Double(*n),
            (Raw::Text(text), Type::String) => Atom::String(text.as_str().into()),
            _ => return Err(ErrorCode::TYPE),
        })
    }
}

impl From<u64> for Raw {
    fn from(number: u64) -> Raw {
        Raw::Number(number)
    }
}

impl From<f64> for Raw {
    fn from(number: f64) -> Raw {
        Raw::Real(number)
    }
}

impl From<&str> for Raw {
    fn from(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }
}

impl From<String> for Raw {
    fn from(text: String) -> Raw {
        Raw::Text(text)
    }
}

/// The values of one instance in a group.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The instance, [`INST_NULL`] in a group without.
    pub inst: i32,
    /// Its name.
    pub name: String,
    fields: HashTable<Field>,
    /// Names of fields that come from files, one behind the other: some rows have hundreds.
    names: String,
    hashes: DefaultHashBuilder,
}

#[derive(Clone, Debug)]
struct Field {
    name: FieldName,
    value: Raw,
}

#[derive(Clone, Copy, Debug)]
enum FieldName {
    Known(&'static str),
    /// In [`Row::names`].
    Found {
        at: u32,
        length: u32,
    },
}

impl FieldName {
    fn text(self, names: &str) -> &str {
        match self {
            FieldName::Known(name) => name,
            FieldName::Found { at, length } => {
                let at = at as usize;
                names.get(at..at + length as usize).unwrap_or_default()
            }
        }
    }
}

impl Row {
    /// An instance without values.
    pub fn new(inst: i32, name: impl Into<String>) -> Row {
        Row {
            inst,
            name: name.into(),
            ..Row::default()
        }
    }

    /// The row of a group without instances.
    pub fn single() -> Row {
        Row::new(INST_NULL, "")
    }

    /// The same with room for so many values.
    pub fn with_room(fields: usize) -> Row {
        Row {
            fields: HashTable::with_capacity(fields),
            names: String::with_capacity(fields * 16),
            ..Row::single()
        }
    }

    /// Adds a value.
    pub fn set(&mut self, field: impl Into<Cow<'static, str>>, value: impl Into<Raw>) {
        match field.into() {
            Cow::Borrowed(name) => self.insert(FieldName::Known(name), value.into()),
            Cow::Owned(name) => self.set_found(name.chars(), value),
        }
    }

    /// Adds a value of a name that was found in a file.
    pub fn set_found(&mut self, name: impl Iterator<Item = char>, value: impl Into<Raw>) {
        let at = self.names.len();
        self.names.extend(name);
        let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (at, length) = (place(at), place(self.names.len() - at));
        self.insert(FieldName::Found { at, length }, value.into());
    }

    fn insert(&mut self, name: FieldName, value: Raw) {
        let (names, hashes) = (&self.names, &self.hashes);
        let text = name.text(names);
        let hash = hashes.hash_one(text);
        let same = |field: &Field| field.name.text(names) == text;
        match self.fields.find_mut(hash, same) {
            Some(field) => field.value = value,
            None => {
                let rehash = |field: &Field| hashes.hash_one(field.name.text(names));
                let field = Field { name, value };
                self.fields.insert_unique(hash, field, rehash);
            }
        }
    }

    /// Adds a value if there is one.
    pub fn set_some(&mut self, field: impl Into<Cow<'static, str>>, value: Option<impl Into<Raw>>) {
        if let Some(value) = value {
            self.set(field, value);
        }
    }

    /// A value.
    pub fn get(&self, field: &str) -> Option<&Raw> {
        let hash = self.hashes.hash_one(field);
        let same = |known: &Field| known.name.text(&self.names) == field;
        self.fields.find(hash, same).map(|found| &found.value)
    }

    /// A whole number.
    pub fn number(&self, field: &str) -> Option<u64> {
        match self.get(field) {
            Some(Raw::Number(n)) => Some(*n),
            _ => None,
        }
    }

    /// The sum of all numbers whose names are such.
    pub fn sum(&self, is_such: impl Fn(&str) -> bool) -> u64 {
        let such = self
            .fields
            .iter()
            .filter(|field| is_such(field.name.text(&self.names)));
        such.filter_map(|field| match field.value {
            Raw::Number(n) => Some(n),
            _ => None,
        })
        .fold(0, u64::wrapping_add)
    }
}

/// The rows of a group.
pub type Rows = Result<Vec<Row>, ErrorCode>;

/// Files that are asked for often, of which several groups of values may be.
const KEPT_OPEN: [&str; 14] = [
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/net/netstat",
    "/proc/net/snmp",
    "/proc/net/sockstat",
    "/proc/net/softnet_stat",
    "/proc/schedstat",
    "/proc/softirqs",
    "/proc/stat",
    "/proc/uptime",
    "/proc/vmstat",
];

struct OpenFile {
    file: File,
    length: usize,
    text: Option<String>,
}

impl OpenFile {
    /// The file from its beginning. Files of /proc give a page or so at a time, and are made anew for who begins again.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length + 4096];
        let mut length = 0;
        loop {
            if length == bytes.len() {
                bytes.resize(2 * length, 0);
            }
            let space = bytes.get_mut(length..).unwrap_or_default();
            match self.file.read_at(space, length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.length = length;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Where the kernel's files are, and the numbers of instances.
pub struct System {
    root: PathBuf,
    /// The container that is looked at.
    container: Option<Container>,
    domain: u32,
    /// Where numbers of instances are kept.
    kept: Option<PathBuf>,
    caches: HashMap<u32, InstanceCache>,
    /// Files of [`KEPT_OPEN`] that were read, and what they said since the last [`System::refresh`].
    open: RefCell<HashMap<&'static str, OpenFile>>,
    /// Whether those files are the kernel's, which say what is when they are read; others may be replaced.
    kept_open: bool,
    /// Ticks in a second, as the kernel counts processor time.
    pub hertz: u64,
    /// Bytes of a page.
    pub page: u64,
    /// How fast the memory of nodes is.
    pub bandwidths: Bandwidths,
}

impl System {
    /// The system that runs. With LINUX_STATSPATH set, one whose files are below that folder.
    pub fn new(domain: u32) -> System {
        System::below(domain, "LINUX_STATSPATH")
    }

    /// The same with another variable for the folder.
    pub fn below(domain: u32, variable: &str) -> System {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let root = std::env::var_os(variable);
        let kept = pcp::config("PCP_VAR_DIR").map(|folder| Path::new(&folder).join("config/pmda"));
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let known = |value: nix::Result<Option<i64>>| {
            let value = value.ok().flatten();
            value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0)
        };
        System {
            open: RefCell::default(),
            kept_open: root.is_none(),
            container: None,
            kept: kept.filter(|folder| root.is_none() && folder.is_dir()),
            root: PathBuf::from(root.unwrap_or_else(|| OsString::from("/"))),
            domain,
            caches: HashMap::new(),
            hertz: number("LINUX_HERTZ")
                .or_else(|| known(hertz))
                .unwrap_or(100),
            page: number("LINUX_PAGESIZE")
                .or_else(|| known(page))
                .unwrap_or(4096),
            bandwidths: Bandwidths::default(),
        }
    }

    /// Whether the files are those of the kernel that runs.
    pub fn is_running(&self) -> bool {
        self.kept_open
    }

    /// A file's place.
    pub fn path(&self, path: &str) -> PathBuf {
        if let Some(Container { pid, .. }) = self.container {
            let process = Path::new("/proc").join(pid.to_string());
            if let Some(rest) = path.strip_prefix("/proc/net") {
                return process.join(format!("net{rest}"));
            }
            if path == "/proc/mounts" {
                return process.join("mounts");
            }
            // It has a /sys of its own, that of its network.
            if path.starts_with("/sys/class/net") {
                return process.join("root").join(path.trim_start_matches('/'));
            }
        }
        self.root.join(path.trim_start_matches('/'))
    }

    /// The place of a folder that is not the kernel's.
    pub fn folder(&self, path: &str) -> PathBuf {
        match self.container {
            Some(Container { pid, .. }) => {
                Path::new(&format!("/proc/{pid}/root")).join(path.trim_start_matches('/'))
            }
            None => PathBuf::from(path),
        }
    }

    /// Looks at a container from now on, or at the host.
    pub fn look_at(&mut self, container: Option<Container>) {
        self.container = container;
    }

    /// What a collector finds, in the container that is looked at.
    pub fn collect(&mut self, collect: fn(&mut System) -> Rows) -> Rows {
        let Some(container) = self.container.clone() else {
            return collect(self);
        };
        let own = [Namespace::Network, Namespace::Names, Namespace::Ipc];
        let rows = container.within(&own, || collect(self));
        rows.map_err(|error| ErrorCode(-error.raw_os_error().unwrap_or(5)))?
    }

    /// A file's text.
    pub fn read(&self, path: &str) -> Result<String, ErrorCode> {
        // PCP counts errors of the system downwards from 0.
        let refused = |error: io::Error| ErrorCode(-error.raw_os_error().unwrap_or(5));
        let text = |bytes: Vec<u8>| {
            let mut text = String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            // Copies of files of /sys end in NULs.
            text.truncate(text.trim_end_matches('\0').len());
            text
        };
        let kept = KEPT_OPEN.binary_search(&path).ok();
        let Some(kept) = kept.filter(|_| self.container.is_none()) else {
            return fs::read(self.path(path)).map(text).map_err(refused);
        };
        let mut open = self.open.borrow_mut();
        let path = KEPT_OPEN.get(kept).copied().unwrap_or_default();
        let known = match open.entry(path) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(OpenFile {
                file: File::open(self.path(path)).map_err(refused)?,
                length: 0,
                text: None,
            }),
        };
        if let Some(text) = &known.text {
            return Ok(text.clone());
        }
        let read = known.read().map(text);
        match &read {
            Ok(text) => known.text = Some(text.clone()),
            // The next may find another file there.
            Err(_) => drop(open.remove(path)),
        }
        read.map_err(refused)
    }

    /// What was read is old.
    pub fn refresh(&mut self) {
        let open = self.open.get_mut();
        if self.kept_open {
            for file in open.values_mut() {
                file.text = None;
            }
        } else {
            open.clear();
        }
    }

    /// The number that a file has.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.read(path).ok().and_then(|text| number(text.trim()))
    }

    /// The first line of a file.
    pub fn line(&self, path: &str) -> Option<String> {
        let text = self.read(path).ok()?;
        Some(text.lines().next().unwrap_or_default().trim().to_owned())
    }

    /// The names in a folder, in no order; none when it is not there.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect()
    }

    /// The number of an instance of a domain by its name.
    pub fn instance(&mut self, serial: u32, name: &str) -> i32 {
        let (domain, kept) = (self.domain, &self.kept);
        let cache = self.caches.entry(serial).or_insert_with(|| match kept {
            Some(folder) => InstanceCache::kept(folder, InDom::new(domain, serial)),
            None => InstanceCache::new(),
        });
        cache.number(name)
    }

    /// Keeps the numbers of instances that are new.
    pub fn save(&mut self) {
        for cache in self.caches.values_mut() {
            // The numbers hold as long as this agent runs in any case.
            let _ = cache.save();
        }
    }
}

/// A number as C's strtoull reads it: a negative one wraps.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix('-') {
        Some(rest) => rest.parse().ok().map(u64::wrapping_neg),
        None => text.parse().ok(),
    }
}

/// The number at a place among words.
pub fn word(words: &[&str], at: usize) -> Option<u64> {
    words.get(at).and_then(|w| number(w))
}
