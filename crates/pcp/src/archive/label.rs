//! The label record that each file of an archive begins with.

use bytes::Bytes;

use crate::error::{ErrorCode, Result};
use crate::pdu::wire::Reader;
use crate::text::Text;
use crate::timestamp::Timestamp;

/// The upper bits of an archive's magic number; the version stands in the lowest byte.
pub(super) const MAGIC: u32 = 0x5005_2600;

/// The volume number of the temporal index (`PM_LOG_VOL_TI`).
pub const VOLUME_INDEX: i32 = -2;
/// The volume number of the metadata (`PM_LOG_VOL_META`).
pub const VOLUME_META: i32 = -1;

/// An archive's version on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// Times in microseconds with 32-bit seconds.
    V2 = 2,
    /// Times in nanoseconds with 64-bit seconds.
    V3 = 3,
}

impl Version {
    /// Bytes of a label record's payload.
    #[must_use]
    pub const fn label_len(self) -> usize {
        match self {
            Version::V2 => 124,
            Version::V3 => 800,
        }
    }

    /// Bytes of a time stamp.
    #[must_use]
    pub const fn time_len(self) -> usize {
        match self {
            Version::V2 => 8,
            Version::V3 => 12,
        }
    }

    /// Bytes of an entry of the temporal index.
    #[must_use]
    pub const fn index_entry_len(self) -> usize {
        match self {
            Version::V2 => 20,
            Version::V3 => 32,
        }
    }

    /// Reads a time stamp. In version 3 the low word of the seconds comes first.
    pub(crate) fn read_time(self, reader: &mut Reader) -> Result<Timestamp> {
        Ok(match self {
            Version::V2 => Timestamp::from_micros(reader.i32()?.into(), reader.i32()?),
            Version::V3 => {
                let low = reader.u32()?;
                let high = reader.u32()?;
                Timestamp::new(
                    (u64::from(high) << 32 | u64::from(low)) as i64,
                    reader.i32()?,
                )
            }
        })
    }

    /// Appends a time stamp.
    pub(crate) fn write_time(self, out: &mut Vec<u8>, time: Timestamp) {
        match self {
            Version::V2 => {
                out.extend_from_slice(&(time.sec as i32).to_be_bytes());
                out.extend_from_slice(&time.usec().to_be_bytes());
            }
            Version::V3 => {
                out.extend_from_slice(&(time.sec as u32).to_be_bytes());
                out.extend_from_slice(&((time.sec >> 32) as u32).to_be_bytes());
                out.extend_from_slice(&time.nsec.to_be_bytes());
            }
        }
    }
}

/// Who logged what, where and from when on (LOGARCHIVE(5), "Log label").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// The format.
    pub version: Version,
    /// The logger's process.
    pub pid: i32,
    /// When logging began.
    pub start: Timestamp,
    /// The volume of the file that the label stands in.
    pub volume: i32,
    /// Feature bits, version 3.
    pub features: u32,
    /// The host whose metrics these are.
    pub hostname: Text,
    /// `$TZ` there.
    pub timezone: Text,
    /// Where that time zone is described, version 3.
    pub zoneinfo: Text,
}

fn fixed(reader: &mut Reader, width: usize) -> Result<Text> {
    let bytes = reader.take(width)?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(width);
    Ok(bytes.slice(..end).into())
}

impl Label {
    /// Decodes the payload of a label record.
    ///
    /// # Errors
    /// `PM_ERR_LABEL` when it is none, `PM_ERR_APPVERSION` for versions that are not known, `PM_ERR_FEATURE`.
    pub fn decode(payload: &Bytes) -> Result<Label> {
        let bad = |_| ErrorCode::LABEL;
        let mut reader = Reader::new(payload.clone(), 0);
        let magic = reader.u32().map_err(bad)?;
        if magic & 0xffff_ff00 != MAGIC {
            return Err(ErrorCode::LABEL.into());
        }
        let version = match magic & 0xff {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(ErrorCode::LABEL.into()),
        };
        if payload.len() != version.label_len() {
            return Err(ErrorCode::LABEL.into());
        }
        let pid = reader.i32().map_err(bad)?;
        let start = version.read_time(&mut reader).map_err(bad)?;
        let volume = reader.i32().map_err(bad)?;
        let (mut features, mut zoneinfo) = (0, Text::default());
        let (hostname, timezone);
        if version == Version::V3 {
            features = reader.u32().map_err(bad)?;
            reader.u32().map_err(bad)?;
            hostname = fixed(&mut reader, 256)?;
            timezone = fixed(&mut reader, 256)?;
            zoneinfo = fixed(&mut reader, 256)?;
        } else {
            hostname = fixed(&mut reader, 64)?;
            timezone = fixed(&mut reader, 40)?;
        }
        Ok(Label {
            version,
            pid,
            start,
            volume,
            features,
            hostname,
            timezone,
            zoneinfo,
        })
    }

    /// The payload of a label record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.version.label_len());
        out.extend_from_slice(&(MAGIC | self.version as u32).to_be_bytes());
        out.extend_from_slice(&self.pid.to_be_bytes());
        self.version.write_time(&mut out, self.start);
        out.extend_from_slice(&self.volume.to_be_bytes());
        let fields: &[(&Text, usize)] = match self.version {
            Version::V2 => &[(&self.hostname, 64), (&self.timezone, 40)],
            Version::V3 => {
                out.extend_from_slice(&self.features.to_be_bytes());
                out.extend_from_slice(&[0; 4]);
                &[
                    (&self.hostname, 256),
                    (&self.timezone, 256),
                    (&self.zoneinfo, 256),
                ]
            }
        };
        for (text, width) in fields {
            let end = out.len() + width;
            out.extend(text.iter().take(width - 1));
            out.resize(end, 0);
        }
        out
    }

    /// Whether both stand for the same run of the same logger.
    #[must_use]
    pub fn same_archive(&self, other: &Label) -> bool {
        self.version == other.version && self.pid == other.pid && self.hostname == other.hostname
    }
}
