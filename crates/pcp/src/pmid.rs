//! Metric and instance-domain identifiers.

use std::fmt;
use std::str::FromStr;

use crate::error::ErrorCode;

/// A metric's identifier: domain 9 bits, cluster 12, item 10 (pmID_domain(3)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pmid(pub u32);

impl Pmid {
    /// `PM_ID_NULL`: no metric.
    pub const NULL: Pmid = Pmid(u32::MAX);

    /// The domain whose metrics are served by name only: PMIDs of dynamic subtrees' roots.
    pub const DYNAMIC_DOMAIN: u32 = 511;

    /// Puts an identifier together; parts that do not fit are cut to their width.
    #[must_use]
    pub const fn new(domain: u32, cluster: u32, item: u32) -> Pmid {
        Pmid((domain & 0x1ff) << 22 | (cluster & 0xfff) << 10 | (item & 0x3ff))
    }

    /// The agent's domain.
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.0 >> 22 & 0x1ff
    }

    /// The cluster within the domain.
    #[must_use]
    pub const fn cluster(self) -> u32 {
        self.0 >> 10 & 0xfff
    }

    /// The item within the cluster.
    #[must_use]
    pub const fn item(self) -> u32 {
        self.0 & 0x3ff
    }

    /// The cluster, as label requests name it: the identifier without its item.
    #[must_use]
    pub const fn without_item(self) -> Pmid {
        Pmid(self.0 & !0x3ff)
    }

    /// Whether this is the root of a dynamic subtree rather than a metric.
    #[must_use]
    pub const fn is_dynamic_root(self) -> bool {
        self.domain() == Self::DYNAMIC_DOMAIN && self.item() == 0
    }

    /// Whether this names a derived metric.
    #[must_use]
    pub const fn is_derived(self) -> bool {
        self.domain() == Self::DYNAMIC_DOMAIN && self.item() != 0
    }
}

/// As pmIDStr(3) prints it.
impl fmt::Display for Pmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Pmid::NULL {
            f.pad("PM_ID_NULL")
        } else if self.is_dynamic_root() {
            f.pad(&format!("{}.*.*", self.cluster()))
        } else {
            f.pad(&format!(
                "{}.{}.{}",
                self.domain(),
                self.cluster(),
                self.item()
            ))
        }
    }
}

impl fmt::Debug for Pmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pmid({self})")
    }
}

/// `domain.cluster.item`, each within its width.
impl FromStr for Pmid {
    type Err = ErrorCode;

    fn from_str(text: &str) -> Result<Pmid, ErrorCode> {
        let mut parts = text.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(d @ ..511)), Some(Ok(c @ ..=4095)), Some(Ok(i @ ..=1023)), None) => {
                Ok(Pmid::new(d, c, i))
            }
            _ => Err(ErrorCode::PMID),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_pmidstr() {
        assert_eq!(Pmid::NULL.to_string(), "PM_ID_NULL");
        assert_eq!(Pmid(0x0740_0006).to_string(), "29.0.6");
        assert_eq!(Pmid(0x7fc0_0001).to_string(), "511.0.1");
        assert_eq!(Pmid(0x7fc0_0000).to_string(), "0.*.*");
        assert_eq!(Pmid(0xffc0_0001).to_string(), "511.0.1");
        assert_eq!("29.0.6".parse(), Ok(Pmid(0x0740_0006)));
        assert!("512.0.0".parse::<Pmid>().is_err());
    }
}
