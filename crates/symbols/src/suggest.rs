//! Names that somebody who misspelt one may have meant, in the order in which stap tells them.

/// The names nearest to `wanted`, best first, at most `limit`; those equally near by their alphabet.
pub fn similar<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
    limit: usize,
) -> Vec<String> {
    let mut best: Vec<(usize, &str)> = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        // What is added or left out costs something each.
        let least = name.len().abs_diff(wanted.len());
        let is_full = best.len() >= limit;
        if is_full && best.last().is_none_or(|(worst, _)| least > *worst) {
            continue;
        }
        let entry = (distance(wanted.as_bytes(), name.as_bytes()), name);
        if let Err(at) = best.binary_search(&entry) {
            best.insert(at, entry);
            best.truncate(limit);
        }
    }
    best.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Whether a name is so near that it is worth to be looked at more closely, where there are very many.
pub fn is_near(wanted: &str, name: &str) -> bool {
    let furthest = 2 * (wanted.len() / 3).max(2);
    name.len().abs_diff(wanted.len()) <= furthest
        && distance(wanted.as_bytes(), name.as_bytes()) <= furthest
}

/// How far two names are from each other, as Debian's stap ranks them: an edit costs 2, what one of them has before the
/// other begins 1.
fn distance(wanted: &[u8], name: &[u8]) -> usize {
    const EDIT: usize = 2;
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, w) in wanted.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (n, cell) in name.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let here = match w == n {
                true => diagonal,
                false => EDIT + diagonal.min(above).min(left),
            };
            (diagonal, left, *cell) = (above, here, here);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's stap tells the members of a structure of these names (`stap -p2`).
    #[test]
    fn names_are_ranked_as_by_stap() {
        let names = [
            "value", "next", "name", "color", "numbers", "in", "pin", "u", "bits", "sbits", "c",
            "d",
        ];
        for (wanted, ranked) in [
            (
                "nosuch",
                "c d u in pin bits color name next sbits value numbers",
            ),
            (
                "deep",
                "c d u in next name pin bits value color numbers sbits",
            ),
            (
                "nope",
                "name c d u in next pin value bits color sbits numbers",
            ),
        ] {
            assert_eq!(similar(wanted, names.into_iter(), 99).join(" "), ranked);
        }
        let functions = ["second", "main", "_fini", "visit", "_init"];
        assert_eq!(
            similar("nope", functions.into_iter(), 3),
            ["_init", "main", "second"]
        );
    }

    #[test]
    fn what_is_far_is_not_near() {
        assert!(is_near("mallco", "malloc"));
        assert!(!is_near("mallco", "pthread_create"));
    }
}
