//! Debian's Performance Co-Pilot as a peer: unpacked, since its installation asks for a service manager, and run from there.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Guard, Scratch, run, until};

/// The folder that Debian's PCP is unpacked in.
///
/// # Panics
/// When it can't be had.
#[must_use]
pub fn root(target: &str) -> PathBuf {
    unpacked(target, "pcp libpcp-pmda3 libpcp-gui2")
}

/// The folder of the headers of PCP's libraries.
///
/// # Panics
/// When they can't be had.
#[must_use]
pub fn headers(target: &str) -> PathBuf {
    unpacked(target, "libpcp3-dev libpcp-mmv1-dev").join("usr/include")
}

/// The folder of PCP's test suite, with its archives.
///
/// # Panics
/// When it can't be had.
#[must_use]
pub fn suite(target: &str) -> PathBuf {
    unpacked(target, "pcp-testsuite").join("var/lib/pcp/testsuite")
}

/// Unpacks packages below a folder for what is built for tests.
fn unpacked(target: &str, packages: &str) -> PathBuf {
    let root = Path::new(target).join("pcp-debian");
    std::fs::create_dir_all(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    // Other tests may be about the same.
    let shell = format!(
        "exec 9>lock; flock 9; for p in {packages}; do [ -e complete-$p ] || {{ apt-get download $p; \
         dpkg -x $p_*.deb .; rm $p_*.deb; touch complete-$p; }}; done"
    )
    .replace("$p_", "${p}_");
    let mut command = Command::new("sh");
    command.args(["-ec", &shell]).current_dir(&root);
    run(command).ok();
    root
}

/// One of Debian's programs, with its own libraries and paths.
///
/// # Panics
/// When there is none of that name.
pub fn program(root: &Path, name: &str) -> Command {
    let places = ["usr/bin", "usr/lib/pcp/bin"].map(|p| root.join(p).join(name));
    let program = places.iter().find(|p| p.exists());
    let mut command = Command::new(program.unwrap_or_else(|| panic!("Debian's {name} is missing")));
    command
        .env("LD_LIBRARY_PATH", root.join("usr/lib"))
        .env("PCP_DIR", "")
        // It runs others of its programs, such as pmcpp.
        .env("PCP_BIN_DIR", root.join("usr/bin"))
        .env("PCP_BINADM_DIR", root.join("usr/lib/pcp/bin"))
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .env_remove("PCP_CONF");
    command
}

/// A pmcd that runs, ours or Debian's.
pub struct Pmcd {
    /// Its files: `log`, `socket`, `pmcd.conf`, `root`.
    pub scratch: Scratch,
    /// The port that it listens on, on the loopback interface.
    pub port: u16,
    _process: Guard,
}

impl Pmcd {
    /// Starts `command` as pmcd, with lines of its configuration and a name space.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start(scratch: Scratch, mut command: Command, config: &str, names: &str) -> Pmcd {
        let config = scratch.write("pmcd.conf", config);
        let names = scratch.write("root", names);
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        command
            .args(["-f", "-A", "-i", "127.0.0.1", "-p", &port.to_string()])
            .arg("-c")
            .arg(config)
            .arg("-n")
            .arg(names)
            .arg("-s")
            .arg(scratch.path("socket"))
            .arg("-l")
            .arg(scratch.path("log"))
            .current_dir(scratch.path(""))
            .stdin(Stdio::null());
        let process = Guard(command.spawn().expect("pmcd"));
        let socket = scratch.path("socket");
        until("pmcd listens", || UnixStream::connect(&socket).is_ok());
        Pmcd {
            scratch,
            port,
            _process: process,
        }
    }

    /// How a client names it, over its Unix socket.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix:{}", self.scratch.path("socket").display())
    }
}
