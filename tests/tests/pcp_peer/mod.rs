//! Debian's own tools beside ours, on the archives of PCP's test suite.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use spile_tests::{Outcome, run, spile_path};

/// Where Debian's packages are unpacked: their installation asks for a service manager.
pub fn peer() -> &'static Path {
    static PEER: OnceLock<PathBuf> = OnceLock::new();
    PEER.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pcp-peer");
        if root.join("complete").exists() {
            return root;
        }
        // Tests in other processes may be about the same.
        let own = root.with_extension(std::process::id().to_string());
        std::fs::create_dir_all(&own).expect("a folder");
        let shell = "apt-get download pcp pcp-testsuite && for d in *.deb; do dpkg -x $d . && rm $d; done && touch complete";
        let mut command = Command::new("sh");
        command.args(["-ec", shell]).current_dir(&own);
        run(command).ok();
        if std::fs::rename(&own, &root).is_err() {
            assert!(root.join("complete").exists(), "no Debian packages");
            let _ = std::fs::remove_dir_all(&own);
        }
        root
    })
}

/// The folder of PCP's test suite.
pub fn suite() -> PathBuf {
    peer().join("var/lib/pcp/testsuite")
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
    let root = peer();
    let places = ["usr/bin", "usr/lib/pcp/bin"].map(|p| root.join(p).join(tool));
    let program = places.iter().find(|p| p.exists());
    let program = program.unwrap_or_else(|| panic!("Debian's {tool} is missing"));
    in_suite(Command::new(program), args)
}

/// Our tool of that name.
pub fn ours(tool: &str, args: &[&str]) -> Outcome {
    let mut command = Command::new(spile_path());
    command.arg(tool);
    in_suite(command, args)
}
