//! Lays out SystemTap scripts in one style: four columns a block, spaces around binary operators, one blank line at
//! most, comments where they were. Only white space changes, which is checked before a text is given back: the same
//! pieces in the same order, and the same tree as `stap -p1` would print.
//!
//! ```
//! let text = "probe begin{x=1+2\n println( x )}";
//! assert_eq!(formatter::format("a.stp", text).unwrap(), "probe begin {\n    x = 1 + 2\n    println(x)\n}\n");
//! ```

mod layout;
pub mod pieces;

use script::diagnostic::{Diagnostic, render_all};
use script::parser::{self, ParseOptions};
use script::span::{FileId, SourceFile, SourceMap};
use script::tapset;
use script::unparse::file_to_string;

/// Why a text was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It does not parse; the text is what stap would say.
    #[error("{0}")]
    Parse(String),
    /// Another layout would have meant something else: a mistake of this crate's.
    #[error("{0}: no layout with the same meaning was found; the text was left as it is")]
    Meaning(String),
}

/// Formats a script. `name` is what messages call it.
///
/// # Errors
/// [`FormatError::Parse`] when it is not a script.
pub fn format(name: &str, text: &str) -> Result<String, FormatError> {
    let tree = parse(name, text).map_err(FormatError::Parse)?;
    let pieces = pieces::split(text);
    let out = layout::lay_out(&pieces);
    let same_pieces = pieces::split(&out)
        .iter()
        .map(|p| p.text)
        .eq(pieces.iter().map(|p| p.text));
    let same_tree = parse(name, &out).is_ok_and(|again| again == tree);
    match same_pieces && same_tree {
        true => Ok(out),
        false => Err(FormatError::Meaning(name.to_owned())),
    }
}

/// The tree as `stap -p1` prints it, or the messages.
fn parse(name: &str, text: &str) -> Result<String, String> {
    // What `$1` and `@1` stand for is not known here; a number does in most places.
    let mut options = ParseOptions {
        args: vec!["1".to_owned(); 99],
        guru: true,
        ..ParseOptions::default()
    };
    let mut sources = SourceMap::default();
    options.macros = tapset::macros(&mut sources, &options, &[]);
    let id: FileId = sources.add(SourceFile {
        name: name.to_owned(),
        text: text.into(),
        is_tapset: false,
    });
    let parsed = parser::parse(&sources, id, &options);
    let errors: Vec<Diagnostic> = parsed
        .diagnostics
        .into_iter()
        .filter(Diagnostic::is_error)
        .collect();
    match errors.is_empty() {
        true => Ok(file_to_string(&parsed.file)),
        false => Err(render_all(&errors, &sources, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        let once = format("x.stp", text).unwrap_or_else(|e| panic!("{e}"));
        let twice = format("x.stp", &once).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(once, twice, "formatting is not stable");
        once
    }

    #[test]
    fn blocks_indent_and_operators_are_spaced() {
        assert_eq!(
            formatted("global a,b[10]\nprobe begin,end{if(a==1&&!b[2]){a++;b[1]-=-a}else{next}}"),
            "global a, b[10]\nprobe begin, end { if (a == 1 && !b[2]) { a++; b[1] -= -a } else { next } }\n"
        );
        assert_eq!(
            formatted("probe begin\n{\nx=a<b?1:2\n\n\n\nwhile(x<<2>1)x--\n}"),
            "probe begin\n{\n    x = a < b ? 1 : 2\n\n    while (x << 2 > 1) x--\n}\n"
        );
    }

    #[test]
    fn statements_without_braces_indent_and_else_finds_its_if() {
        let text = "probe begin {\nif (a)\nif (b)\nx = 1\nelse\nx = 2\nelse\nx = 3\ny = 4\n}\n";
        let wanted = "probe begin {\n    if (a)\n        if (b)\n            x = 1\n        else\n            x = 2\n    else\n        x = 3\n    y = 4\n}\n";
        assert_eq!(formatted(text), wanted);
    }

    #[test]
    fn probe_points_keep_their_wildcards() {
        for text in [
            "probe process(\"a b\").function(\"*@x.c:10\").return? { next }\n",
            "probe process.mark(\"q*\"), timer.s(1), foo.*.b** { next }\n",
            "probe a.b = process(1).{begin,end}!, begin { x = 1 }\nprobe a.b { next }\n",
        ] {
            assert_eq!(formatted(text), text);
        }
    }

    #[test]
    fn comments_stay_where_they_are() {
        let text = "# head\n/* two\n   lines */\nprobe begin { // why\n  x = 1 # how\n  // alone\n  y=2 /* c */ + 3\n}\n// end\n";
        let wanted = "# head\n/* two\n   lines */\nprobe begin { // why\n    x = 1 # how\n    // alone\n    y = 2 /* c */ + 3\n}\n// end\n";
        assert_eq!(formatted(text), wanted);
    }

    #[test]
    fn the_special_forms_of_the_language() {
        for text in [
            "probe begin { foreach ([a, b] in c[*, 1] @sum- limit 3) println(a, b) }\n",
            "probe begin { foreach (v = k+ in c) delete c[k] }\n",
            "probe begin { s <<< $x->y[1]; print(@hist_linear(s, 0, 10, 1)); z = $foo$ . $$vars }\n",
            "function f:long(a:string, b) { return strlen(a) + b }\n",
            "global a%[10], b%, c = 5, d[2]\nprobe begin { a[1] = c % 2 }\n",
            "probe begin { try { error(\"x\") } catch (m) { println(m) } }\n",
            "probe begin { if (\"a\" =~ \"b\" || [1, 2] in d) println(@1, $2, $#) }\n",
            "@define m(x) %( @x + 1 %)\nprobe begin { println(@m(2)) }\n",
            "probe a.function(\"x\").return if (b > 1) { next }\n",
            "%( arch == \"x86_64\" %? global q %: global r %)\nprobe begin { next }\n",
        ] {
            assert_eq!(formatted(text), text);
        }
    }

    #[test]
    fn a_text_that_does_not_parse_is_refused_with_the_reason() {
        let error = format("bad.stp", "probe begin { x = }").unwrap_err();
        assert!(error.to_string().contains("bad.stp:1:19"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-z0-9{}()\\[\\];,.+*%$@#/?: \n\"-]{0,120}") {
            let _ = format("x", &text);
        }
    }
}
