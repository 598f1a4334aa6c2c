//! `bandwidth.conf`: how fast the memory of each node is, as an administrator says.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// The version of the file that is read.
const VERSION: &str = "1.0";

/// Bandwidths in Mbyte/s, as the file last had them.
#[derive(Default)]
pub struct Bandwidths {
    /// When the file was changed that was read, and its bytes.
    read: Option<(SystemTime, u64)>,
    of: Vec<(i32, f64)>,
}

/// The file, beside the agent's others.
fn path() -> Option<PathBuf> {
    let folder = pcp::config("PCP_PMDAS_DIR")?;
    Some(PathBuf::from(folder).join("linux/bandwidth.conf"))
}

impl Bandwidths {
    /// The bandwidths of nodes by their numbers. The file is read when it was changed; what is wrong with it then goes to the log.
    pub fn of(&mut self, nodes: &[i32]) -> Vec<(i32, f64)> {
        let Some(path) = path() else {
            return Vec::new();
        };
        let about = fs::metadata(&path);
        let state = about.and_then(|about| Ok((about.modified()?, about.len())));
        let state = state.ok();
        if state != self.read {
            self.read = state;
            let text = fs::read_to_string(&path).unwrap_or_default();
            let (of, wrong) = match state {
                Some(_) => parse(&text, nodes, &path.display().to_string()),
                None => (Vec::new(), None),
            };
            self.of = of;
            if let Some(wrong) = wrong {
                eprintln!("pmdalinux: {wrong}");
            }
        }
        self.of.clone()
    }
}

/// The lines `NODE:NUMBER` behind `Version:1.0`, up to one that is wrong, and what is wrong with that.
fn parse(text: &str, nodes: &[i32], path: &str) -> (Vec<(i32, f64)>, Option<String>) {
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.next().and_then(|line| line.strip_prefix("Version:")) {
        Some(version) if version.trim() == VERSION => {}
        Some(version) => {
            let wrong =
                format!("Unsupported {path} version '{version}', current version: {VERSION}");
            return (Vec::new(), Some(wrong));
        }
        None => {
            let wrong = format!("Version missing at the start of {path}");
            return (Vec::new(), Some(wrong));
        }
    }
    let mut of = Vec::new();
    for line in lines {
        let (name, number) = line.split_once(':').unwrap_or((line, ""));
        let node = name.trim().strip_prefix("node");
        let node = node.and_then(|number| number.parse().ok());
        let Some(node) = node.filter(|node| nodes.contains(node)) else {
            return (of, Some(format!("Unknown node '{name}' in {path}")));
        };
        let Ok(mbytes) = number.trim().parse() else {
            return (of, Some(format!("No number for '{name}' in {path}")));
        };
        of.push((node, mbytes));
    }
    (of, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_a_mistake() {
        let read = |text: &str| parse(text, &[0, 1], "FILE");
        let good = "# comment\nVersion:1.0\n\nnode0:1024\nnode1:20.5\n";
        assert_eq!(read(good), (vec![(0, 1024.0), (1, 20.5)], None));
        let said = |text: &str| read(text).1.unwrap_or_default();
        assert_eq!(said("bad data"), "Version missing at the start of FILE");
        assert_eq!(
            said("Version:99"),
            "Unsupported FILE version '99', current version: 1.0"
        );
        let (of, wrong) = read("Version:1.0\nnode0:1024\nnode11:8192\nnode1:1");
        assert_eq!(of, [(0, 1024.0)]);
        assert_eq!(wrong.as_deref(), Some("Unknown node 'node11' in FILE"));
        assert_eq!(said("Version:1.0\nxyz:1"), "Unknown node 'xyz' in FILE");
    }
}
