//! What an index is made of: one pass over units that decodes the names of functions, of what was inlined, and of types and
//! variables outside of functions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use gimli::AttributeValue;

use super::function_entry::has_code;
use super::line_table;
use super::name_index::hash;
use super::named_entities::{is_named_entity, is_scope};
use super::sections::Slice;
use super::units::{EntryId, Home, Place, Unit, Units};
use crate::functions::{demangle, name_components};

/// In a name: an offset into the texts of the index, and not into `.debug_str`.
pub(crate) const TEXT: u32 = 1 << 31;
/// There is no name.
pub(crate) const NO_NAME: u32 = u32::MAX;
/// No file is named.
pub(crate) const NO_FILE: u32 = u32::MAX;

/// A function with code.
pub(crate) struct ScannedFunction {
    pub name: u32,
    pub linkage_name: u32,
    pub file: u32,
    pub unit: u32,
    pub die: u32,
    /// Hashes of its keys; 0 for none.
    pub keys: [u32; 3],
}

/// A function that was inlined somewhere.
pub(crate) struct ScannedOrigin {
    pub name: u32,
    pub linkage_name: u32,
    pub file: u32,
    pub keys: [u32; 3],
}

/// An inlined copy.
pub(crate) struct ScannedCopy {
    pub origin: u32,
    pub unit: u32,
    pub die: u32,
}

/// A type or variable outside of functions.
pub(crate) struct ScannedEntity {
    pub hash: u32,
    pub name: u32,
    pub unit: u32,
    pub die: u32,
    /// Hash of the scopes around it.
    pub scope: u32,
    pub is_type: bool,
}

/// What was found in some units.
#[derive(Default)]
pub(crate) struct Part {
    pub functions: Vec<ScannedFunction>,
    pub origins: Vec<ScannedOrigin>,
    pub copies: Vec<ScannedCopy>,
    pub entities: Vec<ScannedEntity>,
    pub ranges: Vec<(u64, u64, u32)>,
    pub files: Vec<String>,
    pub texts: Vec<u8>,
    /// Where entries of functions stand in `.debug_info` that others may refer to, when asked for.
    pub declared: Vec<usize>,
    /// The first entry that could not be decoded, and the number of units in which there was one.
    pub damage: Option<(usize, gimli::Error)>,
    pub damaged_units: usize,
    known_texts: HashMap<Box<[u8]>, u32>,
    known_files: HashMap<(Home, usize, u64), u32>,
    known_paths: HashMap<String, u32>,
}

/// What is looked for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter<'k> {
    /// Only functions that have this key.
    pub key: Option<&'k str>,
    /// Entries of functions without code are noted, too.
    pub declared: bool,
}

/// Scans units, given with their numbers. Of a damaged one what stands before the damage is found.
pub(crate) fn scan(
    units: &Units<'_>,
    wanted: impl Iterator<Item = (usize, usize)>,
    filter: Filter<'_>,
) -> Part {
    let mut part = Part::default();
    let key = filter.key.map(|k| hash(k.as_bytes()).max(1));
    for (number, start) in wanted {
        let Ok(number) = u32::try_from(number) else {
            break;
        };
        let scanned = units.unit(start).and_then(|unit| {
            let mut scanner = Scanner {
                units,
                unit: &unit,
                number,
                key,
                declared: filter.declared,
                part: &mut part,
                origins: HashMap::new(),
            };
            scanner.ranges();
            scanner.run()
        });
        if let Err(error) = scanned {
            part.damaged_units += 1;
            part.damage.get_or_insert((start, error));
        }
    }
    part
}

/// The parts of names by which functions are found: what stands before template arguments and other punctuation of the
/// name, the whole linkage name, and where that does not contain the former, what it says the name is.
pub(crate) fn keys<'n>(name: &'n str, linkage_name: Option<&'n str>) -> [Option<Cow<'n, str>>; 3] {
    let own = key_of(name);
    let stem = own.trim_start_matches('~');
    let demangled = linkage_name
        .filter(|linkage| !linkage.contains(stem))
        .and_then(demangle)
        .and_then(|full| {
            let last = name_components(&full).pop().map(key_of)?;
            (last != own).then(|| Cow::Owned(last.to_owned()))
        });
    let linkage = linkage_name.filter(|l| *l != own).map(Cow::Borrowed);
    [Some(Cow::Borrowed(own)), linkage, demangled]
}

/// The first of these keys of a name.
pub(crate) fn key_of(name: &str) -> &str {
    let end = name
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '~' | '$' | '.')))
        .unwrap_or(name.len());
    match end {
        0 => name,
        end => name.get(..end).unwrap_or(name),
    }
}

/// The key that everything has which a pattern without wildcards in its last part means.
pub(crate) fn key_of_pattern(pattern: &str) -> Option<&str> {
    let last = name_components(pattern).pop()?;
    let key = key_of(last);
    let plain = !key.is_empty() && !crate::glob::Glob::has_wildcard(key);
    // What follows may have wildcards (`push<*>`) when the key ends before them.
    let whole = key.len() == last.len()
        || last.as_bytes().get(key.len()) == Some(&b'<')
        || !crate::glob::Glob::has_wildcard(last);
    (plain && whole).then_some(key)
}

struct Scanner<'s, 'a> {
    units: &'s Units<'a>,
    unit: &'s Rc<Unit<'a>>,
    number: u32,
    key: Option<u32>,
    declared: bool,
    part: &'s mut Part,
    /// Of this unit's copies; `None` where the origin is not wanted.
    origins: HashMap<EntryId, Option<u32>>,
}

/// The attributes that matter.
#[derive(Default)]
struct Attributes<'a> {
    name: Option<AttributeValue<Slice<'a>>>,
    linkage_name: Option<AttributeValue<Slice<'a>>>,
    origin: Option<AttributeValue<Slice<'a>>>,
    file: Option<u64>,
    declaration: bool,
}

impl<'a> Scanner<'_, 'a> {
    fn ranges(&mut self) {
        for range in self.unit.code(&self.units.file.dwarf) {
            if range.begin < range.end {
                self.part.ranges.push((range.begin, range.end, self.number));
            }
        }
    }

    fn run(&mut self) -> gimli::Result<()> {
        let mut entries = self.unit.entries_raw(None)?;
        // What is inside of a function or of a type that is no scope is nobody else's.
        let mut hidden: Option<isize> = None;
        let mut scopes: Vec<(isize, u32)> = Vec::new();
        while !entries.is_empty() {
            let offset = entries.next_offset();
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            let (tag, children) = (abbreviation.tag(), abbreviation.has_children());
            let specifications = abbreviation.attributes();
            if hidden.is_some_and(|h| depth <= h) {
                hidden = None;
            }
            let outside = hidden.is_none();
            let function =
                tag == gimli::DW_TAG_subprogram && (self.declared || has_code(specifications));
            let entity = outside && self.key.is_none() && is_named_entity(tag);
            let scope = outside && self.key.is_none() && is_scope(tag);
            if outside && children && !is_scope(tag) {
                hidden = Some(depth);
            }
            if !(function || entity || scope || tag == gimli::DW_TAG_inlined_subroutine) {
                entries.skip_attributes(specifications)?;
                continue;
            }
            let mut found = Attributes::default();
            for specification in specifications {
                let attribute = entries.read_attribute(*specification)?;
                match attribute.name() {
                    gimli::DW_AT_name => found.name = Some(attribute.value()),
                    gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                        found.linkage_name = Some(attribute.value());
                    }
                    gimli::DW_AT_abstract_origin => found.origin = Some(attribute.value()),
                    gimli::DW_AT_specification if found.origin.is_none() => {
                        found.origin = Some(attribute.value());
                    }
                    gimli::DW_AT_decl_file => {
                        found.file = match attribute.value() {
                            AttributeValue::FileIndex(index) => Some(index),
                            value => value.udata_value(),
                        };
                    }
                    gimli::DW_AT_declaration => {
                        found.declaration = attribute.value() == AttributeValue::Flag(true);
                    }
                    _ => {}
                }
            }
            let Ok(die) = u32::try_from(offset.0) else {
                return Ok(());
            };
            if tag == gimli::DW_TAG_inlined_subroutine {
                if let Some(origin) = found.origin {
                    self.copy(die, origin);
                }
            } else if function {
                self.function(die, &found, has_code(specifications));
            } else {
                scopes.retain(|(d, _)| *d < depth);
                let around = scopes.last().map_or(0, |(_, scope)| *scope);
                let name = self.name_here(&found);
                if scope && children {
                    let own = name.as_deref().map_or(0, hash);
                    let inner = hash(&[around.to_le_bytes(), own.to_le_bytes()].concat());
                    scopes.push((depth, inner));
                }
                let is_type = tag != gimli::DW_TAG_variable;
                if entity
                    && !(is_type && found.declaration)
                    && let Some(text) = name
                {
                    let name = self.entity_name(&found, &text);
                    self.part.entities.push(ScannedEntity {
                        hash: hash(&text),
                        name,
                        unit: self.number,
                        die,
                        scope: around,
                        is_type,
                    });
                }
            }
        }
        Ok(())
    }

    /// An entry's name, its own or that of what it defines.
    fn name_here(&self, found: &Attributes<'a>) -> Option<Cow<'a, [u8]>> {
        if let Some(value) = found.name {
            let text = self.unit.dwarf.attr_string(self.unit, value).ok()?;
            return Some(Cow::Borrowed(text.slice()));
        }
        let place = self.units.follow(self.unit, found.origin?)?;
        let name = self.units.inherited_string(&place, gimli::DW_AT_name)?;
        Some(Cow::Owned(name.into_bytes()))
    }

    fn entity_name(&mut self, found: &Attributes<'a>, text: &[u8]) -> u32 {
        match found.name {
            Some(value) => self.name(&Rc::clone(self.unit), value, text),
            None => self.part.intern(text),
        }
    }

    /// How the index names a string: where it stands in `.debug_str`, else a copy.
    fn name(&mut self, unit: &Unit<'a>, value: AttributeValue<Slice<'a>>, text: &[u8]) -> u32 {
        let main = unit.home == Home::Main && Arc::ptr_eq(&unit.dwarf, &self.units.file.dwarf);
        let offset = match value {
            AttributeValue::DebugStrRef(offset) => Some(offset),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                unit.dwarf.string_offset(unit, index).ok()
            }
            _ => None,
        };
        let offset = offset
            .filter(|_| main)
            .and_then(|o| u32::try_from(o.0).ok());
        match offset.filter(|o| o & TEXT == 0) {
            Some(offset) => offset,
            None => self.part.intern(text),
        }
    }

    /// A string attribute of an entry or of what it refers to.
    fn inherited(
        &mut self,
        own: Option<AttributeValue<Slice<'a>>>,
        place: Option<&Place<'a>>,
        attributes: &[gimli::DwAt],
    ) -> Option<(u32, String)> {
        let (unit, value) = match own {
            Some(value) => (Rc::clone(self.unit), value),
            None => {
                let place = place?;
                attributes
                    .iter()
                    .find_map(|attribute| self.units.inherited(place, *attribute))?
            }
        };
        let text = unit.text(value)?;
        Some((self.name(&unit, value, text.as_bytes()), text))
    }

    /// Names and file of an entry, given with what it refers to; `None` when it has no name or is not wanted.
    fn record(
        &mut self,
        found: &Attributes<'a>,
        place: Option<&Place<'a>>,
    ) -> Option<ScannedOrigin> {
        let (name, text) = self.inherited(found.name, place, &[gimli::DW_AT_name])?;
        let linkage = self.inherited(
            found.linkage_name,
            place,
            &[gimli::DW_AT_linkage_name, gimli::DW_AT_MIPS_linkage_name],
        );
        let mut hashes = [0; 3];
        let keys = keys(&text, linkage.as_ref().map(|(_, text)| text.as_str()));
        for (hashed, key) in hashes.iter_mut().zip(keys) {
            *hashed = key.map_or(0, |key| hash(key.as_bytes()).max(1));
        }
        if self.key.is_some_and(|wanted| !hashes.contains(&wanted)) {
            return None;
        }
        let file = match found.file {
            Some(file) => self.file(&Rc::clone(self.unit), file),
            None => place
                .and_then(|place| {
                    let (unit, value) = self.units.inherited(place, gimli::DW_AT_decl_file)?;
                    let index = match value {
                        AttributeValue::FileIndex(index) => index,
                        value => value.udata_value()?,
                    };
                    Some(self.file(&unit, index))
                })
                .unwrap_or(NO_FILE),
        };
        Some(ScannedOrigin {
            name,
            linkage_name: linkage.map_or(NO_NAME, |(name, _)| name),
            file,
            keys: hashes,
        })
    }

    fn file(&mut self, unit: &Unit<'a>, index: u64) -> u32 {
        let key = (unit.home, unit.start, index);
        if let Some(known) = self.part.known_files.get(&key) {
            return *known;
        }
        let number = match line_table::file_name(&unit.dwarf, unit, index) {
            None => NO_FILE,
            Some(path) => match self.part.known_paths.get(&path) {
                Some(known) => *known,
                None => {
                    let number = u32::try_from(self.part.files.len()).unwrap_or(NO_FILE);
                    self.part.files.push(path.clone());
                    self.part.known_paths.insert(path, number);
                    number
                }
            },
        };
        self.part.known_files.insert(key, number);
        number
    }

    fn function(&mut self, die: u32, found: &Attributes<'a>, code: bool) {
        let place = found.origin.and_then(|o| self.units.follow(self.unit, o));
        let Some(record) = self.record(found, place.as_ref()) else {
            return;
        };
        if self.declared {
            self.part.declared.push(self.unit.start + die as usize);
        }
        if code {
            self.part.functions.push(ScannedFunction {
                name: record.name,
                linkage_name: record.linkage_name,
                file: record.file,
                unit: self.number,
                die,
                keys: record.keys,
            });
        }
    }

    fn copy(&mut self, die: u32, origin: AttributeValue<Slice<'a>>) {
        // Most origins are in the unit itself, and asked for again and again.
        let id = match origin {
            AttributeValue::UnitRef(offset) => Some(EntryId {
                home: self.unit.home,
                unit: self.unit.start,
                die: offset.0,
            }),
            _ => None,
        };
        let place = match id {
            Some(id) if self.origins.contains_key(&id) => None,
            _ => match self.units.follow(self.unit, origin) {
                Some(place) => Some(place),
                None => return,
            },
        };
        let id = match (&place, id) {
            (Some(place), _) => place.id(),
            (None, Some(id)) => id,
            (None, None) => return,
        };
        if !self.origins.contains_key(&id) {
            let Some(place) = place else { return };
            let record = self.record(&Attributes::default(), Some(&place));
            let number = record.map(|record| {
                self.part.origins.push(record);
                self.part.origins.len() as u32 - 1
            });
            self.origins.insert(id, number);
        }
        if let Some(Some(origin)) = self.origins.get(&id) {
            self.part.copies.push(ScannedCopy {
                origin: *origin,
                unit: self.number,
                die,
            });
        }
    }
}

impl Part {
    fn intern(&mut self, text: &[u8]) -> u32 {
        if let Some(known) = self.known_texts.get(text) {
            return *known;
        }
        let Some(at) = u32::try_from(self.texts.len())
            .ok()
            .filter(|at| at & TEXT == 0)
        else {
            return NO_NAME;
        };
        self.texts.extend_from_slice(text);
        self.texts.push(0);
        self.known_texts.insert(text.into(), at | TEXT);
        at | TEXT
    }
}
