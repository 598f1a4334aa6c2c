//! Where the debugging information is: in the file, or in a separate one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimli::{EndianSlice, LittleEndian};

use crate::image::Image;

/// Bytes of a section.
pub(crate) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The debugging sections of one file, borrowed.
#[derive(Clone)]
pub(crate) struct DwarfFile<'a> {
    /// The file that holds them.
    pub debug: &'a Image,
    /// The file that is loaded, whose unwind table gives frame addresses.
    pub loaded: &'a Image,
    pub dwarf: Arc<gimli::Dwarf<Slice<'a>>>,
    split: &'a SplitFiles,
}

impl<'a> DwarfFile<'a> {
    /// `None` when `debug` has no `.debug_info`.
    pub fn load(
        debug: &'a Image,
        loaded: &'a Image,
        supplementary: Option<&'a Image>,
        split: &'a SplitFiles,
    ) -> Option<DwarfFile<'a>> {
        debug
            .contents_by_name(".debug_info")
            .filter(|d| !d.is_empty())?;
        let mut dwarf = gimli::Dwarf::load(|id| section(debug, id.name())).ok()?;
        if let Some(image) = supplementary {
            dwarf.load_sup(|id| section(image, id.name())).ok()?;
        }
        Some(DwarfFile {
            debug,
            loaded,
            dwarf: Arc::new(dwarf),
            split,
        })
    }

    /// The unit that a skeleton stands for (DWARF 5, 3.1.2), from its `.dwo` file or from the `.dwp` package beside the
    /// program. `None` when the unit is no skeleton or the file is not there.
    pub fn split_unit(
        &self,
        dwarf: &Arc<gimli::Dwarf<Slice<'a>>>,
        skeleton: &gimli::Unit<Slice<'a>>,
    ) -> Option<(Arc<gimli::Dwarf<Slice<'a>>>, gimli::Unit<Slice<'a>>)> {
        let id = skeleton.dwo_id?;
        let found = self.packaged(dwarf, id).or_else(|| {
            let text = |value| {
                let slice = dwarf.attr_string(skeleton, value).ok()?;
                Some(PathBuf::from(slice.to_string_lossy().into_owned()))
            };
            let name = text(skeleton.dwo_name().ok()??)?;
            let directory = skeleton.comp_dir.map(|d| d.to_string_lossy().into_owned());
            let beside = self.debug.path.parent().zip(name.file_name());
            let candidates = [
                Some(PathBuf::from(directory.unwrap_or_default()).join(&name)),
                beside.map(|(directory, name)| directory.join(name)),
            ];
            let image = candidates
                .iter()
                .flatten()
                .find_map(|p| self.split.open(p))?;
            let mut split = gimli::Dwarf::load(|id| match id.dwo_name() {
                Some(name) => section(image, name),
                None => Ok(Slice::default()),
            })
            .ok()?;
            split.make_dwo(dwarf);
            Some(split)
        })?;
        let mut headers = found.units();
        while let Ok(Some(header)) = headers.next() {
            let mut unit = gimli::Unit::new(&found, header).ok()?;
            if unit.dwo_id == Some(id) {
                unit.copy_relocated_attributes(skeleton);
                return Some((Arc::new(found), unit));
            }
        }
        None
    }

    fn packaged(
        &self,
        dwarf: &gimli::Dwarf<Slice<'a>>,
        id: gimli::DwoId,
    ) -> Option<gimli::Dwarf<Slice<'a>>> {
        let mut path = self.loaded.path.clone().into_os_string();
        path.push(".dwp");
        let image = self.split.open(Path::new(&path))?;
        let package = gimli::DwarfPackage::load(
            |id| match id.dwo_name() {
                Some(name) => section(image, name),
                None => Ok(Slice::default()),
            },
            Slice::default(),
        )
        .ok()?;
        package.find_cu(id, dwarf).ok()?
    }
}

fn section<'a>(image: &'a Image, name: &str) -> Result<Slice<'a>, gimli::Error> {
    let bytes = image.contents_by_name(name).unwrap_or_default();
    Ok(EndianSlice::new(bytes, LittleEndian))
}

/// Files of split debugging information, opened when a unit first asks for them and kept as long as the binary.
#[derive(Default)]
pub(crate) struct SplitFiles {
    images: elsa::sync::FrozenMap<PathBuf, Box<Option<Image>>>,
}

impl SplitFiles {
    fn open(&self, path: &Path) -> Option<&Image> {
        if let Some(known) = self.images.get(path) {
            return known.as_ref();
        }
        let image = Image::open_debug_file(path).ok();
        self.images
            .insert(path.to_owned(), Box::new(image))
            .as_ref()
    }
}

/// The file that entries common to several debug files were moved to (`.gnu_debugaltlink`, made by dwz(1)): by the name
/// given there, relative to the debug file, or by build-id. One whose build-id differs is not taken.
pub(crate) fn find_supplementary_file(debug: &Image) -> Option<Image> {
    let bytes = debug.contents_by_name(".gnu_debugaltlink")?;
    let end = bytes.iter().position(|b| *b == 0)?;
    let name = PathBuf::from(String::from_utf8_lossy(bytes.get(..end)?).into_owned());
    let build_id = bytes.get(end + 1..)?;
    let directory = std::fs::canonicalize(&debug.path).ok();
    let directory = directory.as_deref().and_then(Path::parent);
    let mut candidates = vec![directory.unwrap_or(Path::new("/")).join(name)];
    candidates.extend(by_build_id(build_id));
    candidates.into_iter().find_map(|path| {
        let image = Image::open_debug_file(&path).ok()?;
        (image.build_id() == Some(build_id)).then_some(image)
    })
}

/// `/usr/lib/debug/.build-id/ab/cdef….debug`.
fn by_build_id(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let rest: String = rest.iter().map(|b| format!("{b:02x}")).collect();
    Some(PathBuf::from(format!(
        "/usr/lib/debug/.build-id/{first:02x}/{rest}.debug"
    )))
}

/// A separate debug file: `/usr/lib/debug/.build-id/ab/cdef….debug`, or what `.gnu_debuglink` names beside the file, in
/// `.debug` beside it, or under `/usr/lib/debug` (the GDB manual, "Separate Debug Files"). One whose build-id differs is
/// not taken.
pub(crate) fn find_debug_file(image: &Image) -> Option<Image> {
    let root = Path::new("/usr/lib/debug");
    let mut candidates: Vec<PathBuf> = Vec::new();
    candidates.extend(image.build_id().and_then(by_build_id));
    let real = std::fs::canonicalize(&image.path).ok();
    if let (Some(name), Some(real)) = (debug_link(image), &real)
        && let Some(directory) = real.parent()
    {
        candidates.push(directory.join(&name));
        candidates.push(directory.join(".debug").join(&name));
        if let Ok(below) = directory.strip_prefix("/") {
            candidates.push(root.join(below).join(&name));
        }
    }
    candidates.into_iter().find_map(|path| {
        if real
            .as_ref()
            .is_some_and(|r| std::fs::canonicalize(&path).is_ok_and(|p| p == *r))
        {
            return None;
        }
        let debug = Image::open_debug_file(&path).ok()?;
        let same = image.build_id().is_none() || debug.build_id() == image.build_id();
        same.then_some(debug)
    })
}

/// The file name in `.gnu_debuglink`; a name with a `/` is not one.
fn debug_link(image: &Image) -> Option<String> {
    let bytes = image.contents_by_name(".gnu_debuglink")?;
    let name = bytes.split(|b| *b == 0).next()?;
    let name = String::from_utf8_lossy(name).into_owned();
    (!name.is_empty() && !name.contains('/')).then_some(name)
}
