//! Whatever is in a file, questions about it end with an answer or an error.

use std::process::Command;
use std::sync::OnceLock;

use proptest::prelude::*;
use symbols::{Binary, ImageAddr};

const SOURCE: &str = r#"
struct node { int value; struct node *next; };
static __attribute__((noinline)) int walk(const struct node *n, int depth) { return n ? n->value + walk(n->next, depth + 1) : depth; }
int total;
void cleaned(int *n) { total += *n; }
int twice(int (*f)(int), int n) { __attribute__((cleanup(cleaned))) int m = f(n); return f(m); }
static int one(int n) { return n + 1; }
int main(int argc, char **argv) {
    static void *const targets[] = { &&a, &&b };
    struct node n = { argc, 0 };
    __asm__ volatile (".Lmark: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 8, 2f-1f, 3\n.asciz \"stapsdt\"\n"
        "1: .8byte .Lmark, 0, 0\n.asciz \"p\"\n.asciz \"m\"\n.asciz \"-4@%0 8@$1\"\n2: .balign 4\n.popsection" :: "r"(argc));
    goto *targets[argc & 1];
a: return walk(&n, 0);
b: return twice(one, argc);
}
"#;

fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = directory.path().join("p.c");
        let path = directory.path().join("p");
        std::fs::write(&source, SOURCE).expect("written");
        let status = Command::new("cc")
            .args(["-g", "-O1", "-fexceptions", "-no-pie", "-w", "-o"])
            .args([&path, &source])
            .status()
            .expect("cc is installed");
        assert!(status.success());
        std::fs::read(&path).expect("read")
    })
}

/// Asks everything.
fn ask(bytes: Vec<u8>) {
    let Ok(binary) = Binary::from_bytes("damaged", bytes) else {
        return;
    };
    let _ = (
        binary.kind(),
        binary.build_id(),
        binary.soname(),
        binary.needed(),
        binary.interpreter(),
    );
    let _ = (binary.marks(), binary.mark_errors());
    let _ = (
        binary.functions_matching("*a*"),
        binary.symbol("main"),
        binary.similar_names("mian", 3),
    );
    let _ = (
        binary.function_at(binary.entry()),
        binary.code_bytes(binary.entry()..ImageAddr(u64::MAX)),
    );
    let _ = binary.read_data(ImageAddr(u64::MAX), usize::MAX);
    let _ = (
        binary.function_ranges(),
        binary.landing_pads(),
        binary.code_pointers(),
    );
    let _ = binary.similar_dwarf_names("wlak", 2);
    for function in binary.dwarf_functions_matching("*").unwrap_or_default() {
        let _ = binary.parameters(&function);
    }
}

#[test]
fn undamaged_it_answers() {
    let binary = Binary::from_bytes("sound", program().to_vec()).expect("a program");
    assert_eq!(binary.marks().len(), 1);
    assert!(!binary.landing_pads().is_empty());
    let functions = binary
        .dwarf_functions_matching("*")
        .expect("sound debugging information");
    assert!(functions.len() >= 4);
    assert!(functions.iter().all(|f| binary.parameters(f).is_ok()));
}

#[test]
fn cut_short_anywhere() {
    let bytes = program();
    for length in (0..bytes.len()).step_by(bytes.len() / 200 + 1) {
        ask(bytes[..length].to_vec());
    }
}

/// Offsets of sections whose damage matters most, so that random changes hit them often.
fn interesting() -> &'static [(usize, usize)] {
    static PLACES: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let binary = Binary::from_bytes("sound", program().to_vec()).expect("a program");
        let mut places: Vec<(usize, usize)> = binary
            .sections()
            .iter()
            .filter(|s| s.size > 0 && s.name != ".bss")
            .map(|s| (s.file_offset.0 as usize, s.size as usize))
            .collect();
        let headers = binary.sections().len() * 64;
        places.push((0, 64 + 56 * 14));
        places.push((program().len() - headers, headers));
        places
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), with_magic in any::<bool>()) {
        let mut bytes = bytes;
        if with_magic {
            let mut start = program()[..64].to_vec();
            start.append(&mut bytes);
            bytes = start;
        }
        ask(bytes);
    }

    #[test]
    fn bytes_changed_anywhere(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = program().to_vec();
        for (section, within, value) in changes {
            let (start, size) = *section.get(interesting());
            if let Some(byte) = bytes.get_mut(start + within.index(size)) {
                *byte = value;
            }
        }
        ask(bytes);
    }
}
