//! What is matched, on a plain interpreter of the automaton; the expectations are those of stap's generated matchers.

use super::*;

/// The boundaries of the groups, or nothing; the end of the text counts as one more byte.
fn run(a: &Automaton, text: &[u8]) -> Option<Vec<i64>> {
    let mut registers = vec![0u32; MAX_REGISTERS];
    let mut state = 0usize;
    let mut found = None;
    let classes = a.classes as usize;
    for at in 0..=text.len() + 1 {
        let accept = a.accept_at[state] as usize;
        if accept > 0 {
            let sources = &a.moves[accept - 1..accept - 1 + a.tags as usize];
            found = Some(
                sources
                    .iter()
                    .map(|&r| match r {
                        NONE => -1,
                        r => i64::from(registers[r as usize]),
                    })
                    .collect(),
            );
        }
        if at > text.len() {
            break;
        }
        let class = text
            .get(at)
            .map_or(classes - 1, |&b| a.class_of[b as usize] as usize);
        let edge = state * classes + class;
        match a.next[edge] {
            0 => break,
            super::automaton::MATCHED => return Some(Vec::new()),
            next => state = next as usize - 1,
        }
        let moves = a.moves_at[edge] as usize;
        if moves > 0 {
            let n = a.moves[moves] as usize;
            let old = registers.clone();
            for (to, &from) in a.moves[moves + 1..moves + 1 + n].iter().enumerate() {
                registers[to] = match from {
                    POSITION => at as u32 + 1,
                    from => old[from as usize],
                };
            }
        }
    }
    found
}

fn groups(pattern: &str, text: &str) -> Option<Vec<i64>> {
    let plain = compile(pattern.as_bytes(), false).expect(pattern);
    let tagged = compile(pattern.as_bytes(), true).expect(pattern);
    let found = run(&tagged, text.as_bytes());
    assert_eq!(
        run(&plain, text.as_bytes()).is_some(),
        found.is_some(),
        "{pattern} {text}"
    );
    found
}

#[test]
fn the_leftmost_longest_match_with_its_groups() {
    for (pattern, text, expected) in [
        ("a(b|bc)(c?)", "xxabcc", &[2, 6, 3, 5, 5, 6][..]),
        ("a|ab", "xabab", &[1, 3]),
        ("ab|a", "xabab", &[1, 3]),
        ("(a|ab)(c|bcd)(d*)", "abcd", &[0, 4, 0, 1, 1, 4, 4, 4]),
        ("(a*)*", "aab", &[0, 2, 0, 2]),
        ("(a*)+", "b", &[0, 0, 0, 0]),
        ("(a|b)*", "abab", &[0, 4, 3, 4]),
        ("x*", "aaxx", &[0, 0]),
        ("(a)|b", "b", &[0, 1, -1, -1]),
        ("(a)|(b)", "xb", &[1, 2, -1, -1, 1, 2]),
        ("((a)|b)*", "ab", &[0, 2, 1, 2, 0, 1]),
        ("(a+)(a*)", "aaaa", &[0, 4, 0, 4, 4, 4]),
        ("a{2,3}", "caaaa", &[1, 4]),
        ("[[:alpha:]]+", "12ab34", &[2, 4]),
        ("b|ab|abc", "abcd", &[0, 3]),
        ("(^a|b)", "ca b", &[3, 4, 3, 4]),
        ("(a?)(ab)?", "ab", &[0, 2, 0, 0, 0, 2]),
        ("foo|foobar|bar", "xfoobar", &[1, 7]),
        ("(.*)(b.*)", "abcb", &[0, 4, 0, 3, 3, 4]),
        ("(ab|a)(bc)?", "abc", &[0, 3, 0, 1, 1, 3]),
        ("a|bcd", "abcd", &[0, 1]),
        ("a{0}", "aaa", &[0, 0]),
        ("()", "abc", &[0, 0, 0, 0]),
        ("[]a]+", "x]a]", &[1, 4]),
        ("[a-]+", "x-a", &[1, 3]),
        ("[a-b-c]+", "b-c", &[0, 3]),
        ("[[.a.]]", "[.a]", &[2, 4]),
        (r"[a\]b]", r"\\b]", &[2, 3]),
        ("^^", "^a", &[0, 0]),
        ("(a{2}){2}", "aaaaa", &[0, 4, 2, 4]),
        ("(a*){0}", "aa", &[0, 0, -1, -1]),
        ("a{1}{2}", "aaa", &[0, 2]),
        ("(a|b){2}c", "ababc", &[2, 5, 3, 4]),
        ("(^|x)a", "bxa", &[1, 3, 1, 2]),
        ("(^|x)a", "a", &[0, 1, 0, 0]),
        ("a$", "ba", &[1, 3]),
        ("(.)(.)?", "a", &[0, 1, 0, 1, -1, -1]),
        ("(a|ab|abc)*", "abcabab", &[0, 7, 5, 7]),
        ("(a(b)?)+", "aba", &[0, 3, 2, 3, 1, 2]),
        ("((a)(b)?)*", "aba", &[0, 3, 2, 3, 2, 3, 1, 2]),
        ("(a)*(b)", "aab", &[0, 3, 1, 2, 2, 3]),
        ("((a)|(b))*", "abab", &[0, 4, 3, 4, 2, 3, 3, 4]),
        ("(a)|b)", "b)", &[0, 1, -1, -1]),
        ("a{0,2}b", "aaab", &[1, 4]),
        ("(a){2,}", "aaaa", &[0, 4, 3, 4]),
        ("abcd|b", "abcd", &[0, 4]),
        ("abcd|b", "abcx", &[1, 2]),
    ] {
        assert_eq!(
            groups(pattern, text).as_deref(),
            Some(expected),
            "{pattern} on {text}"
        );
    }
}

#[test]
fn what_does_not_match() {
    for (pattern, text) in [
        ("^a", "ba"),
        ("a$", "aab"),
        ("a(^b)", "ab"),
        ("[[.a.]]", "a"),
        ("$a", "$a"),
        ("a^b", "a^b"),
        ("(a|$)b", "a"),
        ("^$", "x"),
        ("a{3,2}", "aaaa"),
        (".", ""),
        ("[^[:alpha:]]", "abc"),
    ] {
        assert_eq!(groups(pattern, text), None, "{pattern} on {text}");
    }
}

#[test]
fn mistakes_are_named() {
    for (pattern, expected) in [
        ("*a", "(at position 0): unexpected '*'"),
        ("a{", "(at position 2): expected number"),
        ("a{2", "(at position 3): unexpected end of regex"),
        ("a{2,", "(at position 4): expected '}' or number"),
        ("{2}", "(at position 0): unexpected '{'"),
        ("a{,3}", "(at position 3): expected number"),
        (
            "a{99999999999}",
            "(at position 14): 99999999999 is too large",
        ),
        ("a\\", "(at position 3): unexpected end of regex"),
        ("[z-a]", "(at position 4): Inverted character range z-a"),
        (
            "[[:alpha:",
            "(at position 9): unclosed character class '[:alpha'",
        ),
        ("[a", "(at position 1): unclosed character class"),
        ("[]", "(at position 1): unclosed character class"),
        ("(a", "(at position 1): expected ), found end of regex"),
        (
            "^*",
            "(at position 1): postfix closure '*' applied to anchoring operator",
        ),
        ("a|*", "(at position 2): unexpected '*'"),
        ("a)b", "(at position 2): unbalanced ')'"),
    ] {
        let error = check(pattern.as_bytes()).expect_err(pattern).to_string();
        assert_eq!(
            error,
            format!("regex compilation error {expected}"),
            "{pattern}"
        );
    }
    assert_eq!(
        check(b"[[:foo:]]").expect_err("a class").to_string(),
        "regex compilation error: unknown character class 'foo'"
    );
}

#[test]
fn a_pattern_that_would_need_too_much_is_refused() {
    let pattern = b"(.*a.{30})(b(a|b){20}a(a|b){20})*";
    assert!(compile(pattern, true).is_err());
    assert!(compile(b"((a{1000}){1000}){1000}", true).is_err());
}
