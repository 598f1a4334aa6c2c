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

/// [`LogControl::control`]: change mandatory logging.
pub const CONTROL_MANDATORY: i32 = 11;
/// [`LogControl::control`]: change advisory logging.
pub const CONTROL_ADVISORY: i32 = 12;
/// [`LogControl::control`]: ask what is logged.
pub const CONTROL_ENQUIRE: i32 = 13;

/// [`LogControl::state`]: not logged.
pub const STATE_OFF: i32 = 0;
/// [`LogControl::state`]: logged if there is advice to.
pub const STATE_MAYBE: i32 = 1;
/// [`LogControl::state`]: logged.
pub const STATE_ON: i32 = 2;

/// The version of this protocol in which times have nanoseconds.
pub const VERSION: i32 = 3;

/// Tells a logger what to log, or asks what it logs. The answer is a RESULT whose values are [`LoggingState`]s.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogControl {
    /// [`CONTROL_MANDATORY`] or one of its siblings.
    pub control: i32,
    /// The state wanted: [`STATE_ON`] or one of its siblings.
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
    /// Its instances with a value each, which is not used; none stand for all. Or an error.
    pub values: std::result::Result<Vec<(i32, i32)>, crate::ErrorCode>,
}

/// How an instance is logged, packed into the value of an answer: four bits, and above them the interval.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LoggingState {
    /// Whether it is logged.
    pub on: bool,
    /// Whether that is mandatory; else it is advisory.
    pub mandatory: bool,
    /// Whether the archive has values of it.
    pub in_log: bool,
    /// Whether there was a value at the last fetch.
    pub available: bool,
    /// Milliseconds between samples; 0 for once.
    pub delta: u32,
}

impl LoggingState {
    /// As a value of an answer.
    #[must_use]
    pub fn raw(self) -> u32 {
        self.delta << 4
            | u32::from(self.available) << 3
            | u32::from(self.in_log) << 2
            | u32::from(self.mandatory) << 1
            | u32::from(self.on)
    }

    /// From a value of an answer.
    #[must_use]
    pub fn from_raw(raw: u32) -> LoggingState {
        LoggingState {
            on: raw & 1 != 0,
            mandatory: raw & 2 != 0,
            in_log: raw & 4 != 0,
            available: raw & 8 != 0,
            delta: raw >> 4,
        }
    }
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
    /// How the logger reaches it.
    pub fqdn: Text,
    /// Its time zone.
    pub timezone: Text,
    /// Where that zone is described; not in the older form.
    pub zoneinfo: Text,
    /// The logger's time zone.
    pub logger_timezone: Text,
    /// Where that zone is described; not in the older form.
    pub logger_zoneinfo: Text,
}

fn until_nul(bytes: &[u8]) -> Text {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    Text::from(bytes.get(..end).unwrap_or(bytes))
}

fn write_fixed(writer: &mut Writer<'_>, text: &Text, width: usize) {
    let mut bytes: Vec<u8> = text.iter().copied().take(width - 1).collect();
    bytes.resize(width, 0);
    writer.bytes(&bytes);
}

/// A time whose seconds come with the low word first.
fn high_res_time(reader: &mut Reader) -> Result<Timestamp> {
    let (low, high) = (reader.u32()?, reader.u32()?);
    let sec = (u64::from(high) << 32 | u64::from(low)) as i64;
    Ok(Timestamp::new(sec, reader.i32()?))
}

/// Widths of host names and time zones in the older form.
const V2_WIDTHS: [usize; 4] = [64, 64, 40, 40];

impl LogStatus {
    pub(crate) fn decode(reader: &mut Reader, high_res: bool) -> Result<LogStatus> {
        let read_time = |reader: &mut Reader| {
            if high_res {
                high_res_time(reader)
            } else {
                time(reader, false)
            }
        };
        if !high_res {
            reader.i32()?;
        }
        let mut status = LogStatus {
            start: read_time(reader)?,
            last: read_time(reader)?,
            now: read_time(reader)?,
            state: reader.i32()?,
            volume: reader.i32()?,
            size: reader.i64()?,
            ..LogStatus::default()
        };
        let mut widths = [0; 6];
        if high_res {
            for width in &mut widths {
                *width = reader.length()?;
            }
        } else {
            let [host, fqdn, zone, own] = V2_WIDTHS;
            widths = [host, fqdn, zone, 0, own, 0];
        }
        let fields = [
            &mut status.hostname,
            &mut status.fqdn,
            &mut status.timezone,
            &mut status.zoneinfo,
            &mut status.logger_timezone,
            &mut status.logger_zoneinfo,
        ];
        for (field, width) in fields.into_iter().zip(widths) {
            *field = until_nul(&reader.take(width)?);
        }
        Ok(status)
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>, high_res: bool) {
        if !high_res {
            writer.i32(0);
        }
        for time in [self.start, self.last, self.now] {
            if high_res {
                writer.u32(time.sec as u32);
                writer.u32((time.sec >> 32) as u32);
                writer.i32(time.nsec);
            } else {
                writer.i32(time.sec as i32);
                writer.i32(time.usec());
            }
        }
        writer.i32(self.state);
        writer.i32(self.volume);
        writer.i64(self.size);
        if !high_res {
            let fields = [
                &self.hostname,
                &self.fqdn,
                &self.timezone,
                &self.logger_timezone,
            ];
            for (text, width) in fields.into_iter().zip(V2_WIDTHS) {
                write_fixed(writer, text, width);
            }
            return;
        }
        let fields = [
            &self.hostname,
            &self.fqdn,
            &self.timezone,
            &self.zoneinfo,
            &self.logger_timezone,
            &self.logger_zoneinfo,
        ];
        for text in fields {
            let length = if text.is_empty() { 0 } else { text.len() + 1 };
            writer.count(length);
        }
        for text in fields.into_iter().filter(|t| !t.is_empty()) {
            writer.bytes(text);
            writer.bytes(&[0]);
        }
        writer.pad();
    }
}
