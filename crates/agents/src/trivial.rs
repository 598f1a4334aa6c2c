//! `trivial`: the least that an agent can be.

use std::path::Path;

use pcp::{Atom, Desc, ErrorCode, InDom, Pmid, Semantics, TIME_SEC, Text, Timestamp, Type, Units};
use pmda::{Agent, Caller, Help, Values};

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 250;

/// The seconds since 1970, as `trivial.time`.
pub struct Trivial {
    domain: u32,
    help: Help,
}

impl Trivial {
    /// With the help texts of a folder.
    pub fn new(domain: u32, folder: &Path) -> Trivial {
        let help = crate::help_in(folder);
        Trivial { domain, help }
    }
}

impl Agent for Trivial {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        if pmid != Pmid::new(self.domain, 0, 0) {
            return Err(ErrorCode::PMID);
        }
        Ok(Desc {
            pmid,
            ty: Type::U64,
            indom: InDom::NULL,
            sem: Semantics::Counter,
            units: Units::new(0, 1, 0, 0, TIME_SEC, 0),
        })
    }

    fn values(&mut self, _: &Caller<'_>, _: &Desc) -> Result<Values, ErrorCode> {
        let seconds = u64::try_from(Timestamp::now().sec).unwrap_or(0);
        Ok(Values::single(Atom::U64(seconds)))
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.metric(pmid, one_line)
    }
}
