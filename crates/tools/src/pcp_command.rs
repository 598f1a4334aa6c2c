//! `pcp`: runs a command of the system with a source of metrics and a time window (pcp(1)).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::source::VERSION;

const USAGE: &str = "\
Usage: pcp [options] [[...] command [...]]

Summary Options:
  -a FILE, --archive=FILE
                        metrics source is a PCP log archive
  -h HOST, --host=HOST  metrics source is PMCD on host
  -O TIME, --origin=TIME
                        initial sample time within the time window
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -P, --pmie            display pmie evaluation statistics
  -?, --help            show this usage message and exit

Command Options:
  -A TIME, --align=TIME align sample times on natural boundaries
  -a FILE, --archive=FILE
                        metrics source is a PCP log archive
  -g, --guimode         start in GUI mode with new time control
  -h HOST, --host=HOST  metrics source is PMCD on host
  -L, --local-PMDA      metrics source is local connection to a PMDA
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -O TIME, --origin=TIME
                        initial sample time within the time window
  -p N, --guiport=N     port for connection to existing time control
  -S TIME, --start=TIME start of the time window
  -s N, --samples=N     terminate after this many samples
  -T TIME, --finish=TIME
                        end of the time window
  -t DELTA, --interval=DELTA
                        sampling interval
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -V, --version         display version number and exit

";

/// Options by both names, whether each takes an argument, and the variable through which the command learns of it
/// (pmGetOptions(3)).
const OPTIONS: &[(char, &str, bool, &str)] = &[
    ('A', "align", true, "PCP_ALIGN_TIME"),
    ('a', "archive", true, "PCP_ARCHIVE"),
    ('D', "debug", true, "PCP_DEBUG"),
    ('g', "guimode", false, "PCP_GUIMODE"),
    ('h', "host", true, "PCP_HOST"),
    ('L', "local-PMDA", false, "PCP_LOCALMODE"),
    ('n', "namespace", true, "PCP_NAMESPACE"),
    ('O', "origin", true, "PCP_ORIGIN_TIME"),
    ('p', "guiport", true, "PCP_GUIPORT"),
    ('S', "start", true, "PCP_START_TIME"),
    ('s', "samples", true, "PCP_SAMPLES"),
    ('T', "finish", true, "PCP_FINISH_TIME"),
    ('t', "interval", true, "PCP_INTERVAL"),
    ('Z', "timezone", true, "PCP_TIMEZONE"),
    ('z', "hostzone", false, "PCP_HOSTZONE"),
    ('P', "pmie", false, ""),
    ('V', "version", false, ""),
    ('?', "help", false, ""),
];

/// The folders of commands.
fn folders() -> Vec<PathBuf> {
    let system = pcp::config("PCP_BINADM_DIR").unwrap_or_else(|| "/usr/lib/pcp/bin".to_owned());
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pcp/bin"));
    own.into_iter().chain([PathBuf::from(system)]).collect()
}

fn usage() -> String {
    let mut names: Vec<String> = folders()
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("pcp-")?.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    let mut text = USAGE.to_owned();
    text.push_str("Available Commands:    ");
    let mut column = 23;
    for name in names {
        if column + name.len() + 1 > 66 {
            text.push_str("\n          ");
            column = 10;
        }
        text.push(' ');
        text.push_str(&name);
        column += name.len() + 1;
    }
    text.push('\n');
    text
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When the command cannot be started.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let mut variables = Vec::new();
    let mut pmie = false;
    let mut args = args.into_iter().peekable();
    let fail = |what: String| {
        eprint!("pcp: {what}\n{}", usage());
        Ok(1)
    };
    let mut rest = Vec::new();
    while let Some(word) = args.next() {
        if word == "--" {
            break;
        }
        if !word.starts_with('-') || word == "-" {
            rest.push(word);
            break;
        }
        let mut found = Vec::new();
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let Some(option) = OPTIONS.iter().find(|o| o.1.starts_with(name)) else {
                return fail(format!("unrecognized option '--{name}'"));
            };
            let value = match (option.2, value) {
                (true, None) => args.next(),
                (_, value) => value,
            };
            found.push((option, value));
        } else {
            let letters = word.get(1..).unwrap_or("");
            for (index, letter) in letters.char_indices() {
                let Some(option) = OPTIONS.iter().find(|o| o.0 == letter) else {
                    return fail(format!("invalid option -- '{letter}'"));
                };
                if option.2 {
                    let inline = letters.get(index + letter.len_utf8()..).unwrap_or("");
                    let value = if inline.is_empty() {
                        args.next()
                    } else {
                        Some(inline.to_owned())
                    };
                    found.push((option, value));
                    break;
                }
                found.push((option, None));
            }
        }
        for (option, value) in found {
            match option.0 {
                'V' => {
                    println!("pcp version {VERSION}");
                    return Ok(0);
                }
                '?' => {
                    eprint!("{}", usage());
                    return Ok(1);
                }
                'P' => pmie = true,
                _ if option.2 => match value {
                    Some(value) => variables.push((option.3, value)),
                    None => return fail(format!("option requires an argument -- '{}'", option.0)),
                },
                _ => variables.push((option.3, "true".to_owned())),
            }
        }
    }
    rest.extend(args);
    let name = rest
        .first()
        .cloned()
        .unwrap_or_else(|| "summary".to_owned());
    // What is no command may be the path of a program.
    let program = folders()
        .into_iter()
        .map(|folder| folder.join(format!("pcp-{name}")))
        .find(|path| path.is_file())
        .or_else(|| std::fs::canonicalize(&name).ok())
        .filter(|path| path.is_file());
    let Some(program) = program else {
        eprintln!("Cannot find a pcp-{name} command to execute");
        return Ok(1);
    };
    let mut command = Command::new(&program);
    command.envs(variables).args(rest.iter().skip(1));
    if pmie {
        command.arg("-P");
    }
    Err(command.exec())
}
