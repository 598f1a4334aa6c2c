//! MMV files (mmv(5)): what instrumented programs map and write their values into. Numbers are in the host's byte order, offsets from
//! the file's beginning. Versions 1 to 3 differ in how names are kept, and 3 has labels.

use pcp::{Semantics, TIME_USEC, Type, Units};

/// What a file begins with.
const MAGIC: &[u8; 4] = b"MMV\0";
/// Files are read up to this length in bytes.
pub const FILE_MAX: u64 = 64 << 20;

const HEADER: usize = 40;
const TOC_ENTRY: usize = 16;

/// Sections by their numbers in the table of contents.
mod section {
    pub const INDOMS: u32 = 1;
    pub const METRICS: u32 = 3;
    pub const VALUES: u32 = 4;
    pub const LABELS: u32 = 6;
}

/// Names of metrics have no prefix of the file's name.
pub const NO_PREFIX: u32 = 1;
/// The file is good only as long as the process that wrote it.
pub const PROCESS: u32 = 2;
/// Some values stand for none.
pub const SENTINEL: u32 = 4;

/// The type of microseconds that go on while something is in progress.
const ELAPSED: i32 = 9;

/// Why a file is none, or none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It begins with something else.
    #[error("not an MMV file")]
    Magic,
    /// Not 1, 2 or 3.
    #[error("MMV version {0} is not known")]
    Version(u32),
    /// It is being written: its generations differ.
    #[error("it is being written")]
    Changing,
    /// An offset or a number leads out of the file.
    #[error("it ends before byte {0}")]
    Short(u64),
}

/// An instance domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its number in the file.
    pub serial: u32,
    /// Its instances: place in the file, number, name.
    pub instances: Vec<(u64, i32, Vec<u8>)>,
    /// One line about it, and more.
    pub texts: [Option<Vec<u8>>; 2],
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its place in the file, which values name it by.
    pub offset: u64,
    /// Its name without prefix.
    pub name: Vec<u8>,
    /// The item of its identifier.
    pub item: u32,
    /// The type of its values.
    pub ty: Type,
    /// Whether values are times that go on.
    pub is_elapsed: bool,
    /// How its values follow each other.
    pub sem: Semantics,
    /// Their units.
    pub units: Units,
    /// The number of its instance domain in the file.
    pub indom: Option<u32>,
    /// One line about it, and more.
    pub texts: [Option<Vec<u8>>; 2],
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The metric's place.
    pub metric: u64,
    /// The instance's place; 0 for none.
    pub instance: u64,
    /// The bits of the value.
    pub bits: u64,
    /// What they mean with it: a string's place, or the time that something began.
    pub extra: i64,
}

/// A label of version 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The level and kind, as in `pcp::LabelFlags`.
    pub flags: u32,
    /// What it is of, by level.
    pub identity: u32,
    /// The instance for labels of instances.
    pub instance: i32,
    /// An object of JSON, as a rule with one name and value.
    pub json: Vec<u8>,
}

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Changes when the program starts again.
    pub generation: u64,
    /// See [`NO_PREFIX`] and [`PROCESS`].
    pub flags: u32,
    /// The process that wrote it.
    pub process: i32,
    /// The cluster that it wants.
    pub cluster: u32,
    /// Its instance domains.
    pub domains: Vec<Domain>,
    /// Its metrics.
    pub metrics: Vec<Metric>,
    /// Its values.
    pub values: Vec<Value>,
    /// Its labels.
    pub labels: Vec<Label>,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn at(&self, offset: u64, length: usize) -> Result<&'a [u8], FormatError> {
        let end = offset.saturating_add(length as u64);
        let start = usize::try_from(offset).map_err(|_| FormatError::Short(end))?;
        let bytes = self.0.get(start..).and_then(|rest| rest.get(..length));
        bytes.ok_or(FormatError::Short(end))
    }

    fn u32(&self, offset: u64) -> Result<u32, FormatError> {
        let bytes = self.at(offset, 4)?.first_chunk().copied();
        Ok(bytes.map_or(0, u32::from_ne_bytes))
    }

    fn i32(&self, offset: u64) -> Result<i32, FormatError> {
        Ok(self.u32(offset)? as i32)
    }

    fn u64(&self, offset: u64) -> Result<u64, FormatError> {
        let bytes = self.at(offset, 8)?.first_chunk().copied();
        Ok(bytes.map_or(0, u64::from_ne_bytes))
    }

    /// Text in a place of fixed length, up to its NUL.
    fn text(&self, offset: u64, length: usize) -> Result<Vec<u8>, FormatError> {
        let bytes = self.at(offset, length)?;
        Ok(bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec())
    }

    /// A string of the file, of at most 256 bytes; none at 0.
    fn string(&self, offset: u64) -> Result<Option<Vec<u8>>, FormatError> {
        if offset == 0 {
            return Ok(None);
        }
        self.text(offset, 256).map(Some)
    }

    fn texts(&self, offset: u64) -> Result<[Option<Vec<u8>>; 2], FormatError> {
        Ok([
            self.string(self.u64(offset)?)?,
            self.string(self.u64(offset + 8)?)?,
        ])
    }
}

/// A string value's text.
pub fn string_at(bytes: &[u8], offset: i64) -> Option<Vec<u8>> {
    let offset = u64::try_from(offset).ok()?;
    Bytes(bytes).string(offset).ok().flatten()
}

/// Reads a file's content. What is reserved is bounded by its length.
///
/// # Errors
/// See [`FormatError`].
pub fn parse(bytes: &[u8]) -> Result<File, FormatError> {
    let file = Bytes(bytes);
    if file.at(0, 4).ok() != Some(&MAGIC[..]) {
        return Err(FormatError::Magic);
    }
    file.at(0, HEADER)?;
    let version = file.u32(4)?;
    if !(1..=3).contains(&version) {
        return Err(FormatError::Version(version));
    }
    let generation = file.u64(8)?;
    if generation == 0 || file.u64(16)? != generation {
        return Err(FormatError::Changing);
    }
    let mut out = File {
        generation,
        flags: file.u32(28)?,
        process: file.i32(32)?,
        cluster: file.u32(36)? & 0xfff,
        domains: Vec::new(),
        metrics: Vec::new(),
        values: Vec::new(),
        labels: Vec::new(),
    };
    let entries = u64::from(file.u32(24)?).min((bytes.len() / TOC_ENTRY) as u64);
    for entry in 0..entries {
        let at = HEADER as u64 + entry * TOC_ENTRY as u64;
        let (kind, count, offset) = (file.u32(at)?, file.u32(at + 4)?, file.u64(at + 8)?);
        let each = |size: usize, read: &mut dyn FnMut(u64) -> Result<(), FormatError>| {
            for n in 0..u64::from(count) {
                let at = offset.saturating_add(n * size as u64);
                file.at(at, size)?;
                read(at)?;
            }
            Ok::<(), FormatError>(())
        };
        match kind {
            section::INDOMS => each(32, &mut |at| {
                out.domains.push(domain(&file, version, at)?);
                Ok(())
            })?,
            section::METRICS => each(if version == 1 { 104 } else { 48 }, &mut |at| {
                out.metrics.push(metric(&file, version, at)?);
                Ok(())
            })?,
            section::VALUES => each(32, &mut |at| {
                out.values.push(Value {
                    bits: file.u64(at)?,
                    extra: file.u64(at + 8)? as i64,
                    metric: file.u64(at + 16)?,
                    instance: file.u64(at + 24)?,
                });
                Ok(())
            })?,
            section::LABELS => each(256, &mut |at| {
                out.labels.push(Label {
                    flags: file.u32(at)?,
                    identity: file.u32(at + 4)?,
                    instance: file.i32(at + 8)?,
                    json: file.text(at + 12, 244)?,
                });
                Ok(())
            })?,
            // Instances are found by their domains, strings by those that have them.
            _ => {}
        }
    }
    Ok(out)
}

fn domain(file: &Bytes<'_>, version: u32, at: u64) -> Result<Domain, FormatError> {
    let (count, first) = (file.u32(at + 4)?, file.u64(at + 8)?);
    let size = if version == 1 { 80 } else { 24 };
    let mut instances = Vec::new();
    for n in 0..u64::from(count) {
        let at = first.saturating_add(n * size as u64);
        file.at(at, size)?;
        let name = if version == 1 {
            file.text(at + 16, 64)?
        } else {
            file.string(file.u64(at + 16)?)?.unwrap_or_default()
        };
        instances.push((at, file.i32(at + 12)?, name));
    }
    Ok(Domain {
        serial: file.u32(at)?,
        instances,
        texts: file.texts(at + 16)?,
    })
}

fn metric(file: &Bytes<'_>, version: u32, offset: u64) -> Result<Metric, FormatError> {
    let (name, at) = if version == 1 {
        (file.text(offset, 64)?, offset + 64)
    } else {
        let name = file.string(file.u64(offset)?)?;
        (name.unwrap_or_default(), offset + 8)
    };
    let ty = file.i32(at + 4)?;
    let indom = file.i32(at + 16)?;
    Ok(Metric {
        offset,
        name,
        item: file.u32(at)? & 0x3ff,
        ty: match ty {
            ELAPSED => Type::I64,
            ty => Type::from_raw(ty),
        },
        is_elapsed: ty == ELAPSED,
        // PCP's agent takes 0 for a counter, and times for what they are.
        sem: match file.i32(at + 8)? {
            0 => Semantics::Counter,
            _ if ty == ELAPSED => Semantics::Counter,
            sem => Semantics::from_raw(sem),
        },
        units: if ty == ELAPSED {
            Units::new(0, 1, 0, 0, TIME_USEC, 0)
        } else {
            Units::from_raw(file.u32(at + 12)?)
        },
        indom: u32::try_from(indom).ok().filter(|serial| *serial != 0),
        texts: file.texts(at + 24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of version 1 with one metric and one value.
    fn small() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&1u32.to_ne_bytes());
        bytes.extend([7u64, 7].iter().flat_map(|n| n.to_ne_bytes()));
        bytes.extend([2u32, 0, 0, 5].iter().flat_map(|n| n.to_ne_bytes()));
        let (metric, value) = (72u64, 176u64);
        for (kind, offset) in [(section::METRICS, metric), (section::VALUES, value)] {
            bytes.extend([kind, 1].iter().flat_map(|n| n.to_ne_bytes()));
            bytes.extend(offset.to_ne_bytes());
        }
        let mut name = [0; 64];
        name[..5].copy_from_slice(b"count");
        bytes.extend_from_slice(&name);
        let raw = [3u32, Type::U64.raw() as u32, 1, 0x0010_0000, u32::MAX, 0];
        bytes.extend(raw.iter().flat_map(|n| n.to_ne_bytes()));
        bytes.extend([0u64, 0].iter().flat_map(|n| n.to_ne_bytes()));
        assert_eq!(bytes.len() as u64, value);
        bytes.extend([42u64, 0, metric, 0].iter().flat_map(|n| n.to_ne_bytes()));
        bytes
    }

    #[test]
    fn reads_metrics_and_values() {
        let file = parse(&small()).expect("a file");
        assert_eq!((file.generation, file.cluster), (7, 5));
        let metric = &file.metrics[0];
        assert_eq!((metric.name.as_slice(), metric.item), (&b"count"[..], 3));
        assert_eq!((metric.ty, metric.sem), (Type::U64, Semantics::Counter));
        assert_eq!(metric.units, Units::new(0, 0, 1, 0, 0, 0));
        assert_eq!(metric.indom, None);
        assert_eq!(file.values[0].bits, 42);
        assert_eq!(file.values[0].metric, metric.offset);
    }

    #[test]
    fn what_is_torn_is_refused() {
        let bytes = small();
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{end}");
        }
        let mut changing = bytes.clone();
        changing[8] = 8;
        assert_eq!(parse(&changing), Err(FormatError::Changing));
        let mut many = bytes;
        many[44..48].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(parse(&many), Err(FormatError::Short(_))));
    }
}
