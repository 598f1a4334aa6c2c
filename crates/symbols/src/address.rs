//! The two kinds of number that name a place in a file, as types that can't be mixed.

use std::fmt;

/// An address in a file's own link-time address space (what `readelf -s` prints), before any load bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ImageAddr(pub u64);

impl ImageAddr {
    /// The address `bytes` further on, wrapping as the processor does.
    pub fn offset(self, bytes: i64) -> ImageAddr {
        ImageAddr(self.0.wrapping_add_signed(bytes))
    }
}

impl fmt::Display for ImageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for ImageAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A position in the file, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileOffset(pub u64);

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_hexadecimal() {
        assert_eq!(ImageAddr(0x401000).to_string(), "0x401000");
        assert_eq!(FileOffset(255).to_string(), "0xff");
        assert_eq!(ImageAddr(0x10).offset(-1), ImageAddr(0xf));
    }
}
