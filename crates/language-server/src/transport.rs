//! Messages on standard input and output: headers, then JSON of as many bytes as they say (LSP 3.17, base protocol).

use crate::server::ServerError;
use crossbeam_channel::bounded;
use lsp_server::{Connection, Message};
use std::io::{self, BufRead, Read};
use std::thread::{self, JoinHandle};

/// Bytes of the largest message that is taken. Texts come whole, and a script of that size is none.
const LARGEST: u64 = 1 << 28;

/// The threads that read and write.
pub struct Threads {
    reader: JoinHandle<Result<(), ServerError>>,
    writer: JoinHandle<io::Result<()>>,
}

impl Threads {
    /// Waits until both have ended, which the writer does when nobody can send any more.
    ///
    /// # Errors
    /// Why reading or writing ended.
    pub fn join(self) -> Result<(), ServerError> {
        let written = self.writer.join();
        let read = self.reader.join();
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    }

    /// Why reading ended, if it ended with an error.
    pub fn failure(self) -> Option<ServerError> {
        match self.reader.is_finished() {
            true => self.reader.join().ok()?.err(),
            false => None,
        }
    }
}

/// A connection on standard input and output. Unlike the one of `lsp_server` it reserves no memory for a message before
/// its bytes are there.
pub fn standard() -> (Connection, Threads) {
    let (to_server, receiver) = bounded(0);
    let (sender, from_server) = bounded::<Message>(0);
    let reader = thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(message) = read(&mut input)? {
            let is_exit = matches!(&message, Message::Notification(n) if n.method == "exit");
            if to_server.send(message).is_err() || is_exit {
                break;
            }
        }
        Ok(())
    });
    let writer = thread::spawn(move || {
        let mut output = io::stdout().lock();
        (from_server.into_iter()).try_for_each(|message| message.write(&mut output))
    });
    (Connection { sender, receiver }, Threads { reader, writer })
}

/// Reads one message; `None` at the end of the input.
fn read(input: &mut impl BufRead) -> Result<Option<Message>, ServerError> {
    let mut length = None;
    let mut any = false;
    loop {
        let mut line = Vec::new();
        // A header is no longer than that.
        if input.by_ref().take(1 << 16).read_until(b'\n', &mut line)? == 0 {
            return match any {
                true => Err(ServerError::Cut),
                false => Ok(None),
            };
        }
        any = true;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(ServerError::Header(line.chars().take(100).collect()));
        };
        if name.eq_ignore_ascii_case("content-length") {
            let value = value.trim();
            let number = value.parse::<u64>();
            length = Some(number.map_err(|_| ServerError::Header(line.to_string()))?);
        }
    }
    let length = length.ok_or(ServerError::NoLength)?;
    if length > LARGEST {
        return Err(ServerError::TooLong(length));
    }
    let mut body = Vec::new();
    if input.by_ref().take(length).read_to_end(&mut body)? as u64 != length {
        return Err(ServerError::Cut);
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::read;
    use lsp_server::Message;

    fn message(text: &str) -> Result<Option<Message>, String> {
        read(&mut text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn messages_and_the_end() {
        let body = r#"{"jsonrpc":"2.0","method":"exit"}"#;
        let text = format!(
            "Content-Type: application/vscode-jsonrpc\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert!(matches!(
            message(&text),
            Ok(Some(Message::Notification(n))) if n.method == "exit"
        ));
        assert!(matches!(message(""), Ok(None)));
    }

    #[test]
    fn what_is_no_message_is_told() {
        let told = |text: &str| message(text).err().unwrap_or_default();
        assert_eq!(
            told("Content-Length: 99999999999\r\n\r\n{}"),
            "language server: a message of 99999999999 bytes is announced; more than 268435456 are not taken"
        );
        assert_eq!(
            told("Content-Length: x\r\n\r\n"),
            "language server: 'Content-Length: x' is no header of a message"
        );
        assert_eq!(
            told("hello\n"),
            "language server: 'hello' is no header of a message"
        );
        assert_eq!(
            told("\r\n"),
            "language server: a message without Content-Length"
        );
        let cut = "language server: the input ends within a message";
        assert_eq!(told("Content-Length: 5\r\n\r\n{}"), cut);
        assert_eq!(told("Content-Length: 5\r\n"), cut);
    }
}
