//! Instance domains.

use std::fmt;
use std::str::FromStr;

use crate::error::ErrorCode;
use crate::text::Text;

/// An instance domain's identifier: domain 9 bits, serial 22 (pmInDom_domain(3)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InDom(pub u32);

impl InDom {
    /// `PM_INDOM_NULL`: a metric with one value.
    pub const NULL: InDom = InDom(u32::MAX);

    /// Puts an identifier together; parts that do not fit are cut to their width.
    #[must_use]
    pub const fn new(domain: u32, serial: u32) -> InDom {
        InDom((domain & 0x1ff) << 22 | (serial & 0x3f_ffff))
    }

    /// The agent's domain.
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.0 >> 22 & 0x1ff
    }

    /// The serial number within the domain.
    #[must_use]
    pub const fn serial(self) -> u32 {
        self.0 & 0x3f_ffff
    }

    /// Whether this is [`InDom::NULL`].
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == u32::MAX
    }
}

/// As pmInDomStr(3) prints it.
impl fmt::Display for InDom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_null() {
            f.pad("PM_INDOM_NULL")
        } else {
            f.pad(&format!("{}.{}", self.domain(), self.serial()))
        }
    }
}

impl fmt::Debug for InDom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InDom({self})")
    }
}

impl FromStr for InDom {
    type Err = ErrorCode;

    fn from_str(text: &str) -> Result<InDom, ErrorCode> {
        let mut parts = text.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(d @ ..=511)), Some(Ok(s @ ..=0x3f_ffff)), None) => Ok(InDom::new(d, s)),
            _ => Err(ErrorCode::INDOM),
        }
    }
}

/// The instance number of a metric without instances (`PM_IN_NULL`).
pub const INST_NULL: i32 = -1;

/// An instance: its number and its external name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// The internal identifier.
    pub inst: i32,
    /// The external name.
    pub name: Text,
}

/// Whether an external instance name is meant by `wanted`: equal, or `wanted` has no space and equals the name up to
/// its first space (pmLookupInDom(3), pmdaInstance(3)).
#[must_use]
pub fn instance_name_matches(name: &[u8], wanted: &[u8]) -> bool {
    name == wanted
        || (!wanted.contains(&b' ')
            && name
                .iter()
                .position(|&b| b == b' ')
                .is_some_and(|n| name.get(..n) == Some(wanted)))
}
