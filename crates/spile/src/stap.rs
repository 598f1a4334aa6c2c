//! `spile stap`: SystemTap's command line, as stap(1) has it.

mod arguments;
mod definitions;
mod dump;
mod example;
mod flight;
mod interactive;
mod kernel_config;

use crate::debug_files::{self, CacheUse};
use arguments::{Arguments, TRY, Words};
use script::colors::Colors;
use script::compile::{Compilation, CompileOptions, compile};
use script::diagnostic::{Diagnostic, render_parse_failure};
use script::messages;
use script::preprocess::Environment;
use script::reference::Kind;
use script::span::{FileId, SourceFile, SourceMap};
use script::unparse::print_pass1;
use session::{Limits, ListStyle, Options, Target, Usage};
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the command; `args[0]` is the name it was called by.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments = match arguments::parse(args) {
        Words::Options(arguments) => *arguments,
        Words::Answer { text, is_error } => {
            if is_error {
                complain(&text);
            } else {
                say(&text);
            }
            return ExitCode::from(u8::from(is_error));
        }
    };
    if arguments.version {
        say(&format!(
            "Systemtap translator/driver (version {}, spile {})\nenabled features: DYNINST INTERACTIVE LANGUAGE_SERVER MONITOR\n",
            Environment::default().systemtap_version,
            env!("CARGO_PKG_VERSION")
        ));
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(Refusal::Error(message)) => {
            tell(&format!("ERROR: {message}"));
            ExitCode::from(1)
        }
        Err(Refusal::Usage(message)) => {
            complain(&format!("{message}\n{TRY}"));
            ExitCode::from(1)
        }
        Err(Refusal::Plain(message)) => {
            tell(&message);
            ExitCode::from(1)
        }
    }
}

/// Writes to standard output, which may be a closed pipe: then there is nobody to tell.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes a line to standard error, which may be a closed pipe as well.
fn tell(line: &str) {
    complain(&format!("{line}\n"));
}

/// Writes whole lines to standard error.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Why there is nothing to run.
enum Refusal {
    /// With `ERROR: ` before it.
    Error(String),
    /// With stap's hint at its help behind it.
    Usage(String),
    /// As it stands.
    Plain(String),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal::Error(message)
    }
}

fn run(arguments: &Arguments) -> Result<u8, Refusal> {
    check(arguments)?;
    let notes = definitions::check(arguments.define.iter().map(String::as_str));
    let notes = match notes {
        // stap's C compiler finds that out, in pass 4.
        Err(_) if last_pass(arguments)? < 4 => Vec::new(),
        notes => notes.map_err(Refusal::Error)?,
    };
    if !arguments.no_warnings {
        for note in arguments.inert.notes().into_iter().chain(notes) {
            tell(&format!("WARNING: {note}"));
        }
    }
    set_resource_limits(arguments)?;
    if arguments.clean_cache {
        if let Some(cache) = debug_files::index_cache() {
            cache.clean();
        }
        return Ok(0);
    }
    debug_files::share(
        arguments.sysroot.clone(),
        match (arguments.disable_cache, arguments.poison_cache) {
            (true, _) => CacheUse::Disabled,
            (false, true) => CacheUse::Poisoned,
            (false, false) => CacheUse::Full,
        },
        !arguments.no_warnings,
    );
    if !arguments.no_warnings {
        for object in &arguments.kept.object {
            if object != "kernel" && session::find_executable(object).is_none() {
                tell(&format!(
                    "WARNING: missing unwind/symbol data for module '{object}'"
                ));
            }
        }
    }
    if arguments.dump_probe_types {
        say(&dump::probe_types());
        return Ok(0);
    }
    for (wanted, kind) in [
        (arguments.dump_probe_aliases, Kind::Alias),
        (arguments.dump_functions, Kind::Function),
    ] {
        if wanted {
            let explain = arguments.verbose > 0;
            say(&dump::library(kind, &arguments.tapset_dir, explain));
            return Ok(0);
        }
    }
    if arguments.language_server {
        let served = language_server::run(&arguments.tapset_dir, &listed);
        return served
            .map(|()| 0)
            .map_err(|e| Refusal::Error(e.to_string()));
    }
    if arguments.interactive {
        return Ok(interactive::run(arguments)?);
    }
    let color = colors(match arguments.color.as_deref() {
        Some("always") => true,
        Some("never") => false,
        _ => std::io::stderr().is_terminal(),
    });
    let listing = arguments.list.is_some() || arguments.list_variables.is_some();
    let stop = last_pass(arguments)?;
    let verbose = verbosity(arguments)?;
    let (sources, users, script_args) = sources(arguments)?;
    let options = CompileOptions {
        args: script_args,
        initial_values: initial_values(&arguments.global)?
            .into_iter()
            .chain(
                (arguments.module.as_deref())
                    .map(|name| (SESSION_NAME.to_string(), module_name(name).to_string())),
            )
            .collect(),
        guru: arguments.guru,
        suppress_warnings: arguments.no_warnings || listing,
        // Empty probes are dropped otherwise, and listing runs on empty probes.
        unoptimized: arguments.unoptimized || listing,
        hide_globals: arguments.no_global_var_display,
        monitor: arguments.monitor.is_some(),
        tapset_dirs: arguments.tapset_dir.clone(),
        last_pass: stop,
        environment: environment(arguments, &sources)?,
        definitions: Vec::new(),
    };
    let start = Usage::now();
    let texts = sources.clone();
    let mut compilation = compile(sources, &users, &options);
    if let Some(unplaced) = compilation.unplaced.as_ref()
        && !unplaced.questions.is_empty()
    {
        let definitions = session::definitions(unplaced);
        if !definitions.is_empty() {
            let options = CompileOptions {
                definitions,
                ..options.clone()
            };
            compilation = compile(texts, &users, &options);
        }
    }
    if let Some(unplaced) = compilation.unplaced.as_ref().filter(|_| !listing) {
        let missing = session::missing_points(&unplaced.program);
        compilation.add_missing(missing);
    }
    let parsed = || {
        let library = compilation.library_scripts();
        format!(
            "Pass 1: parsed user script and {library} library scripts using {}.",
            start.spent()
        )
    };
    let line = (verbose[0] > 0).then(parsed);
    if let Some(status) = report(
        &compilation,
        arguments,
        verbose[0].max(verbose[1]),
        color,
        (line.as_deref(), verbose[1] > 0, &start),
    ) {
        return Ok(status);
    }
    if stop == 1 {
        let texts = compilation.files.iter();
        let texts = texts.map(|file| print_pass1(file, &compilation.sources));
        let texts: Vec<String> = texts.collect();
        say(&joined(&texts));
        return Ok(0);
    }
    let Some(program) = compilation.program.as_ref() else {
        return Ok(1);
    };
    let analysed = || {
        let elaborated = compilation.elaborated.as_ref();
        let counts = elaborated.map_or([0; 4], |e| e.counts());
        tell(&analysed(counts, &start));
    };
    if verbose[1] > 0 && stop > 2 {
        analysed();
    }
    let target = match (&arguments.command, &arguments.pid) {
        (Some(command), _) => Target::Command(session::split_command(command)),
        (None, Some(pid)) => Target::Process(
            pid.parse()
                .ok()
                .filter(|&p: &i32| p > 0)
                .ok_or_else(|| Refusal::Plain("Invalid target process ID number.".into()))?,
        ),
        (None, None) => Target::None,
    };
    let rotate = arguments.rotate.as_deref().map(rotation).transpose()?;
    let options = Options {
        limits: limits(arguments)?,
        target,
        output: arguments.output.clone(),
        rotate: rotate.filter(|(size, _)| *size > 0),
        timeout: timeout(arguments.timeout.as_deref())?,
        verbose: verbose[2].max(verbose[3]).max(verbose[4]),
        warnings: !arguments.no_warnings,
        color,
        pass: stop,
        suppress_errors: arguments.suppress_handler_errors,
        monitor: monitor_interval(arguments)?,
        module: (arguments.module.as_deref()).map(|name| module_name(name).to_string()),
        list: match (listing, arguments.list_variables.is_some()) {
            (false, _) => None,
            (true, false) => Some(ListStyle::Points),
            (true, true) => Some(ListStyle::Variables),
        },
        notes: deferred(&compilation, arguments).to_vec(),
    };
    if stop == 2 && !listing {
        let Some(elaborated) = &compilation.elaborated else {
            return Ok(1);
        };
        if verbose[1] > 0 {
            analysed();
        }
        return session::elaborate(program, &options, |resolve| {
            say(&elaborated.print(verbose[1] > 0, resolve));
        })
        .map_err(|error| Refusal::Error(error.to_string()));
    }
    if arguments.flight && stop == 5 && !listing && !flight::is_recorder() {
        say(&flight::start(
            arguments.output.as_ref(),
            arguments.rotate.is_some(),
        )?);
        return Ok(0);
    }
    session::run(program, &options).map_err(|error| Refusal::Error(error.to_string()))
}

/// The normal forms of several scripts, below one headline.
fn joined(texts: &[String]) -> String {
    let mut out = texts.first().cloned().unwrap_or_default();
    for text in texts.iter().skip(1) {
        let body = text.split_once('\n').map_or("", |(_, body)| body);
        out.truncate(out.trim_end().len());
        out.push('\n');
        out.push_str(body);
    }
    out
}

/// What messages are coloured with: SYSTEMTAP_COLORS says what, which shows none where it is wrong (stap(1)).
fn colors(wanted: bool) -> Colors {
    match std::env::var("SYSTEMTAP_COLORS") {
        Ok(text) if wanted => Colors::parse(&text).unwrap_or_default(),
        _ => wanted.into(),
    }
}

/// What can't be done, or makes no sense together.
fn check(arguments: &Arguments) -> Result<(), Refusal> {
    let runtime = match arguments.bpf {
        true => Some("bpf"),
        false => arguments.runtime.as_deref(),
    };
    if let Some(runtime) = runtime.filter(|r| !["kernel", "dyninst", "bpf"].contains(r)) {
        return Err(Refusal::Error(format!(
            "{runtime} is an invalid argument for --runtime"
        )));
    }
    if let Some(runtime) = runtime.filter(|r| *r != "dyninst") {
        return Err(Refusal::Error(format!(
            "runtime '{runtime}' is not available: spile runs scripts inside processes (--runtime=dyninst)"
        )));
    }
    if let Some(refusal) = arguments.inert.refusal() {
        return Err(Refusal::Error(refusal));
    }
    if arguments.command.is_some() && arguments.pid.is_some() {
        return Err(Refusal::Usage(
            "You can't specify -c and -x together.".into(),
        ));
    }
    if arguments.script.len() > 1 {
        return Err(Refusal::Plain(
            "Only one script can be given on the command line.".into(),
        ));
    }
    let listing = arguments.list.is_some()
        || arguments.list_variables.is_some()
        || arguments.dump_probe_types
        || arguments.dump_probe_aliases
        || arguments.dump_functions;
    if listing && !arguments.script.is_empty() {
        return Err(Refusal::Usage(
            "Cannot specify a script with -l/-L/--dump-* switches.".into(),
        ));
    }
    let when = arguments.color.as_deref();
    if let Some(when) = when.filter(|w| !["always", "auto", "never"].contains(w)) {
        return Err(Refusal::Plain(format!(
            "Invalid argument '{when}' for --color."
        )));
    }
    if let Some(word) = arguments.define.iter().find(|w| !is_definition(w)) {
        return Err(Refusal::Error(mismatch("-D", word, DEFINITION)));
    }
    if arguments.suppress_time_limits && !arguments.guru {
        return Err(Refusal::Plain(
            "ERROR --suppress-time-limits requires guru mode (-g)".into(),
        ));
    }
    monitor_interval(arguments)?;
    let runs = last_pass(arguments).is_ok_and(|pass| pass == 5);
    if arguments.rotate.is_some() && arguments.output.is_none() && !arguments.flight && runs {
        return Err(Refusal::Usage(
            "The -S option needs a file to write to (-o).".into(),
        ));
    }
    timeout(arguments.timeout.as_deref())?;
    limits(arguments)?;
    let level = arguments.privilege.as_deref();
    if let Some(level) = level.filter(|l| !["stapusr", "stapsys", "stapdev"].contains(l)) {
        return Err(Refusal::Plain(format!(
            "Invalid argument '{level}' for --privilege."
        )));
    }
    let valid = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        !name.is_empty() && name.bytes().all(plain)
    };
    if let Some(name) = arguments.module.as_deref().map(module_name)
        && !valid(name)
    {
        return Err(Refusal::Error(mismatch("-m", name, MODULE)));
    }
    let kinds = [
        arguments.list.is_some(),
        arguments.list_variables.is_some(),
        arguments.dump_probe_types,
        arguments.dump_probe_aliases,
        arguments.dump_functions,
    ];
    if kinds.into_iter().filter(|asked| *asked).count() > 1 {
        return Err(Refusal::Error(
            "only one of the -l/-L/--dump-* switches may be specified".into(),
        ));
    }
    if listing && arguments.pass.is_some() {
        return Err(Refusal::Usage(
            "Cannot specify -p with -l/-L/--dump-* switches.".into(),
        ));
    }
    check_kept(arguments)
}

/// The words that options take which have little or no effect here: as for stap they have to make sense.
fn check_kept(arguments: &Arguments) -> Result<(), Refusal> {
    let when = arguments.kept.prologue_searching.as_deref();
    if let Some(when) = when.filter(|w| !["always", "auto", "never"].contains(w)) {
        return Err(Refusal::Plain(format!(
            "Invalid argument '{when}' for --prologue-searching."
        )));
    }
    let inert = &arguments.inert;
    let pid = inert.target_namespaces.as_deref();
    if pid.is_some_and(|pid| !pid.parse().is_ok_and(|pid: i32| pid > 0)) {
        return Err(Refusal::Plain(
            "Invalid process ID number for target namespaces.".into(),
        ));
    }
    let download = inert
        .download_debuginfo
        .as_deref()
        .filter(|word| !word.is_empty());
    let known = |word: &str| ["yes", "no", "ask"].contains(&word) || word.parse::<u32>().is_ok();
    if let Some(word) = download.filter(|word| !known(word)) {
        return Err(Refusal::Error(format!(
            "{word} is not a valid value. Use 'yes', 'no', 'ask' or a timeout value."
        )));
    }
    if let Some(root) = arguments.sysroot.as_deref().filter(|root| !root.is_dir()) {
        return Err(Refusal::Error(format!(
            "{} is an invalid directory for --sysroot",
            root.display()
        )));
    }
    if !inert.sysenv.is_empty() && arguments.sysroot.is_none() {
        return Err(Refusal::Error("--sysenv must follow --sysroot".into()));
    }
    Ok(())
}

/// `--monitor[=SECONDS]`.
fn monitor_interval(arguments: &Arguments) -> Result<Option<Duration>, Refusal> {
    let Some(seconds) = &arguments.monitor else {
        return Ok(None);
    };
    match seconds.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds.into()))),
        _ => Err(Refusal::Plain("Invalid monitor interval.".into())),
    }
}

/// What stap wants `-D`, `-G`, `-S` and `-m` to look like.
const DEFINITION: &str = "^[a-z_][a-z_0-9]*(=-?[a-z_0-9]+)?$";
const INITIAL_VALUE: &str = "^[a-z_][a-z0-9_]*=[a-z0-9_.-]+$";
const ROTATION: &str = "^[0-9]+(,[0-9]+)?$";
const MODULE: &str = "^[a-z0-9_]+$";

/// An argument that does not look like that.
fn mismatch(option: &str, word: &str, pattern: &str) -> String {
    format!("Safety pattern mismatch for {option} parameter ('{word}' vs. '{pattern}') rc=1")
}

/// Whether a word matches [`DEFINITION`], of which the case does not matter.
fn is_definition(word: &str) -> bool {
    let plain =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.strip_prefix('-').unwrap_or(value))),
        None => (word, None),
    };
    plain(name) && !name.starts_with(|c: char| c.is_ascii_digit()) && value.is_none_or(plain)
}

/// The library's global with the session's name.
const SESSION_NAME: &str = "__session_name";

/// `-m NAME`, where NAME may have the ending of a kernel module.
fn module_name(name: &str) -> &str {
    name.strip_suffix(".ko").unwrap_or(name)
}

/// `--rlimit-…`.
fn set_resource_limits(arguments: &Arguments) -> Result<(), Refusal> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = [
        (&arguments.rlimit_as, Resource::As, "as"),
        (&arguments.rlimit_cpu, Resource::Cpu, "cpu"),
        (&arguments.rlimit_nproc, Resource::Nproc, "nproc"),
        (&arguments.rlimit_stack, Resource::Stack, "stack"),
        (&arguments.rlimit_fsize, Resource::Fsize, "fsize"),
    ];
    for (value, resource, name) in limits {
        let Some(value) = value else { continue };
        let value = value.parse().map_err(|_| {
            Refusal::Plain(format!(
                "Unable to convert rlimit-{name} resource limit '{value}'."
            ))
        })?;
        let limit = Rlimit {
            current: Some(value),
            maximum: getrlimit(resource).maximum,
        };
        setrlimit(resource, limit)
            .map_err(|error| format!("Unable to set resource limits for rlimit_{name}: {error}"))?;
    }
    Ok(())
}

fn last_pass(arguments: &Arguments) -> Result<u8, Refusal> {
    match arguments.pass.as_deref().map(str::parse) {
        None => Ok(5),
        Some(Ok(pass @ 1..=5)) => Ok(pass),
        Some(_) => Err(Refusal::Plain(
            "Invalid pass number (should be 1-5).".into(),
        )),
    }
}

/// How much to say of each pass: `-v` for all, the digits of `--vp` for one each.
fn verbosity(arguments: &Arguments) -> Result<[u8; 5], Refusal> {
    let mut verbose = [arguments.verbose; 5];
    for digits in &arguments.verbose_passes {
        if !(1..=5).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::Plain(
                "Invalid --vp argument: it takes 1 to 5 digits.".into(),
            ));
        }
        for (pass, digit) in verbose.iter_mut().zip(digits.bytes()) {
            *pass = pass.saturating_add(digit - b'0');
        }
    }
    Ok(verbose)
}

/// What `%( … %)` is decided from, on this machine.
fn environment(arguments: &Arguments, texts: &SourceMap) -> Result<Environment, Refusal> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut environment = Environment {
        kernel_release: release.trim().to_string(),
        guru_mode: arguments.guru,
        ..Environment::default()
    };
    if (texts.files().iter()).any(|file| file.text.contains("CONFIG_")) {
        environment.configs = kernel_config::read(&environment.kernel_release);
    }
    if let Some(level) = &arguments.privilege {
        environment.privilege.clone_from(level);
    }
    if let Some(version) = &arguments.compatible {
        let own = &environment.systemtap_version;
        if script::preprocess::version_order(version, own).is_gt() {
            return Err(Refusal::Error(format!(
                "systemtap version {own} cannot be compatible with future version {version}"
            )));
        }
        environment.systemtap_version.clone_from(version);
    }
    Ok(environment)
}

/// The line of `-v` about pass 2: how many probes, functions, pieces of embedded code and globals there are.
fn analysed([probes, functions, embeds, globals]: [usize; 4], start: &Usage) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "Pass 2: analyzed script: {}, {}, {}, {} using {}.",
        count(probes, "probe"),
        count(functions, "function"),
        count(embeds, "embed"),
        count(globals, "global"),
        start.spent()
    )
}

/// Prints the diagnostics; the exit status when there is an error among them.
fn report(
    compilation: &Compilation,
    arguments: &Arguments,
    verbose: u8,
    color: Colors,
    (parsed, analysis, start): (Option<&str>, bool, &Usage),
) -> Option<u8> {
    let sources = &compilation.sources;
    let diagnostics = &compilation.diagnostics;
    let listing = arguments.list.is_some() || arguments.list_variables.is_some();
    if compilation.failed_pass() == Some(1) {
        let name = if !arguments.script.is_empty() {
            "<input>"
        } else {
            arguments.rest.first().map_or("<input>", String::as_str)
        };
        let verbose = verbose > 0;
        let mut text = render_parse_failure(
            diagnostics,
            sources,
            name,
            (compilation.empty, compilation.stripped),
            verbose,
            color,
        );
        if let (Some(line), Some(at)) = (parsed, text.find("Pass 1: parse failed.")) {
            text.insert_str(at, &format!("{line}\n"));
        }
        if listing {
            // stap does not speak of passes then.
            let shown = text
                .lines()
                .filter(|l| !l.contains("Pass 1: parse failed."));
            text = shown.map(|line| format!("{line}\n")).collect();
        }
        complain(&text);
        return Some(1);
    }
    if let Some(line) = parsed {
        tell(line);
    }
    // stap -l says nothing of what it does not find.
    if verbose > 0 || !listing {
        let now = diagnostics.len() - deferred(compilation, arguments).len();
        let mut text = messages::render_pass(
            &diagnostics[..now],
            sources,
            compilation.failed_pass().unwrap_or(2),
            verbose > 0,
            color,
        );
        if let Some(unplaced) = compilation.unplaced.as_ref().filter(|_| analysis)
            && let Some(at) = text.find("Pass 2: analysis failed.")
        {
            text.insert_str(at, &format!("{}\n", analysed(unplaced.counts, start)));
        }
        complain(&text);
    }
    if compilation.failed_pass().is_some() {
        return Some(1);
    }
    let failed = arguments.fatal_warnings && !diagnostics.is_empty();
    failed.then(|| {
        tell("Pass 2: analysis failed.  [man error::pass2]");
        1
    })
}

/// The warnings that the session gives when it has found all points.
fn deferred<'a>(compilation: &'a Compilation, arguments: &Arguments) -> &'a [Diagnostic] {
    let all = &compilation.diagnostics;
    match arguments.fatal_warnings {
        true => &[],
        false => &all[all.len() - compilation.deferred..],
    }
}

fn sources(arguments: &Arguments) -> Result<(SourceMap, Vec<FileId>, Vec<String>), Refusal> {
    let mut sources = SourceMap::default();
    let mut users = Vec::new();
    let mut add = |name: &str, text: String| {
        users.push(sources.add(SourceFile {
            name: name.to_string(),
            text: text.into(),
            is_tapset: false,
        }));
    };
    let listed = arguments
        .list
        .as_ref()
        .or(arguments.list_variables.as_ref());
    let mut rest = arguments.rest.as_slice();
    if let Some(point) = listed {
        add("<input>", format!("probe {point} {{}}"));
    } else if let Some(script) = arguments.script.first() {
        add("<input>", format!("{script}\n"));
    } else {
        let Some((file, others)) = rest.split_first() else {
            return Err(Refusal::Usage(
                "A script must be specified.\nTry '-i' for building a script interactively.".into(),
            ));
        };
        rest = others;
        if file == "-" {
            let mut text = Vec::new();
            std::io::stdin()
                .read_to_end(&mut text)
                .map_err(|e| format!("standard input: {e}"))?;
            add("<input>", String::from_utf8_lossy(&text).into_owned());
        } else {
            let path = match arguments.example {
                true => example::find(file)?,
                false => PathBuf::from(file),
            };
            let text = std::fs::read(path).map_err(|e| match e.kind() {
                ErrorKind::NotFound => Refusal::Plain(format!(
                    "Input file '{file}' is missing.\nPass 1: parse failed.  [man error::pass1]"
                )),
                ErrorKind::IsADirectory => Refusal::Plain(format!(
                    "Input file '{file}' is empty.\nPass 1: parse failed.  [man error::pass1]"
                )),
                _ => Refusal::Error(format!("cannot read script '{file}': {e}")),
            })?;
            add(file, String::from_utf8_lossy(&text).into_owned());
        }
    }
    for (number, extra) in arguments.extra.iter().enumerate() {
        add(&format!("<input{}>", number + 1), format!("{extra}\n"));
    }
    Ok((sources, users, rest.to_vec()))
}

/// `-G NAME=VALUE`.
fn initial_values(words: &[String]) -> Result<Vec<(String, String)>, Refusal> {
    let name = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let valid = |value: &str| !value.is_empty() && value.bytes().all(plain);
    let split = |word: &String| match word.split_once('=') {
        Some((n, value)) if name(n.to_ascii_lowercase().as_str()) && valid(value) => {
            Ok((n.to_string(), value.to_string()))
        }
        _ => Err(Refusal::Error(mismatch("-G", word, INITIAL_VALUE))),
    };
    words.iter().map(split).collect()
}

/// What `-D`, `-s` and other options ask for; `-D NAME` alone, which stap passes to its C compiler, sets no limit.
fn limits(arguments: &Arguments) -> Result<Limits, Refusal> {
    let mut words = arguments.define.clone();
    if let Some(size) = &arguments.buffer {
        match size.parse::<u64>() {
            Ok(megabytes @ 1..=4095) => words.push(format!("SPILE_RING={}", megabytes << 20)),
            _ => {
                return Err(Refusal::Plain(
                    "Invalid buffer size (should be 1-4095).".into(),
                ));
            }
        }
    }
    if arguments.suppress_time_limits {
        words.push(format!("MAXACTION={}", u32::MAX));
    }
    if arguments.suppress_handler_errors {
        words.push(format!("MAXERRORS={}", u32::MAX));
    }
    let definitions = words.iter().map(|word| definitions::parts(word));
    Ok(Limits {
        timing: arguments.timing || arguments.monitor.is_some(),
        skip_badvars: arguments.skip_badvars,
        keep_text: last_pass(arguments)? == 3,
        ..Limits::from_definitions(definitions)
    })
}

/// The lines of `stap -l`, or `-L`, about a probe point; none where that fails.
fn listed(point: &str, with_variables: bool) -> Vec<String> {
    let Ok(program) = std::env::current_exe() else {
        return Vec::new();
    };
    let option = if with_variables { "-L" } else { "-l" };
    let output = std::process::Command::new(program)
        .args(["stap", option, point])
        .stdin(std::process::Stdio::null())
        .output();
    output.map_or_else(
        |_| Vec::new(),
        |output| {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().map(str::to_string).collect()
        },
    )
}

/// `-S SIZE[,N]`.
fn rotation(text: &str) -> Result<(u64, Option<u32>), String> {
    let (size, keep) = match text.split_once(',') {
        Some((size, keep)) => (size, keep.parse().ok().map(Some)),
        None => (text, Some(None)),
    };
    match (size.parse::<u64>(), keep) {
        (Ok(size), Some(keep)) => Ok((size, keep)),
        _ => Err(mismatch("-S", text, ROTATION)),
    }
}

fn timeout(text: Option<&str>) -> Result<Option<Duration>, Refusal> {
    text.map(|t| {
        t.parse::<u64>()
            .ok()
            .filter(|&s| s > 0)
            .map(Duration::from_secs)
            .ok_or_else(|| Refusal::Plain("Invalid timeout interval.".into()))
    })
    .transpose()
}
