//! Instance domains whose members come and go, each with one number for ever (pmdaCache(3)).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pcp::InDom;

/// The numbers of the instances of a domain, by name. They are kept in a file in PCP's own form, so that they stay what they
/// were when the agent starts again, also as PCP's agent.
#[derive(Debug, Default)]
pub struct InstanceCache {
    numbers: HashMap<String, i32>,
    next: i32,
    file: Option<PathBuf>,
    changed: bool,
}

impl InstanceCache {
    /// One that is in memory only.
    #[must_use]
    pub fn new() -> InstanceCache {
        InstanceCache::default()
    }

    /// The one of a domain that is kept in a folder, PCP's being `$PCP_VAR_DIR/config/pmda`. A file that is not there, or not in
    /// that form, is an empty one.
    #[must_use]
    pub fn kept(folder: &Path, indom: InDom) -> InstanceCache {
        let file = folder.join(format!("{}.{}", indom.domain(), indom.serial()));
        let mut cache = InstanceCache::new();
        let text = fs::read_to_string(&file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut words = line.splitn(3, ' ');
            let number = words.next().and_then(|n| n.parse().ok());
            if let (Some(number @ 0..), Some(_), Some(name)) = (number, words.next(), words.next())
            {
                // Behind the name a key may stand in brackets, which only agents with keys of their own write.
                cache.numbers.insert(name.to_owned(), number);
                cache.next = cache.next.max(number.saturating_add(1));
            }
        }
        cache.file = Some(file);
        cache
    }

    /// The number of an instance, a new one at its first coming.
    pub fn number(&mut self, name: &str) -> i32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.numbers.insert(name.to_owned(), number);
        self.changed = true;
        number
    }

    /// Writes the file, if there is one and anything is new.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else {
            return Ok(());
        };
        self.changed = false;
        let now = pcp::Timestamp::now().sec;
        let mut numbers: Vec<_> = self.numbers.iter().map(|(name, n)| (*n, name)).collect();
        numbers.sort();
        let mut text = String::from("2 0 2147483647\n");
        for (number, name) in numbers {
            text.push_str(&format!("{number} {now} {name}\n"));
        }
        // Whoever reads it meanwhile finds the one or the other.
        let new = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&new, text)?;
        fs::rename(&new, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_over_a_restart() {
        let folder = std::env::temp_dir().join(format!("spile-cache-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let indom = InDom::new(60, 1);
        // What PCP's agent wrote.
        let text = "2 0 2147483647\n0 1795985519 vda\n3 1795985519 my disk\n";
        fs::write(folder.join("60.1"), text).expect("a file");
        let mut cache = InstanceCache::kept(&folder, indom);
        assert_eq!(cache.number("my disk"), 3);
        assert_eq!(cache.number("sda"), 4);
        assert_eq!(cache.number("vda"), 0);
        cache.save().expect("saved");
        let mut again = InstanceCache::kept(&folder, indom);
        assert_eq!(again.number("sda"), 4);
        assert_eq!(again.number("sdb"), 5);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
