//! Standard output for much text: written by a thread of its own, while the next piece is made.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

/// Bytes handed over at once.
const PIECE: usize = 1 << 18;
/// Pieces that may wait to be written.
const WAITING: usize = 4;

/// Standard output, buffered. Less than one piece is written without a thread, when it is flushed.
pub struct Overlapped {
    out: File,
    piece: Vec<u8>,
    writer: Option<Writer>,
}

struct Writer {
    full: SyncSender<Vec<u8>>,
    /// Pieces to be used again, or why one could not be written; one for each that was handed over.
    done: Receiver<io::Result<Vec<u8>>>,
    under_way: usize,
}

impl Writer {
    fn start(mut out: File) -> Writer {
        let (full, pieces) = sync_channel::<Vec<u8>>(WAITING);
        let (finished, done) = channel();
        std::thread::spawn(move || {
            for mut piece in pieces {
                let written = out.write_all(&piece);
                piece.clear();
                if finished.send(written.map(|()| piece)).is_err() {
                    return;
                }
            }
        });
        Writer {
            full,
            done,
            under_way: 0,
        }
    }

    fn hand_over(&mut self, piece: Vec<u8>) -> io::Result<()> {
        self.under_way += 1;
        self.full.send(piece).map_err(io::Error::other)
    }

    /// An empty piece, of one that was written if there is any.
    fn empty(&mut self) -> io::Result<Vec<u8>> {
        match self.done.try_recv() {
            Ok(piece) => {
                self.under_way -= 1;
                piece
            }
            Err(_) => Ok(Vec::with_capacity(PIECE)),
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        while self.under_way > 0 {
            self.done.recv().map_err(io::Error::other)??;
            self.under_way -= 1;
        }
        Ok(())
    }
}

impl Overlapped {
    /// Over the standard output that there is now.
    ///
    /// # Errors
    /// When it is closed.
    pub fn stdout() -> io::Result<Overlapped> {
        Ok(Overlapped {
            out: io::stdout().as_fd().try_clone_to_owned()?.into(),
            piece: Vec::with_capacity(PIECE),
            writer: None,
        })
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::start(self.out.try_clone()?)),
        };
        let piece = std::mem::replace(&mut self.piece, writer.empty()?);
        writer.hand_over(piece)
    }
}

impl Write for Overlapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() + bytes.len() > PIECE && !self.piece.is_empty() {
            self.next_piece()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(writer) = &mut self.writer {
            writer.wait()?;
        }
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

impl Drop for Overlapped {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
