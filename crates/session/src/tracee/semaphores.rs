//! The semaphores of SDT marks, raised while they are probed.

use super::Tracee;
use inject::{Image, InjectError};
use symbols::ImageAddr;

impl Tracee {
    /// Adds one to a mark's semaphore: the program skips the mark's preparations while it is 0.
    pub(super) fn raise(&mut self, image: &Image, semaphore: ImageAddr) -> Result<(), InjectError> {
        let address = image.absolute(semaphore);
        self.add_to_semaphore(address, 1)?;
        self.semaphores.push((image.path().to_owned(), address));
        Ok(())
    }

    /// Takes back what [`Tracee::raise`] did, where the module is still mapped: its place may hold anything by now.
    pub(super) fn lower_semaphores(&mut self) {
        let maps = self.process.maps().unwrap_or_default();
        for (path, address) in std::mem::take(&mut self.semaphores) {
            let mapped = maps
                .iter()
                .any(|m| (m.start..m.end).contains(&address) && m.path.as_ref() == Some(&path));
            if mapped {
                // The process may end at any time, and then nothing is left to lower.
                let _ = self.add_to_semaphore(address, -1);
            }
        }
    }

    fn add_to_semaphore(&mut self, address: u64, change: i16) -> Result<(), InjectError> {
        let mut word = [0; 2];
        self.process.read(address, &mut word)?;
        let value = u16::from_le_bytes(word).wrapping_add_signed(change);
        self.process.write(address, &value.to_le_bytes())
    }
}
