//! The PDUs that PCP's processes exchange. Everything here works on bytes: who reads and writes sockets, blocking or
//! not, is the caller's business.
//!
//! A PDU is three big-endian words (length in bytes, type, and the sender or a status) and a payload in words. Decoding
//! shares the frame's buffer; nothing is allocated for more entries than the frame has bytes for.

mod greeting;
pub(crate) mod label;
pub mod log;
mod profile;
pub(crate) mod result;
pub(crate) mod wire;

use bytes::Bytes;

pub use greeting::{Cred, Features, Info};
pub use log::{LogControl, LogControlSet, LogStatus};
pub use profile::{Profile, ProfileEntry};
pub use result::RawResult;

use crate::desc::{Desc, Semantics, Type};
use crate::error::{Error, ErrorCode, Result};
use crate::indom::{InDom, Instance};
use crate::label::LabelSet;
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::units::Units;
use crate::value::Fetched;
use profile::{decode_profile, encode_profile};
use wire::{Reader, Writer};

/// Bytes of a PDU's header.
pub const HEADER_LEN: usize = 12;
/// The longest PDU that a server takes from a client by default, in bytes.
pub const CLIENT_LIMIT: usize = 64 * 1024;

/// A PDU's type word.
#[allow(
    missing_docs,
    reason = "PCP's names, documented by the variants of Pdu"
)]
pub mod kind {
    pub const ERROR: u32 = 0x7000;
    pub const RESULT: u32 = 0x7001;
    pub const PROFILE: u32 = 0x7002;
    pub const FETCH: u32 = 0x7003;
    pub const DESC_REQ: u32 = 0x7004;
    pub const DESC: u32 = 0x7005;
    pub const INSTANCE_REQ: u32 = 0x7006;
    pub const INSTANCE: u32 = 0x7007;
    pub const TEXT_REQ: u32 = 0x7008;
    pub const TEXT: u32 = 0x7009;
    pub const CREDS: u32 = 0x700c;
    pub const PMNS_IDS: u32 = 0x700d;
    pub const PMNS_NAMES: u32 = 0x700e;
    pub const PMNS_CHILD: u32 = 0x700f;
    pub const PMNS_TRAVERSE: u32 = 0x7010;
    pub const ATTR: u32 = 0x7011;
    pub const LABEL_REQ: u32 = 0x7012;
    pub const LABEL: u32 = 0x7013;
    pub const HIGHRES_FETCH: u32 = 0x7014;
    pub const HIGHRES_RESULT: u32 = 0x7015;
    pub const DESC_IDS: u32 = 0x7016;
    pub const DESCS: u32 = 0x7017;
    pub const LOG_CONTROL: u32 = 0x8000;
    pub const LOG_STATUS_V2: u32 = 0x8001;
    pub const LOG_REQUEST: u32 = 0x8002;
    pub const LOG_STATUS: u32 = 0x8003;
}

/// A PDU's first words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes of the whole PDU.
    pub length: usize,
    /// What it is, see [`kind`].
    pub kind: u32,
    /// The sender: a client's context or process, or a status.
    pub from: i32,
}

impl Header {
    /// Reads a header; `None` as long as fewer than 12 bytes are there.
    ///
    /// # Errors
    /// `PM_ERR_IPC` for a length shorter than a header, `PM_ERR_TOOBIG` for one beyond `limit`.
    pub fn decode(bytes: &[u8], limit: usize) -> Result<Option<Header>> {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let word = |n: usize| {
            let at = n * 4;
            u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
        };
        let length = word(0) as i32;
        let length = usize::try_from(length)
            .ok()
            .filter(|l| *l >= HEADER_LEN)
            .ok_or_else(|| Error::ipc(format!("PDU of {length} bytes")))?;
        if length > limit {
            return Err(Error::Malformed {
                code: ErrorCode::TOOBIG,
                what: format!("PDU of {length} bytes, at most {limit} are taken"),
            });
        }
        Ok(Some(Header {
            length,
            kind: word(1),
            from: word(2) as i32,
        }))
    }
}

/// Text kinds of a text request (`PM_TEXT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TextKind(pub u32);

impl TextKind {
    /// One line about a metric.
    pub const METRIC_ONELINE: TextKind = TextKind(1 | 4);
    /// The help text of a metric.
    pub const METRIC_HELP: TextKind = TextKind(2 | 4);
    /// One line about an instance domain.
    pub const INDOM_ONELINE: TextKind = TextKind(1 | 8);
    /// The help text of an instance domain.
    pub const INDOM_HELP: TextKind = TextKind(2 | 8);

    /// Whether one line is asked for.
    #[must_use]
    pub const fn is_oneline(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether it is about an instance domain.
    #[must_use]
    pub const fn is_indom(self) -> bool {
        self.0 & 8 != 0
    }
}

/// Keys of ATTR PDUs (`PCP_ATTR_*`).
#[allow(
    missing_docs,
    reason = "the words that stand in pcpintro(1) and PCPIntro(3)"
)]
pub mod attr {
    pub const PROTOCOL: u32 = 1;
    pub const SECURE: u32 = 2;
    pub const COMPRESS: u32 = 3;
    pub const USERAUTH: u32 = 4;
    pub const USERNAME: u32 = 5;
    pub const AUTHNAME: u32 = 6;
    pub const PASSWORD: u32 = 7;
    pub const METHOD: u32 = 8;
    pub const REALM: u32 = 9;
    pub const UNIXSOCK: u32 = 10;
    pub const USERID: u32 = 11;
    pub const GROUPID: u32 = 12;
    pub const LOCAL: u32 = 13;
    pub const PROCESSID: u32 = 14;
    pub const CONTAINER: u32 = 15;
    pub const EXCLUSIVE: u32 = 16;
}

/// A PDU.
#[derive(Clone, PartialEq, Debug)]
pub enum Pdu {
    /// A status; with [`Info`] it is a server's greeting. Ahead of a result it tells what changed among the agents.
    Error {
        /// The status.
        code: ErrorCode,
        /// The greeting.
        info: Option<Info>,
    },
    /// Values, with microseconds: the answer of a fetch, or to be stored.
    Result(Fetched),
    /// Which instances are wanted from now on.
    Profile {
        /// The client's context.
        context: i32,
        /// The instances.
        profile: Profile,
    },
    /// Asks for values.
    Fetch {
        /// The client's context.
        context: i32,
        /// The metrics.
        pmids: Vec<Pmid>,
    },
    /// Asks for a descriptor.
    DescReq(Pmid),
    /// A descriptor.
    Desc(Desc),
    /// Asks for instances: all, or the one of that number or name.
    InstanceReq {
        /// The domain.
        indom: InDom,
        /// The number, [`crate::INST_NULL`] for any.
        inst: i32,
        /// The name, empty for any.
        name: Text,
    },
    /// Instances. Of a single one only what was not known to the asker is sent.
    Instance {
        /// The domain.
        indom: InDom,
        /// The instances.
        instances: Vec<Instance>,
    },
    /// Asks for help text.
    TextReq {
        /// A PMID or an instance domain.
        ident: u32,
        /// Which text.
        kind: TextKind,
    },
    /// A help text.
    Text {
        /// What it is about. PCP sends it in the byte order of the host, not of the network, so nobody reads it.
        ident: u32,
        /// The text.
        text: Text,
    },
    /// Who one is.
    Creds(Vec<Cred>),
    /// Metric identifiers: those of names asked for, or asking for their names.
    PmnsIds {
        /// The number of names found, or an error.
        status: i32,
        /// The identifiers.
        pmids: Vec<Pmid>,
    },
    /// Names: asking for their identifiers, or an answer.
    PmnsNames {
        /// The names.
        names: Vec<Text>,
        /// For children that were asked for with their status: 0 a leaf, 1 a node, one for each name. Else empty.
        status: Vec<i32>,
    },
    /// Asks for the children of a node.
    PmnsChild {
        /// The node's name, empty for the root.
        name: Text,
        /// Whether leaves are to be told from nodes.
        with_status: bool,
    },
    /// Asks for all leaves below a node.
    PmnsTraverse {
        /// The node's name, empty for the root.
        name: Text,
    },
    /// An attribute of a connection, or a step of authentication.
    Attr {
        /// See [`attr`].
        attr: u32,
        /// Its value.
        value: Bytes,
    },
    /// Asks for labels.
    LabelReq {
        /// A PMID, instance domain or domain, −1 for the context.
        ident: u32,
        /// The level, a `PM_LABEL_*` bit.
        level: u32,
    },
    /// Labels.
    Label {
        /// What was asked about.
        ident: u32,
        /// The level asked for.
        level: u32,
        /// The sets.
        sets: Vec<LabelSet>,
    },
    /// Asks for values with nanoseconds.
    HighResFetch {
        /// The client's context.
        context: i32,
        /// The metrics.
        pmids: Vec<Pmid>,
    },
    /// Values with nanoseconds.
    HighResResult(Fetched),
    /// Asks for many descriptors.
    DescIds(Vec<Pmid>),
    /// Many descriptors; one that is not known has a null PMID.
    Descs(Vec<Desc>),
    /// Tells a logger what to log (pmlc(1)).
    LogControl(LogControl),
    /// Asks a logger for something: see [`log`].
    LogRequest(i32),
    /// What a logger does, with microseconds.
    LogStatusV2(LogStatus),
    /// What a logger does, with nanoseconds.
    LogStatus(LogStatus),
}

fn desc(reader: &mut Reader) -> Result<Desc> {
    Ok(Desc {
        pmid: Pmid(reader.u32()?),
        ty: Type::from_raw(reader.i32()?),
        indom: InDom(reader.u32()?),
        sem: Semantics::from_raw(reader.i32()?),
        units: Units::from_raw(reader.u32()?),
    })
}

pub(crate) fn write_desc(out: &mut Vec<u8>, desc: &Desc) {
    for word in [
        desc.pmid.0,
        desc.ty.raw() as u32,
        desc.indom.0,
        desc.sem.raw() as u32,
        desc.units.raw(),
    ] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn pmids(reader: &mut Reader) -> Result<Vec<Pmid>> {
    let count = reader.count(4)?;
    (0..count).map(|_| reader.u32().map(Pmid)).collect()
}

impl Pdu {
    /// The type word.
    #[must_use]
    pub fn kind(&self) -> u32 {
        match self {
            Pdu::Error { .. } => kind::ERROR,
            Pdu::Result(_) => kind::RESULT,
            Pdu::Profile { .. } => kind::PROFILE,
            Pdu::Fetch { .. } => kind::FETCH,
            Pdu::DescReq(_) => kind::DESC_REQ,
            Pdu::Desc(_) => kind::DESC,
            Pdu::InstanceReq { .. } => kind::INSTANCE_REQ,
            Pdu::Instance { .. } => kind::INSTANCE,
            Pdu::TextReq { .. } => kind::TEXT_REQ,
            Pdu::Text { .. } => kind::TEXT,
            Pdu::Creds(_) => kind::CREDS,
            Pdu::PmnsIds { .. } => kind::PMNS_IDS,
            Pdu::PmnsNames { .. } => kind::PMNS_NAMES,
            Pdu::PmnsChild { .. } => kind::PMNS_CHILD,
            Pdu::PmnsTraverse { .. } => kind::PMNS_TRAVERSE,
            Pdu::Attr { .. } => kind::ATTR,
            Pdu::LabelReq { .. } => kind::LABEL_REQ,
            Pdu::Label { .. } => kind::LABEL,
            Pdu::HighResFetch { .. } => kind::HIGHRES_FETCH,
            Pdu::HighResResult(_) => kind::HIGHRES_RESULT,
            Pdu::DescIds(_) => kind::DESC_IDS,
            Pdu::Descs(_) => kind::DESCS,
            Pdu::LogControl(_) => kind::LOG_CONTROL,
            Pdu::LogRequest(_) => kind::LOG_REQUEST,
            Pdu::LogStatusV2(_) => kind::LOG_STATUS_V2,
            Pdu::LogStatus(_) => kind::LOG_STATUS,
        }
    }

    /// Decodes one PDU, header included.
    ///
    /// # Errors
    /// `PM_ERR_IPC` for anything that is not what the type says, `PM_ERR_TOOBIG` when the frame is not as long as it says.
    pub fn decode(frame: &Bytes) -> Result<(Header, Pdu)> {
        let header = Header::decode(frame, frame.len())?
            .ok_or_else(|| Error::ipc(format!("PDU of {} bytes", frame.len())))?;
        let frame = frame.slice(..header.length);
        let reader = &mut Reader::new(frame.clone(), HEADER_LEN);
        let pdu = match header.kind {
            kind::ERROR => {
                let code = ErrorCode(reader.i32()?);
                let info = (reader.remaining() >= 4).then(|| reader.u32().map(Info::from_raw));
                Pdu::Error {
                    code,
                    info: info.transpose()?,
                }
            }
            kind::RESULT => Pdu::Result(result::decode(&frame)?),
            kind::HIGHRES_RESULT => Pdu::HighResResult(result::decode_high_res(&frame)?),
            kind::PROFILE => {
                let (context, profile) = decode_profile(reader)?;
                Pdu::Profile { context, profile }
            }
            kind::FETCH | kind::HIGHRES_FETCH => {
                let context = reader.i32()?;
                // A time, which has been without meaning since archives are read by clients themselves.
                reader.i64()?;
                let pmids = pmids(reader)?;
                if header.kind == kind::FETCH {
                    Pdu::Fetch { context, pmids }
                } else {
                    Pdu::HighResFetch { context, pmids }
                }
            }
            kind::DESC_REQ => Pdu::DescReq(Pmid(reader.u32()?)),
            kind::DESC => Pdu::Desc(desc(reader)?),
            kind::DESC_IDS => {
                reader.i32()?;
                Pdu::DescIds(pmids(reader)?)
            }
            kind::DESCS => {
                let count = reader.count(20)?;
                Pdu::Descs((0..count).map(|_| desc(reader)).collect::<Result<_>>()?)
            }
            kind::INSTANCE_REQ => {
                let indom = InDom(reader.u32()?);
                reader.i64()?;
                Pdu::InstanceReq {
                    indom,
                    inst: reader.i32()?,
                    name: reader.text()?,
                }
            }
            kind::INSTANCE => {
                let indom = InDom(reader.u32()?);
                let count = reader.count(8)?;
                let instances = (0..count)
                    .map(|_| {
                        Ok(Instance {
                            inst: reader.i32()?,
                            name: reader.text()?,
                        })
                    })
                    .collect::<Result<_>>()?;
                Pdu::Instance { indom, instances }
            }
            kind::TEXT_REQ => Pdu::TextReq {
                ident: reader.u32()?,
                kind: TextKind(reader.u32()?),
            },
            kind::TEXT => Pdu::Text {
                ident: reader.u32()?,
                text: reader.text()?,
            },
            kind::CREDS => {
                let count = reader.count(4)?;
                let creds = (0..count)
                    .map(|_| {
                        let [ty, a, b, c] = reader.u32()?.to_be_bytes();
                        Ok(Cred {
                            ty,
                            bytes: [a, b, c],
                        })
                    })
                    .collect::<Result<_>>()?;
                Pdu::Creds(creds)
            }
            kind::PMNS_IDS => Pdu::PmnsIds {
                status: reader.i32()?,
                pmids: pmids(reader)?,
            },
            kind::PMNS_NAMES => decode_names(reader)?,
            kind::PMNS_CHILD => {
                let with_status = reader.i32()? != 0;
                Pdu::PmnsChild {
                    name: reader.text()?,
                    with_status,
                }
            }
            kind::PMNS_TRAVERSE => {
                reader.i32()?;
                Pdu::PmnsTraverse {
                    name: reader.text()?,
                }
            }
            kind::ATTR => Pdu::Attr {
                attr: reader.u32()?,
                value: reader.rest(),
            },
            kind::LABEL_REQ => Pdu::LabelReq {
                ident: reader.u32()?,
                level: reader.u32()?,
            },
            kind::LABEL => {
                let ident = reader.u32()?;
                let level = reader.u32()?;
                reader.u32()?;
                let sets = label::decode(reader)?;
                Pdu::Label { ident, level, sets }
            }
            kind::LOG_CONTROL => Pdu::LogControl(LogControl::decode(reader)?),
            kind::LOG_REQUEST => Pdu::LogRequest(reader.i32()?),
            kind::LOG_STATUS_V2 => Pdu::LogStatusV2(LogStatus::decode(reader, false)?),
            kind::LOG_STATUS => Pdu::LogStatus(LogStatus::decode(reader, true)?),
            other => return Err(Error::ipc(format!("PDU type {other:#x}"))),
        };
        Ok((header, pdu))
    }

    /// Appends the PDU to `out`.
    pub fn encode(&self, from: i32, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out, self.kind(), from);
        let w = &mut writer;
        match self {
            Pdu::Error { code, info } => {
                w.i32(code.0);
                if let Some(info) = info {
                    w.u32(info.raw());
                }
            }
            Pdu::Result(fetched) => result::encode(w, fetched),
            Pdu::HighResResult(fetched) => result::encode_high_res(w, fetched),
            Pdu::Profile { context, profile } => encode_profile(w, *context, profile),
            Pdu::Fetch { context, pmids } | Pdu::HighResFetch { context, pmids } => {
                w.i32(*context);
                w.i64(0);
                encode_pmids(w, pmids);
            }
            Pdu::DescReq(pmid) => w.u32(pmid.0),
            Pdu::Desc(desc) => write_desc(w.out, desc),
            Pdu::DescIds(pmids) => {
                w.i32(-1);
                encode_pmids(w, pmids);
            }
            Pdu::Descs(descs) => {
                w.count(descs.len());
                for desc in descs {
                    write_desc(w.out, desc);
                }
            }
            Pdu::InstanceReq { indom, inst, name } => {
                w.u32(indom.0);
                w.i64(0);
                w.i32(*inst);
                w.text(name);
            }
            Pdu::Instance { indom, instances } => {
                w.u32(indom.0);
                w.count(instances.len());
                for instance in instances {
                    w.i32(instance.inst);
                    w.text(&instance.name);
                }
            }
            Pdu::TextReq { ident, kind } => {
                w.u32(*ident);
                w.u32(kind.0);
            }
            Pdu::Text { ident, text } => {
                w.u32(*ident);
                w.text(text);
            }
            Pdu::Creds(creds) => {
                w.count(creds.len());
                for cred in creds {
                    w.bytes(&[cred.ty]);
                    w.bytes(&cred.bytes);
                }
            }
            Pdu::PmnsIds { status, pmids } => {
                w.i32(*status);
                encode_pmids(w, pmids);
            }
            Pdu::PmnsNames { names, status } => encode_names(w, names, status),
            Pdu::PmnsChild { name, with_status } => {
                w.i32(i32::from(*with_status));
                w.text(name);
            }
            Pdu::PmnsTraverse { name } => {
                w.i32(0);
                w.text(name);
            }
            Pdu::Attr { attr, value } => {
                w.u32(*attr);
                w.bytes(value);
            }
            Pdu::LabelReq { ident, level } => {
                w.u32(*ident);
                w.u32(*level);
            }
            Pdu::Label { ident, level, sets } => {
                w.u32(*ident);
                w.u32(*level);
                w.u32(0);
                label::encode(w, sets);
            }
            Pdu::LogControl(control) => control.encode(w),
            Pdu::LogRequest(request) => w.i32(*request),
            Pdu::LogStatusV2(status) => status.encode(w, false),
            Pdu::LogStatus(status) => status.encode(w, true),
        }
        writer.finish();
    }

    /// The PDU as bytes.
    #[must_use]
    pub fn to_bytes(&self, from: i32) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(from, &mut out);
        out
    }
}

fn encode_pmids(writer: &mut Writer<'_>, pmids: &[Pmid]) {
    writer.count(pmids.len());
    for pmid in pmids {
        writer.u32(pmid.0);
    }
}

fn decode_names(reader: &mut Reader) -> Result<Pdu> {
    // The room that the names take in a C program.
    reader.i32()?;
    let statuses = reader.length()?;
    let count = reader.count(if statuses > 0 { 8 } else { 4 })?;
    let mut names = Vec::with_capacity(count);
    let mut status = Vec::new();
    for _ in 0..count {
        if statuses > 0 {
            status.push(reader.i32()?);
        }
        names.push(reader.text()?);
    }
    Ok(Pdu::PmnsNames { names, status })
}

fn encode_names(writer: &mut Writer<'_>, names: &[Text], status: &[i32]) {
    writer.count(names.iter().map(|n| n.len() + 1).sum());
    writer.count(status.len());
    writer.count(names.len());
    for (n, name) in names.iter().enumerate() {
        if !status.is_empty() {
            writer.i32(status.get(n).copied().unwrap_or(0));
        }
        writer.text(name);
    }
}

/// A time in a PDU that has 32-bit seconds and microseconds, or 64-bit seconds and nanoseconds.
pub(crate) fn time(reader: &mut Reader, high_res: bool) -> Result<Timestamp> {
    Ok(if high_res {
        let sec = reader.i64()?;
        Timestamp::new(sec, reader.i32()?)
    } else {
        Timestamp::from_micros(reader.i32()?.into(), reader.i32()?)
    })
}

#[cfg(test)]
mod tests;
