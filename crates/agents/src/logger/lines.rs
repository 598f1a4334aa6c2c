//! Bytes to lines, of bounded length.

/// The longest line that is passed on whole, in bytes. Of longer ones the beginning is.
pub const LINE_MAX: usize = 64 << 10;

/// Puts lines together from the pieces that were read.
#[derive(Debug)]
pub struct LineSplitter {
    /// The longest line that is passed on whole.
    max: usize,
    partial: Vec<u8>,
    /// Bytes of the line beyond those that are kept.
    cut: u64,
}

impl LineSplitter {
    /// Lines longer than `max` bytes end in a note of how much was cut off; with it they are no longer than `max`.
    pub fn new(max: usize) -> LineSplitter {
        LineSplitter {
            max,
            partial: Vec::new(),
            cut: 0,
        }
    }

    /// Takes what was read, and tells of each line that ended: its text without the newline, and its length with it.
    pub fn feed(&mut self, bytes: &[u8], line: &mut impl FnMut(&[u8], u64)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) if self.partial.is_empty() && end.len() <= self.max => {
                    line(end, piece.len() as u64);
                }
                Some(end) => {
                    self.add(end);
                    self.end(1, line);
                }
                None => self.add(piece),
            }
        }
    }

    /// Tells of what stands behind the last newline as a line: no more will come.
    pub fn finish(&mut self, line: &mut impl FnMut(&[u8], u64)) {
        if !self.partial.is_empty() {
            self.end(0, line);
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let room = self.max.saturating_sub(self.partial.len());
        let (kept, cut) = piece.split_at(room.min(piece.len()));
        self.partial.extend_from_slice(kept);
        self.cut += cut.len() as u64;
    }

    fn end(&mut self, newline: u64, line: &mut impl FnMut(&[u8], u64)) {
        let length = self.partial.len() as u64 + self.cut + newline;
        if self.cut > 0 {
            // Room for the note, whose number of digits is not known before.
            let keep = self.max.saturating_sub(48);
            self.cut += (self.partial.len() - keep.min(self.partial.len())) as u64;
            self.partial.truncate(keep);
            let note = format!(" [{} more bytes]", self.cut);
            self.partial.extend_from_slice(note.as_bytes());
        }
        line(&self.partial, length);
        self.partial.clear();
        self.partial.shrink_to(4096);
        self.cut = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(max: usize, pieces: &[&str]) -> Vec<(String, u64)> {
        let mut lines = Vec::new();
        let mut take = |text: &[u8], length| {
            lines.push((String::from_utf8_lossy(text).into_owned(), length));
        };
        let mut splitter = LineSplitter::new(max);
        for piece in pieces {
            splitter.feed(piece.as_bytes(), &mut take);
        }
        splitter.finish(&mut take);
        lines
    }

    #[test]
    fn lines_are_put_together() {
        let lines = split(99, &["a\nb", "c", "d\n\ne", ""]);
        let expected = [("a", 2), ("bcd", 4), ("", 1), ("e", 1)];
        assert_eq!(lines, expected.map(|(t, n)| (t.to_owned(), n)));
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let long = "x".repeat(1000);
        let lines = split(100, &[&long, &long, "\nnext\n"]);
        let first = format!("{} [1948 more bytes]", "x".repeat(52));
        assert_eq!(lines, [(first, 2001), ("next".to_owned(), 5)]);
        assert_eq!(split(100, &[&"y".repeat(100)])[0].0, "y".repeat(100));
    }
}
