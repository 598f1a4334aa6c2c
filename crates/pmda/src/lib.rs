//! Agents of Performance Co-Pilot (PMDA(3)): implement [`Agent`], and [`serve`] speaks to whichever pmcd started the
//! program with a line like `trivial 250 pipe binary /usr/local/bin/pmdatrivial` in its `pmcd.conf`.
//!
//! ```
//! use pcp::{Atom, Desc, ErrorCode, InDom, Pmid, Semantics, Type, Units};
//! use pmda::{Agent, Caller, Values};
//!
//! /// One metric: the seconds since 1970.
//! struct Trivial;
//!
//! impl Agent for Trivial {
//!     fn domain(&self) -> u32 {
//!         250
//!     }
//!
//!     fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
//!         if pmid != Pmid::new(250, 0, 0) {
//!             return Err(ErrorCode::PMID);
//!         }
//!         let units = "sec".parse().map(|u: pcp::ScaledUnits| u.units).unwrap_or(Units::NONE);
//!         Ok(Desc { pmid, ty: Type::U32, indom: InDom::NULL, sem: Semantics::Counter, units })
//!     }
//!
//!     fn values(&mut self, _: &Caller<'_>, _: &Desc) -> Result<Values, ErrorCode> {
//!         let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
//!         Ok(Values::single(Atom::U32(now.map_or(0, |t| t.as_secs() as u32))))
//!     }
//! }
//!
//! # let program = || {
//! pmda::serve(&mut Trivial)
//! # };
//! ```

mod agent;
mod answer;
mod container;
mod event_queue;
mod help;
mod instances;
mod labels;
mod serve;

pub use agent::{Agent, Caller, Name, Values};
pub use answer::Answerer;
pub use container::{Container, Namespace};
pub use event_queue::{EventFilter, EventQueue};
pub use help::{Help, HelpError};
pub use instances::InstanceCache;
pub use labels::label_set;
pub use serve::{Endpoint, serve, serve_at, serve_over};
