//! Another function in the place of one, and the one that was there still to be called.

use crate::arch::{RegisterSet, Trampoline};
use crate::error::InjectError;
use crate::image::Function;
use crate::patcher::{InsertedId, Insertion, Refused};
use crate::process::Process;
use crate::snippet::{Snippet, SnippetCode};

/// A function that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement {
    /// Names it, for [`Process::remove`].
    pub id: InsertedId,
    /// Absolute address at which the original can be called, as long as the process has memory of ours.
    pub original: u64,
}

impl Process {
    /// Has calls of a function go to another one at an absolute address, with the caller's registers and stack: it sees the same
    /// arguments and returns to the same caller. Snippets at the function's entry do not run meanwhile, and calls in
    /// progress go on in the original.
    ///
    /// To wrap a function, have the other one call [`Replacement::original`]. Such a function has to be the program's own or a
    /// library's, or it must be told to [`Process::remove_all_and_unmap`] by `is_busy` when calls are in progress: a return
    /// from the program's code to memory of ours is looked for nowhere else.
    ///
    /// ```no_run
    /// # fn example(mut process: inject::Process) -> Result<(), Box<dyn std::error::Error>> {
    /// process.stop_again()?;
    /// let images = process.images()?;
    /// let program = images.first().ok_or("no program")?;
    /// let (slow, fast) = (program.function("checksum")?, program.function("checksum_avx")?);
    /// let replacement = process.replace(&slow, fast.address())??;
    /// process.release()?; // calls of checksum go to checksum_avx
    /// // …
    /// process.stop_again()?;
    /// process.remove(&[replacement.id])?;
    /// process.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Process::insert`]; [`Refused`] when the function's entry can't be patched.
    pub fn replace(
        &mut self,
        function: &Function,
        with: u64,
    ) -> Result<Result<Replacement, Refused>, InjectError> {
        let entry = function.entry();
        // jmp [rip]; the address
        let mut code = vec![0xff, 0x25, 0, 0, 0, 0];
        code.extend_from_slice(&with.to_le_bytes());
        let jump = Snippet {
            code: SnippetCode::Guard(code),
            reads: RegisterSet::EMPTY,
            clobbers: RegisterSet::EMPTY,
            argument: 0,
        };
        let mut answers = self.insert(&[Insertion::at(&entry, jump)])?;
        let id = match answers.pop() {
            Some(Ok(id)) => id,
            Some(Err(refused)) => return Ok(Err(refused)),
            None => return Ok(Err(refused(function, "not attempted"))),
        };
        let reason = match self.original_of(function, id) {
            Ok(Ok(original)) => return Ok(Ok(Replacement { id, original })),
            Ok(Err(reason)) => Ok(Err(refused(function, &reason))),
            Err(error) => Err(error),
        };
        // The caller would not know what to remove.
        self.remove(&[id])?;
        reason
    }

    /// A copy, which nothing else uses, of the instructions that a patch displaced, with the way back behind them.
    fn original_of(
        &mut self,
        function: &Function,
        id: InsertedId,
    ) -> Result<Result<u64, String>, InjectError> {
        let site = self.patches.site_of.get(&id);
        let Some(site) = site.and_then(|site| self.patches.sites.get(site)) else {
            return Ok(Err("its patch is gone".to_owned()));
        };
        let (plan, image) = (site.plan.clone(), site.image.clone());
        let bound = Trampoline::size_bound(&plan, &[]) as u64;
        let at = match self.allocate_near_plan(self.me, &plan, &image, bound) {
            Err(error @ InjectError::NoRoomNear { .. }) => return Ok(Err(error.to_string())),
            other => other?,
        };
        let copy = match Trampoline::build(&plan, &[], at) {
            Ok(copy) => copy,
            Err(error) => return Ok(Err(error.to_string())),
        };
        self.write_code(at, &copy.bytes)?;
        let original = copy.copy_of(function.address());
        Ok(original.ok_or_else(|| "its first instruction is not where it was".to_owned()))
    }
}

fn refused(function: &Function, reason: &str) -> Refused {
    Refused {
        address: function.address(),
        reason: reason.to_owned(),
        momentary: false,
    }
}
