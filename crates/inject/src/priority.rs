//! Our own priority while a process is stopped: whoever stops others should not be kept waiting.

/// The calling thread's priority (nice value) is the highest while this lives, where the caller may do that
/// (`CAP_SYS_NICE`, setpriority(2)).
#[derive(Debug)]
pub(crate) struct Hurry {
    before: i32,
}

const HIGHEST: i32 = -20;

impl Hurry {
    /// `None` where it may not be raised.
    pub(crate) fn new() -> Option<Hurry> {
        // SAFETY: no memory is passed; 0 is the calling thread. -1 may be a value or an error; either does for us.
        let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        set(HIGHEST).then_some(Hurry { before })
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        set(self.before);
    }
}

fn set(priority: i32) -> bool {
    // SAFETY: no memory is passed; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, priority) == 0 }
}
