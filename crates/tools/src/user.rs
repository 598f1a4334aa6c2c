//! Becoming another user (`-U`).

use nix::unistd::{Uid, User, initgroups, setgid, setuid};

/// Becomes the user of that name, when root asks for it.
///
/// # Errors
/// What is wrong, without an end of line.
pub fn become_user(name: &str) -> Result<(), String> {
    let found = User::from_name(name).ok().flatten();
    let user = found.ok_or_else(|| format!("cannot find the {name} user to switch to"))?;
    if !Uid::effective().is_root() || user.uid.is_root() {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| format!("cannot run as user {name}: {error}");
    let c_name = std::ffi::CString::new(name).map_err(|e| failed(&e))?;
    // Root's other groups are left as well.
    initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|e| failed(&e))
}
