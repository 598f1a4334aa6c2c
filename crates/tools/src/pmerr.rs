//! `pmerr`: what error codes mean (pmerr(1)).

use std::io::{self, Write};

use pcp::ErrorCode;

use crate::options::Spec;

const USAGE: &str = "\
Usage: pmerr [options] [code]

  -l, --list   causes all known error codes to be listed
";

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    // Codes are negative numbers, which look like options.
    let is_code = |word: &String| {
        word.strip_prefix('-')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (codes, options): (Vec<String>, Vec<String>) = args
        .into_iter()
        .partition(|word| is_code(word) || !word.starts_with('-'));
    let spec = Spec {
        tool: "pmerr",
        short: "lD:?",
        long: &[("list", 'l'), ("debug", 'D'), ("help", '?')],
        usage: USAGE,
    };
    let parsed = match spec.parse(options) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("{message}");
            return Ok(1);
        }
    };
    let mut out = io::stdout().lock();
    for (option, _) in parsed.options {
        match option {
            'l' => {
                writeln!(out, "  Code  Symbolic Name          Message")?;
                for (code, name) in ErrorCode::ALL {
                    // What PCP knows, but does not tell.
                    if matches!(*code, ErrorCode::PMDAREADY | ErrorCode::PMDANOTREADY) {
                        continue;
                    }
                    let name = format!("PM_ERR_{name}");
                    writeln!(out, "{:6}  {name:<22} {code}", code.0)?;
                }
                return Ok(0);
            }
            '?' => {
                eprint!("{USAGE}");
                return Ok(1);
            }
            _ => {}
        }
    }
    if codes.is_empty() {
        eprint!("{USAGE}");
        return Ok(1);
    }
    for word in &codes {
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

/// A number in decimal, or in hexadecimal behind `0x`.
fn decode(word: &str) -> Option<i32> {
    if let Ok(number) = word.parse::<i32>() {
        return Some(number);
    }
    let digits = word
        .strip_prefix("0x")
        .or_else(|| word.strip_prefix("0X"))?;
    u32::from_str_radix(digits, 16).ok().map(|n| n as i32)
}
