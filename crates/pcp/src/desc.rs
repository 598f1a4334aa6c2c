//! What a metric is: its type, semantics, instance domain and units.

use std::fmt;

use crate::indom::InDom;
use crate::pmid::Pmid;
use crate::units::Units;

/// A metric's value type (`PM_TYPE_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// `PM_TYPE_NOSUPPORT`: the agent knows the name and nothing else.
    NoSupport,
    /// Signed 32-bit.
    I32,
    /// Unsigned 32-bit.
    U32,
    /// Signed 64-bit.
    I64,
    /// Unsigned 64-bit.
    U64,
    /// IEEE single.
    Float,
    /// IEEE double.
    Double,
    /// Characters.
    String,
    /// Opaque bytes.
    Aggregate,
    /// Opaque bytes in storage of the agent.
    AggregateStatic,
    /// Event records with microseconds.
    Event,
    /// Event records with nanoseconds.
    HighResEvent,
    /// `PM_TYPE_UNKNOWN`: a value block of no stated type.
    Unknown,
    /// A number that PCP gives no meaning.
    Other(i32),
}

impl Type {
    /// From the number in a PDU or archive.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Type {
        match raw {
            -1 => Type::NoSupport,
            0 => Type::I32,
            1 => Type::U32,
            2 => Type::I64,
            3 => Type::U64,
            4 => Type::Float,
            5 => Type::Double,
            6 => Type::String,
            7 => Type::Aggregate,
            8 => Type::AggregateStatic,
            9 => Type::Event,
            10 => Type::HighResEvent,
            255 => Type::Unknown,
            other => Type::Other(other),
        }
    }

    /// The number for a PDU or archive.
    #[must_use]
    pub const fn raw(self) -> i32 {
        match self {
            Type::NoSupport => -1,
            Type::I32 => 0,
            Type::U32 => 1,
            Type::I64 => 2,
            Type::U64 => 3,
            Type::Float => 4,
            Type::Double => 5,
            Type::String => 6,
            Type::Aggregate => 7,
            Type::AggregateStatic => 8,
            Type::Event => 9,
            Type::HighResEvent => 10,
            Type::Unknown => 255,
            Type::Other(raw) => raw,
        }
    }

    /// Whether values are numbers.
    #[must_use]
    pub const fn is_numeric(self) -> bool {
        matches!(
            self,
            Type::I32 | Type::U32 | Type::I64 | Type::U64 | Type::Float | Type::Double
        )
    }
}

/// As pmTypeStr(3) prints it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Type::NoSupport => "NO_SUPPORT",
            Type::I32 => "32",
            Type::U32 => "U32",
            Type::I64 => "64",
            Type::U64 => "U64",
            Type::Float => "FLOAT",
            Type::Double => "DOUBLE",
            Type::String => "STRING",
            Type::Aggregate => "AGGREGATE",
            Type::AggregateStatic => "AGGREGATE_STATIC",
            Type::Event => "EVENT",
            Type::HighResEvent => "HIGHRES_EVENT",
            Type::Unknown => "UNKNOWN",
            Type::Other(_) => "???",
        })
    }
}

/// How values follow each other (`PM_SEM_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Semantics {
    /// Grows only, and its rate is what matters.
    Counter,
    /// A sample of something continuous.
    Instant,
    /// A value that holds until it changes.
    Discrete,
    /// A number that PCP gives no meaning.
    Other(i32),
}

impl Semantics {
    /// From the number in a PDU or archive.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Semantics {
        match raw {
            1 => Semantics::Counter,
            3 => Semantics::Instant,
            4 => Semantics::Discrete,
            other => Semantics::Other(other),
        }
    }

    /// The number for a PDU or archive.
    #[must_use]
    pub const fn raw(self) -> i32 {
        match self {
            Semantics::Counter => 1,
            Semantics::Instant => 3,
            Semantics::Discrete => 4,
            Semantics::Other(raw) => raw,
        }
    }
}

/// As pmSemStr(3) prints it.
impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Semantics::Counter => "counter",
            Semantics::Instant => "instant",
            Semantics::Discrete => "discrete",
            Semantics::Other(_) => "???",
        })
    }
}

/// A metric's descriptor (pmLookupDesc(3)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Desc {
    /// The metric.
    pub pmid: Pmid,
    /// The type of its values.
    pub ty: Type,
    /// The domain of its instances, [`InDom::NULL`] for a metric with one value.
    pub indom: InDom,
    /// How its values follow each other.
    pub sem: Semantics,
    /// Dimension and scale of its values.
    pub units: Units,
}
