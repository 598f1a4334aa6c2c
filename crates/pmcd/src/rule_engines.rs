//! What running pmies say of themselves (`pmcd.pmie.*`): a file each of their process number in `$PCP_TMP_DIR/pmie`.

use std::fs;
use std::path::Path;

use pcp::{Atom, ErrorCode, Instance};
use pmda::Values;

/// Bytes of a path with its end; there are two, and the host's name behind them.
const PATH: usize = 4097;
/// Where the numbers begin: evaluations expected in a second, and then whole numbers.
const NUMBERS_AT: usize = 8260;
/// The layout's version, the last of the numbers.
const VERSION: u32 = 1;

/// One of them.
pub struct RuleEngine {
    pid: i32,
    /// Paths of its specification and its log, and the host that it watches.
    texts: [String; 3],
    expected: f32,
    /// Rules, actions, conditions that were true, false and undecided, evaluations.
    numbers: [u32; 6],
}

impl RuleEngine {
    fn decode(pid: i32, bytes: &[u8]) -> Option<RuleEngine> {
        let text = |from: usize, to: usize| {
            let bytes = bytes.get(from..to)?;
            let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
            Some(String::from_utf8_lossy(text).into_owned())
        };
        let word = |number: usize| -> Option<[u8; 4]> {
            let at = NUMBERS_AT + 4 * number;
            bytes.get(at..at + 4)?.try_into().ok()
        };
        let number = |at: usize| word(at).map(u32::from_ne_bytes);
        if number(7)? != VERSION {
            return None;
        }
        Some(RuleEngine {
            pid,
            texts: [
                text(0, PATH)?,
                text(PATH, 2 * PATH)?,
                text(2 * PATH, NUMBERS_AT)?,
            ],
            expected: f32::from_ne_bytes(word(0)?),
            numbers: [
                number(1)?,
                number(2)?,
                number(3)?,
                number(4)?,
                number(5)?,
                number(6)?,
            ],
        })
    }

    /// The value of an item of the cluster `pmcd.pmie`.
    fn value(&self, item: u32) -> Option<Atom> {
        let number = |at: usize| self.numbers.get(at).map(|n| Atom::U32(*n));
        match item {
            0..=2 => {
                let text = self.texts.get(item as usize)?;
                Some(Atom::String(text.as_str().into()))
            }
            3..=7 => number(item as usize - 3),
            8 => Some(Atom::Float(self.expected)),
            9 => number(5),
            _ => None,
        }
    }
}

/// Those that run.
pub fn all() -> Vec<RuleEngine> {
    let folder = pcp::config("PCP_TMP_DIR").unwrap_or("/var/lib/pcp/tmp".to_owned());
    all_in(&Path::new(&folder).join("pmie"))
}

fn all_in(folder: &Path) -> Vec<RuleEngine> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let found = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let runs = Path::new(&format!("/proc/{pid}")).exists();
        let bytes = fs::read(entry.path()).ok().filter(|_| runs)?;
        RuleEngine::decode(pid, &bytes)
    });
    let mut found: Vec<RuleEngine> = found.collect();
    found.sort_by_key(|engine| engine.pid);
    found
}

/// The values of an item.
///
/// # Errors
/// `PM_ERR_PMID` for one that there is not.
pub fn values(item: u32) -> Result<Values, ErrorCode> {
    if item > 9 {
        return Err(ErrorCode::PMID);
    }
    let values = all().into_iter();
    let values = values.filter_map(|engine| Some((engine.pid, engine.value(item)?)));
    Ok(Values(values.collect()))
}

/// The instances that they are.
pub fn instances() -> Vec<Instance> {
    let instances = all().into_iter().map(|engine| Instance {
        inst: engine.pid,
        name: engine.pid.to_string().into(),
    });
    instances.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_pmie_writes_it() {
        let mut bytes = vec![0; NUMBERS_AT];
        bytes.splice(0..6, *b"/x.pmi");
        bytes.splice(2 * PATH..2 * PATH + 4, *b"host");
        bytes.extend(0.5f32.to_ne_bytes());
        for number in [3u32, 1, 10, 20, 5, 35, 1] {
            bytes.extend(number.to_ne_bytes());
        }
        let engine = RuleEngine::decode(7, &bytes).expect("engine");
        assert_eq!(engine.value(0), Some(Atom::String("/x.pmi".into())));
        assert_eq!(engine.value(2), Some(Atom::String("host".into())));
        assert_eq!(engine.value(3), Some(Atom::U32(3)));
        assert_eq!(engine.value(5), Some(Atom::U32(10)));
        assert_eq!(engine.value(8), Some(Atom::Float(0.5)));
        assert_eq!(engine.value(9), Some(Atom::U32(35)));
        for cut in [0, 1, NUMBERS_AT, bytes.len() - 1] {
            assert!(
                RuleEngine::decode(7, bytes.get(..cut).expect("cut")).is_none(),
                "{cut}"
            );
        }
    }
}
