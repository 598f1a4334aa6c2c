//! `pmlogrewrite`: changes what an archive says, by rules (pmlogrewrite(1)).

mod rewriter;
mod summary;
mod values;

use std::io;
use std::path::Path;

use pcp::ErrorCode;
use pcp::archive::{Archive, Version};

use crate::options::Spec;
use crate::rewrite_rules::Parser;
use rewriter::Rewriter;
use summary::summary;

const USAGE: &str = "\
Usage: pmlogrewrite [options] input-archive [output-archive]

Options:
  -c PATH, --config=PATH
                        file or directory to load rules from
  -C, --check           parse config file(s) and quit (verbose warnings also)
  -d, --desperate       desperate, save output archive even after error
  -i                    rewrite in place, input-archive will be over-written
  -q, --quick           quick mode, no output if no change
  -s, --scale           do scale conversion
  -v, --verbose         increased diagnostic verbosity
  -V N, --version=N     output archive in version N [2/3] format
  -w, --warnings        emit warnings [default is silence]
  -?, --help            show this usage message and exit

output-archive is required unless -i is specified
";

const SPEC: Spec = Spec {
    tool: "pmlogrewrite",
    short: "c:CdD:iqsvV:w?",
    long: &[
        ("config", 'c'),
        ("check", 'C'),
        ("desperate", 'd'),
        ("debug", 'D'),
        ("quick", 'q'),
        ("scale", 's'),
        ("verbose", 'v'),
        ("version", 'V'),
        ("warnings", 'w'),
        ("help", '?'),
    ],
    usage: USAGE,
};

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    match rewrite(args) {
        Ok(()) => Ok(0),
        Err(message) => {
            eprint!("{message}");
            Ok(1)
        }
    }
}

fn configs(path: &str) -> Result<Vec<(String, String)>, String> {
    let cannot = |path: &str, error: &io::Error| {
        format!(
            "pmlogrewrite: Cannot open config file \"{path}\": {}\n",
            ErrorCode::from(error)
        )
    };
    if !Path::new(path).is_dir() {
        let text = std::fs::read_to_string(path).map_err(|e| cannot(path, &e))?;
        return Ok(vec![(path.to_owned(), text)]);
    }
    let mut names: Vec<String> = std::fs::read_dir(path)
        .map_err(|e| cannot(path, &e))?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let path = format!("{}/{name}", path.trim_end_matches('/'));
        let text = std::fs::read_to_string(&path).map_err(|e| cannot(&path, &e))?;
        found.push((path, text));
    }
    Ok(found)
}

fn rewrite(args: Vec<String>) -> Result<(), String> {
    let parsed = SPEC.parse(args)?;
    let (mut check, mut desperate, mut in_place, mut quick) = (false, false, false, false);
    let (mut scale, mut verbose, mut warnings, mut version) = (false, false, false, None);
    let mut paths = Vec::new();
    for (option, value) in parsed.options {
        match option {
            'c' => paths.extend(value),
            'C' => {
                check = true;
                verbose = true;
                warnings = true;
            }
            'd' => desperate = true,
            'D' => {}
            'i' => in_place = true,
            'q' => quick = true,
            's' => scale = true,
            'v' => verbose = true,
            'V' => {
                version = Some(match value.as_deref() {
                    Some("2") => Version::V2,
                    Some("3") => Version::V3,
                    other => {
                        return Err(format!(
                            "pmlogrewrite: Error: unsupported version ({}) requested\n{USAGE}",
                            other.unwrap_or("")
                        ));
                    }
                });
            }
            'w' => warnings = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let (input, output) = match parsed.words.as_slice() {
        [input] if in_place || check => (input.clone(), input.clone()),
        [input, output] if !in_place => (input.clone(), output.clone()),
        _ => return Err(USAGE.to_owned()),
    };
    let archive = Archive::open(Path::new(&input)).map_err(|error| {
        format!(
            "pmlogrewrite: Error: cannot open archive \"{input}\": {}\n",
            error.code()
        )
    })?;
    let version = version.unwrap_or(archive.label.version);
    if version < archive.label.version {
        return Err(format!(
            "pmlogrewrite: Error: cannot create a v2 archive from v3 ({input})\n"
        ));
    }
    let mut parser = Parser::new(&archive, version, warnings, scale);
    for path in &paths {
        for (path, text) in configs(path)? {
            if verbose && check {
                println!("Start configfile: {path}");
            }
            parser.read(&path, &text)?;
        }
    }
    parser.check()?;
    let rules = parser.rules;
    if verbose {
        summary(&archive, &rules);
    }
    let unchanged = quick && rules.is_empty() && version == archive.label.version;
    if unchanged && pcp::debug::on(pcp::debug::Flag::Appl3) {
        eprintln!("Done, no rewriting required");
    }
    if check || unchanged {
        return Ok(());
    }
    let base = if in_place {
        let base = archive.files.base.display();
        format!("{base}.rewrite-{}", std::process::id())
    } else {
        output.clone()
    };
    let mut rewriter = Rewriter::create(&archive, rules, version, &base)?;
    if let Err(failure) = rewriter.run() {
        let message = failure.message;
        if in_place || !desperate {
            rewriter.abandon();
            let said = match in_place {
                true => String::new(),
                false => format!("Archive \"{output}\" not created.\n"),
            };
            return Err(message + &said);
        }
        let rest = match failure.input {
            true => "The last record, and the remainder of this file will not be processed.\n",
            false => "",
        };
        rewriter.finish()?;
        return Err(format!(
            "{message}{rest}Archive \"{output}\" creation truncated.\n"
        ));
    }
    let last = rewriter.finish()?;
    if in_place {
        replace(&archive, &base, archive.first_volume(), last)?;
    }
    Ok(())
}

/// Puts the new files in the place of the old ones.
fn replace(archive: &Archive, base: &str, first: i32, last: i32) -> Result<(), String> {
    let failed = |error: io::Error| format!("pmlogrewrite: {}\n", ErrorCode::from(&error));
    let target = archive.files.base.display().to_string();
    let old = archive.files.volumes.values();
    let old = old.chain(&archive.files.meta).chain(&archive.files.index);
    let volumes = (first..=last).map(|v| v.to_string());
    for suffix in volumes.chain(["index".to_owned(), "meta".to_owned()]) {
        let to = format!("{target}.{suffix}");
        std::fs::rename(format!("{base}.{suffix}"), to).map_err(failed)?;
    }
    for path in old {
        let name = path.display().to_string();
        let plain = name.strip_prefix(&format!("{target}."));
        // A compressed file that has an uncompressed successor now.
        if plain.is_some_and(|p| p.contains('.')) {
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}
