//! What pmlc(1) and pmlogger(1) say to each other.

use super::time;
use super::wire::{Reader, Writer};
use crate::error::{Error, Result};
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;

/// `LOG_REQUEST`: start a new volume of the archive.
pub const REQUEST_NEW_VOLUME: i32 = 1;
/// `LOG_REQUEST`: send a status.
pub const REQUEST_STATUS: i32 = 2;
/// `LOG_REQUEST`: write out what is buffered.
pub const REQUEST_SYNC: i32 = 3;

/// Tells a logger what to log, or asks what it logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogControl {
    /// 1 mandatory, 2 advisory, 3 enquire.
    pub control: i32,
    /// The state wanted: 1 on, 0 off, 2 maybe.
    pub state: i32,
    /// Milliseconds between samples.
    pub delta: i32,
    /// The metrics and instances.
    pub sets: Vec<LogControlSet>,
}

/// One metric of a [`LogControl`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogControlSet {
    /// The metric.
    pub pmid: Pmid,
    /// Its instances with a value each (in answers: state and interval); or an error.
    pub values: std::result::Result<Vec<(i32, i32)>, crate::ErrorCode>,
}

impl LogControl {
    pub(crate) fn decode(reader: &mut Reader) -> Result<LogControl> {
        let (control, state, delta) = (reader.i32()?, reader.i32()?, reader.i32()?);
        let count = reader.count(8)?;
        let mut sets = Vec::with_capacity(count);
        for _ in 0..count {
            let pmid = Pmid(reader.u32()?);
            let numval = reader.i32()?;
            let values = match usize::try_from(numval) {
                Err(_) => Err(crate::ErrorCode(numval)),
                Ok(0) => Ok(Vec::new()),
                Ok(numval) => {
                    // The value format, which is always "in place".
                    reader.i32()?;
                    if numval > reader.remaining() / 8 {
                        return Err(Error::ipc(format!(
                            "{numval} values in {} bytes",
                            reader.remaining()
                        )));
                    }
                    Ok((0..numval)
                        .map(|_| Ok((reader.i32()?, reader.i32()?)))
                        .collect::<Result<_>>()?)
                }
            };
            sets.push(LogControlSet { pmid, values });
        }
        Ok(LogControl {
            control,
            state,
            delta,
            sets,
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.control);
        writer.i32(self.state);
        writer.i32(self.delta);
        writer.count(self.sets.len());
        for set in &self.sets {
            writer.u32(set.pmid.0);
            match &set.values {
                Err(code) => writer.i32(code.0),
                Ok(values) => {
                    writer.count(values.len());
                    if !values.is_empty() {
                        writer.i32(0);
                    }
                    for (inst, value) in values {
                        writer.i32(*inst);
                        writer.i32(*value);
                    }
                }
            }
        }
    }
}

/// What a logger does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogStatus {
    /// Whether it logs.
    pub state: i32,
    /// The archive's first record.
    pub start: Timestamp,
    /// The archive's last record.
    pub last: Timestamp,
    /// The logger's clock.
    pub now: Timestamp,
    /// The current volume.
    pub volume: i32,
    /// Bytes in it.
    pub size: i64,
    /// The host whose metrics are logged.
    pub hostname: Text,
    /// Its full name.
    pub fqdn: Text,
    /// Its time zone.
    pub timezone: Text,
    /// The logger's time zone.
    pub logger_timezone: Text,
}

fn fixed(reader: &mut Reader, width: usize) -> Result<Text> {
    let bytes = reader.take(width)?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(width);
    Ok(bytes.slice(..end).into())
}

fn write_fixed(writer: &mut Writer<'_>, text: &Text, width: usize) {
    let mut bytes: Vec<u8> = text.iter().copied().take(width - 1).collect();
    bytes.resize(width, 0);
    writer.bytes(&bytes);
}

impl LogStatus {
    pub(crate) fn decode(reader: &mut Reader, high_res: bool) -> Result<LogStatus> {
        let (host, zone) = if high_res { (256, 256) } else { (64, 40) };
        let state = reader.i32()?;
        let (start, last, now) = (
            time(reader, high_res)?,
            time(reader, high_res)?,
            time(reader, high_res)?,
        );
        Ok(LogStatus {
            state,
            start,
            last,
            now,
            volume: reader.i32()?,
            size: reader.i64()?,
            hostname: fixed(reader, host)?,
            fqdn: fixed(reader, host)?,
            timezone: fixed(reader, zone)?,
            logger_timezone: fixed(reader, zone)?,
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>, high_res: bool) {
        let (host, zone) = if high_res { (256, 256) } else { (64, 40) };
        writer.i32(self.state);
        for time in [self.start, self.last, self.now] {
            if high_res {
                writer.i64(time.sec);
                writer.i32(time.nsec);
            } else {
                writer.i32(time.sec as i32);
                writer.i32(time.usec());
            }
        }
        writer.i32(self.volume);
        writer.i64(self.size);
        write_fixed(writer, &self.hostname, host);
        write_fixed(writer, &self.fqdn, host);
        write_fixed(writer, &self.timezone, zone);
        write_fixed(writer, &self.logger_timezone, zone);
    }
}
