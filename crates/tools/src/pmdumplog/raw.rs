//! `pmdumplog -v`: the records of one file of an archive as they stand there, whatever is in them.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use pcp::ErrorCode;

/// Bytes of a record's length ahead of its payload and behind it.
const FRAME: i64 = 8;
/// Words on a line.
const COLUMNS: usize = 8;

/// Prints the file's records, up to the first whose end is not where its length says. Returns the exit status.
///
/// # Errors
/// When the output cannot be written.
pub fn dump(out: &mut impl Write, path: &str) -> io::Result<u8> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            let code = ErrorCode::from(&error);
            eprintln!("pmdumplog: Cannot open \"{path}\": {code}");
            return Ok(1);
        }
    };
    writeln!(out, "Raw dump of physical archive file \"{path}\" ...")?;
    records(out, &mut BufReader::new(file))?;
    Ok(0)
}

fn records(out: &mut impl Write, file: &mut impl Read) -> io::Result<()> {
    let mut offset = 0i64;
    while let Some(length) = word(file)? {
        writeln!(out, "Dump ... record len: {length} @ offset: {offset}")?;
        let payload = (i64::from(length) - FRAME).max(0);
        let mut left = file.by_ref().take(u64::try_from(payload).unwrap_or(0));
        let (mut chunk, mut printed) = (Vec::new(), 0usize);
        loop {
            chunk.clear();
            left.by_ref().take(4).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                break;
            }
            if printed > 0 && printed.is_multiple_of(COLUMNS) {
                writeln!(out)?;
            }
            printed += 1;
            write!(out, " ")?;
            for byte in &chunk {
                write!(out, "{byte:02x}")?;
            }
        }
        if left.limit() > 0 {
            writeln!(out, "Unexpected EOF")?;
        }
        if printed > 0 {
            writeln!(out)?;
        }
        match word(file)? {
            None => return writeln!(out, "Unexpected EOF"),
            Some(trailer) if trailer != length => {
                return writeln!(out, "Trailer botch: {trailer} != {length}");
            }
            Some(_) => offset += i64::from(length),
        }
    }
    Ok(())
}

/// A length; `None` at the end of the file.
fn word(file: &mut impl Read) -> io::Result<Option<i32>> {
    let mut bytes = [0; 4];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(i32::from_be_bytes(bytes))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        records(&mut out, &mut &*bytes).expect("output");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn records_up_to_the_first_that_is_torn() {
        let mut file = Vec::new();
        file.extend_from_slice(&[0, 0, 0, 13, 1, 2, 3, 4, 5, 0, 0, 0, 13]);
        let whole = "Dump ... record len: 13 @ offset: 0\n 01020304 05\n";
        assert_eq!(dumped(&file), whole);
        file.extend_from_slice(&[0, 0, 0, 12, 6, 7]);
        let torn = "Dump ... record len: 12 @ offset: 13\n 0607Unexpected EOF\n\nUnexpected EOF\n";
        assert_eq!(dumped(&file), format!("{whole}{torn}"));
        assert_eq!(
            dumped(&[0, 0, 0, 8, 0, 0, 0, 9]),
            "Dump ... record len: 8 @ offset: 0\nTrailer botch: 9 != 8\n"
        );
    }
}
