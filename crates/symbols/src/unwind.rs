//! What unwind tables (`.eh_frame`, `.gcc_except_table`) tell about code: where functions begin and end, and where
//! exceptions resume. Format: Linux Standard Base, "Exception Frames"; the Itanium C++ ABI's exception tables.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindSection};

use crate::address::ImageAddr;
use crate::image::Image;

/// The code of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeRange {
    /// Its first byte.
    pub start: ImageAddr,
    /// Behind its last byte.
    pub end: ImageAddr,
    /// Whether a symbol names the function that starts here, which otherwise the unwind table alone knows.
    pub is_named: bool,
}

pub(crate) struct UnwindFacts {
    /// Ranges of frame description entries, ascending.
    pub frames: Vec<Range<ImageAddr>>,
    pub landing_pads: Vec<ImageAddr>,
}

/// The `.eh_frame` of an image with the addresses that its pointers are relative to.
pub(crate) fn eh_frame(
    image: &Image,
) -> Option<(EhFrame<EndianSlice<'_, LittleEndian>>, BaseAddresses)> {
    let (data, address) = match image.section(".eh_frame") {
        Some((index, section)) => (image.contents(index)?, section.address),
        None => {
            let header = image.eh_frame_header.clone()?;
            let bytes = image.mapped(ImageAddr(header.start)..ImageAddr(header.end))?;
            let bases = BaseAddresses::default().set_eh_frame_hdr(header.start);
            let parsed = gimli::EhFrameHdr::new(bytes, LittleEndian)
                .parse(&bases, 8)
                .ok()?;
            let address = ImageAddr(parsed.eh_frame_ptr().direct().ok()?);
            (image.mapped_from(address)?, address)
        }
    };
    let mut bases = BaseAddresses::default().set_eh_frame(address.0);
    if let Some((_, text)) = image.section(".text") {
        bases = bases.set_text(text.address.0);
    }
    if let Some((_, got)) = image.section(".got") {
        bases = bases.set_got(got.address.0);
    }
    if let Some(header) = &image.eh_frame_header {
        bases = bases.set_eh_frame_hdr(header.start);
    }
    Some((EhFrame::new(data, LittleEndian), bases))
}

impl UnwindFacts {
    pub fn read(image: &Image) -> UnwindFacts {
        let mut facts = UnwindFacts {
            frames: Vec::new(),
            landing_pads: Vec::new(),
        };
        let Some((eh_frame, bases)) = eh_frame(image) else {
            return facts;
        };
        let mut cies = HashMap::new();
        let mut entries = eh_frame.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let parsed = partial.parse(|section, bases, offset| {
                if let Some(cie) = cies.get(&offset) {
                    return Ok(gimli::CommonInformationEntry::clone(cie));
                }
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(offset, cie.clone());
                Ok(cie)
            });
            let Ok(fde) = parsed else { continue };
            let start = ImageAddr(fde.initial_address());
            let end = ImageAddr(fde.end_address());
            if start >= end || !image.in_executable_segment(start) {
                continue;
            }
            facts.frames.push(start..end);
            let lsda = match fde.lsda() {
                Some(gimli::Pointer::Direct(address)) => Some(ImageAddr(address)),
                Some(gimli::Pointer::Indirect(address)) => {
                    read_word(image, ImageAddr(address)).map(ImageAddr)
                }
                None => None,
            };
            if let Some(lsda) = lsda {
                let found = landing_pads(image, lsda, start).unwrap_or_default();
                facts.landing_pads.extend(
                    found
                        .into_iter()
                        .filter(|pad| image.in_executable_segment(*pad)),
                );
            }
        }
        facts.frames.sort_by_key(|f| (f.start, f.end));
        facts.frames.dedup();
        facts.landing_pads.sort_unstable();
        facts.landing_pads.dedup();
        facts
    }
}

pub(crate) fn read_word(image: &Image, address: ImageAddr) -> Option<u64> {
    let bytes = image.mapped_from(address)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// Reads the call-site table of a language-specific data area.
fn landing_pads(image: &Image, lsda: ImageAddr, function: ImageAddr) -> Option<Vec<ImageAddr>> {
    let mut reader = TableReader {
        image,
        bytes: image.mapped_from(lsda)?,
        address: lsda,
    };
    let start_encoding = reader.byte()?;
    let base = reader.encoded(start_encoding)?.map_or(function, ImageAddr);
    let type_encoding = reader.byte()?;
    if type_encoding != OMITTED {
        reader.uleb()?;
    }
    let site_encoding = reader.byte()?;
    let length = usize::try_from(reader.uleb()?).ok()?;
    let end = reader.bytes.len().checked_sub(length)?;
    let mut pads = Vec::new();
    while reader.bytes.len() > end {
        let (_start, _length) = (
            reader.encoded(site_encoding)??,
            reader.encoded(site_encoding)??,
        );
        let pad = reader.encoded(site_encoding)??;
        reader.uleb()?;
        if pad != 0 {
            pads.push(ImageAddr(base.0.wrapping_add(pad)));
        }
    }
    Some(pads)
}

/// `DW_EH_PE_omit`.
const OMITTED: u8 = 0xff;

struct TableReader<'a> {
    image: &'a Image,
    bytes: &'a [u8],
    address: ImageAddr,
}

impl TableReader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        self.address = self.address.offset(i64::try_from(N).ok()?);
        Some(*chunk)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn sleb(&mut self) -> Option<i64> {
        let mut value = 0i64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte & 0x40 != 0 && shift + 7 < 64 {
                    value |= -1 << (shift + 7);
                }
                return Some(value);
            }
        }
        None
    }

    /// A pointer in one of the `DW_EH_PE` encodings; the inner `None` is an omitted one.
    fn encoded(&mut self, encoding: u8) -> Option<Option<u64>> {
        if encoding == OMITTED {
            return Some(None);
        }
        let place = self.address;
        let value = match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => u64::from_le_bytes(self.take()?),
            0x01 => self.uleb()?,
            0x02 => u64::from(u16::from_le_bytes(self.take()?)),
            0x03 => u64::from(u32::from_le_bytes(self.take()?)),
            0x09 => self.sleb()?.cast_unsigned(),
            0x0a => i64::from(i16::from_le_bytes(self.take()?)).cast_unsigned(),
            0x0b => i64::from(i32::from_le_bytes(self.take()?)).cast_unsigned(),
            _ => return None,
        };
        let value = match encoding & 0x70 {
            0x00 => value,
            0x10 if value != 0 => place.0.wrapping_add(value),
            0x10 => 0,
            _ => return None,
        };
        if encoding & 0x80 != 0 {
            return read_word(self.image, ImageAddr(value)).map(Some);
        }
        Some(Some(value))
    }
}

/// Joins functions and frame description entries into ranges that don't overlap. A symbol inside another's code (a local
/// entry point) makes no range of its own; a frame that begins with a symbol's function can lengthen it.
pub(crate) fn merge_ranges(
    functions: &[Range<ImageAddr>],
    frames: &[Range<ImageAddr>],
) -> Vec<CodeRange> {
    let mut ranges: Vec<CodeRange> = Vec::new();
    for function in functions {
        let range = CodeRange {
            start: function.start,
            end: function.end,
            is_named: true,
        };
        match ranges.last_mut() {
            Some(last) if last.start == range.start => last.end = last.end.max(range.end),
            Some(last) if range.end <= last.end => {}
            Some(last) => {
                last.end = last.end.min(range.start);
                ranges.push(range);
            }
            None => ranges.push(range),
        }
    }
    let mut additions: Vec<CodeRange> = Vec::new();
    for frame in frames {
        let behind = ranges.partition_point(|r| r.start <= frame.start);
        let next = ranges.get(behind).map(|r| r.start);
        let end = next.map_or(frame.end, |n| n.min(frame.end));
        match behind.checked_sub(1).and_then(|i| ranges.get_mut(i)) {
            Some(range) if range.start == frame.start => range.end = range.end.max(end),
            Some(range) if range.end > frame.start => {}
            _ => match additions.last_mut() {
                Some(last) if last.start == frame.start => last.end = last.end.max(end),
                Some(last) if last.end > frame.start => {
                    last.end = frame.start;
                    additions.push(CodeRange {
                        start: frame.start,
                        end,
                        is_named: false,
                    });
                }
                _ => additions.push(CodeRange {
                    start: frame.start,
                    end,
                    is_named: false,
                }),
            },
        }
    }
    ranges.extend(additions);
    ranges.sort_by_key(|r| r.start);
    for at in 1..ranges.len() {
        if let [before, after] = &mut ranges[at - 1..=at] {
            before.end = before.end.min(after.start);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_frames_together_leave_no_overlap() {
        let range = |a, b| ImageAddr(a)..ImageAddr(b);
        let functions = [
            range(0x100, 0x110),
            range(0x100, 0x120),
            range(0x108, 0x110),
            range(0x120, 0x130),
        ];
        let frames = [
            range(0x80, 0x90),
            range(0x100, 0x120),
            range(0x120, 0x148),
            range(0x130, 0x140),
            range(0x150, 0x160),
        ];
        let got: Vec<_> = merge_ranges(&functions, &frames)
            .into_iter()
            .map(|r| (r.start.0, r.end.0, r.is_named))
            .collect();
        assert_eq!(
            got,
            [
                (0x80, 0x90, false),
                (0x100, 0x120, true),
                (0x120, 0x148, true),
                (0x150, 0x160, false)
            ]
        );
    }
}
