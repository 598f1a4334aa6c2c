//! `pmerr`: what error codes mean (pmerr(1)).

use std::io::{self, Write};

use pcp::ErrorCode;

use crate::options::rows::*;
use crate::options::{Refusal, Spec};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmerr",
    words: "[options] [code]",
    rows: &[
        text("\n"),
        text("  -l, --list   causes all known error codes to be listed\n"),
        flag('l', "list", ""),
        flag('?', "help", ""),
    ],
    ..Spec::PLAIN
};

/// The codes in the order in which PCP lists them.
const ORDER: [i32; 66] = [
    -12_345, -12_346, -12_347, -12_348, -12_349, -12_350, -12_351, -12_353, -12_354, -12_355,
    -12_357, -12_358, -12_359, -12_360, -12_397, -12_361, -12_362, -12_363, -12_364, -12_365,
    -12_366, -12_414, -12_368, -12_369, -12_370, -12_371, -12_372, -12_373, -12_375, -12_374,
    -12_376, -12_377, -12_378, -12_379, -12_380, -12_381, -12_386, -12_387, -12_388, -12_389,
    -12_390, -12_391, -12_392, -12_394, -13_394, -13_393, -12_442, -12_443, -12_444, -12_445,
    -12_398, -12_399, -12_400, -12_401, -12_402, -12_404, -12_405, -12_406, -12_407, -12_408,
    -12_409, -12_410, -12_411, -12_412, -12_413, -21_344,
];

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|_| explain(args))
}

fn explain(args: Vec<String>) -> Result<u8, Refusal> {
    // Only the first word may be an option: codes are negative numbers, decimal or not.
    let first = args.first().and_then(|word| word.strip_prefix('-'));
    let mut out = io::stdout().lock();
    match first.filter(|rest| !rest.starts_with(|c: char| c.is_ascii_hexdigit())) {
        Some("l" | "-list") => {
            writeln!(out, "  Code  Symbolic Name          Message")?;
            for code in ORDER.map(ErrorCode) {
                let name = format!("PM_ERR_{}", code.name().unwrap_or("???"));
                writeln!(out, "{:6}  {name:<22} {code}", code.0)?;
            }
            // As PCP ends when it lists.
            return Ok(1);
        }
        Some("?" | "-help") => return Err(Refusal::Help),
        Some(other) => return Err(Refusal::Usage(format!("Illegal option -- {other}\n"))),
        None => {}
    }
    for word in &args {
        let Some(mut code) = decode(word) else {
            writeln!(
                out,
                "Cannot decode \"{word}\" - neither decimal nor hexadecimal"
            )?;
            continue;
        };
        if code > 0 {
            code = code.wrapping_neg();
            writeln!(out, "Code is positive, assume you mean {code}")?;
        }
        writeln!(out, "Code: {code} {code:#x} Text: {}", ErrorCode(code))?;
    }
    Ok(0)
}

/// A number in decimal, with or without a sign, or in hexadecimal behind `0x`.
fn decode(word: &str) -> Option<i32> {
    let word = word.trim();
    if let Ok(number) = word.parse::<i32>() {
        return Some(number);
    }
    if let Ok(number) = word.parse::<u32>() {
        return Some(number as i32);
    }
    let digits = word
        .strip_prefix("0x")
        .or_else(|| word.strip_prefix("0X"))?;
    u32::from_str_radix(digits, 16).ok().map(|n| n as i32)
}
