//! The texts that users write for these tools, read for nothing but to see that reading ends: what the fuzz targets run.

use std::path::Path;

use pcp::Timestamp;

/// A configuration of pmlogger(1), its preprocessor's lines among it.
pub fn pmlogger_config(text: &str) {
    let lines = crate::preprocess::preprocess("text", text, &[]);
    crate::pmlogger::config::parse(&lines.lines, lines.end, 0);
}

/// What is typed into pmlc(1).
pub fn pmlc_commands(text: &str) {
    let mut reader = crate::pmlc::command::Reader::default();
    for line in text.lines() {
        reader.next_line();
        // What is wrong with a line is said to whoever typed it.
        let _ = reader.line(line);
    }
}

/// Rules of pmie(1), where no metric can be had.
pub fn pmie_rules(text: &str) {
    crate::pmie::read_without_metrics(text, Timestamp::new(10, 0));
}

/// A file of pmrep.conf(5), with all its sets.
pub fn pmrep_config(text: &str) {
    crate::pmrep::config::read_text(text, Path::new("text"));
}
