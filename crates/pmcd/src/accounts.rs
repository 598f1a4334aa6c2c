//! Whom SASL knows: its configuration for pmcd, and the passwords that saslpasswd2(8) keeps.

use std::fs;
use std::path::{Path, PathBuf};

use pcp::sasl::Mechanism;

/// The longest file of passwords that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// What `/etc/sasl2/pmcd.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// The mechanisms that are offered, in order.
    pub mechanisms: Vec<Mechanism>,
    passwords: PathBuf,
    /// The realm of users who name none.
    realm: String,
}

impl Accounts {
    /// Those of this host: the file `pmcd.conf` in the folder `$PCP_SASL2_CONFIG_PATH`, or in `/etc/sasl2`.
    #[must_use]
    pub fn load(hostname: &str) -> Accounts {
        let folder =
            pcp::config("PCP_SASL2_CONFIG_PATH").unwrap_or_else(|| "/etc/sasl2".to_owned());
        let text = fs::read_to_string(Path::new(&folder).join("pmcd.conf")).unwrap_or_default();
        Accounts::parse(&text, hostname)
    }

    fn parse(text: &str, hostname: &str) -> Accounts {
        let option = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            let mut found = lines.filter(|(key, _)| key.trim() == name);
            found.next().map(|(_, value)| value.trim())
        };
        let mechanisms = match option("mech_list") {
            Some(names) => names
                .split_whitespace()
                .filter_map(Mechanism::named)
                .collect(),
            None => Mechanism::ALL.to_vec(),
        };
        Accounts {
            mechanisms,
            passwords: option("sasldb_path").unwrap_or("/etc/sasldb2").into(),
            realm: hostname.to_owned(),
        }
    }

    /// The names of the mechanisms, as they are offered.
    #[must_use]
    pub fn offer(&self) -> String {
        let names: Vec<&str> = self.mechanisms.iter().map(|m| m.name()).collect();
        names.join(" ")
    }

    /// The password of a user, `NAME` or `NAME@REALM`.
    #[must_use]
    pub fn password(&self, user: &str) -> Option<Vec<u8>> {
        let (name, realm) = user.rsplit_once('@').unwrap_or((user, &self.realm));
        let length = fs::metadata(&self.passwords).ok()?.len();
        let file = (length <= LONGEST).then(|| fs::read(&self.passwords).ok())??;
        let key = [name, realm, "userPassword"].join("\0");
        let found = entries(&file)
            .into_iter()
            .find(|(k, _)| *k == key.as_bytes());
        found.map(|(_, password)| password.to_vec())
    }
}

/// The entries of a file of Berkeley DB's hash method. Its pages have a head of 26 bytes, then the places of keys and values in
/// turn, which fill the page from its end. What is longer than a page is not a password.
fn entries(file: &[u8]) -> Vec<(&[u8], &[u8])> {
    const HASH_MAGIC: u32 = 0x0006_1561;
    const HEAD: usize = 26;
    const IN_PLACE: u8 = 1;
    let word = |at: usize| file.get(at..).and_then(<[u8]>::first_chunk::<4>).copied();
    let little = word(12).map(u32::from_le_bytes) == Some(HASH_MAGIC);
    let big = word(12).map(u32::from_be_bytes) == Some(HASH_MAGIC);
    let size = match word(20) {
        Some(bytes) if little => u32::from_le_bytes(bytes),
        Some(bytes) if big => u32::from_be_bytes(bytes),
        _ => return Vec::new(),
    };
    let half = |page: &[u8], at: usize| {
        let bytes = page.get(at..).and_then(<[u8]>::first_chunk::<2>)?;
        Some(usize::from(if little {
            u16::from_le_bytes(*bytes)
        } else {
            u16::from_be_bytes(*bytes)
        }))
    };
    let mut found = Vec::new();
    for page in file.chunks_exact(size.clamp(512, 65_536) as usize) {
        // Pages of entries, sorted or not.
        if !matches!(page.get(25), Some(2 | 13)) {
            continue;
        }
        let count = half(page, 20).unwrap_or(0);
        let item = |n: usize| {
            let begin = half(page, HEAD + 2 * n)?;
            let end = match n.checked_sub(1) {
                None => page.len(),
                Some(before) => half(page, HEAD + 2 * before)?,
            };
            let (kind, bytes) = page.get(begin..end)?.split_first()?;
            (*kind == IN_PLACE).then_some(bytes)
        };
        found.extend((0..count / 2).filter_map(|n| Some((item(2 * n)?, item(2 * n + 1)?))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_those_of_the_configuration() {
        let text =
            "# mech_list: none\nmech_list: plain login scram-sha-256 gssapi\nsasldb_path: /x\n";
        let accounts = Accounts::parse(text, "here");
        assert_eq!(accounts.offer(), "PLAIN LOGIN SCRAM-SHA-256");
        assert_eq!(accounts.passwords, Path::new("/x"));
        assert_eq!(
            Accounts::parse("", "here").offer(),
            "SCRAM-SHA-256 PLAIN LOGIN"
        );
    }

    #[test]
    fn files_that_are_none_have_no_entries() {
        for length in [0, 11, 16, 512, 4096] {
            assert_eq!(entries(&vec![0xff; length]), []);
        }
        let mut file = vec![0xff; 8192];
        file[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
        file[20..24].copy_from_slice(&4096_u32.to_le_bytes());
        file[25] = 2;
        file[4096 + 25] = 13;
        assert_eq!(entries(&file), []);
    }
}
