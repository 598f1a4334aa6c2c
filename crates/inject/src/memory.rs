//! Reading and writing the memory of a process.

use std::io;
use std::os::unix::fs::FileExt;

use crate::error::InjectError;
use crate::process::Process;
use crate::ptrace;
use crate::stop::Thread;

impl Process {
    /// Reads exactly `buffer.len()` bytes at an absolute address, whatever the protection of the
    /// pages. Works while the process is held and while it runs.
    ///
    /// # Errors
    /// [`InjectError::Read`] where nothing is mapped, [`InjectError::Exited`].
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), InjectError> {
        let len = buffer.len();
        self.memory
            .read_exact_at(buffer, address)
            .map_err(|source| {
                // The file of an address space that is gone reads as empty.
                if source.kind() == io::ErrorKind::UnexpectedEof && self.has_ended() {
                    return self.exited();
                }
                InjectError::Read {
                    pid: self.pid,
                    address,
                    len,
                    source: plain(source),
                }
            })
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// As [`Process::read`].
    pub fn read_vec(&self, address: u64, len: usize) -> Result<Vec<u8>, InjectError> {
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads ranges, given by address and length, one behind the other, with few system calls.
    ///
    /// # Errors
    /// As [`Process::read`].
    pub(crate) fn read_many(&self, ranges: &[(u64, usize)]) -> Result<Vec<u8>, InjectError> {
        let total = ranges.iter().map(|&(_, len)| len).sum();
        let mut bytes = vec![0; total];
        let mut rest = bytes.as_mut_slice();
        for ranges in ranges.chunks(libc::UIO_MAXIOV as usize) {
            let len = ranges.iter().map(|&(_, len)| len).sum();
            let mut buffer;
            (buffer, rest) = rest.split_at_mut(len);
            let remote = ranges.iter().map(|&(address, len)| libc::iovec {
                iov_base: address as *mut libc::c_void,
                iov_len: len,
            });
            let remote: Vec<libc::iovec> = remote.collect();
            let local = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: len,
            };
            // SAFETY: the kernel writes to the one local range, which is all of `buffer`, and checks the others.
            let read = unsafe {
                let count = remote.len() as libc::c_ulong;
                libc::process_vm_readv(self.pid.0, &local, 1, remote.as_ptr(), count, 0)
            };
            if usize::try_from(read) == Ok(len) {
                continue;
            }
            // That call heeds the protection of pages, and may be forbidden where ptrace is not.
            for &(address, len) in ranges {
                let one;
                (one, buffer) = buffer.split_at_mut(len);
                self.read(address, one)?;
            }
        }
        Ok(bytes)
    }

    /// Reads a little-endian 64-bit word.
    ///
    /// # Errors
    /// As [`Process::read`].
    pub fn read_u64(&self, address: u64) -> Result<u64, InjectError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes data, whatever the protection of the pages: a page that the process may only read is
    /// copied first, as for a debugger. Works while the process is held and while it runs.
    ///
    /// # Errors
    /// [`InjectError::Write`] where nothing is mapped, [`InjectError::Exited`].
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), InjectError> {
        let Err(source) = self.memory.write_all_at(bytes, address) else {
            return Ok(());
        };
        // Kernels can be told not to let this file write to read-only pages
        // (CONFIG_PROC_MEM_NO_FORCE, Linux 6.12); ptrace itself still may.
        if matches!(
            source.raw_os_error(),
            Some(libc::EIO | libc::EFAULT | libc::EPERM)
        ) && self.require_held().is_ok()
            && self.poke(address, bytes).is_ok()
        {
            return Ok(());
        }
        if source.kind() == io::ErrorKind::WriteZero && self.has_ended() {
            return Err(self.exited());
        }
        let len = bytes.len();
        Err(InjectError::Write {
            pid: self.pid,
            address,
            len,
            source: plain(source),
        })
    }

    /// Writes code, which needs the process held: a thread must not run what is half written.
    ///
    /// # Errors
    /// As [`Process::write`], and [`InjectError::NotHeld`].
    pub fn write_code(&mut self, address: u64, bytes: &[u8]) -> Result<(), InjectError> {
        self.require_held()?;
        self.write(address, bytes)
    }

    fn poke(&self, address: u64, bytes: &[u8]) -> Result<(), InjectError> {
        let Some((&tid, _)) = self
            .threads
            .iter()
            .find(|&(_, &state)| state == Thread::Stopped)
        else {
            return Err(self.exited());
        };
        let end = address + bytes.len() as u64;
        let mut word_address = address & !7;
        while word_address < end {
            let mut word = self.read_u64(word_address)?.to_le_bytes();
            for (offset, byte) in word.iter_mut().enumerate() {
                let at = word_address + offset as u64;
                if (address..end).contains(&at) {
                    *byte = bytes[(at - address) as usize];
                }
            }
            ptrace::poke(tid, word_address, u64::from_le_bytes(word))?;
            word_address += 8;
        }
        Ok(())
    }
}

/// The standard library words a short read or write in terms of buffers; here it means an address.
fn plain(source: io::Error) -> io::Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => {
            io::Error::from_raw_os_error(libc::EFAULT)
        }
        _ => source,
    }
}
