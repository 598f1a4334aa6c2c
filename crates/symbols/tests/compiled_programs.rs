//! Programs compiled for the purpose: what this crate finds is compared with what the source, the System V ABI and the
//! compiler's own assembler say.

use std::path::{Path, PathBuf};
use std::process::Command;

use symbols::{
    Binary, BinaryKind, FunctionSource, ImageAddr, LibraryEnvironment, Location, SdtOperand,
    SymbolsError, ValueClass,
};

/// Two marks, written as `<sys/sdt.h>` writes them; a jump table by computed goto; a landing pad by `cleanup`.
const SOURCE: &str = r#"
#include <stdio.h>
#include <stdbool.h>
struct foo { int a; struct foo *next; };
enum e { A, B };
enum neg { N = -1, P };
typedef int (*callback)(int);
#define MARK(name, arguments, ...) __asm__ volatile ( \
    "990: nop\n" \
    ".pushsection .note.stapsdt,\"\",\"note\"\n" \
    ".balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n" \
    "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " #name "_semaphore\n" \
    ".asciz \"made\"\n.asciz \"" #name "\"\n.asciz \"" arguments "\"\n" \
    "994: .balign 4\n.popsection\n" \
    ".ifndef _.stapsdt.base\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n" \
    ".size _.stapsdt.base,1\n.popsection\n.endif\n" :: __VA_ARGS__)
__attribute__((section(".probes"))) unsigned short first_semaphore;
__attribute__((section(".probes"))) unsigned short second_semaphore;
long counter = 7;

__attribute__((noinline)) int integers(int a, unsigned b, char c, bool d, enum e x, enum neg y, long seventh) {
    return a + b + c + d + x + y + seventh;
}
__attribute__((noinline)) int pointers(const char *s, struct foo *p, struct foo value, double d, callback f) {
    return s[0] + p->a + value.a + (int)d + f(1);
}
static __attribute__((noinline)) int hidden(int n) { return n * 3; }
int identity(int n) { return n; }
int same(int n) __attribute__((alias("identity")));
void cleaned(int *n) { printf("%d\n", *n); }
__attribute__((noinline)) void with_cleanup(callback f) {
    __attribute__((cleanup(cleaned))) int n = 3;
    f(n);
}
__attribute__((noinline)) int dispatch(int n) {
    static void *const targets[] = { &&zero, &&one, &&two };
    goto *targets[n];
zero: return 10;
one: return hidden(n);
two: MARK(first, "-4@%0 8@$-5", "r"(n)); return 30;
}
int main(int argc, char **argv) {
    struct foo f = { argc, 0 };
    MARK(second, "8@counter(%%rip) 4f@%%xmm0 2@%w0", "r"(argc));
    with_cleanup(identity);
    return integers(1, 2, 3, true, B, N, 7) + pointers(argv[0], &f, f, 1.5, identity) + dispatch(argc % 3);
}
"#;

struct Program {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn compile(options: &[&str]) -> Program {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("made.c");
    std::fs::write(&source, SOURCE).expect("the source is written");
    let path = directory.path().join("made");
    let status = Command::new("cc")
        .args(["-w", "-g", "-fexceptions"])
        .args(options)
        .arg("-o")
        .arg(&path)
        .arg(&source)
        .status()
        .expect("cc is installed");
    assert!(status.success());
    Program {
        _directory: directory,
        path,
    }
}

/// The line of the source, counted from 1, that holds a text first.
fn line_of(text: &str) -> u64 {
    let line = SOURCE
        .lines()
        .position(|l| l.contains(text))
        .expect("it is in the source");
    line as u64 + 1
}

fn open(program: &Program) -> Binary {
    Binary::open(&program.path).expect("a program")
}

#[test]
fn kinds_of_executables() {
    let pie = compile(&["-O0", "-fPIE", "-pie"]);
    let fixed = compile(&["-O0", "-fno-pie", "-no-pie"]);
    let library = compile(&["-O0", "-fPIC", "-shared", "-Wl,-soname,libmade.so.1"]);
    let (pie, fixed, library) = (open(&pie), open(&fixed), open(&library));
    assert_eq!(pie.kind(), BinaryKind::PieExecutable);
    assert!(pie.is_position_independent());
    assert_eq!(pie.interpreter(), Some("/lib64/ld-linux-x86-64.so.2"));
    assert!(pie.needed().iter().any(|n| n == "libc.so.6"));
    assert_eq!(fixed.kind(), BinaryKind::DynamicExecutable);
    assert!(!fixed.is_position_independent());
    assert_eq!(library.kind(), BinaryKind::SharedLibrary);
    assert_eq!(library.soname(), Some("libmade.so.1"));
    let main = fixed.symbol("main").expect("main");
    assert_eq!(
        fixed
            .function_at(main.offset(3))
            .map(|f| f.name.clone())
            .as_deref(),
        Some("main")
    );
    assert!(fixed.code_bytes(main..main.offset(4)).is_some());
    let counter = fixed.symbol("counter").expect("counter");
    assert_eq!(fixed.read_data(counter, 8), Some(&7u64.to_le_bytes()[..]));
    assert_eq!(fixed.code_bytes(counter..counter.offset(4)), None);
}

#[test]
fn functions_by_name_and_what_was_meant() {
    let program = compile(&["-O1", "-no-pie"]);
    let binary = open(&program);
    let found = binary.functions_matching("int*gers");
    assert_eq!(
        found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        ["integers"]
    );
    assert_eq!(found[0].source, FunctionSource::Symtab);
    assert!(
        binary.functions_matching("printf").is_empty(),
        "undefined symbols are no functions"
    );
    assert_eq!(binary.similar_names("intgers", 1), ["integers"]);
    assert_eq!(binary.similar_marks("frist", 1), ["first"]);
    let stripped = program.path.with_extension("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(&program.path)
        .status()
        .expect("strip");
    assert!(status.success());
    let stripped = Binary::open(&stripped).expect("a program");
    let entry = found[0].address;
    let range = stripped
        .function_ranges()
        .iter()
        .find(|r| r.start == entry)
        .expect("the unwind table knows it");
    assert_eq!((range.end, range.is_named), (found[0].end(), false));
    assert!(
        binary
            .function_ranges()
            .windows(2)
            .all(|w| w[0].end <= w[1].start)
    );
}

#[test]
fn marks_with_their_arguments() {
    for options in [
        &["-O2", "-no-pie", "-fno-pie"][..],
        &["-O2", "-fPIE", "-pie"],
    ] {
        let program = compile(options);
        let binary = open(&program);
        let marks = binary.marks_matching("made", "*");
        assert_eq!(marks.len(), 2);
        let first = binary.marks_matching("*", "first")[0];
        assert_eq!(first.semaphore, binary.symbol("first_semaphore"));
        assert_eq!(
            binary.read_data(first.pc, 1),
            Some(&[0x90][..]),
            "the mark is a nop"
        );
        assert_eq!(
            (first.arguments[0].size, first.arguments[0].signed),
            (4, true)
        );
        assert!(
            matches!(first.arguments[0].operand, SdtOperand::Register(r) if r.width.bytes() == 4)
        );
        assert_eq!(first.arguments[1].operand, SdtOperand::Immediate(-5));
        let second = binary.marks_matching("*", "second")[0];
        assert_eq!(second.semaphore, binary.symbol("second_semaphore"));
        assert_eq!(second.arguments.len(), 3);
        assert_eq!(
            Some(&second.arguments[0].operand),
            binary.symbol("counter").map(SdtOperand::Absolute).as_ref()
        );
        assert!(matches!(
            second.arguments[1].operand,
            SdtOperand::Invalid(_)
        ));
        assert!(
            matches!(second.arguments[2].operand, SdtOperand::Register(r) if r.width.bytes() == 2)
        );
        let errors: Vec<String> = binary
            .mark_errors()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "mark made:second, argument 2: operand `4f@%xmm0` is a floating-point or vector value, which is not supported"
            ]
        );
    }
}

/// A tool that moves a linked file (prelink) moves `.stapsdt.base` with the code but leaves the notes alone.
#[test]
fn marks_follow_a_file_that_was_moved() {
    let program = compile(&["-O2"]);
    let binary = open(&program);
    let index = binary
        .sections()
        .iter()
        .position(|s| s.name == ".stapsdt.base")
        .expect("the section");
    let mut bytes = std::fs::read(&program.path).expect("read");
    let word = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    // e_shoff is at 40, a section header has 64 bytes, and sh_addr stands at 16 in it (elf(5)).
    let place = word(&bytes, 40) as usize + index * 64 + 16;
    let moved = word(&bytes, place) + 0x1000;
    bytes[place..place + 8].copy_from_slice(&moved.to_le_bytes());
    let after = Binary::from_bytes("moved", bytes).expect("a program");
    for (before, after) in binary.marks().iter().zip(after.marks()) {
        assert_eq!(before.pc.offset(0x1000), after.pc);
        assert_eq!(before.semaphore.map(|s| s.offset(0x1000)), after.semaphore);
    }
}

#[test]
fn facts_for_a_patcher() {
    for options in [
        &["-O2", "-no-pie", "-fno-pie"][..],
        &["-O2", "-fPIE", "-pie"],
        &["-O2", "-fPIE", "-pie", "-Wl,-z,pack-relative-relocs"],
    ] {
        let program = compile(options);
        let binary = open(&program);
        let dispatch = binary.functions_matching("dispatch")[0].clone();
        let inside = |a: &&ImageAddr| **a >= dispatch.address && **a < dispatch.end();
        assert_eq!(
            binary.code_pointers().iter().filter(inside).count(),
            3,
            "three labels, {options:?}"
        );
        assert!(binary.code_pointers().is_sorted());
        let cleanup = binary.functions_matching("with_cleanup*");
        let pads = binary.landing_pads();
        assert!(!pads.is_empty());
        assert!(
            pads.iter()
                .any(|p| cleanup.iter().any(|f| f.address < *p && *p < f.end()))
        );
    }
}

/// Registers of the first six integer arguments by DWARF's numbers: rdi, rsi, rdx, rcx, r8, r9 (System V ABI).
const ARGUMENTS: [u16; 6] = [5, 4, 1, 2, 8, 9];

#[test]
fn parameters_of_optimised_code_stand_in_the_abis_registers() {
    for version in ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5"] {
        let program = compile(&["-O2", version]);
        let binary = open(&program);
        let functions = binary
            .dwarf_functions_matching("integers")
            .expect("sound debugging information");
        let function = &functions[0];
        assert_eq!(function.probe_address, function.entry);
        assert_eq!(Some(function.entry), binary.symbol("integers"));
        assert!(function.external);
        assert_eq!(
            function.decl_line,
            Some(line_of("int integers(")),
            "{version}"
        );
        assert!(
            function
                .decl_file
                .as_deref()
                .is_some_and(|f| f.ends_with("/made.c")),
            "{version}"
        );
        let parameters = binary.parameters(function).expect("parameters");
        let described: Vec<_> = parameters
            .iter()
            .map(|p| (p.name.as_str(), p.type_name.as_str(), p.class))
            .collect();
        assert_eq!(
            described,
            [
                ("a", "int", ValueClass::Signed(4)),
                ("b", "unsigned int", ValueClass::Unsigned(4)),
                ("c", "char", ValueClass::Signed(1)),
                ("d", "_Bool", ValueClass::Bool),
                (
                    "x",
                    "enum e",
                    ValueClass::Enum {
                        size: 4,
                        signed: false
                    }
                ),
                (
                    "y",
                    "enum neg",
                    ValueClass::Enum {
                        size: 4,
                        signed: true
                    }
                ),
                ("seventh", "long int", ValueClass::Signed(8)),
            ],
            "{version}"
        );
        for (parameter, register) in parameters.iter().zip(ARGUMENTS) {
            assert_eq!(
                parameter.location,
                Location::Register(register),
                "{version} {}",
                parameter.name
            );
        }
        // Behind the return address: 8(%rsp) at the entry.
        let Location::Memory(address) = &parameters[6].location else {
            panic!("{version}: {:?}", parameters[6].location);
        };
        assert_eq!(address.as_register_plus(), Some((7, 8)), "{version}");
    }
}

#[test]
fn parameters_of_unoptimised_code_stand_on_the_stack_behind_the_prologue() {
    for version in ["-gdwarf-3", "-gdwarf-4", "-gdwarf-5"] {
        let program = compile(&["-O0", version]);
        let binary = open(&program);
        for name in ["integers", "pointers", "hidden", "main"] {
            let function = binary
                .dwarf_functions_matching(name)
                .expect("sound debugging information")
                .remove(0);
            assert!(
                function.probe_address > function.entry && function.probe_address < function.high
            );
            assert_eq!(function.external, name != "hidden");
            for parameter in binary.parameters(&function).expect("parameters") {
                let place = &parameter.location;
                assert!(
                    matches!(place, Location::Memory(a) if a.as_register_plus().is_some_and(|(r, _)| r == 6)),
                    "{version} {name} {}: {place:?}",
                    parameter.name
                );
            }
        }
        let function = binary
            .dwarf_functions_matching("pointers")
            .expect("sound debugging information")
            .remove(0);
        let parameters = binary.parameters(&function).expect("parameters");
        let types: Vec<_> = parameters
            .iter()
            .map(|p| (p.type_name.as_str(), p.class))
            .collect();
        assert_eq!(
            types,
            [
                ("char const*", ValueClass::Pointer),
                ("struct foo*", ValueClass::Pointer),
                ("struct foo", ValueClass::Other),
                ("double", ValueClass::Other),
                ("callback", ValueClass::Pointer),
            ]
        );
    }
}

#[test]
fn a_separate_debug_file_is_found_beside_the_program() {
    let program = compile(&["-O2", "-Wl,--build-id"]);
    let debug = program.path.with_extension("debug");
    let run = |arguments: &[&str]| {
        let directory = program.path.parent().expect("a directory");
        let status = Command::new("objcopy")
            .args(arguments)
            .current_dir(directory)
            .status()
            .expect("objcopy");
        assert!(status.success());
    };
    run(&["--only-keep-debug", "made", "made.debug"]);
    run(&["--strip-all", "--add-gnu-debuglink=made.debug", "made"]);
    let binary = open(&program);
    assert_eq!(binary.functions_matching("hidden").len(), 1);
    assert_eq!(
        binary
            .dwarf_functions_matching("hid*")
            .expect("sound debugging information")
            .len(),
        1
    );
    std::fs::remove_file(debug).expect("it was there");
    let binary = open(&program);
    assert!(binary.functions_matching("hidden").is_empty());
    assert!(!binary.has_dwarf());
}

#[test]
fn an_alias_finds_the_function_it_is_another_name_of() {
    let program = compile(&["-O2"]);
    let binary = open(&program);
    let found = binary
        .dwarf_functions_matching("same")
        .expect("sound debugging information");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "identity");
    assert_eq!(Some(found[0].entry), binary.symbol("same"));
}

#[test]
fn compressed_debugging_information_is_read() {
    let program = compile(&["-O2", "-gz=zlib"]);
    let binary = open(&program);
    assert_eq!(
        binary
            .dwarf_functions_matching("integers")
            .expect("sound debugging information")
            .len(),
        1
    );
}

#[test]
fn libraries_that_the_dynamic_linker_would_map() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("lib")).expect("a directory");
    let cc = |arguments: &[&str]| {
        let status = Command::new("cc")
            .args(arguments)
            .current_dir(directory.path())
            .status()
            .expect("cc");
        assert!(status.success());
    };
    for (name, text) in [
        ("deep.c", "int deep(void){return 1;}"),
        ("near.c", "int deep(void);int near(void){return deep();}"),
        ("main.c", "int near(void);int main(void){return near();}"),
    ] {
        std::fs::write(at(name), text).expect("the source is written");
    }
    cc(&["-shared", "-fPIC", "-o", "lib/libdeep.so", "deep.c"]);
    cc(&[
        "-shared",
        "-fPIC",
        "-o",
        "lib/libnear.so",
        "near.c",
        "-Llib",
        "-ldeep",
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN",
    ]);
    cc(&[
        "-o",
        "main",
        "main.c",
        "-Llib",
        "-lnear",
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib,-rpath-link,lib",
    ]);
    let binary = Binary::open(&at("main")).expect("a program");
    let found = binary.resolve_libraries(&LibraryEnvironment::default());
    // What the dynamic linker itself says: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`.
    let said = Command::new(binary.interpreter().expect("an interpreter"))
        .arg("--list")
        .arg(at("main"))
        .output()
        .expect("the dynamic linker runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let real = |path: &Path| std::fs::canonicalize(path).expect("it exists");
    let mut expected: Vec<PathBuf> = said
        .lines()
        .filter_map(|line| line.rsplit_once(" (").map(|(left, _)| left.trim()))
        .map(|left| left.rsplit_once(" => ").map_or(left, |(_, path)| path))
        .filter(|path| path.starts_with('/'))
        .map(|path| real(Path::new(path)))
        .collect();
    let mut found: Vec<PathBuf> = found.iter().map(|p| real(p)).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

/// Section headers are not needed to run a program, and packers leave them out.
#[test]
fn a_program_without_section_headers_keeps_its_unwind_facts() {
    let program = compile(&["-O2", "-no-pie", "-fno-pie"]);
    let whole = open(&program);
    let mut bytes = std::fs::read(&program.path).expect("read");
    // e_shoff, e_shnum and e_shstrndx (elf(5)).
    for at in (40..48).chain(60..64) {
        bytes[at] = 0;
    }
    let bare = Binary::from_bytes("bare", bytes).expect("a program");
    assert!(bare.sections().is_empty());
    assert_eq!(bare.kind(), whole.kind());
    assert_eq!(bare.needed(), whole.needed());
    assert_eq!(bare.landing_pads(), whole.landing_pads());
    let integers = whole.symbol("integers").expect("integers");
    assert!(bare.function_ranges().iter().any(|r| r.start == integers));
    let pointers = bare.code_pointers();
    assert!(whole.code_pointers().iter().all(|p| pointers.contains(p)));
}

#[test]
fn a_binary_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Binary>();
}

#[test]
fn what_is_no_program_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let error = |path: &Path| Binary::open(path).expect_err("an error");
    assert!(matches!(
        error(&at("nothing")),
        SymbolsError::NotFound { .. }
    ));
    std::fs::write(at("script"), "#!/bin/sh\n").expect("written");
    assert!(matches!(error(&at("script")), SymbolsError::NotElf { .. }));
    std::fs::write(at("empty"), "").expect("written");
    assert!(matches!(error(&at("empty")), SymbolsError::NotElf { .. }));
    assert!(matches!(
        error(directory.path()),
        SymbolsError::NotElf { .. }
    ));
    let program = compile(&["-O0"]);
    let bytes = std::fs::read(&program.path).expect("read");
    let mut foreign = bytes.clone();
    foreign[18] = 183; // EM_AARCH64
    let message = Binary::from_bytes("made", foreign)
        .expect_err("an error")
        .to_string();
    assert_eq!(
        message,
        "made: a 64-bit aarch64 binary; only 64-bit x86-64 is supported"
    );
    let mut short = bytes.clone();
    (short[4], short[18]) = (1, 3); // ELFCLASS32, EM_386
    let message = Binary::from_bytes("made", short)
        .expect_err("an error")
        .to_string();
    assert_eq!(
        message,
        "made: a 32-bit i386 binary; only 64-bit x86-64 is supported"
    );
    let cut = Binary::from_bytes("made", bytes[..100].to_vec()).expect_err("an error");
    assert!(matches!(cut, SymbolsError::Corrupt { .. }));
    assert!(cut.to_string().starts_with("made: truncated or corrupt: "));
}
