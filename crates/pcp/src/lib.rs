//! Performance Co-Pilot for Rust: its wire protocol, its types, its name space, and contexts that fetch metrics.
//!
//! Three nouns: a [`Context`] is where metrics come from; a [`Desc`] says what a metric is (type, units, semantics,
//! instance domain); a [`Fetched`] holds values, each an [`InstanceValue`], which [`Atom::extract`] turns into a number or
//! text. Whoever writes a daemon or an agent starts at [`pdu`], which is bytes in, PDUs out, and knows no sockets.
//!
//! ```
//! use pcp::{Atom, ScaledUnits, Type};
//!
//! let rate: ScaledUnits = "kbyte / sec".parse()?;
//! assert_eq!(rate.units.to_string(), "Kbyte / sec");
//! let bytes: ScaledUnits = "byte / sec".parse()?;
//! let value = Atom::U32(4096).convert(Type::Double).and_then(|v| v.rescale(bytes.units, rate.units));
//! assert_eq!(value, Ok(Atom::Double(4.0)));
//! # Ok::<(), pcp::UnitsError>(())
//! ```

pub mod archive;
pub mod cformat;
mod connection;
mod context;
pub mod debug;
pub mod derived;
mod desc;
mod dump;
mod error;
mod event;
pub mod exchanged;
mod host;
mod hosts;
mod indom;
mod label;
pub mod pdu;
mod pmid;
pub mod pmns;
pub mod sasl;
mod text;
mod timestamp;
pub mod timewindow;
pub mod timezone;
pub mod tls;
mod units;
mod value;

pub use connection::{
    Address, Connection, HostSpec, HostSpecError, PMCD_PORT, SERVER_LIMIT, config, default_socket,
};
pub use context::Context;
pub use desc::{Desc, Semantics, Type};
pub use dump::{dump_record, dump_values};
pub use error::{Error, ErrorCode, Result};
pub use event::{EventArray, EventFlags, EventParam, EventRecord};
pub use host::HostContext;
pub use hosts::Hosts;
pub use indom::{INST_NULL, InDom, Instance, instance_name_matches};
pub use label::{
    LABEL_JSON_MAX, LABELS_MAX, Label, LabelFlags, LabelLevel, LabelSet, merge as merge_labels,
};
pub use pmid::Pmid;
pub use text::Text;
pub use timestamp::{NSEC_PER_SEC, Timestamp};
pub use units::{
    ScaledUnits, TIME_HOUR, TIME_MIN, TIME_MSEC, TIME_NSEC, TIME_SEC, TIME_USEC, Units, UnitsError,
};
pub use value::{
    Atom, Block, Fetched, InstanceValue, VALUE_MAX, Value, ValueSet, number, print_value,
    write_value,
};
