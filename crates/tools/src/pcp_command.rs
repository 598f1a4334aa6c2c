//! `pcp`: runs a command of the system with a source of metrics and a time window (pcp(1)).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::{Source, VERSION};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pcp",
    words: "[options] [[...] command [...]]",
    rows: &[
        section("Summary Options"),
        ARCHIVE,
        HOST,
        ORIGIN,
        NAMESPACE,
        flag('P', "pmie", "display pmie evaluation statistics"),
        HELP,
        section("Command Options"),
        ALIGN,
        ARCHIVE,
        GUI_MODE,
        HOST,
        LOCAL,
        NAMESPACE,
        ORIGIN,
        GUI_PORT,
        START,
        SAMPLES,
        FINISH,
        INTERVAL,
        TIMEZONE,
        HOST_ZONE,
        SHOW_VERSION,
        text("\n"),
    ],
    words_end_options: true,
    ..Spec::PLAIN
};

/// The variables through which a command learns of the options (pmGetOptions(3)).
const VARIABLES: &[(char, &str)] = &[
    ('A', "PCP_ALIGN_TIME"),
    ('a', "PCP_ARCHIVE"),
    ('D', "PCP_DEBUG"),
    ('g', "PCP_GUIMODE"),
    ('h', "PCP_HOST"),
    ('L', "PCP_LOCALMODE"),
    ('n', "PCP_NAMESPACE"),
    ('O', "PCP_ORIGIN_TIME"),
    ('p', "PCP_GUIPORT"),
    ('S', "PCP_START_TIME"),
    ('s', "PCP_SAMPLES"),
    ('T', "PCP_FINISH_TIME"),
    ('t', "PCP_INTERVAL"),
    ('Z', "PCP_TIMEZONE"),
    ('z', "PCP_HOSTZONE"),
];

/// The folders of commands.
fn folders() -> Vec<PathBuf> {
    let system = pcp::config("PCP_BINADM_DIR").unwrap_or_else(|| "/usr/lib/pcp/bin".to_owned());
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pcp/bin"));
    own.into_iter().chain([PathBuf::from(system)]).collect()
}

/// The usage text with the commands that there are.
fn usage(spec: &Spec) -> String {
    let mut names: Vec<String> = folders()
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("pcp-")?.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    let mut text = spec.usage();
    text.push_str("Available Commands:    ");
    let mut column = 23;
    for name in names {
        if column + name.len() + 1 > 64 {
            text.push_str("\n          ");
            column = 0;
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
    SPEC.run(|spec| {
        start(spec, args).map_err(|refusal| match refusal {
            Refusal::Usage(_) | Refusal::Help => Refusal::Failed(usage(spec)),
            Refusal::Done(_) => {
                println!("pcp version {VERSION}");
                Refusal::Done(String::new())
            }
            refusal => refusal,
        })
    })
}

fn start(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut variables = Vec::new();
    let mut pmie = false;
    let rest = spec.parse(args, &mut Source::default(), |option, value| {
        pmie |= option == 'P';
        if let Some((_, name)) = VARIABLES.iter().find(|(letter, _)| *letter == option) {
            let value = if value.is_empty() { "true" } else { value };
            variables.push((name, value.to_owned()));
        }
        Ok(true)
    })?;
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
        println!("Please install pcp system tools package");
        eprintln!("Cannot find a pcp-{name} command to execute");
        return Ok(1);
    };
    let mut command = Command::new(&program);
    command.envs(variables).args(rest.iter().skip(1));
    if pmie {
        command.arg("-P");
    }
    Err(command.exec().into())
}
