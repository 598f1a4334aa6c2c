//! The Debian packages that tests and benchmarks need, and their installation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A Debian package.
pub struct Package {
    /// Debian's name.
    pub name: &'static str,
    /// A file that says, on systems without dpkg, that it is there: a program in `PATH`, or an
    /// absolute path.
    pub proof: &'static str,
    /// What it is needed for.
    pub reason: &'static str,
}

/// What `cargo xtask test` needs beyond Rust.
pub const FOR_TESTS: &[Package] = &[
    Package {
        name: "gcc",
        proof: "gcc",
        reason: "compiles the C programs that are probed",
    },
    Package {
        name: "g++",
        proof: "g++",
        reason: "compiles the C++ program that throws exceptions",
    },
    Package {
        name: "clang",
        proof: "clang",
        reason: "compiles programs whose debug information is not gcc's",
    },
    Package {
        name: "g++-11",
        proof: "g++-11",
        reason: "has an unwinder that does without newer C libraries",
    },
    Package {
        name: "neovim",
        proof: "nvim",
        reason: "an editor that speaks to the language server",
    },
    Package {
        name: "bsdutils",
        proof: "script",
        reason: "gives the line editor a terminal (script)",
    },
    Package {
        name: "binutils",
        proof: "strip",
        reason: "strips programs, and names their symbols independently (nm)",
    },
    Package {
        name: "lld",
        proof: "ld.lld",
        reason: "links those programs with optimisation across units",
    },
    Package {
        name: "llvm",
        proof: "llvm-dwp",
        reason: "packs split debugging information",
    },
    Package {
        name: "dwz",
        proof: "dwz",
        reason: "moves debugging information to a common file",
    },
    Package {
        name: "debuginfod",
        proof: "debuginfod",
        reason: "serves debug files, and fetches them independently (debuginfod-find)",
    },
    Package {
        name: "xz-utils",
        proof: "xz",
        reason: "compresses the symbols that a stripped program carries",
    },
    Package {
        name: "libc6-dev",
        proof: "/usr/include/stdio.h",
        reason: "headers for those programs",
    },
    Package {
        name: "musl-tools",
        proof: "musl-gcc",
        reason: "links static and musl programs to be probed",
    },
    Package {
        name: "gfortran",
        proof: "gfortran",
        reason: "compiles a program whose functions are in modules",
    },
    Package {
        name: "golang-go",
        proof: "go",
        reason: "builds a program without a C library, on stacks of its own",
    },
    Package {
        name: "nodejs",
        proof: "node",
        reason: "a real program that makes code while it runs",
    },
    Package {
        name: "systemtap-doc",
        proof: "/usr/share/systemtap/examples",
        reason: "example scripts, which are to be accepted",
    },
    Package {
        name: "systemtap-sdt-dev",
        proof: "/usr/include/x86_64-linux-gnu/sys/sdt.h",
        reason: "<sys/sdt.h>, the marks of probed C programs",
    },
    Package {
        name: "python3.11",
        proof: "python3.11",
        reason: "a real program with marks in one very large function",
    },
    Package {
        name: "sqlite3",
        proof: "sqlite3",
        reason: "a real program whose every function is probed at its return",
    },
    Package {
        name: "redis-server",
        proof: "redis-server",
        reason: "a real threaded server to attach to",
    },
    Package {
        name: "redis-tools",
        proof: "redis-benchmark",
        reason: "the load on that server",
    },
    Package {
        name: "libpython3.11-testsuite",
        proof: "/usr/lib/python3.11/test/test_json/__init__.py",
        reason: "Python's own tests, run with every function probed",
    },
    Package {
        name: "postgresql-15",
        proof: "/usr/lib/postgresql/15/bin/postgres",
        reason: "a real server of many processes, with marks, and its load (pgbench)",
    },
    Package {
        name: "openjdk-17-jdk-headless",
        proof: "javac",
        reason: "a real program that makes code while it runs, and its compiler",
    },
    Package {
        name: "bpftrace",
        proof: "bpftrace",
        reason: "counts the same hits independently (root only)",
    },
    Package {
        name: "gdb",
        proof: "gdb",
        reason: "must be able to attach to a probed process",
    },
    Package {
        name: "procps",
        proof: "kill",
        reason: "sends signals to what is tested",
    },
    Package {
        name: "strace",
        proof: "strace",
        reason: "must be able to attach to a probed process",
    },
    Package {
        name: "libpcp3",
        proof: "/usr/lib/libpcp.so.3",
        reason: "Performance Co-Pilot's own tools, which tests unpack, need it",
    },
    Package {
        name: "libpcp-archive1",
        proof: "/usr/lib/libpcp_archive.so.1",
        reason: "its tools that write archives need it",
    },
    Package {
        name: "libpcp-pmda3",
        proof: "/usr/lib/libpcp_pmda.so.3",
        reason: "its agents need it",
    },
    Package {
        name: "libpcp-mmv1",
        proof: "/usr/lib/libpcp_mmv.so.1",
        reason: "its daemon and loggers need it",
    },
    Package {
        name: "libpcp-web1",
        proof: "/usr/lib/libpcp_web.so.1",
        reason: "its daemon and loggers need it",
    },
    Package {
        name: "libpcp-gui2",
        proof: "/usr/lib/libpcp_gui.so.2",
        reason: "its logger's helpers need it",
    },
    Package {
        name: "openssl",
        proof: "openssl",
        reason: "makes the certificates of clients and daemons",
    },
    Package {
        name: "libsasl2-modules",
        proof: "/usr/lib/x86_64-linux-gnu/sasl2/libscram.so.2",
        reason: "lets its clients and daemon authenticate",
    },
    Package {
        name: "sasl2-bin",
        proof: "/usr/sbin/saslpasswd2",
        reason: "makes a file of passwords",
    },
    Package {
        name: "python3-pcp",
        proof: "/usr/lib/python3/dist-packages/pcp/pmapi.py",
        reason: "its pmrep, a Python program, needs it",
    },
    Package {
        name: "python3-requests",
        proof: "/usr/lib/python3/dist-packages/requests/__init__.py",
        reason: "its pmdaopenmetrics, a Python program, needs it",
    },
];

/// What `cargo xtask bench` needs besides [`FOR_TESTS`]: the peers.
pub const FOR_BENCH: &[Package] = &[
    Package {
        name: "lttng-tools",
        proof: "lttng",
        reason: "records LTTng's events",
    },
    Package {
        name: "liblttng-ust-dev",
        proof: "/usr/include/lttng/tracepoint.h",
        reason: "compiles LTTng's tracepoint into the target",
    },
    Package {
        name: "pkg-config",
        proof: "pkg-config",
        reason: "finds LTTng's libraries",
    },
    Package {
        name: "uftrace",
        proof: "uftrace",
        reason: "a peer",
    },
    Package {
        name: "python3-venv",
        proof: "/usr/lib/python3/dist-packages/setuptools/__init__.py",
        reason: "holds Frida's Python package apart from the system's",
    },
];

/// The packages of a list that are not installed.
pub fn missing(packages: &'static [Package]) -> Vec<&'static Package> {
    packages
        .iter()
        .filter(|package| !is_installed(package))
        .collect()
}

/// Installs what is missing of a list; an error says what a person must do where we can't.
pub fn ensure(packages: &'static [Package]) -> Result<()> {
    let absent = missing(packages);
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|package| package.name).collect();
    let listing: String = absent
        .iter()
        .map(|package| format!("  {:<18} {}\n", package.name, package.reason))
        .collect();
    if workspace::find_program("apt-get").is_none() {
        bail!(
            "this is not Debian; install what corresponds to these Debian 12 packages:\n{listing}"
        );
    }
    let line = format!(
        "apt-get update && apt-get install --no-install-recommends {}",
        names.join(" ")
    );
    if !workspace::is_root() {
        bail!("these Debian packages are missing:\n{listing}install them as root:\n  {line}");
    }
    println!("installing {}", names.join(" "));
    let _policy = NoServices::new()?;
    apt_get(&["update"])?;
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(&names);
    apt_get(&words)?;
    let still: Vec<&str> = absent
        .iter()
        .filter(|package| !is_installed(package))
        .map(|package| package.name)
        .collect();
    if !still.is_empty() {
        bail!("apt-get succeeded, yet not installed: {}", still.join(" "));
    }
    Ok(())
}

fn is_installed(package: &Package) -> bool {
    if workspace::find_program("dpkg-query").is_some() {
        let output = Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}\n", package.name])
            .stderr(Stdio::null())
            .output();
        return output.is_ok_and(|output| {
            output.status.success()
                && String::from_utf8_lossy(&output.stdout)
                    .lines()
                    .any(|line| line == "installed")
        });
    }
    if package.proof.starts_with('/') {
        Path::new(package.proof).exists()
    } else {
        workspace::find_program(package.proof).is_some()
    }
}

fn apt_get(words: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120", "--quiet"])
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("can't run apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed ({}):\n{}{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// While it lives, packages that are installed start no service: the tests start their own
/// servers on ports of their own. See policy-rc.d in invoke-rc.d(8).
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).context(POLICY)?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
