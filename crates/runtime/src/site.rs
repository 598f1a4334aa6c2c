//! What is known of a probed place.

use crate::abi::Str;
use crate::arena::Arena;
use crate::layout::{Site, StrRef};

/// See [`crate::abi::site_string`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn string(base: *mut u8, site: u64, field: u64) -> Str {
    const EMPTY: Str = Str {
        address: core::ptr::null(),
        len: 0,
    };
    // SAFETY: the header is mapped; site and text are checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(base);
        let header = arena.header();
        if site >= u64::from((*header).site_count) || field >= 7 {
            return EMPTY;
        }
        let at =
            u64::from((*header).sites) + site * core::mem::size_of::<Site>() as u64 + field * 8;
        let Some(place) = arena.at(at, 8) else {
            return EMPTY;
        };
        let text = place.cast::<StrRef>().read_unaligned();
        match arena.at(u64::from(text.offset), u64::from(text.len)) {
            Some(address) => Str {
                address,
                len: u64::from(text.len),
            },
            None => EMPTY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::layout::Header;

    #[test]
    fn strings_of_a_site() {
        let f = Fixture::new();
        unsafe {
            (*f.base.cast::<Header>()).site_count = 1;
            f.base.add(4096).copy_from(b"process.mark".as_ptr(), 12);
            let site = Site {
                pn: StrRef {
                    offset: 4096,
                    len: 12,
                },
                kind: StrRef {
                    offset: u32::MAX,
                    len: 9,
                },
                ..Site::default()
            };
            f.base.add(2048).cast::<Site>().write(site);
            let get = |site, field| {
                let s = string(f.base, site, field);
                crate::string::bytes(&s.address, s.len).to_vec()
            };
            assert_eq!(get(0, 1), b"process.mark");
            assert!(
                get(0, 0).is_empty()
                    && get(0, 6).is_empty()
                    && get(1, 1).is_empty()
                    && get(0, 7).is_empty()
            );
        }
    }
}
