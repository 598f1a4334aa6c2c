//! The words of a configuration file.

#[derive(Clone, PartialEq, Debug)]
/// A word, or what stands between words.
pub enum Token {
    Word(String),
    Quoted(String),
    Arrow,
    Mark(char),
    End,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '*' | ':' | '/' | '+' | '-')
}

/// All words with their lines, an [`Token::End`] last; the line of a text that does not end.
pub fn tokens(text: &str) -> Result<Vec<(Token, usize)>, usize> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(d) => {
                            line += usize::from(d == '\n');
                            word.push(d);
                        }
                        None => return Err(line),
                    }
                }
                found.push((Token::Quoted(word), line));
            }
            '-' if chars.peek() == Some(&'>') => {
                chars.next();
                found.push((Token::Arrow, line));
            }
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(&d) = chars.peek().filter(|d| is_word(**d)) {
                    if d == '-' {
                        let mut ahead = chars.clone();
                        ahead.next();
                        if ahead.peek() == Some(&'>') {
                            break;
                        }
                    }
                    word.push(d);
                    chars.next();
                }
                found.push((Token::Word(word), line));
            }
            c if c.is_whitespace() => {}
            c => found.push((Token::Mark(c), line)),
        }
    }
    found.push((Token::End, line));
    Ok(found)
}
