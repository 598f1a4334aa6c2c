//! The sections of debugging information, of the file, its supplement and its split units.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gimli::{EndianSlice, LittleEndian};

use crate::debug_files::DebugFiles;
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
    pub files: &'a DebugFiles,
    split: &'a SplitFiles,
}

impl<'a> DwarfFile<'a> {
    /// `None` when `debug` has no `.debug_info`.
    pub fn load(
        debug: &'a Image,
        loaded: &'a Image,
        supplementary: Option<&'a Image>,
        split: &'a SplitFiles,
        files: &'a DebugFiles,
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
            files,
            split,
        })
    }

    /// Bytes of `.debug_info`.
    pub fn info_size(&self) -> usize {
        let bytes = self.debug.contents_by_name(".debug_info");
        bytes.map_or(0, <[u8]>::len)
    }

    /// Whether names are better looked for in an index or by a search than by decoding everything.
    pub fn is_large(&self) -> bool {
        self.info_size() as u64 >= self.files.large_from()
    }

    /// `.debug_str`.
    pub fn strings(&self) -> &'a [u8] {
        self.debug
            .contents_by_name(".debug_str")
            .unwrap_or_default()
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
            let directory = PathBuf::from(directory.unwrap_or_default());
            let (loaded, debug) = (&self.loaded.path, &self.debug.path);
            let candidates = self
                .files
                .split_candidates(loaded, debug, &directory, &name);
            let Some(image) = candidates.iter().find_map(|p| self.split.open(p)) else {
                self.files.warn(format!(
                    "{}: {} is missing, which holds a part of the debugging information",
                    self.debug.path.display(),
                    directory.join(&name).display()
                ));
                return None;
            };
            let mut split = gimli::Dwarf::load(|id| match id.dwo_name() {
                Some(name) => section(image, name),
                None => Ok(Slice::default()),
            })
            .ok()?;
            split.make_dwo(dwarf);
            Some(split)
        })?;
        // Lines stay with the skeleton, and files have the numbers that they have there (DWARF 5, F.2.3).
        let mut found = found;
        found.debug_line = dwarf.debug_line;
        found.debug_line_str = dwarf.debug_line_str;
        let mut headers = found.units();
        while let Ok(Some(header)) = headers.next() {
            let mut unit = gimli::Unit::new(&found, header).ok()?;
            if unit.dwo_id == Some(id) {
                unit.copy_relocated_attributes(skeleton);
                unit.line_program.clone_from(&skeleton.line_program);
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
        let image = self.split.package(&self.loaded.path, &self.debug.path)?;
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
    /// The package of them all.
    package: OnceLock<Option<PathBuf>>,
    images: elsa::sync::FrozenMap<PathBuf, Box<Option<Image>>>,
}

impl SplitFiles {
    fn package(&self, loaded: &Path, debug: &Path) -> Option<&Image> {
        let path = self.package.get_or_init(|| {
            let candidates = DebugFiles::package_candidates(loaded, debug);
            candidates.into_iter().find(|p| self.open(p).is_some())
        });
        self.open(path.as_deref()?)
    }

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
