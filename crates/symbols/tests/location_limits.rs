//! Location expressions that no compiler writes: they take neither time nor memory without end.

use std::process::Command;

use symbols::{Binary, Location};

/// A function with two parameters: their places begin as the same large number (`DW_OP_abs` takes its operand three times),
/// which the second one then copies hundreds of times.
const SOURCE: &str = "
        .text
        .globl  f, main
        .type   f, @function
f:      ret
        .size   f, . - f
main:   ret
        .section .debug_abbrev,\"\",@progbits
        .uleb128 1, 0x11                        # a unit with children: low and high address
        .byte   1, 0x11, 0x01, 0x12, 0x06, 0, 0
        .uleb128 2, 0x2e                        # a function with children: name, low and high address
        .byte   1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0
        .uleb128 3, 0x05                        # a parameter: name, type, place
        .byte   0, 0x03, 0x08, 0x49, 0x13, 0x02, 0x18, 0, 0
        .uleb128 4, 0x24                        # a base type: name, size, encoding
        .byte   0, 0x03, 0x08, 0x0b, 0x0b, 0x3e, 0x0b, 0, 0, 0
        .section .debug_info,\"\",@progbits
unit:   .long   9f - 8f
8:      .short  4
        .long   .debug_abbrev
        .byte   8
        .uleb128 1
        .quad   f
        .long   1
type:   .uleb128 4
        .asciz  \"long\"
        .byte   8, 5
        .uleb128 2
        .asciz  \"f\"
        .quad   f
        .long   1
        .macro  parameter name, copies
        .uleb128 3
        .asciz  \"\\name\"
        .long   type - unit
        .uleb128 2f - 1f
1:      .byte   0x75, 0                         # DW_OP_breg5 0
        .fill   8, 1, 0x19                      # DW_OP_abs
        .fill   \\copies, 1, 0x12                # DW_OP_dup
2:
        .endm
        parameter few, 3
        parameter many, 300
        .byte   0, 0
9:
        .section .note.GNU-stack,\"\",@progbits
";

#[test]
fn copies_of_large_terms_are_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("made.s");
    let path = directory.path().join("made");
    std::fs::write(&source, SOURCE).expect("the source is written");
    let status = Command::new("cc")
        .args(["-nostartfiles", "-no-pie", "-Wl,-e,main", "-o"])
        .args([&path, &source])
        .status()
        .expect("cc is installed");
    assert!(status.success());
    let binary = Binary::open(&path).expect("a program");
    let function = binary
        .dwarf_functions_matching("f")
        .expect("sound debugging information")
        .remove(0);
    let parameters = binary.parameters(&function).expect("parameters");
    let [few, many] = &parameters[..] else {
        panic!("{parameters:?}");
    };
    assert!(matches!(few.location, Location::Memory(_)));
    let too_large = "its location expression is too large".to_owned();
    assert_eq!(many.location, Location::Unavailable(too_large));
}
