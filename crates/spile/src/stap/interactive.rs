//! `stap -i`: a script built step by step. Declarations are kept; statements and expressions are run at once, with the
//! globals and functions kept so far; commands act on the script as a whole.

mod completion;

use super::arguments::own_directory;
use completion::Helper;
use formatter::pieces::{self, Kind};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Editor, Event, EventContext,
    EventHandler, KeyEvent, RepeatCount,
};
use script::parser::{self, ParseOptions};
use script::span::{SourceFile, SourceMap};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PROMPT: &str = "stap> ";

/// Commands, and what they do.
pub const COMMANDS: &[(&str, &str)] = &[
    (
        "help",
        "help [NAME]: these commands; what a function of the library does",
    ),
    ("list", "show the script"),
    ("add", "add TEXT: add to the script, whatever it looks like"),
    (
        "delete",
        "delete [N]: take declaration N out of the script, or all",
    ),
    ("load", "load FILE: read the script from a file"),
    ("save", "save FILE: write the script to a file"),
    ("run", "run [ARGUMENT...]: run the script; Ctrl-C ends it"),
    ("edit", "edit the script with $EDITOR"),
    (
        "sample",
        "sample [NAME]: load an example that came with SystemTap",
    ),
    ("set", "set OPTION VALUE: set an option"),
    ("show", "show [OPTION]: show the options"),
    ("quit", "leave (also exit, and Ctrl-D)"),
];

/// What `set` and `show` know.
const OPTIONS: &[(&str, &str)] = &[
    ("last_pass", "the pass to stop after, 1 to 5"),
    ("verbose", "how much to say, 0 to 5"),
    ("guru_mode", "yes or no"),
    ("suppress_warnings", "yes or no"),
    ("panic_warnings", "yes or no: warnings are errors"),
    ("timing", "yes or no: tell what probes cost"),
    ("unoptimized", "yes or no"),
    ("target_pid", "the process to probe, 0 for none"),
    ("cmd", "the command to run and probe"),
];

/// The script so far.
struct Session {
    declarations: Vec<String>,
    options: Vec<(&'static str, String)>,
    dirs: Vec<PathBuf>,
}

/// Reads and carries out lines until the end; the exit status.
pub fn run(arguments: &super::Arguments) -> Result<u8, String> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Helper, FileHistory> =
        Editor::with_config(config).map_err(|e| e.to_string())?;
    editor.set_helper(Some(Helper::new(&arguments.tapset_dir)));
    editor.bind_sequence(
        KeyEvent::ctrl('D'),
        EventHandler::Conditional(Box::new(LeaveContinuation)),
    );
    let history = own_directory().map(|d| d.join("history"));
    if let Some(path) = &history {
        // There is none at first.
        let _ = editor.load_history(path);
    }
    let mut session = Session::new(arguments);
    let ending = Ending::watched().map_err(|e| e.to_string())?;
    while !ending.is_asked_for() {
        match ending.while_editing(|| editor.readline(PROMPT)) {
            Ok(line) => {
                if !pasted(&line).iter().all(|entry| session.take(entry)) {
                    break;
                }
                if let Some(helper) = editor.helper_mut() {
                    helper.learn(&session.text(), session.option("cmd"));
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if let Some(path) = &history
        && path
            .parent()
            .is_some_and(|d| std::fs::create_dir_all(d).is_ok())
    {
        // Without it the next session begins with no history.
        let _ = editor.save_history(path);
    }
    Ok(0)
}

/// SIGTERM and SIGHUP: they end a script that runs, and then the loop. While a line is edited they end the program, whose
/// terminal is as it was before.
struct Ending {
    is_editing: Arc<AtomicBool>,
    is_asked_for: Arc<AtomicBool>,
}

impl Ending {
    fn watched() -> std::io::Result<Ending> {
        let ending = Ending {
            is_editing: Arc::default(),
            is_asked_for: Arc::default(),
        };
        let (is_editing, is_asked_for) = (ending.is_editing.clone(), ending.is_asked_for.clone());
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
        let mut signals = Signals::new([SIGTERM, SIGHUP])?;
        std::thread::spawn(move || {
            for signal in signals.forever() {
                is_asked_for.store(true, Ordering::SeqCst);
                if !is_editing.load(Ordering::SeqCst) {
                    continue;
                }
                if let Some(before) = &before {
                    let when = rustix::termios::OptionalActions::Now;
                    // The terminal may be gone, after SIGHUP.
                    let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), when, before);
                    let _ = std::io::stdout().write_all(BRACKETED_PASTE_OFF);
                    let _ = std::io::stdout().flush();
                }
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
        Ok(ending)
    }

    fn is_asked_for(&self) -> bool {
        self.is_asked_for.load(Ordering::SeqCst)
    }

    fn while_editing<T>(&self, edit: impl FnOnce() -> T) -> T {
        self.is_editing.store(true, Ordering::SeqCst);
        let result = edit();
        self.is_editing.store(false, Ordering::SeqCst);
        result
    }
}

/// What undoes rustyline's `CSI ? 2004 h` (xterm's control sequences).
const BRACKETED_PASTE_OFF: &[u8] = b"\x1b[?2004l\r\n";

/// Ctrl-D on an empty line of a text that is not finished gives the text up, as Ctrl-C does.
struct LeaveContinuation;

impl ConditionalEventHandler for LeaveContinuation {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let line = context.line();
        let last = line.rsplit_once('\n').map(|(_, last)| last);
        let is_empty = last.is_some_and(|last| last.trim().is_empty());
        (is_empty && context.pos() == line.len()).then_some(Cmd::Interrupt)
    }
}

/// What was entered, which is several entries when it was pasted.
fn pasted(text: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut entry = String::new();
    for line in text.trim().lines() {
        if !entry.is_empty() {
            entry.push('\n');
        }
        entry.push_str(line);
        if !is_unfinished(&entry) {
            entries.push(std::mem::take(&mut entry));
        }
    }
    entries.push(entry);
    entries
}

/// Whether a text is one that more lines belong to: something is open at its end.
pub fn is_unfinished(text: &str) -> bool {
    let mut depth = 0;
    let parts = pieces::split(text);
    for piece in &parts {
        match piece.text {
            "{" | "(" | "[" if piece.kind == Kind::Operator => depth += 1,
            "}" | ")" | "]" if piece.kind == Kind::Operator => depth -= 1,
            "%(" => depth += 1,
            "%)" => depth -= 1,
            _ => {}
        }
        let starts = |mark: &str| piece.text.starts_with(mark);
        if (starts("/*") && !piece.text.ends_with("*/"))
            || (piece.kind == Kind::Embedded && !piece.text.ends_with("%}"))
        {
            return true;
        }
    }
    let first = parts.iter().find(|p| !p.is_comment()).map(|p| p.text);
    let has_body = parts
        .iter()
        .any(|p| p.text == "{" || p.kind == Kind::Embedded);
    depth > 0 || (matches!(first, Some("probe" | "function")) && !has_body)
}

impl Session {
    fn new(arguments: &super::Arguments) -> Session {
        let yes = |given: bool| if given { "yes" } else { "no" }.to_string();
        let options = vec![
            (
                "last_pass",
                arguments.pass.clone().unwrap_or_else(|| "5".into()),
            ),
            ("verbose", arguments.verbose.to_string()),
            ("guru_mode", yes(arguments.guru)),
            ("suppress_warnings", yes(arguments.no_warnings)),
            ("panic_warnings", yes(arguments.fatal_warnings)),
            ("timing", yes(arguments.timing)),
            ("unoptimized", yes(arguments.unoptimized)),
            (
                "target_pid",
                arguments.pid.clone().unwrap_or_else(|| "0".into()),
            ),
            ("cmd", arguments.command.clone().unwrap_or_default()),
        ];
        Session {
            declarations: Vec::new(),
            options,
            dirs: arguments.tapset_dir.clone(),
        }
    }

    fn text(&self) -> String {
        let mut text = self.declarations.join("\n");
        text.push('\n');
        text
    }

    fn option(&self, name: &str) -> &str {
        let option = self.options.iter().find(|(n, _)| *n == name);
        option.map_or("", |(_, value)| value)
    }

    /// Carries out one line; false when it was the last.
    fn take(&mut self, line: &str) -> bool {
        let (word, rest) = match line.split_once(char::is_whitespace) {
            Some((word, rest)) => (word, rest.trim()),
            None => (line, ""),
        };
        let done = match word {
            "" => Ok(()),
            "quit" | "exit" if rest.is_empty() => return false,
            "help" | "?" => {
                help(rest, &self.dirs);
                Ok(())
            }
            "list" => {
                self.list();
                Ok(())
            }
            "add" => self.add(rest),
            "delete"
                if !rest.contains(['[', '='])
                    && rest.parse::<usize>().is_ok() | rest.is_empty() =>
            {
                self.delete(rest)
            }
            "load" => self.load(&PathBuf::from(rest)),
            "save" => std::fs::write(rest, self.text()).map_err(|e| format!("{rest}: {e}")),
            "run" => self.run(&self.text(), rest),
            "edit" => self.edit(),
            "sample" => self.sample(rest),
            "set" => self.set(rest),
            "show" => self.show(rest),
            "probe" | "global" | "private" | "function" | "@define" => self.add(line),
            _ => self.statement(line),
        };
        if let Err(message) = done {
            eprintln!("{message}");
        }
        true
    }

    fn list(&self) {
        for (i, declaration) in self.declarations.iter().enumerate() {
            println!("{:>3}  {}", i + 1, declaration.replace('\n', "\n     "));
        }
    }

    /// Adds declarations, unless they do not parse.
    fn add(&mut self, text: &str) -> Result<(), String> {
        check(text)?;
        self.declarations.push(text.trim().to_string());
        Ok(())
    }

    fn delete(&mut self, number: &str) -> Result<(), String> {
        if number.is_empty() {
            self.declarations.clear();
            return Ok(());
        }
        let index = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        match index.filter(|i| *i < self.declarations.len()) {
            Some(index) => {
                self.declarations.remove(index);
                Ok(())
            }
            None => Err(format!("there is no declaration {number}: see list")),
        }
    }

    fn load(&mut self, path: &std::path::Path) -> Result<(), String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        check(&text)?;
        self.declarations = vec![text.trim().to_string()];
        Ok(())
    }

    fn edit(&mut self) -> Result<(), String> {
        let file = std::env::temp_dir().join(format!("stap-edit-{}.stp", std::process::id()));
        let failed = |e: std::io::Error| format!("{}: {e}", file.display());
        std::fs::write(&file, self.text()).map_err(failed)?;
        let editor = std::env::var("EDITOR").unwrap_or_else(|_| "vi".into());
        let status = Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&file)
            .status()
            .map_err(|e| format!("{editor}: {e}"));
        let loaded = status.and_then(|_| self.load(&file));
        // It has served.
        let _ = std::fs::remove_file(&file);
        loaded
    }

    fn sample(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("sample NAME: the file name of an example".into());
        }
        let path = super::example::find(name)?;
        self.load(&path)
    }

    fn set(&mut self, rest: &str) -> Result<(), String> {
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match self.options.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => {
                *old = value.trim().to_string();
                Ok(())
            }
            None => Err(format!("there is no option '{name}': see show")),
        }
    }

    fn show(&self, name: &str) -> Result<(), String> {
        let mut found = false;
        for (option, value) in &self.options {
            if name.is_empty() || name == *option {
                let what = OPTIONS.iter().find(|(n, _)| n == option);
                let what = what.map_or("", |(_, what)| what);
                println!("{option}: {value}  ({what})");
                found = true;
            }
        }
        match found {
            true => Ok(()),
            false => Err(format!("there is no option '{name}': see show")),
        }
    }

    /// Runs a statement, or prints an expression's value.
    fn statement(&self, line: &str) -> Result<(), String> {
        let wrapped = |body: &str| format!("probe oneshot {{ {body}\n}}\n");
        // An expression whose value nobody uses is a statement as well: what can be printed is.
        let printed = wrapped(&format!("println({})", line.trim_end_matches(';')));
        let prints = line.starts_with("print");
        let body = match !prints && check(&printed).is_ok() && self.compiles(&printed) {
            true => printed,
            false => wrapped(line),
        };
        check(&body)?;
        // Only what the script declares besides its probes.
        let mut text = String::new();
        for declaration in &self.declarations {
            if !declaration.trim_start().starts_with("probe") {
                text.push_str(declaration);
                text.push('\n');
            }
        }
        text.push_str(&body);
        self.spawn(&["--no-global-var-display", "-w", "-e", &text], "")
    }

    fn compiles(&self, text: &str) -> bool {
        let mut sources = SourceMap::default();
        let whole: String = self
            .declarations
            .iter()
            .filter(|d| !d.trim_start().starts_with("probe"))
            .map(|d| format!("{d}\n"))
            .collect();
        let user = sources.add(SourceFile {
            name: "<input>".into(),
            text: format!("{whole}{text}").into(),
            is_tapset: false,
        });
        let options = script::compile::CompileOptions {
            guru: self.option("guru_mode") == "yes",
            tapset_dirs: self.dirs.clone(),
            last_pass: 2,
            ..Default::default()
        };
        script::compile::compile(sources, &[user], &options)
            .failed_pass()
            .is_none()
    }

    fn run(&self, text: &str, arguments: &str) -> Result<(), String> {
        let mut words: Vec<&str> = Vec::new();
        for (option, flag) in [
            ("suppress_warnings", "-w"),
            ("panic_warnings", "-W"),
            ("timing", "-t"),
            ("unoptimized", "-u"),
        ] {
            if self.option(option) == "yes" {
                words.push(flag);
            }
        }
        words.extend(["-p", self.option("last_pass")]);
        let verbose = self.option("verbose").parse::<usize>().unwrap_or(0);
        words.extend(std::iter::repeat_n("-v", verbose.min(5)));
        match (self.option("cmd"), self.option("target_pid")) {
            ("", "" | "0") => {}
            ("", pid) => words.extend(["-x", pid]),
            (command, _) => words.extend(["-c", command]),
        }
        words.extend(["-e", text]);
        self.spawn(&words, arguments)
    }

    /// Runs a script in a process of its own, which is what Ctrl-C ends.
    fn spawn(&self, words: &[&str], arguments: &str) -> Result<(), String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command.arg("stap").args(words);
        if self.option("guru_mode") == "yes" {
            command.arg("-g");
        }
        for directory in &self.dirs {
            command.arg("-I").arg(directory);
        }
        command.args(arguments.split_whitespace());
        // A signal from the terminal comes here as well; with a handler it is none of ours, and the child has none.
        let ignored = signal_hook::flag::register(
            signal_hook::consts::SIGINT,
            Arc::new(AtomicBool::new(false)),
        )
        .map_err(|e| e.to_string())?;
        let status = command.status();
        signal_hook::low_level::unregister(ignored);
        status.map(|_| ()).map_err(|e| e.to_string())
    }
}

/// Says what is wrong with a text that does not parse.
fn check(text: &str) -> Result<(), String> {
    let mut sources = SourceMap::default();
    let mut options = ParseOptions {
        args: vec!["1".to_string(); 99],
        guru: true,
        ..ParseOptions::default()
    };
    options.macros = script::tapset::macros(&mut sources, &options, &[]);
    let id = sources.add(SourceFile {
        name: "<input>".into(),
        text: text.into(),
        is_tapset: false,
    });
    let parsed = parser::parse(&sources, id, &options);
    match parsed.diagnostics.iter().any(|d| d.is_error()) {
        false => Ok(()),
        true => {
            let text = script::diagnostic::render_parse_failure(
                &parsed.diagnostics,
                &sources,
                "<input>",
                (false, false),
                false,
                false,
            );
            let text = text.split("Pass 1:").next().unwrap_or_default();
            Err(text.trim_end().to_string())
        }
    }
}

fn help(name: &str, dirs: &[PathBuf]) {
    if name.is_empty() {
        for (command, what) in COMMANDS {
            println!("{command:<8}{what}");
        }
        println!(
            "Declarations (probe, global, function) are added to the script; anything else is run at once."
        );
        return;
    }
    if let Some((_, what)) = COMMANDS.iter().find(|(command, _)| *command == name) {
        println!("{what}");
        return;
    }
    let entries = super::dump::entries(dirs);
    let mut found = false;
    for entry in entries.iter().filter(|e| e.name == name) {
        println!("{}\n{}\n", entry.signature(), entry.text());
        found = true;
    }
    if !found {
        println!("nothing is known of '{name}'");
    }
}

#[cfg(test)]
mod tests {
    use super::is_unfinished;

    #[test]
    fn what_more_lines_belong_to() {
        for text in [
            "probe begin {",
            "probe begin",
            "println(1,",
            "/* x",
            "probe begin { \"}\"",
        ] {
            assert!(is_unfinished(text), "{text}");
        }
        for text in [
            "",
            "x = 1",
            "probe begin { }",
            "println(\"(\")",
            "list",
            "global a",
        ] {
            assert!(!is_unfinished(text), "{text}");
        }
    }
}
