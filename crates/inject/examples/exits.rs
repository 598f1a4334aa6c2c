//! Says of each file named how its functions are left, and how many of them can be probed at their exits.
//!
//! ```sh
//! cargo run -p inject --example exits -- /lib/x86_64-linux-gnu/libc.so.6
//! ```

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use inject::arch::ExitKind;
use inject::{Image, Point};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let verbose = std::env::var_os("VERBOSE").is_some();
    for path in std::env::args().skip(1) {
        let image = Image::of_file(Path::new(&path))?;
        let mut seen = HashSet::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut total = 0;
        for function in image.functions() {
            let name = function.name();
            if !seen.insert(function.address()) || name.contains(".cold") {
                continue;
            }
            total += 1;
            let flow = function.control_flow();
            let verdict = match &flow.exits {
                Err(reason) => {
                    let text = reason.to_string();
                    let words: Vec<&str> =
                        text.split(' ').filter(|w| !w.starts_with("0x")).collect();
                    format!("not provable: {}", words.join(" "))
                }
                Ok(exits) if exits.is_empty() => "never returns".into(),
                Ok(exits) => {
                    let free = exits.iter().all(|exit| image.can_patch(&Point::exit(exit)));
                    let tail = exits.iter().any(|e| e.kind != ExitKind::Return);
                    match (free, tail) {
                        (true, false) => "returns patched".into(),
                        (true, true) => "returns and tail calls patched".into(),
                        (false, _) => "no room for a patch".to_owned(),
                    }
                }
            };
            if verbose {
                println!("{name} {:#x}: {verdict}", function.address());
            }
            *counts.entry(verdict).or_default() += 1;
            let (Some(_), call) = (flow.return_address_use, flow.entered_by_call) else {
                if !flow.entered_by_call {
                    *counts.entry("(no ordinary entry)".into()).or_default() += 1;
                }
                continue;
            };
            let _ = call;
            *counts
                .entry("(looks at its return address)".into())
                .or_default() += 1;
        }
        println!("{path}: {total} functions");
        for (what, count) in counts {
            println!(
                "  {:5.1} %  {count:6}  {what}",
                100.0 * count as f64 / total as f64
            );
        }
    }
    Ok(())
}
