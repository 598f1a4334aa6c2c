//! `--monitor`: a terminal in two windows, the status of globals and probes above and the script's output below. The
//! keys are those of stap(1).

use crate::SessionError;
use crate::arena::Arena;
use crate::monitor_view::{Figures, View};
use crate::plan::{Plan, TracerProbe};
use crate::probe_point::{Kind, spell};
use crate::run::Run;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use script::ir;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Lines of output that are kept to be scrolled through.
const KEPT_LINES: usize = 10_000;

/// What a key asks of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run the control probe of this number ([`script::monitor`]).
    Control(i64),
    /// End the session.
    Quit,
}

/// The terminal, and what it shows.
pub struct Monitor {
    interval: Duration,
    next: Instant,
    started: Instant,
    terminal: Terminal,
    view: View,
    /// Digits typed so far at the prompt of `t`.
    prompt: Option<String>,
    /// Bytes of an escape sequence that is not complete yet.
    pending: Vec<u8>,
}

/// The terminal's modes, restored at the end.
struct Terminal {
    modes: Termios,
}

impl Terminal {
    fn new() -> io::Result<Terminal> {
        let modes = tcgetattr(io::stdin())?;
        let mut raw = modes.clone();
        // Signals from the keyboard stay: Ctrl-C ends the session as it does elsewhere.
        raw.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let terminal = Terminal { modes };
        terminal.write("\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }

    fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = self.write("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.modes);
    }
}

impl Monitor {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn new(interval: Duration, names: Vec<String>) -> io::Result<Monitor> {
        let now = Instant::now();
        Ok(Monitor {
            interval,
            next: now,
            started: now,
            terminal: Terminal::new()?,
            view: View::new(names),
            prompt: None,
            pending: Vec::new(),
        })
    }

    /// When the status is to be shown next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Takes what the script printed, and what was said to standard error.
    pub fn take_output(&mut self, bytes: &[u8]) {
        self.view.output.take(bytes, KEPT_LINES);
    }

    /// Takes a line of the globals.
    pub fn take_global(&mut self, line: &str) {
        self.view.globals.push(line.trim_end().to_string());
    }

    /// Forgets the globals, which are about to be told anew.
    pub fn begin_globals(&mut self) {
        self.view.globals.clear();
    }

    /// Reads the probes' figures and draws everything.
    pub fn show(&mut self, arena: &Arena, plan: &Plan<'_>) {
        self.next = Instant::now() + self.interval;
        self.view.uptime = self.started.elapsed();
        self.view.figures = figures(arena, plan);
        self.draw();
    }

    fn draw(&mut self) {
        let (width, height) = self.terminal.size();
        let prompt = self.prompt.as_deref();
        let lines = self.view.lines(width, height, prompt);
        let mut text = String::from("\x1b[H");
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        // What cannot be shown now may be shown next time.
        let _ = self.terminal.write(&text);
    }

    /// Acts on bytes from the keyboard; gives what the session has to do.
    pub fn keys(&mut self, bytes: &[u8]) -> Vec<Request> {
        let mut requests = Vec::new();
        for &byte in bytes {
            self.pending.push(byte);
            let key = match self.pending.as_slice() {
                [0x1b] | [0x1b, b'['] | [0x1b, b'[', b'0'..=b'9'] => continue,
                [0x1b, b'[', rest @ ..] => match rest {
                    b"A" => 'k',
                    b"B" => 'j',
                    b"5~" => '\u{5}',
                    b"6~" => '\u{6}',
                    b"H" | b"1~" => '\u{1}',
                    b"F" | b"4~" => '\u{4}',
                    _ => '\0',
                },
                [byte] => char::from(*byte),
                _ => '\0',
            };
            self.pending.clear();
            requests.extend(self.key(key));
        }
        self.draw();
        requests
    }

    fn key(&mut self, key: char) -> Option<Request> {
        if let Some(digits) = &mut self.prompt {
            match key {
                '0'..='9' => digits.push(key),
                '\u{7f}' | '\u{8}' => {
                    digits.pop();
                }
                '\r' | '\n' => {
                    let index = digits.parse::<usize>();
                    self.prompt = None;
                    let probe = index.ok().filter(|&i| self.view.toggle(i))?;
                    return Some(Request::Control(script::monitor::TOGGLE + probe as i64));
                }
                _ => self.prompt = None,
            }
            return None;
        }
        const PAGE: isize = 10;
        match key {
            'c' => return Some(Request::Control(script::monitor::RESET)),
            's' => self.view.sort = self.view.sort.next(),
            't' => self.prompt = Some(String::new()),
            'r' => {
                self.view.set_all(true);
                return Some(Request::Control(script::monitor::RESUME));
            }
            'p' => {
                self.view.set_all(false);
                return Some(Request::Control(script::monitor::PAUSE));
            }
            'x' => self.view.hidden = !self.view.hidden,
            'q' => return Some(Request::Quit),
            '\t' => self.view.scrolls_output = !self.view.scrolls_output,
            'j' => self.view.scroll(1),
            'k' => self.view.scroll(-1),
            '\u{6}' => self.view.scroll(PAGE),
            '\u{5}' => self.view.scroll(-PAGE),
            '\u{1}' => self.view.scroll(isize::MIN),
            '\u{4}' => self.view.scroll(isize::MAX),
            _ => {}
        }
        None
    }

    /// Gives the terminal back, and leaves the output on it.
    pub fn close(self) -> Vec<u8> {
        self.view.output.text()
    }
}

/// What each probe has cost so far, by its number.
fn figures(arena: &Arena, plan: &Plan<'_>) -> BTreeMap<usize, Figures> {
    let mut numbers: Vec<(usize, u32)> = plan.timed.iter().map(|t| (t.probe, t.number)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut found: BTreeMap<usize, Figures> = BTreeMap::new();
    for (probe, number) in numbers {
        let Some(timing) = arena.timing(plan.compiled.layout(), number) else {
            continue;
        };
        let hits = timing.hits.load(Relaxed);
        if hits > 0 {
            let figures = found.entry(probe).or_default();
            figures.add(
                hits,
                timing.total.load(Relaxed),
                !timing.inverted_least.load(Relaxed),
                timing.most.load(Relaxed),
            );
        }
    }
    found
}

impl Run<'_> {
    pub(crate) fn begin_monitor(&mut self, interval: Duration) -> Result<(), SessionError> {
        let written = |probe: &ir::Probe| {
            let point = probe.points.first()?;
            (!point.point.components.first()?.name.text.eq("monitor"))
                .then(|| spell(point.via.first().unwrap_or(&point.point)))
        };
        let names: Vec<String> = self.program.probes.iter().map_while(written).collect();
        let monitor = Monitor::new(interval, names);
        self.monitor = Some(monitor.map_err(SessionError::Monitor)?);
        self.output.capture(self.options.output.is_none());
        Ok(())
    }

    /// Runs the control probes of a number ([`script::monitor`]).
    pub(crate) fn control(&mut self, number: i64) {
        let chosen: Vec<TracerProbe> = self
            .plan
            .tracer
            .iter()
            .filter(|p| p.kind == Kind::Monitor(number))
            .cloned()
            .collect();
        for probe in chosen {
            self.run_handler(probe.handler, probe.number);
        }
        self.drain();
    }

    /// Asks for the globals and shows everything.
    pub(crate) fn show_monitor(&mut self) {
        self.drain();
        if let Some(monitor) = &mut self.monitor {
            monitor.begin_globals();
        }
        self.control(script::monitor::SHOW);
        if let Some(monitor) = &mut self.monitor {
            monitor.show(&self.arena, &self.plan);
        }
    }

    /// Acts on what was typed; true when the session is to end.
    pub(crate) fn take_keys(&mut self) -> bool {
        let mut bytes = [0; 64];
        let count = rustix::io::read(rustix::stdio::stdin(), &mut bytes).unwrap_or(0);
        let Some(monitor) = &mut self.monitor else {
            return false;
        };
        // The terminal has gone.
        if count == 0 {
            return true;
        }
        let requests = monitor.keys(&bytes[..count]);
        for request in &requests {
            if let Request::Control(number) = request {
                self.control(*number);
            }
        }
        if !requests.is_empty() {
            self.show_monitor();
        }
        requests.contains(&Request::Quit)
    }
}
