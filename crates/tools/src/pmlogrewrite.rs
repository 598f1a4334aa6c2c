//! `pmlogrewrite`: changes what an archive says, by rules (pmlogrewrite(1)).

mod rewriter;
mod summary;
mod values;

use std::io;
use std::path::Path;

use pcp::ErrorCode;
use pcp::archive::{Archive, Version};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::rewrite_rules::Parser;
use crate::source::Source;
use rewriter::Rewriter;
use summary::summary;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlogrewrite",
    words: "[options] input-archive [output-archive]",
    rows: &[
        OPTIONS,
        value('c', "config", "PATH", "file or directory to load rules from"),
        flag('C', "check", "parse config file(s) and quit (verbose warnings also)"),
        flag('d', "desperate", "desperate, save output archive even after error"),
        flag('i', "", "rewrite in place, input-archive will be over-written"),
        flag('q', "quick", "quick mode, no output if no change"),
        flag('s', "scale", "do scale conversion"),
        flag('v', "verbose", "increased diagnostic verbosity"),
        value('V', "version", "N", "output archive in version N [2/3] format"),
        flag('w', "warnings", "emit warnings [default is silence]"),
        HELP,
        text("\n"),
        text("output-archive is required unless -i is specified\n"),
    ],
    source_in_words: true,
    ..Spec::PLAIN
};

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| rewrite(spec, args))
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

fn rewrite(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let (mut check, mut desperate, mut in_place, mut quick) = (false, false, false, false);
    let (mut scale, mut verbose, mut warnings, mut version) = (false, false, false, None);
    let mut paths = Vec::new();
    let words = spec.parse(args, &mut Source::default(), |option, value| {
        match option {
            'c' => {
                if let Err(error) = std::fs::metadata(value) {
                    let code = ErrorCode::from(&error);
                    return Err(spec.wrong(format!("stat({value}) failed: {code}")));
                }
                paths.push(value.to_owned());
            }
            // What `-v` said before is taken back.
            'C' => (check, warnings, verbose) = (true, true, false),
            'd' => desperate = true,
            'i' => in_place = true,
            'q' => quick = true,
            's' => scale = true,
            'v' => verbose = true,
            'V' => {
                version = Some(match value {
                    "2" => Version::V2,
                    "3" => Version::V3,
                    _ => {
                        let number = value.parse().unwrap_or(0i32);
                        let what = format!("Error: unsupported version ({number}) requested");
                        return Err(spec.wrong(what));
                    }
                });
            }
            'w' => warnings = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let (input, output) = match words.as_slice() {
        [input] if in_place => (input.clone(), input.clone()),
        [input, output] if !in_place => (input.clone(), output.clone()),
        _ => return Err(Refusal::Usage(String::new())),
    };
    let archive = Archive::open(Path::new(&input)).map_err(|error| {
        format!(
            "pmlogrewrite: Error: cannot open archive \"{input}\": {}\n",
            error.code()
        )
    })?;
    let version = version.unwrap_or(archive.label.version);
    if version < archive.label.version {
        return Err(Refusal::Failed(format!(
            "pmlogrewrite: Error: cannot create a v2 archive from v3 ({input})\n"
        )));
    }
    let mut parser = Parser::new(&archive, version, warnings, scale);
    for path in &paths {
        for (path, text) in configs(path)? {
            if verbose && check {
                eprintln!("Start configfile: {path}");
            }
            parser.read(&path, &text)?;
        }
    }
    parser.check()?;
    let rules = parser.rules;
    if verbose || check {
        summary(&archive, &rules);
    }
    let unchanged = quick && rules.is_empty();
    if unchanged && pcp::debug::on(pcp::debug::Flag::Appl3) {
        eprintln!("Done, no rewriting required");
    }
    if check || unchanged {
        return Ok(0);
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
            return Err(Refusal::Failed(message + &said));
        }
        let rest = match failure.input {
            true => "The last record, and the remainder of this file will not be processed.\n",
            false => "",
        };
        rewriter.finish()?;
        return Err(Refusal::Failed(format!(
            "{message}{rest}Archive \"{output}\" creation truncated.\n"
        )));
    }
    let last = rewriter.finish()?;
    if in_place {
        replace(&archive, &base, archive.first_volume(), last)?;
    }
    if pcp::debug::on(pcp::debug::Flag::Pdubuf) {
        // Behind which PCP's lists the buffers that nobody gave back: there is no pool here.
        eprintln!("__pmFindPDUBuf(DEBUG)");
    }
    Ok(0)
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
