//! The client commands of Performance Co-Pilot: the words, output and exit statuses of its manual pages.

mod background;
mod colour;
mod event_metrics;
mod json;
mod labelset;
mod local;
mod logconfig;
mod logmerge;
mod options;
mod overlapped;
mod pcp_command;
mod pmdiff;
mod pmdumplog;
mod pmdumptext;
mod pmerr;
mod pmevent;
mod pmie;
mod pminfo;
mod pmjson;
mod pmlc;
mod pmlogcheck;
mod pmlogextract;
mod pmlogger;
mod pmloglabel;
mod pmlogreduce;
mod pmlogrewrite;
mod pmlogsummary;
mod pmprobe;
mod pmrep;
mod pmstat;
mod pmstore;
mod pmtop;
mod pmval;
mod preprocess;
mod progress;
mod rewrite_rules;
mod source;
mod strftime;
pub mod untrusted;
mod user;

use std::io;

/// The tools by name.
pub const NAMES: &[&str] = &[
    "pcp",
    "pmdumplog",
    "pmdiff",
    "pmerr",
    "pmjson",
    "pmlc",
    "pmie",
    "pmdumptext",
    "pmevent",
    "pminfo",
    "pmlogcheck",
    "pmlogextract",
    "pmlogger",
    "pmloglabel",
    "pmlogreduce",
    "pmlogrewrite",
    "pmlogsummary",
    "pmprobe",
    "pmrep",
    "pmstat",
    "pmstore",
    "pmtop",
    "pmval",
];

/// Runs the tool of that name with the words behind it; `None` when there is no such tool. The result is the exit status.
///
/// # Errors
/// When standard output cannot be written.
#[must_use]
pub fn run(name: &str, args: Vec<String>) -> Option<io::Result<u8>> {
    let done = match name {
        "pmdumplog" => pmdumplog::run(args),
        "pcp" => pcp_command::run(args),
        "pmdiff" => pmdiff::run(args),
        "pmerr" => pmerr::run(args),
        "pmjson" => pmjson::run(args),
        "pmlc" => pmlc::run(args),
        "pmie" => pmie::run(args),
        "pmdumptext" => pmdumptext::run(args),
        "pmevent" => pmevent::run(args),
        "pminfo" => pminfo::run(args),
        "pmlogcheck" => pmlogcheck::run(args),
        "pmlogextract" => pmlogextract::run(args),
        "pmlogger" => pmlogger::run(args),
        "pmloglabel" => pmloglabel::run(args),
        "pmlogreduce" => pmlogreduce::run(args),
        "pmlogrewrite" => pmlogrewrite::run(args),
        "pmlogsummary" => pmlogsummary::run(args),
        "pmprobe" => pmprobe::run(args),
        "pmrep" => pmrep::run(args),
        "pmstat" => pmstat::run(args),
        "pmstore" => pmstore::run(args),
        "pmtop" => pmtop::run(args),
        "pmval" => pmval::run(args),
        _ => return None,
    };
    local::stop();
    Some(done)
}
