//! `CONFIG_…` of the running kernel, for `%( CONFIG_X == "y" %? … %)`.

use flate2::read::GzDecoder;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

/// What a configuration is read of at most; they have some 300 kB.
const LARGEST: u64 = 1 << 24;

/// The configuration of the kernel of that release, from /proc/config.gz or where distributions put it; empty where it is
/// not told. stap reads the `.config` of the kernel's build tree.
pub fn read(release: &str) -> HashMap<String, String> {
    let mut text = String::new();
    let told = File::open("/proc/config.gz").and_then(|file| {
        let mut text = GzDecoder::new(file).take(LARGEST);
        let mut bytes = Vec::new();
        text.read_to_end(&mut bytes).map(|_| bytes)
    });
    let places = [
        format!("/lib/modules/{release}/build/.config"),
        format!("/boot/config-{release}"),
    ];
    let bytes = told.or_else(|_| std::fs::read(&places[0]));
    if let Ok(bytes) = bytes.or_else(|_| std::fs::read(&places[1])) {
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    parse(&text)
}

/// The settings of a configuration: `CONFIG_X=value`, a line for each.
fn parse(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("CONFIG_"))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn settings() {
        let found =
            parse("# CONFIG_A is not set\nCONFIG_SMP=y\nCONFIG_NR_CPUS=256\nCONFIG_N=\"-x=y\"\n");
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort();
        let expected = [
            ("CONFIG_N", "\"-x=y\""),
            ("CONFIG_NR_CPUS", "256"),
            ("CONFIG_SMP", "y"),
        ];
        assert_eq!(found, expected.map(|(n, v)| (n.to_string(), v.to_string())));
    }
}
