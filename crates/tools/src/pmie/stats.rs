//! What a running pmie says of itself for pmcd's `pmcd.pmie.*`: a file of its process number in `$PCP_TMP_DIR/pmie`, with
//! the layout that PCP's pmcd maps.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of a path with its end.
const PATH: usize = 4097;
/// Where the names are, and where the numbers begin.
const HOST_AT: usize = 2 * PATH;
const NUMBERS_AT: usize = 8260;
/// The layout's version.
const VERSION: u32 = 1;

/// How evaluations went so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Actions that were taken.
    pub actions: u32,
    /// Conditions that were true.
    pub truths: u32,
    /// Conditions that were false.
    pub falsehoods: u32,
    /// Conditions that could not be decided.
    pub unknown: u32,
    /// Expressions that were evaluated.
    pub evaluated: u32,
}

/// The file; it goes with this.
#[derive(Debug)]
pub struct Stats {
    path: PathBuf,
    file: File,
    /// What is counted.
    pub counts: Counts,
    expected: f32,
    rules: u32,
}

/// Where a process says so.
pub fn path_of(pid: u32) -> PathBuf {
    let folder = pcp::config("PCP_TMP_DIR").unwrap_or("/var/lib/pcp/tmp".to_owned());
    PathBuf::from(folder).join("pmie").join(pid.to_string())
}

impl Stats {
    /// Makes the file: the specification's and the log's paths, the host that is watched, evaluations expected in a second,
    /// and the number of rules.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(
        config: &str,
        log: &str,
        host: &str,
        expected: f32,
        rules: u32,
    ) -> io::Result<Stats> {
        let path = path_of(std::process::id());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut bytes = vec![0; NUMBERS_AT];
        for (at, end, text) in [
            (0, PATH, config),
            (PATH, HOST_AT, log),
            (HOST_AT, NUMBERS_AT, host),
        ] {
            let length = text.len().min(end - at - 1);
            if let (Some(to), Some(from)) = (
                bytes.get_mut(at..at + length),
                text.as_bytes().get(..length),
            ) {
                to.copy_from_slice(from);
            }
        }
        let file = File::create(&path)?;
        file.write_all_at(&bytes, 0)?;
        let stats = Stats {
            path,
            file,
            counts: Counts::default(),
            expected,
            rules,
        };
        stats.write()?;
        Ok(stats)
    }

    /// Writes the numbers.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self) -> io::Result<()> {
        let counts = &self.counts;
        let mut bytes = self.expected.to_ne_bytes().to_vec();
        for number in [
            self.rules,
            counts.actions,
            counts.truths,
            counts.falsehoods,
            counts.unknown,
            counts.evaluated,
            VERSION,
        ] {
            bytes.extend(number.to_ne_bytes());
        }
        self.file.write_all_at(&bytes, NUMBERS_AT as u64)
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        // Somebody may have cleared the folder.
        let _ = std::fs::remove_file(&self.path);
    }
}
