//! TLS and authentication, with Debian's Performance Co-Pilot at the other end and without.

use std::path::{Path, PathBuf};
use std::process::Command;

use spile_tests::pcp_peer::{self, Pmcd};
use spile_tests::{Scratch, run, spile_path};

const NAMES: &str = "\
root { pmcd simple }
pmcd { version 2:0:7  feature }
pmcd.feature { secure 2:8:0  authentication 2:8:3  client_cert_required 2:8:9 }
simple { numfetch 253:0:0 }
";

fn debian() -> PathBuf {
    pcp_peer::root(env!("CARGO_TARGET_TMPDIR"))
}

fn shell(scratch: &Scratch, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(scratch.path(""));
    run(command).ok();
}

/// An authority, a server's and a client's certificate, another authority, and files of settings for each way to use them; and
/// a file of passwords in which root is `secret`.
fn secrets(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    shell(
        &scratch,
        "for ca in ca other; do
           openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.crt -days 2 -subj /CN=$ca
         done
         echo subjectAltName=DNS:localhost,IP:127.0.0.1 > names
         for who in server client; do
           openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $who.key -out $who.csr -subj /CN=localhost
           openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $who.crt -days 2 -extfile names
         done
         echo \"tls-ca-cert-file = $PWD/ca.crt\" > tls-plain
         { cat tls-plain; echo \"tls-key-file = $PWD/server.key\"; echo \"tls-cert-file = $PWD/server.crt\"; } > tls-server
         { cat tls-plain; echo \"tls-client-key-file = $PWD/client.key\"; echo \"tls-client-cert-file = $PWD/client.crt\"; } > tls-client
         echo \"tls-ca-cert-file = $PWD/other.crt\" > tls-other
         printf 'mech_list: plain login scram-sha-256\\nsasldb_path: %s/passwords\\n' $PWD > pmcd.conf.sasl
         mkdir sasl; mv pmcd.conf.sasl sasl/pmcd.conf
         echo secret | /usr/sbin/saslpasswd2 -p -f passwords -a pmcd -c root
         echo secret | /usr/sbin/saslpasswd2 -p -f passwords -a pmcd -c nobody-here",
    );
    scratch
}

/// One with those secrets: Debian's when it is not ours.
fn pmcd(scratch: Scratch, ours: bool, access: &str, options: &[&str]) -> Pmcd {
    let mut command = if ours {
        let mut command = Command::new(spile_path());
        command.arg("pmcd").env_remove("PCP_CONF");
        command
    } else {
        let mut command = pcp_peer::program(&debian(), "pmcd");
        let user = Command::new("id").arg("-un").output().expect("id");
        let user = String::from_utf8_lossy(&user.stdout).trim().to_owned();
        command.args(["-U", &user]);
        command
    };
    command
        .args(options)
        .env("PCP_TLSCONF_PATH", scratch.path("tls-server"))
        .env("PCP_SASL2_CONFIG_PATH", scratch.path("sasl"))
        .env_remove("PCP_SECURE_SOCKETS");
    let own = debian().join("usr/lib/pcp/pmdas/pmcd/pmda_pmcd.so");
    let config = format!(
        "pmcd 2 dso pmcd_init {}\nsimple 253 pipe binary {} pmdasimple -d 253\n{access}",
        own.display(),
        spile_path().display()
    );
    Pmcd::start(scratch, command, &config, NAMES)
}

/// What a client says of a metric: all that it prints.
fn said(pmcd: &Pmcd, mut pminfo: Command, tls: &str, scheme: &str, query: &str) -> String {
    pminfo
        .args(["-f", "-h"])
        .arg(format!("{scheme}://localhost:{}{query}", pmcd.port))
        .arg("simple.numfetch")
        .env("PCP_TLSCONF_PATH", pmcd.scratch.path(tls))
        .env("PCP_CONSOLE", "none")
        .env_remove("PCP_SECURE_SOCKETS");
    let out = run(pminfo);
    format!("{}{}", out.stdout, out.stderr)
}

fn our_pminfo() -> Command {
    let mut command = Command::new(spile_path());
    command.arg("pminfo").env_remove("PCP_CONF");
    command
}

fn clients(root: &Path) -> [fn(&Path) -> Command; 2] {
    assert!(root.exists());
    [|root| pcp_peer::program(root, "pminfo"), |_| our_pminfo()]
}

const VALUE: &str = "simple.numfetch\n    value";

#[test]
fn clients_of_both_makes_speak_tls() {
    let root = debian();
    let pmcd = pmcd(secrets("pmcd-tls"), true, "", &[]);
    for pminfo in clients(&root) {
        for scheme in ["pcp", "pcps"] {
            let said = said(&pmcd, pminfo(&root), "tls-plain", scheme, "");
            assert!(said.contains(VALUE), "{scheme}: {said}");
        }
    }
    // Debian's takes any certificate.
    let said = said(&pmcd, our_pminfo(), "tls-other", "pcps", "");
    assert!(said.contains("TLS protocol failure"), "{said}");
}

#[test]
fn clients_may_need_a_certificate() {
    let root = debian();
    let pmcd = pmcd(secrets("pmcd-certificates"), true, "", &["-Q"]);
    for pminfo in clients(&root) {
        let with = said(&pmcd, pminfo(&root), "tls-client", "pcps", "");
        assert!(with.contains(VALUE), "{with}");
        let without = said(&pmcd, pminfo(&root), "tls-plain", "pcps", "");
        assert!(!without.contains(VALUE), "{without}");
    }
}

#[test]
fn users_say_who_they_are() {
    let root = debian();
    let access = "[access]\nallow users root : all;\ndisallow users * : all;\n";
    let pmcd = pmcd(secrets("pmcd-users"), true, access, &[]);
    for pminfo in clients(&root) {
        for method in [
            "&method=plain",
            "&method=login",
            "&method=scram-sha-256",
            "",
        ] {
            for scheme in ["pcp", "pcps"] {
                let query = format!("?username=root&password=secret{method}");
                let said = said(&pmcd, pminfo(&root), "tls-plain", scheme, &query);
                assert!(said.contains(VALUE), "{scheme} {method}: {said}");
            }
        }
        for (query, message) in [
            ("?username=root&password=Secret", "authentication failure"),
            (
                "?username=root&password=Secret&method=plain",
                "authentication failure",
            ),
            ("?username=root2&password=secret", "user not found"),
            (
                "?username=nobody-here&password=secret&method=plain",
                "No such process",
            ),
        ] {
            let said = said(&pmcd, pminfo(&root), "tls-plain", "pcp", query);
            assert!(said.contains(message), "{query}: {said}");
        }
        let nobody = said(&pmcd, pminfo(&root), "tls-plain", "pcp", "");
        assert!(!nobody.contains(VALUE), "{nobody}");
    }
    let mut local = our_pminfo();
    local.args(["-f", "-h", &pmcd.host(), "simple.numfetch"]);
    let local = run(local).ok().stdout;
    assert!(local.contains(VALUE), "{local}");
}

#[test]
fn our_clients_speak_tls_and_say_who_they_are_to_debians_pmcd() {
    let pmcd = pmcd(secrets("pmcd-debians-tls"), false, "", &[]);
    for method in [
        "&method=plain",
        "&method=login",
        "&method=scram-sha-256",
        "",
    ] {
        for scheme in ["pcp", "pcps"] {
            let query = format!("?username=root&password=secret{method}");
            let value = said(&pmcd, our_pminfo(), "tls-plain", scheme, &query);
            assert!(value.contains(VALUE), "{scheme} {method}: {value}");
            let query = format!("?username=root&password=Secret{method}");
            let refused = said(&pmcd, our_pminfo(), "tls-plain", scheme, &query);
            assert!(
                refused.contains("authentication failure"),
                "{scheme} {method}: {refused}"
            );
        }
    }
}
