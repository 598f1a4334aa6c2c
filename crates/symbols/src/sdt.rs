//! Statically defined marks: the notes that `<sys/sdt.h>` leaves in `.note.stapsdt`.

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader};

use crate::address::ImageAddr;
use crate::image::Image;
use crate::sdt_operand::{self, OperandError, SdtArgument, SdtOperand};

/// `n_type` of version 3 notes, the only version that 64-bit programs ever had.
const NOTE_TYPE: elf::NoteType = elf::NoteType(3);

/// A place that the program's author marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdtMark {
    /// First argument of the macro.
    pub provider: String,
    /// Second argument of the macro.
    pub name: String,
    /// Where the mark's `nop` stands, corrected for a file that was moved after linking.
    pub pc: ImageAddr,
    /// A 16-bit counter that the program tests to see whether anybody listens.
    pub semaphore: Option<ImageAddr>,
    /// The arguments in order; `$arg1` is the first. One that can't be read is [`SdtOperand::Invalid`].
    pub arguments: Vec<SdtArgument>,
    /// The arguments as the note spells them.
    pub raw_arguments: String,
}

/// What could not be read among a binary's marks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdtError {
    /// An argument of a mark; the mark itself is there.
    #[error("mark {provider}:{name}, argument {number}: {error}")]
    Operand {
        /// The mark's provider.
        provider: String,
        /// The mark's name.
        name: String,
        /// Which argument, from 1.
        number: usize,
        /// What is wrong with it.
        error: OperandError,
    },
    /// A note that is cut short.
    #[error("malformed note {number} in {section}")]
    Note {
        /// The section.
        section: String,
        /// Which note of it, from 0.
        number: usize,
    },
}

pub(crate) struct MarkTable {
    pub marks: Vec<SdtMark>,
    pub errors: Vec<SdtError>,
}

impl MarkTable {
    pub fn build(image: &Image, symbol: impl Fn(&str) -> Option<ImageAddr>) -> MarkTable {
        let mut table = MarkTable {
            marks: Vec::new(),
            errors: Vec::new(),
        };
        let base = image.section(".stapsdt.base").map(|(_, s)| s.address);
        let data = image.bytes();
        let e = LittleEndian;
        let Some(header) = image.header() else {
            return table;
        };
        let Ok(sections) = header.sections(e, data) else {
            return table;
        };
        for (section, described) in sections.iter().zip(&image.sections) {
            if described.name != ".note.stapsdt" {
                continue;
            }
            let Ok(Some(mut notes)) = section.notes(e, data) else {
                table.errors.push(SdtError::Note {
                    section: described.name.clone(),
                    number: 0,
                });
                continue;
            };
            for number in 0.. {
                let damaged = || SdtError::Note {
                    section: described.name.clone(),
                    number,
                };
                match notes.next() {
                    Ok(None) => break,
                    Err(_) => {
                        table.errors.push(damaged());
                        break;
                    }
                    Ok(Some(note)) if note.name() == b"stapsdt" && note.n_type(e) == NOTE_TYPE => {
                        if table.add(note.desc(), base, &symbol).is_none() {
                            table.errors.push(damaged());
                        }
                    }
                    Ok(Some(_)) => {}
                }
            }
        }
        table
    }

    /// Reads a descriptor: three addresses (mark, link-time address of `.stapsdt.base`, semaphore), three strings.
    fn add(
        &mut self,
        desc: &[u8],
        base: Option<ImageAddr>,
        symbol: &dyn Fn(&str) -> Option<ImageAddr>,
    ) -> Option<()> {
        let (pc, rest) = desc.split_first_chunk::<8>()?;
        let (link_base, rest) = rest.split_first_chunk::<8>()?;
        let (semaphore, rest) = rest.split_first_chunk::<8>()?;
        let mut strings = rest
            .split(|b| *b == 0)
            .map(|s| String::from_utf8_lossy(s).into_owned());
        let (provider, name) = (strings.next()?, strings.next()?);
        let raw_arguments = strings.next().unwrap_or_default();
        // What prelink or a post-link editor moved, the section moved with.
        let link_base = u64::from_le_bytes(*link_base);
        let moved = base
            .filter(|_| link_base != 0)
            .map_or(0, |b| b.0.wrapping_sub(link_base));
        let corrected =
            |address: [u8; 8]| ImageAddr(u64::from_le_bytes(address).wrapping_add(moved));
        let mut arguments = Vec::new();
        for (index, text) in sdt_operand::split(&raw_arguments).into_iter().enumerate() {
            arguments.push(sdt_operand::parse(text, symbol).unwrap_or_else(|error| {
                self.errors.push(SdtError::Operand {
                    provider: provider.clone(),
                    name: name.clone(),
                    number: index + 1,
                    error: error.clone(),
                });
                SdtArgument {
                    size: 8,
                    signed: false,
                    operand: SdtOperand::Invalid(error),
                }
            }));
        }
        self.marks.push(SdtMark {
            pc: corrected(*pc),
            semaphore: (*semaphore != [0; 8]).then(|| corrected(*semaphore)),
            provider,
            name,
            arguments,
            raw_arguments,
        });
        Some(())
    }
}
