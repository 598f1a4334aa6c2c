//! `-D NAME=VALUE`: what is wrong with it. stap hands definitions to its C compiler, which refuses a limit that is no number
//! and hears of no misspelt name.

use session::Limits;

/// Names of limits that stap has and that mean nothing here.
const OTHERS: [&str; 4] = ["MAXTRYLOCK", "MAXUPROBES", "MAXACTIVE", "TRYLOCKDELAY"];

/// The name and the value of a definition; without one it is 1, as for a C compiler.
pub fn parts(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, "1"))
}

/// What is to be told of definitions that are taken otherwise than they say.
///
/// # Errors
/// A limit that is no number.
pub fn check<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for word in words {
        let (name, value) = parts(word);
        let Some((low, high)) = Limits::range(name) else {
            notes.extend(misspelt(name));
            continue;
        };
        let Some(number) = Limits::number(value) else {
            return Err(format!("-D {word}: '{value}' is no number"));
        };
        let taken = number.clamp(low, high);
        if taken != number {
            let bound = if number < low { "least" } else { "most" };
            notes.push(format!(
                "-D {word}: {taken} is taken, the {bound} that is possible"
            ));
        }
    }
    Ok(notes)
}

/// What is told of a name that may be a misspelt one.
fn misspelt(name: &str) -> Option<String> {
    if OTHERS.contains(&name) {
        return None;
    }
    let distance = |known: &&str| strsim::levenshtein(known, name);
    let nearest = Limits::names().min_by_key(distance)?;
    let is_meant = distance(&nearest) <= 2 || name.eq_ignore_ascii_case(nearest);
    is_meant
        .then(|| format!("-D {name} has no effect: no limit has that name (similar: {nearest})"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn limits_that_are_not_what_they_seem() {
        let told = |word| check([word]);
        assert_eq!(told("MAXSTRINGLEN=256"), Ok(vec![]));
        assert_eq!(told("MAXERRORS"), Ok(vec![]));
        assert_eq!(told("STP_NO_OVERLOAD"), Ok(vec![]));
        assert_eq!(told("MAXTRYLOCK=5"), Ok(vec![]));
        assert_eq!(told("FOO=bar"), Ok(vec![]));
        assert_eq!(
            told("MAXSTRINGLEN=100000"),
            Ok(vec![
                "-D MAXSTRINGLEN=100000: 65536 is taken, the most that is possible".into()
            ])
        );
        assert_eq!(
            told("MAXNESTING=0"),
            Ok(vec![
                "-D MAXNESTING=0: 1 is taken, the least that is possible".into()
            ])
        );
        assert_eq!(
            told("MAXSTRNGLEN=100"),
            Ok(vec![
                "-D MAXSTRNGLEN has no effect: no limit has that name (similar: MAXSTRINGLEN)"
                    .into()
            ])
        );
        assert_eq!(
            told("MAXACTION=many"),
            Err("-D MAXACTION=many: 'many' is no number".into())
        );
    }
}
