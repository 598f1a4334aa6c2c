//! A client's socket, which may become another one when TLS begins.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A stream to a client.
pub enum Socket {
    /// From another host, or this one.
    Tcp(TcpStream),
    /// From this host.
    Unix(UnixStream),
    /// What was [`Socket::Tcp`].
    Tls(Box<TlsStream<TcpStream>>),
    /// None any more.
    Closed,
}

impl Socket {
    /// Whether it is in the file system, so that the kernel says who is at the other end.
    pub fn is_local(&self) -> bool {
        matches!(self, Socket::Unix(_))
    }

    /// The descriptor, as long as there is one.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Socket::Tcp(stream) => Some(stream.as_raw_fd()),
            Socket::Unix(stream) => Some(stream.as_raw_fd()),
            Socket::Tls(stream) => Some(stream.as_raw_fd()),
            Socket::Closed => None,
        }
    }

    /// Goes on in TLS; the client speaks first.
    ///
    /// # Errors
    /// What is wrong with the client's side of it.
    pub async fn encrypt(&mut self, acceptor: &TlsAcceptor) -> io::Result<()> {
        match std::mem::replace(self, Socket::Closed) {
            Socket::Tcp(stream) => {
                *self = Socket::Tls(Box::new(acceptor.accept(stream).await?));
                Ok(())
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, space),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, space),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, space),
            Socket::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Only what is encrypted waits anywhere else than in the kernel.
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Closed => Poll::Ready(Ok(())),
        }
    }
}
