//! Near matches for misspelt names.

/// How many names are offered.
const MOST: usize = 5;

/// How far two names are from each other, as Debian's stap ranks them: an edit costs 2, what one of them has before the
/// other begins and a letter in the other case 1.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let here = if x == y {
                diagonal
            } else if x.eq_ignore_ascii_case(&y) {
                diagonal + 1
            } else {
                2 + diagonal.min(row[j]).min(row[j + 1])
            };
            diagonal = row[j + 1];
            row[j + 1] = here;
        }
    }
    row[b.len()]
}

/// ` (similar: a, b)` with the nearest of `names`, or nothing when there are none.
pub fn similar<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        // The same name is that of something that this version of the language has not.
        .filter(|n| !n.is_empty() && !n.starts_with("__") && *n != wanted)
        .map(|n| (distance(wanted.as_bytes(), n.as_bytes()), n))
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored.truncate(MOST);
    if scored.is_empty() {
        return String::new();
    }
    let list: Vec<&str> = scored.into_iter().map(|(_, n)| n).collect();
    format!(" (similar: {})", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_first() {
        assert_eq!(
            similar("execnam", ["pexecname", "pid", "execname"]),
            " (similar: execname, pexecname, pid)"
        );
        // What stap says of `N()` where `f` is a function of the script.
        assert_eq!(
            similar("N", ["HZ", "cpu", "pn", "gid", "pp", "f"]),
            " (similar: f, pn, HZ, pp, cpu)"
        );
        assert_eq!(similar("x", []), "");
    }

    #[test]
    fn an_edit_costs_2_and_a_beginning_1() {
        assert_eq!(distance(b"kitten", b"sitten"), 2);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"beginning", b"ginning"), 2);
    }
}
