//! The labels that all metrics of this host have (pmLookupLabels(3), "labels.conf").

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pcp::{ErrorCode, INST_NULL, LabelFlags, LabelLevel, LabelSet};
use pmda::label_set;
use ring::digest;
use serde_json::Value;

/// Names, values as JSON and flags.
type Members = BTreeMap<String, (String, u8)>;

/// Labels of the host, as the files of `$PCP_SYSCONF_DIR` have them.
#[derive(Clone, PartialEq, Debug)]
pub struct HostLabels {
    members: Result<Members, ErrorCode>,
}

impl HostLabels {
    /// Reads the files: `labels.conf`, and those of `labels` and `labels/optional`, which hold JSON objects. Without the
    /// folder `labels` a host has no labels at all, as with PCP's pmcd.
    #[must_use]
    pub fn read(hostname: &str) -> HostLabels {
        let folder = pcp::config("PCP_SYSCONF_DIR").unwrap_or_else(|| "/etc/pcp".to_owned());
        HostLabels {
            members: members(&PathBuf::from(folder), hostname).map_err(|error| {
                ErrorCode(
                    -error
                        .raw_os_error()
                        .unwrap_or(nix::errno::Errno::EIO as i32),
                )
            }),
        }
    }

    /// The labels that a client sees: its user and group are among them, if they are known.
    ///
    /// # Errors
    /// What the system said about the folder of labels.
    pub fn seen_by(&self, user: Option<&str>, group: Option<&str>) -> Result<LabelSet, ErrorCode> {
        let mut all: Vec<(&str, &str, u8)> = match &self.members {
            Ok(members) => members
                .iter()
                .map(|(name, (value, flags))| (name.as_str(), value.as_str(), *flags))
                .collect(),
            Err(code) => return Err(*code),
        };
        for (name, value) in [("userid", user), ("groupid", group)] {
            if let Some(value) = value {
                all.push((name, value, LabelFlags::OPTIONAL));
            }
        }
        Ok(label_set(INST_NULL, LabelLevel::Context, &all))
    }
}

fn members(folder: &Path, hostname: &str) -> io::Result<Members> {
    let mut members = Members::new();
    let labels = folder.join("labels");
    add_files(&labels, 0, &mut members)?;
    // There need not be any of these.
    let _ = add_files(&labels.join("optional"), LabelFlags::OPTIONAL, &mut members);
    let quoted = |text: &str| Value::from(text).to_string();
    let domain = nix::sys::utsname::uname()
        .ok()
        .map(|u| u.domainname().to_string_lossy().into_owned())
        .filter(|d| !d.is_empty() && d != "(none)")
        .unwrap_or_else(|| "localdomain".to_owned());
    members.insert("domainname".to_owned(), (quoted(&domain), 0));
    members.insert("hostname".to_owned(), (quoted(hostname), 0));
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = match machine.trim() {
        "" => "localmachine",
        id => id,
    };
    let conf = fs::read_to_string(folder.join("labels.conf")).unwrap_or_default();
    let (name, machine) = match machine_id_hash(&conf) {
        Some("sha256") => {
            let hash = digest::digest(&digest::SHA256, machine.as_bytes());
            let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            ("machineid_sha256", hash)
        }
        _ => ("machineid", machine.to_owned()),
    };
    members.insert(name.to_owned(), (quoted(&machine), 0));
    Ok(members)
}

/// How `labels.conf` wants the machine's identifier to be hashed.
fn machine_id_hash(conf: &str) -> Option<&str> {
    let mut global = false;
    for line in conf.lines().map(str::trim) {
        if line.starts_with('[') {
            global = line == "[global]";
        } else if global
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "machineid_hash"
        {
            return Some(value.trim());
        }
    }
    None
}

/// Adds what the files of a folder say; those that hold something else are passed over.
fn add_files(folder: &Path, flags: u8, members: &mut Members) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Ok(Value::Object(object)) = serde_json::from_str(&text) {
            for (name, value) in object {
                add(name, value, flags | LabelFlags::COMPOUND, members);
            }
        }
    }
    Ok(())
}

/// Labels within labels have names of several parts.
fn add(name: String, value: Value, flags: u8, members: &mut Members) {
    match value {
        Value::Object(object) => {
            for (below, value) in object {
                add(format!("{name}.{below}"), value, flags, members);
            }
        }
        value => {
            members.insert(name, (value.to_string(), flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files, and what Debian's pmcd tells of them.
    #[test]
    fn labels_of_files() {
        let name = format!("spile-host-labels-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("labels/optional")).expect("folder");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect(name);
        write(
            "labels/zone",
            r#"{"datacenter":"torino","services":{"db":1,"a":[1,2]},"domainname":"x.y"}"#,
        );
        write("labels/optional/opt", r#"{"role":"testing" , "n": 5}"#);
        write("labels/bad", "garbage");
        write("labels.conf", "[global]\nmachineid_hash = sha256\n");
        let found = members(&folder, "vm").expect("labels");
        let absent = members(&folder.join("labels/zone"), "vm").is_err();
        fs::remove_dir_all(&folder).expect("removed");
        assert!(absent);
        let value = |name: &str| found.get(name).map(|(value, _)| value.as_str());
        assert_eq!(value("datacenter"), Some(r#""torino""#));
        assert_eq!(value("services.a"), Some("[1,2]"));
        assert_eq!(value("services.db"), Some("1"));
        assert_eq!(value("hostname"), Some(r#""vm""#));
        assert_ne!(value("domainname"), Some(r#""x.y""#));
        assert_eq!(value("machineid"), None);
        assert_eq!(value("machineid_sha256").map(str::len), Some(66));
        assert_eq!(found.get("n").map(|(_, flags)| *flags), Some(0xc0));
    }
}
