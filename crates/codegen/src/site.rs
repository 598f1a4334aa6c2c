//! The texts that a probed place has for `pp()`, `probefunc()` and their like.

/// Texts of one site; see [`runtime::layout::Site`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SiteText {
    /// Sets apart the sites of several probes that are otherwise alike; 0 where that does not matter.
    pub probe: usize,
    /// `pp()`.
    pub pp: String,
    /// `pn()`.
    pub pn: String,
    /// `probefunc()`.
    pub function: String,
    /// `modname()`.
    pub module: String,
    /// `$$name`.
    pub mark: String,
    /// `$$provider`.
    pub provider: String,
    /// `probe_type()`.
    pub kind: String,
}
