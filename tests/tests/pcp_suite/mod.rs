//! Debian's own tools beside ours, on the archives of PCP's test suite.

#![allow(dead_code, reason = "each file of tests takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use spile_tests::{Outcome, pcp_peer, run, spile_path};

/// Where Debian's PCP is unpacked.
pub fn peer() -> &'static Path {
    static PEER: OnceLock<PathBuf> = OnceLock::new();
    PEER.get_or_init(|| pcp_peer::root(env!("CARGO_TARGET_TMPDIR")))
}

/// The folder of PCP's test suite.
pub fn suite() -> &'static Path {
    static SUITE: OnceLock<PathBuf> = OnceLock::new();
    SUITE.get_or_init(|| pcp_peer::suite(env!("CARGO_TARGET_TMPDIR")))
}

/// Runs a command there, in one language and time zone.
pub fn in_suite(mut command: Command, args: &[&str]) -> Outcome {
    command.args(args).current_dir(suite());
    command
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .env("PCP_DIR", "");
    run(command)
}

/// Debian's tool.
pub fn debian(tool: &str, args: &[&str]) -> Outcome {
    in_suite(pcp_peer::program(peer(), tool), args)
}

/// Our tool of that name.
pub fn ours(tool: &str, args: &[&str]) -> Outcome {
    let mut command = Command::new(spile_path());
    command.arg(tool);
    in_suite(command, args)
}

/// Both tools say the same.
pub fn same(tool: &str, args: &[&str]) {
    let (theirs, own) = (debian(tool, args), ours(tool, args));
    assert_eq!(own.stdout, theirs.stdout, "{tool} {args:?}");
    assert_eq!(own.status, theirs.status, "{tool} {args:?}: {}", own.stderr);
}

/// Both tools say the same on both streams.
pub fn same_words(tool: &str, args: &[&str]) {
    let (theirs, own) = (debian(tool, args), ours(tool, args));
    assert_eq!(own.stderr, theirs.stderr, "{tool} {args:?}");
    same(tool, args);
}
