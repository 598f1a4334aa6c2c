//! What `--monitor` shows, as lines of text.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a probe has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    hits: u64,
    /// Cycles in all.
    total: u64,
    least: u64,
    most: u64,
}

impl Figures {
    /// Adds those of a place.
    pub fn add(&mut self, hits: u64, total: u64, least: u64, most: u64) {
        self.least = match self.hits {
            0 => least,
            _ => self.least.min(least),
        };
        self.hits = self.hits.saturating_add(hits);
        self.total = self.total.saturating_add(total);
        self.most = self.most.max(most);
    }

    fn average(&self) -> u64 {
        self.total.checked_div(self.hits).unwrap_or(0)
    }
}

/// What the list of probes is sorted by: the columns in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The script's order.
    #[default]
    Index,
    /// Switched on first.
    State,
    /// Most hits first.
    Hits,
    /// Shortest time first.
    Least,
    /// Greatest average first.
    Average,
    /// Longest time first.
    Most,
    /// By name.
    Name,
}

impl Sort {
    /// The one after it.
    pub fn next(self) -> Sort {
        match self {
            Sort::Index => Sort::State,
            Sort::State => Sort::Hits,
            Sort::Hits => Sort::Least,
            Sort::Least => Sort::Average,
            Sort::Average => Sort::Most,
            Sort::Most => Sort::Name,
            Sort::Name => Sort::Index,
        }
    }
}

/// Lines of output.
#[derive(Debug, Default)]
pub struct Log {
    lines: VecDeque<String>,
    /// The last line has no end yet.
    open: bool,
}

impl Log {
    /// Appends bytes; keeps the last `most` lines.
    pub fn take(&mut self, bytes: &[u8], most: usize) {
        let text = String::from_utf8_lossy(bytes);
        for part in text.split_inclusive('\n') {
            let line = part.trim_end_matches(['\n', '\r']);
            match self.lines.back_mut() {
                Some(last) if self.open => last.push_str(line),
                _ => self.lines.push_back(line.to_string()),
            }
            self.open = !part.ends_with('\n');
        }
        while self.lines.len() > most {
            self.lines.pop_front();
        }
    }

    /// All of it.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, line) in self.lines.iter().enumerate() {
            out.extend_from_slice(line.as_bytes());
            if !self.open || i + 1 < self.lines.len() {
                out.push(b'\n');
            }
        }
        out
    }
}

/// Everything that is shown.
#[derive(Debug)]
pub struct View {
    names: Vec<String>,
    on: Vec<bool>,
    /// Since the session began.
    pub uptime: Duration,
    /// A line for each global or element.
    pub globals: Vec<String>,
    /// By number of the probe.
    pub figures: BTreeMap<usize, Figures>,
    /// What was printed.
    pub output: Log,
    /// The list's order.
    pub sort: Sort,
    /// The status window is not shown.
    pub hidden: bool,
    /// Navigation keys scroll the output.
    pub scrolls_output: bool,
    status_top: usize,
    /// Lines from the end.
    output_back: usize,
}

impl View {
    /// `names` of the probes in the script's order.
    pub fn new(names: Vec<String>) -> View {
        View {
            on: vec![true; names.len()],
            names,
            uptime: Duration::ZERO,
            globals: Vec::new(),
            figures: BTreeMap::new(),
            output: Log::default(),
            sort: Sort::default(),
            hidden: false,
            scrolls_output: false,
            status_top: 0,
            output_back: 0,
        }
    }

    /// Switches a probe; false when there is none of that number.
    pub fn toggle(&mut self, probe: usize) -> bool {
        self.on.get_mut(probe).map(|on| *on = !*on).is_some()
    }

    /// Switches all probes.
    pub fn set_all(&mut self, on: bool) {
        self.on.fill(on);
    }

    /// Scrolls the chosen window by lines, downwards where positive.
    pub fn scroll(&mut self, lines: isize) {
        if self.scrolls_output {
            let most = self.output.lines.len();
            self.output_back = match lines {
                isize::MIN => most,
                isize::MAX => 0,
                _ => self.output_back.saturating_add_signed(-lines).min(most),
            };
        } else {
            let most = self.globals.len() + self.names.len();
            self.status_top = match lines {
                isize::MIN => 0,
                isize::MAX => most,
                _ => self.status_top.saturating_add_signed(lines).min(most),
            };
        }
    }

    fn figures(&self, probe: usize) -> Figures {
        self.figures.get(&probe).copied().unwrap_or_default()
    }

    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.on.len()).collect();
        let down = |n: u64| std::cmp::Reverse(n);
        match self.sort {
            Sort::Index => {}
            Sort::State => order.sort_by_key(|&i| !self.on[i]),
            Sort::Hits => order.sort_by_key(|&i| down(self.figures(i).hits)),
            Sort::Least => order.sort_by_key(|&i| self.figures(i).least),
            Sort::Average => order.sort_by_key(|&i| down(self.figures(i).average())),
            Sort::Most => order.sort_by_key(|&i| down(self.figures(i).most)),
            Sort::Name => order.sort_by(|&a, &b| self.names.get(a).cmp(&self.names.get(b))),
        }
        order
    }

    fn head(&self) -> Vec<String> {
        let seconds = self.uptime.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let paused = match self.on.contains(&true) || self.on.is_empty() {
            true => "",
            false => "  (paused)",
        };
        vec![
            format!(
                "uptime: {hours:02}:{minutes:02}:{:02}  module_name: stap_{}  probes: {}{paused}",
                seconds % 60,
                std::process::id(),
                self.on.len(),
            ),
            "keys: c reset, s sort, t toggle, r resume, p pause, x hide, Tab window, j k scroll, q quit".into(),
        ]
    }

    fn status(&self) -> Vec<String> {
        let mut lines: Vec<String> = vec!["global variables:".into()];
        lines.extend(self.globals.iter().map(|g| format!("  {g}")));
        let marked = |name: &str, sort: Sort| match self.sort == sort {
            true => format!("*{name}"),
            false => name.to_string(),
        };
        lines.push(format!(
            "{:>7} {:>6} {:>10} {:>10} {:>10} {:>10}  {}",
            marked("index", Sort::Index),
            marked("state", Sort::State),
            marked("hits", Sort::Hits),
            marked("min", Sort::Least),
            marked("avg", Sort::Average),
            marked("max", Sort::Most),
            marked("name", Sort::Name),
        ));
        for probe in self.order() {
            let f = self.figures(probe);
            lines.push(format!(
                "{probe:>7} {:>6} {:>10} {:>10} {:>10} {:>10}  {}",
                if self.on[probe] { "on" } else { "off" },
                f.hits,
                f.least,
                f.average(),
                f.most,
                self.names.get(probe).map_or("", String::as_str),
            ));
        }
        lines
    }

    /// The screen, at most `height` lines of `width` characters.
    pub fn lines(&self, width: usize, height: usize, prompt: Option<&str>) -> Vec<String> {
        let mut screen = Vec::new();
        if !self.hidden {
            screen.extend(self.head());
            let status = self.status();
            // Half of the screen at most; the output has the rest.
            let room = (height / 2).saturating_sub(screen.len()).max(3);
            let top = self.status_top.min(status.len().saturating_sub(room));
            screen.extend(status.into_iter().skip(top).take(room));
            let mark = if self.scrolls_output {
                "output *"
            } else {
                "output"
            };
            screen.push(format!("---- {mark} {}", "-".repeat(width)));
        }
        let asks = usize::from(prompt.is_some());
        let room = height.saturating_sub(screen.len() + asks);
        let lines = &self.output.lines;
        let end = lines.len() - self.output_back.min(lines.len().saturating_sub(room));
        let begin = end.saturating_sub(room);
        screen.extend(lines.range(begin..end).cloned());
        if let Some(digits) = prompt {
            screen.push(format!("index of the probe to switch: {digits}"));
        }
        screen.truncate(height);
        for line in &mut screen {
            *line = fitted(line, width);
        }
        screen
    }
}

/// What fits into a line of the terminal, without what would move the cursor.
fn fitted(line: &str, width: usize) -> String {
    let mut out = String::new();
    for c in line.chars().take(width) {
        match c {
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut view = View::new(vec!["begin".into(), "timer.ms(10)".into()]);
        view.uptime = Duration::from_secs(3725);
        view.globals = vec!["n=3".into()];
        let mut figures = Figures::default();
        figures.add(2, 100, 40, 60);
        figures.add(2, 60, 20, 40);
        view.figures.insert(1, figures);
        view.output.take(b"one\ntwo", 100);
        view.output.take(b" more\nthree\n", 100);
        view
    }

    #[test]
    fn status_above_output_below() {
        let lines = view().lines(100, 24, None);
        assert!(lines[0].starts_with("uptime: 01:02:05"), "{lines:?}");
        let row = |name: &str| {
            let line = lines.iter().find(|l| l.ends_with(name));
            line.map(|l| l.split_whitespace().map(str::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            row("timer.ms(10)").expect("a row"),
            ["1", "on", "4", "20", "40", "60", "timer.ms(10)"]
        );
        assert!(lines.contains(&"  n=3".to_string()));
        assert_eq!(lines[lines.len() - 3..], ["one", "two more", "three"]);
    }

    #[test]
    fn keys_sort_toggle_scroll_and_hide() {
        let mut view = view();
        assert_eq!(view.order(), [0, 1]);
        view.sort = Sort::Hits;
        assert_eq!(view.order(), [1, 0]);
        assert!(view.toggle(0));
        assert!(!view.toggle(2));
        view.sort = Sort::State;
        assert_eq!(view.order(), [1, 0]);
        view.hidden = true;
        assert_eq!(view.lines(80, 2, None), ["two more", "three"]);
        view.scrolls_output = true;
        view.scroll(-1);
        assert_eq!(view.lines(80, 2, None), ["one", "two more"]);
        assert_eq!(view.lines(3, 2, None), ["one", "two"]);
    }

    #[test]
    fn old_lines_go() {
        let mut log = Log::default();
        log.take(b"1\n2\n3\n4", 3);
        assert_eq!(log.text(), b"2\n3\n4");
    }
}
