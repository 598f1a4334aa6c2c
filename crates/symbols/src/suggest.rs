//! Names that somebody who misspelt one may have meant.

/// The names nearest to `wanted` by edit distance, best first, at most `limit`, none further away than a third of the
/// name's length (and at least two edits are forgiven).
pub fn similar<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
    limit: usize,
) -> Vec<String> {
    let wanted: Vec<char> = wanted.chars().map(|c| c.to_ascii_lowercase()).collect();
    let furthest = furthest(&wanted);
    let mut found: Vec<(usize, &str)> = names
        .filter_map(|name| distance(&wanted, name, furthest).map(|d| (d, name)))
        .collect();
    found.sort_unstable();
    found.dedup_by_key(|(_, name)| *name);
    found.truncate(limit);
    found.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Whether a name is one that [`similar`] finds.
pub fn is_near(wanted: &str, name: &str) -> bool {
    let wanted: Vec<char> = wanted.chars().map(|c| c.to_ascii_lowercase()).collect();
    distance(&wanted, name, furthest(&wanted)).is_some()
}

fn furthest(wanted: &[char]) -> usize {
    (wanted.len() / 3).max(2)
}

/// Optimal string alignment distance (a swap of neighbours is one edit), letter case ignored; `None` beyond `furthest`.
fn distance(wanted: &[char], name: &str, furthest: usize) -> Option<usize> {
    let length = name.chars().count();
    if length.abs_diff(wanted.len()) > furthest {
        return None;
    }
    let name: Vec<char> = name.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, w) in wanted.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, n) in name.iter().enumerate() {
            let substituted = row[j] + usize::from(w != n);
            let mut best = substituted.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *w == name[j - 1] && wanted[i - 1] == *n {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        if next.iter().all(|d| *d > furthest) {
            return None;
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().filter(|d| *d <= furthest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_first() {
        let names = ["malloc", "calloc", "realloc", "free", "mallow"];
        assert_eq!(
            similar("mallco", names.into_iter(), 3),
            ["malloc", "calloc", "mallow"]
        );
        assert_eq!(
            similar("zzzzzzzz", names.into_iter(), 3),
            Vec::<String>::new()
        );
        assert_eq!(similar("Free", names.into_iter(), 3), ["free"]);
    }
}
