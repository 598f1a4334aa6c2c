//! Processes that ended, from the records of process accounting (acct(5), version 3): those of the system's file, or of a file of
//! the agent's own for which it turns accounting on (acct(2)) when it was told to.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::acct;
use pcp::{Atom, ErrorCode, Type};

use super::process;
use crate::linux::system::Row;

/// Bytes of a record.
const RECORD: usize = 64;
/// Records kept at most; older ones go first.
const MOST: usize = 100_000;
/// Ticks of a record's times in a second (AHZ).
const HERTZ: f64 = 100.0;

/// What can be stored into, in seconds and bytes, as PCP's agent has it unless told otherwise.
#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Between two attempts to open a file.
    open_retry_interval: u32,
    /// Between two looks whether the system's accounting still works.
    check_acct_interval: u32,
    /// Bytes from which the agent's own file is begun anew.
    file_size_threshold: u64,
    /// How long an ended process is kept.
    lifetime: u32,
    /// Between two looks whether the agent's own file is still needed.
    refresh: u32,
    /// Whether to have a file of its own.
    enable_acct: u32,
}

/// The processes that ended, as far as accounting tells.
pub struct Accounting {
    /// The system's file, and the agent's own.
    system_file: PathBuf,
    own_file: PathBuf,
    settings: Settings,
    open: Option<Open>,
    tried: Option<Instant>,
    records: HashMap<i32, Record>,
}

struct Open {
    file: File,
    /// Up to where it was read.
    at: u64,
    is_own: bool,
    checked: Instant,
}

/// A process that ended.
struct Record {
    /// The name of its program.
    name: String,
    /// When it ended, in seconds since 1970.
    ended: u64,
    row: Row,
}

impl Accounting {
    /// From the system's file that `PCP_PACCT_SYSTEM_PATH` names, or the one of Linux's distributions.
    pub fn new() -> Accounting {
        let system_file = pcp::config("PCP_PACCT_SYSTEM_PATH");
        let system_file = system_file.unwrap_or("/var/account/pacct".to_owned());
        let folder = pcp::config("PCP_VAR_DIR").unwrap_or("/var/lib/pcp".to_owned());
        Accounting::of(system_file.into(), Path::new(&folder).join("pmcd/pacct"))
    }

    fn of(system_file: PathBuf, own_file: PathBuf) -> Accounting {
        Accounting {
            system_file,
            own_file,
            settings: Settings {
                open_retry_interval: 60,
                check_acct_interval: 600,
                file_size_threshold: 10 << 20,
                lifetime: 60,
                refresh: 600,
                enable_acct: 0,
            },
            open: None,
            tried: None,
            records: HashMap::new(),
        }
    }

    /// The value of a control.
    pub fn control(&self, field: &str) -> Atom {
        let settings = &self.settings;
        match field {
            "open_retry_interval" => Atom::U32(settings.open_retry_interval),
            "check_acct_interval" => Atom::U32(settings.check_acct_interval),
            "file_size_threshold" => Atom::U64(settings.file_size_threshold),
            "lifetime" => Atom::U32(settings.lifetime),
            "refresh" => Atom::U32(settings.refresh),
            _ => Atom::U32(settings.enable_acct),
        }
    }

    /// Changes a control.
    ///
    /// # Errors
    /// `PM_ERR_PERMISSION` for what is no control.
    pub fn store(&mut self, field: &str, value: &Atom) -> Result<(), ErrorCode> {
        let settings = &mut self.settings;
        match (field, value) {
            ("open_retry_interval", Atom::U32(value)) => settings.open_retry_interval = *value,
            ("check_acct_interval", Atom::U32(value)) => settings.check_acct_interval = *value,
            ("file_size_threshold", Atom::U64(value)) => settings.file_size_threshold = *value,
            ("lifetime", Atom::U32(value)) => settings.lifetime = *value,
            ("refresh", Atom::U32(value)) => settings.refresh = *value,
            ("enable_acct", Atom::U32(value)) => {
                let is_new = settings.enable_acct != *value;
                settings.enable_acct = *value;
                if is_new {
                    self.close();
                    self.records.clear();
                    self.tried = None;
                    if *value != 0 {
                        self.refresh();
                    }
                }
            }
            _ => return Err(ErrorCode::PERMISSION),
        }
        Ok(())
    }

    /// Reads what is new, and forgets what is old.
    pub fn refresh(&mut self) {
        self.check();
        let retry = seconds(self.settings.open_retry_interval);
        if self.open.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= retry) {
            self.tried = Some(Instant::now());
            self.open = self.find();
        }
        self.read();
        let now = u64::try_from(pcp::Timestamp::now().sec).unwrap_or(0);
        let lifetime = u64::from(self.settings.lifetime);
        let is_kept = |record: &Record| record.ended.saturating_add(lifetime) >= now;
        self.records.retain(|_, record| is_kept(record));
        if self.records.len() > MOST {
            let mut ends: Vec<u64> = self.records.values().map(|r| r.ended).collect();
            ends.sort_unstable();
            let first = ends.get(ends.len() - MOST).copied().unwrap_or(0);
            self.records.retain(|_, record| record.ended >= first);
        }
    }

    /// The numbers and names of the processes.
    pub fn instances(&self) -> impl Iterator<Item = (i32, &str)> {
        self.records.iter().map(|(pid, r)| (*pid, r.name.as_str()))
    }

    /// What a record says of each of them.
    ///
    /// # Errors
    /// `PM_ERR_TYPE` for a field of another type.
    pub fn values(&self, field: &str, ty: Type) -> Result<Vec<(i32, Atom)>, ErrorCode> {
        let values = self.records.iter().filter_map(|(pid, record)| {
            let value = record.row.get(field)?;
            Some(value.atom(ty).map(|atom| (*pid, atom)))
        });
        values.collect()
    }

    /// Leaves a file that is of no use any more.
    fn check(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        let settings = self.settings;
        let due = match open.is_own {
            true => settings.refresh,
            false => settings.check_acct_interval,
        };
        if open.checked.elapsed() >= seconds(due) {
            open.checked = Instant::now();
            let other_works = open.is_own && grows(&self.system_file);
            let is_idle = !open.is_own && settings.enable_acct != 0 && !grows(&self.system_file);
            if other_works || is_idle {
                self.read();
                self.close();
                self.tried = None;
            }
        }
    }

    /// The system's file, read from its present end, or one of the agent's own.
    fn find(&self) -> Option<Open> {
        let is_wanted = self.settings.enable_acct == 0 || grows(&self.system_file);
        if let Ok(file) = File::open(&self.system_file)
            && is_wanted
        {
            let at = file.metadata().map_or(0, |m| m.len());
            return Some(Open {
                // Whole records are in front of it.
                at: at - at % RECORD as u64,
                file,
                is_own: false,
                checked: Instant::now(),
            });
        }
        if self.settings.enable_acct == 0 {
            return None;
        }
        match begin(&self.own_file) {
            Ok(file) => Some(Open {
                file,
                at: 0,
                is_own: true,
                checked: Instant::now(),
            }),
            Err(error) => {
                eprintln!("{}: process accounting: {error}", self.own_file.display());
                None
            }
        }
    }

    fn read(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        // One that was replaced, or cut off, is another.
        let known = open.file.metadata();
        let path = match open.is_own {
            true => &self.own_file,
            false => &self.system_file,
        };
        let is_same = known.as_ref().is_ok_and(|known| {
            fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (known.dev(), known.ino()))
        });
        let length = known.map_or(0, |m| m.len());
        if length < open.at {
            open.at = 0;
        }
        let mut buffer = vec![0; 1024 * RECORD];
        while let Ok(got) = open.file.read_at(&mut buffer, open.at)
            && got >= RECORD
        {
            let whole = got - got % RECORD;
            open.at += whole as u64;
            for bytes in buffer.get(..whole).unwrap_or_default().chunks(RECORD) {
                if let Some((pid, record)) = Record::read(bytes) {
                    self.records.insert(pid, record);
                }
            }
        }
        let is_large = open.is_own && length > self.settings.file_size_threshold;
        if !is_same || is_large {
            self.close();
            self.tried = None;
        }
    }

    /// Ends accounting into the agent's own file.
    fn close(&mut self) {
        if self.open.take().is_some_and(|open| open.is_own) {
            if let Err(error) = acct::disable() {
                eprintln!("process accounting can't be turned off: {error}");
            }
            // It may be gone.
            let _ = fs::remove_file(&self.own_file);
        }
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        self.close();
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

/// Has the kernel write records into a new file.
fn begin(path: &Path) -> io::Result<File> {
    // One that an agent left that was killed: the kernel may still write there, and only there.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Err(error) = acct::enable(path) {
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(file)
}

/// Whether a process that ends adds to a file.
fn grows(path: &Path) -> bool {
    let length = || fs::metadata(path).map(|m| m.len());
    let Ok(before) = length() else {
        return false;
    };
    let mut child = Command::new("true");
    let child = child.stdin(Stdio::null()).stdout(Stdio::null());
    child.status().is_ok() && length().is_ok_and(|after| after > before)
}

/// The number that three bits of exponent, to the base 8, and thirteen of a factor stand for.
fn expanded(number: u16) -> u64 {
    u64::from(number & 0x1fff) << (3 * (number >> 13))
}

impl Record {
    /// A record of version 3; none of another.
    fn read(bytes: &[u8]) -> Option<(i32, Record)> {
        let two = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let four = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (flags, version) = (*bytes.first()?, *bytes.get(1)?);
        // The highest bit is that of the byte order.
        if version & 0x7f != 3 {
            return None;
        }
        let name: Vec<u8> = bytes
            .get(48..64)?
            .iter()
            .copied()
            .take_while(|b| *b != 0)
            .collect();
        let name = String::from_utf8_lossy(&name).into_owned();
        let mut row = Row::single();
        let (tty, uid, gid, pid) = (two(2)?, four(8)?, four(12)?, four(16)?);
        row.set("tty", u64::from(tty));
        row.set("ttyname", process::terminal(tty.into()));
        row.set("exitcode", u64::from(four(4)?));
        row.set("uid", u64::from(uid));
        row.set("gid", u64::from(gid));
        let mut names = process::Names::default();
        row.set("uid_nm", names.user(uid));
        row.set("gid_nm", names.group(gid));
        row.set("pid", u64::from(pid));
        row.set("ppid", u64::from(four(20)?));
        let (began, elapsed) = (four(24)?, f32::from_bits(four(28)?));
        row.set("btime", u64::from(began));
        row.set("etime", f64::from(elapsed) / HERTZ);
        for (field, at) in [("utime", 32), ("stime", 34)] {
            row.set(field, expanded(two(at)?) as f64 / HERTZ);
        }
        let counts = ["mem", "io", "rw", "minflt", "majflt", "swaps"];
        for (field, at) in counts.into_iter().zip((36..).step_by(2)) {
            row.set(field, expanded(two(at)?));
        }
        for (field, bit) in [("fork", 0x01), ("su", 0x02), ("core", 0x08), ("xsig", 0x10)] {
            row.set(field, u64::from(flags & bit != 0));
        }
        let ended = u64::from(began).saturating_add((f64::from(elapsed) / HERTZ) as u64);
        let record = Record { name, ended, row };
        Some((i32::try_from(pid).ok()?, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A record as the kernel writes it (acct_v3 in acct(5)).
    fn record(pid: u32, began: u32, name: &str) -> Vec<u8> {
        let mut bytes = vec![0x12, 3];
        bytes.extend(0x8805u16.to_ne_bytes());
        for word in [256, 1, 4_000_000_000, pid, 7, began, 150f32.to_bits()] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        // 3 * 8^1, 5, then memory of 0x1fff * 8^2, and counts of 1 to 5.
        for number in [0x2003, 5, 0x5fff, 1, 2, 3, 4, 5u16] {
            bytes.extend(number.to_ne_bytes());
        }
        let mut text = name.as_bytes().to_vec();
        text.resize(16, 0);
        bytes.extend(text);
        bytes
    }

    fn value(accounting: &Accounting, field: &str, ty: Type) -> Vec<(i32, Atom)> {
        accounting.values(field, ty).expect(field)
    }

    #[test]
    fn records_that_are_appended_are_read_and_grow_old() {
        let folder = std::env::temp_dir().join(format!("spile-acct-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("pacct");
        let now = u32::try_from(pcp::Timestamp::now().sec).expect("a time");
        fs::write(&path, record(41, now, "before")).expect("a file");
        let mut accounting = Accounting::of(path.clone(), folder.join("own"));
        accounting.refresh();
        assert_eq!(accounting.instances().count(), 0);

        let mut file = OpenOptions::new().append(true).open(&path).expect("a file");
        let mut add = |bytes: &[u8]| file.write_all(bytes).expect("written");
        add(&record(42, now, "sixteen-letters-"));
        add(&record(43, now - 3600, "long ago"));
        let mut other = record(44, now, "of another version");
        if let Some(version) = other.get_mut(1) {
            *version = 2;
        }
        add(&other);
        add(&record(45, now, "half")[..20]);
        accounting.refresh();
        let found: Vec<_> = accounting.instances().collect();
        assert_eq!(found, [(42, "sixteen-letters-")]);
        let number = |field| value(&accounting, field, Type::U32);
        assert_eq!(number("exitcode"), [(42, Atom::U32(256))]);
        assert_eq!(number("uid"), [(42, Atom::U32(1))]);
        assert_eq!(number("su"), [(42, Atom::U32(1))]);
        assert_eq!(number("fork"), [(42, Atom::U32(0))]);
        assert_eq!(number("xsig"), [(42, Atom::U32(1))]);
        assert_eq!(
            value(&accounting, "etime", Type::Float),
            [(42, Atom::Float(1.5))]
        );
        assert_eq!(
            value(&accounting, "utime", Type::Float),
            [(42, Atom::Float(0.24))]
        );
        assert_eq!(
            value(&accounting, "mem", Type::U64),
            [(42, Atom::U64(0x1fff * 64))]
        );
        assert_eq!(value(&accounting, "swaps", Type::U64), [(42, Atom::U64(5))]);
        let text = |field| value(&accounting, field, Type::String);
        assert_eq!(text("ttyname"), [(42, Atom::String("pts/5".into()))]);
        assert_eq!(text("gid_nm"), [(42, Atom::String("4000000000".into()))]);

        // The rest of the record.
        add(&record(45, now, "half")[20..]);
        accounting.refresh();
        assert_eq!(accounting.instances().count(), 2);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
