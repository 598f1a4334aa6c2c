//! The words of stap(1)'s command line and of its file of standing options.

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Parser};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Compiles a SystemTap script and runs it inside a program.
#[derive(Parser, Debug, Default)]
#[command(
    name = "stap",
    args_override_self = true,
    infer_long_args = true,
    disable_version_flag = true,
    override_usage = "stap [OPTIONS] FILE [ARGUMENT...]\n       stap [OPTIONS] -e SCRIPT [ARGUMENT...]\n       stap [OPTIONS] -l|-L PROBE\n       stap [OPTIONS] -i",
    after_help = "FILE may be - for standard input. $1, @1 and $# in the script stand for the arguments.\nOptions in ~/.systemtap/rc ($SYSTEMTAP_DIR/rc) come before those given here."
)]
pub struct Arguments {
    /// Run the given script
    #[arg(short = 'e', value_name = "SCRIPT", allow_hyphen_values = true)]
    pub script: Vec<String>,
    /// Add a second script
    #[arg(short = 'E', value_name = "SCRIPT", allow_hyphen_values = true)]
    pub extra: Vec<String>,
    /// FILE is the name of an example that came with SystemTap
    #[arg(long)]
    pub example: bool,
    /// Run CMD, probe it, and end when it ends
    #[arg(short = 'c', value_name = "CMD")]
    pub command: Option<String>,
    /// Probe the running process PID
    #[arg(short = 'x', value_name = "PID", allow_hyphen_values = true)]
    pub pid: Option<String>,
    /// Write to FILE instead of standard output
    #[arg(short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Begin a new file (FILE.0, FILE.1 …) when one has SIZE MiB; keep the last N
    #[arg(short = 'S', value_name = "SIZE[,N]")]
    pub rotate: Option<String>,
    /// Flight recorder: go on in the background; without -o the last output is kept in files of its own
    #[arg(short = 'F')]
    pub flight: bool,
    /// End after this many seconds
    #[arg(short = 'T', value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Tell at the end how often each probe was hit, and what it cost
    #[arg(short = 't')]
    pub timing: bool,
    /// Say more of what is done (again: still more)
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// Say more of single passes: a digit for each
    #[arg(long = "vp", value_name = "DIGITS")]
    pub verbose_passes: Vec<String>,
    /// Suppress warnings
    #[arg(short = 'w')]
    pub no_warnings: bool,
    /// Turn warnings into errors
    #[arg(short = 'W')]
    pub fatal_warnings: bool,
    /// List the probe points that match
    #[arg(short = 'l', value_name = "PROBE")]
    pub list: Option<String>,
    /// List the probe points that match, with their variables
    #[arg(short = 'L', value_name = "PROBE")]
    pub list_variables: Option<String>,
    /// List the kinds of probe points
    #[arg(long)]
    pub dump_probe_types: bool,
    /// List the probe points that the library defines
    #[arg(long)]
    pub dump_probe_aliases: bool,
    /// List the functions of the library (with -v: what they do)
    #[arg(long)]
    pub dump_functions: bool,
    /// Stop after pass 1 (parse), 2 (elaborate), 3 (translate), 4 (compile) or 5 (run)
    #[arg(short = 'p', value_name = "PASS", allow_hyphen_values = true)]
    pub pass: Option<String>,
    /// Set a limit: MAXACTION, MAXERRORS, MAXMAPENTRIES, MAXNESTING, MAXSTRINGLEN, MAXSKIPPED …
    #[arg(short = 'D', value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub define: Vec<String>,
    /// Set a global variable's initial value
    #[arg(short = 'G', value_name = "NAME=VALUE")]
    pub global: Vec<String>,
    /// Megabytes of each thread's ring of output not yet written
    #[arg(short = 's', value_name = "NUM", allow_hyphen_values = true)]
    pub buffer: Option<String>,
    /// Guru mode: allow writing to target variables
    #[arg(short = 'g')]
    pub guru: bool,
    /// Leave unused code in
    #[arg(short = 'u')]
    pub unoptimized: bool,
    /// Look for tapset files in DIR as well
    #[arg(short = 'I', value_name = "DIR")]
    pub tapset_dir: Vec<PathBuf>,
    /// Do not show globals that the script never reads
    #[arg(long)]
    pub no_global_var_display: bool,
    /// Read 0 where a target variable can't be found or read
    #[arg(long)]
    pub skip_badvars: bool,
    /// Skip handlers that fail, and say nothing
    #[arg(long)]
    pub suppress_handler_errors: bool,
    /// No MAXACTION (guru mode only)
    #[arg(long)]
    pub suppress_time_limits: bool,
    /// Behave as that version of the language
    #[arg(long, value_name = "VERSION")]
    pub compatible: Option<String>,
    /// Warn of what depends on the version (nothing does)
    #[arg(long)]
    pub check_version: bool,
    /// Check the script for what users of this level may not do
    #[arg(long, value_name = "LEVEL")]
    pub privilege: Option<String>,
    /// As --privilege=stapusr
    #[arg(long)]
    pub unprivileged: bool,
    /// The runtime to use; only dyninst, which is what spile is
    #[arg(long, value_name = "MODE")]
    pub runtime: Option<String>,
    /// As --runtime=dyninst
    #[arg(long)]
    pub dyninst: bool,
    /// As --runtime=bpf, which spile is not
    #[arg(long)]
    pub bpf: bool,
    /// Colour diagnostics
    #[arg(long, alias = "colour", value_name = "WHEN", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub color: Option<String>,
    /// Build a script step by step
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// Serve an editor: the language server protocol on standard input and output
    #[arg(long)]
    pub language_server: bool,
    /// Show globals and probes while the script runs, every so many seconds; keys control it
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1", require_equals = true)]
    pub monitor: Option<String>,
    /// Name of the session: module_name(), and where files of procfs probes are
    #[arg(short = 'm', value_name = "NAME")]
    pub module: Option<String>,
    /// Largest address space, in bytes
    #[arg(long, value_name = "NUM")]
    pub rlimit_as: Option<String>,
    /// Most processor time, in seconds
    #[arg(long, value_name = "NUM")]
    pub rlimit_cpu: Option<String>,
    /// Most processes of the user
    #[arg(long, value_name = "NUM")]
    pub rlimit_nproc: Option<String>,
    /// Largest stack, in bytes
    #[arg(long, value_name = "NUM")]
    pub rlimit_stack: Option<String>,
    /// Largest file, in bytes
    #[arg(long, value_name = "NUM")]
    pub rlimit_fsize: Option<String>,
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub inert: Inert,
    /// Show the version
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Look for programs, libraries and debug files below DIR
    #[arg(long, value_name = "DIR")]
    pub sysroot: Option<PathBuf>,
    /// Keep no indexes of debug files, and use none
    #[arg(long)]
    pub disable_cache: bool,
    /// Make all indexes of debug files anew
    #[arg(long)]
    pub poison_cache: bool,
    /// Remove the oldest indexes of debug files beyond the cache's limit, and exit
    #[arg(long)]
    pub clean_cache: bool,
    /// The script file, and its arguments
    #[arg(value_name = "FILE", allow_hyphen_values = false)]
    pub rest: Vec<String>,
}

/// Options whose promise holds without them.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Options that change nothing: it is so anyway")]
pub struct Kept {
    /// Names of OBJECT's addresses are known
    #[arg(short = 'd', value_name = "OBJECT")]
    pub object: Vec<String>,
    /// Names of all libraries' addresses are known
    #[arg(long)]
    pub ldd: bool,
    /// Where a function's parameters are after its prologue is looked up
    #[arg(short = 'P')]
    pub prologue: bool,
    /// The same
    #[arg(long, value_name = "WHEN", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub prologue_searching: Option<String>,
}

/// Options that only mean something where a kernel module is built.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Options without effect, since no kernel module is built")]
pub struct Inert {
    /// Keep the temporary directory (there is none)
    #[arg(short = 'k')]
    pub keep: bool,
    /// Name of the temporary directory
    #[arg(long, value_name = "NAME")]
    pub tmpdir: Option<String>,
    /// Bulk mode: a file for each processor
    #[arg(short = 'b')]
    pub bulk: bool,
    /// Options for the kernel's build
    #[arg(short = 'B', value_name = "NAME=VALUE")]
    pub build: Vec<String>,
    /// Information for a kernel module
    #[arg(long, value_name = "NAME=VALUE")]
    pub modinfo: Vec<String>,
    /// Sources of SystemTap's runtime
    #[arg(short = 'R', value_name = "DIR")]
    pub runtime_dir: Option<String>,
    /// The kernel's build tree or release
    #[arg(short = 'r', value_name = "RELEASE")]
    pub release: Option<String>,
    /// Symbols of all kernel modules
    #[arg(long)]
    pub all_modules: bool,
    /// Coverage of the library
    #[arg(short = 'q')]
    pub coverage: bool,
    /// Keep the module uprobes.ko
    #[arg(long)]
    pub save_uprobes: bool,
    /// Keep the module
    #[arg(long)]
    pub save_module: bool,
    /// Sign the module
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub sign_module: Option<String>,
    /// Compile servers
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub use_server: Option<String>,
    /// Compile servers
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub use_server_on_error: Option<String>,
    /// Compile servers
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub list_servers: Option<String>,
    /// Compile servers
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub trust_servers: Option<String>,
    /// Download debugging information
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub download_debuginfo: Option<String>,
    /// Measure marks
    #[arg(long)]
    pub benchmark_sdt: bool,
    /// Loops of that measurement
    #[arg(long, value_name = "N")]
    pub benchmark_sdt_loops: Option<String>,
    /// Threads of that measurement
    #[arg(long, value_name = "N")]
    pub benchmark_sdt_threads: Option<String>,
    /// Environment of a remote system
    #[arg(long, value_name = "VAR=VALUE")]
    pub sysenv: Vec<String>,
    /// Namespaces of the process PID (handlers see numbers as their program's own namespaces have them)
    #[arg(long, alias = "target-namespace", value_name = "PID")]
    pub target_namespaces: Option<String>,
    /// Prefix lines of remote systems
    #[arg(long)]
    pub remote_prefix: bool,
    /// Other architecture (refused unless it is this one)
    #[arg(short = 'a', value_name = "ARCH")]
    pub arch: Option<String>,
    /// Run on another host (refused)
    #[arg(long, value_name = "HOST")]
    pub remote: Vec<String>,
}

impl Inert {
    /// A line for each of these options that was given.
    pub fn notes(&self) -> Vec<String> {
        const MODULE: &str = "no kernel module is built";
        const SERVER: &str = "scripts are compiled here";
        const MEASURED: &str = "what a hit costs is measured by spile demo";
        let given = [
            (self.keep, "-k", "there is no temporary directory"),
            (
                self.tmpdir.is_some(),
                "--tmpdir",
                "there is no temporary directory",
            ),
            (self.bulk, "-b", "all output goes to one stream"),
            (!self.build.is_empty(), "-B", MODULE),
            (!self.modinfo.is_empty(), "--modinfo", MODULE),
            (self.runtime_dir.is_some(), "-R", MODULE),
            (self.release.is_some(), "-r", MODULE),
            (
                self.all_modules,
                "--all-modules",
                "the kernel is not looked at",
            ),
            (self.coverage, "-q", "coverage is not collected"),
            (self.save_uprobes, "--save-uprobes", MODULE),
            (self.save_module, "--save-module", MODULE),
            (self.sign_module.is_some(), "--sign-module", MODULE),
            (self.use_server.is_some(), "--use-server", SERVER),
            (
                self.use_server_on_error.is_some(),
                "--use-server-on-error",
                SERVER,
            ),
            (self.list_servers.is_some(), "--list-servers", SERVER),
            (self.trust_servers.is_some(), "--trust-servers", SERVER),
            (
                self.download_debuginfo.is_some(),
                "--download-debuginfo",
                "servers are asked when DEBUGINFOD_URLS names some",
            ),
            (self.benchmark_sdt, "--benchmark-sdt", MEASURED),
            (
                self.benchmark_sdt_loops.is_some(),
                "--benchmark-sdt-loops",
                MEASURED,
            ),
            (
                self.benchmark_sdt_threads.is_some(),
                "--benchmark-sdt-threads",
                MEASURED,
            ),
            (
                !self.sysenv.is_empty(),
                "--sysenv",
                "scripts are run on this system",
            ),
            (
                self.target_namespaces.is_some(),
                "--target-namespaces",
                "handlers see numbers as their program's own namespaces have them",
            ),
            (
                self.remote_prefix,
                "--remote-prefix",
                "scripts are run on this system",
            ),
        ];
        given
            .iter()
            .filter(|(given, ..)| *given)
            .map(|(_, option, reason)| format!("{option} has no effect: {reason}"))
            .collect()
    }

    /// Why what these options ask for can't be done.
    pub fn refusal(&self) -> Option<String> {
        if let Some(host) = self.remote.first().filter(|h| *h != "direct://") {
            return Some(format!(
                "--remote={host} is not available: scripts are run on this system"
            ));
        }
        if let Some(arch) = self.arch.as_deref().filter(|a| *a != "x86_64") {
            return Some(format!(
                "-a {arch} is not available: code is made for this machine, which is x86_64"
            ));
        }
        None
    }
}

/// What a command line amounts to.
pub enum Words {
    /// Options to act on.
    Options(Box<Arguments>),
    /// Something to say, and the exit status: help, or what is wrong.
    Answer { text: String, is_error: bool },
}

/// Reads the words of a command line (the first is the name it was called by) and those of the file of standing
/// options, which come first.
pub fn parse(args: &[OsString]) -> Words {
    let mut words: Vec<OsString> = args.iter().take(1).cloned().collect();
    words.extend(standing_options());
    words.extend(args.iter().skip(1).cloned());
    let error = match Arguments::try_parse_from(words) {
        Ok(arguments) => return Words::Options(Box::new(arguments)),
        Err(error) => error,
    };
    let named = |kind| error.get(kind).map(ToString::to_string);
    match (error.kind(), named(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(option)) => {
            let option = option.split([' ', '=']).next().unwrap_or_default();
            let what = match option.strip_prefix("--") {
                Some(_) => format!("unrecognized option '{option}'"),
                None => format!("invalid option -- '{}'", option.trim_start_matches('-')),
            };
            Words::Answer {
                text: format!("stap: {what}\n{TRY}"),
                is_error: true,
            }
        }
        // The value is missing where the error has none.
        (ErrorKind::InvalidValue, Some(option))
            if named(ContextKind::InvalidValue).is_none_or(|v| v.is_empty()) =>
        {
            let option = option.split([' ', '=']).next().unwrap_or_default();
            let what = match option.strip_prefix("--") {
                Some(_) => format!("option '{option}' requires an argument"),
                None => format!(
                    "option requires an argument -- '{}'",
                    option.trim_start_matches('-')
                ),
            };
            Words::Answer {
                text: format!("stap: {what}\n{TRY}"),
                is_error: true,
            }
        }
        _ => Words::Answer {
            text: error.to_string(),
            is_error: error.use_stderr(),
        },
    }
}

/// What stap adds to what is wrong with a command line.
pub const TRY: &str = "Try '--help' for more information. [man stap]\nA message like [man foo] means for more info, run % man foo\n";

/// The directory of stap's own files: `$SYSTEMTAP_DIR`, or `~/.systemtap`.
pub fn own_directory() -> Option<PathBuf> {
    match std::env::var_os("SYSTEMTAP_DIR") {
        Some(directory) => Some(directory.into()),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".systemtap")),
    }
}

/// The words of the file `rc`, split as the shell does; lines that begin with `#` are left out.
fn standing_options() -> Vec<OsString> {
    let Some(text) = own_directory().and_then(|d| std::fs::read(d.join("rc")).ok()) else {
        return Vec::new();
    };
    text.split(|&b| b == b'\n')
        .filter(|line| !line.trim_ascii_start().starts_with(b"#"))
        .filter(|line| !line.trim_ascii().is_empty())
        .flat_map(|line| {
            let line = OsString::from_vec(line.to_vec());
            split(&line)
        })
        .collect()
}

fn split(line: &OsString) -> Vec<OsString> {
    let text = String::from_utf8_lossy(line.as_bytes());
    session::split_command(&text)
        .into_iter()
        .map(OsString::from_vec)
        .collect()
}
