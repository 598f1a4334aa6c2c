//! The sections that name another file: `.gnu_debuglink` (the GDB manual, "Separate Debug Files") and `.gnu_debugaltlink`
//! (dwz(1)).

use std::path::PathBuf;

use crate::image::Image;

/// `.gnu_debuglink`: the name of a file without a directory, and the CRC-32 of all its bytes.
pub(crate) struct DebugLink {
    pub name: String,
    pub checksum: u32,
}

impl DebugLink {
    /// A name with a `/` is not one.
    pub fn read(image: &Image) -> Option<DebugLink> {
        let bytes = image.contents_by_name(".gnu_debuglink")?;
        let end = bytes.iter().position(|b| *b == 0)?;
        let name = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        let at = (end + 1).next_multiple_of(4);
        let checksum = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        (!name.is_empty() && !name.contains('/')).then_some(DebugLink {
            name,
            checksum: u32::from_le_bytes(checksum),
        })
    }
}

/// `.gnu_debugaltlink`: the path of a file, and its build-id.
pub(crate) struct AlternateLink {
    pub name: PathBuf,
    pub build_id: Vec<u8>,
}

impl AlternateLink {
    pub fn read(image: &Image) -> Option<AlternateLink> {
        let bytes = image.contents_by_name(".gnu_debugaltlink")?;
        let end = bytes.iter().position(|b| *b == 0)?;
        let name = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        let build_id = bytes.get(end + 1..)?.to_vec();
        Some(AlternateLink {
            name: PathBuf::from(name),
            build_id,
        })
    }
}
