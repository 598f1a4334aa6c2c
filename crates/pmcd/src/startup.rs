//! What a daemon needs before it serves: its files, its certificate, its user.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{Uid, User};
use pcp::tls::{TlsError, TlsSettings};
use tokio_rustls::TlsAcceptor;

use crate::config::{self, Config};
use crate::options::Options;

/// Why the daemon can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file can't be read.
    #[error("{0}: {1}")]
    Read(std::path::PathBuf, io::Error),
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(String),
    /// The name space can't be loaded.
    #[error("{0}: {1}")]
    Pmns(std::path::PathBuf, pcp::Error),
    /// Nothing can be listened on.
    #[error("cannot listen: {0}")]
    Listen(String),
    /// The user of `-U` is not there, or may not be become.
    #[error("cannot run as user {0}: {1}")]
    User(String, String),
    /// Certificates are demanded of clients, and can't be looked at.
    #[error("-Q: {0}")]
    Tls(#[from] TlsError),
    /// The system refuses something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(crate) fn read(path: &Path) -> Result<String, StartError> {
    let bytes = fs::read(path).map_err(|error| StartError::Read(path.to_owned(), error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn read_config(options: &Options) -> Result<(String, Option<String>), StartError> {
    let text = read(&options.config)?;
    let mut access = options.config.as_os_str().to_owned();
    access.push(".access");
    Ok((text, fs::read_to_string(Path::new(&access)).ok()))
}

/// Reads the configuration.
///
/// # Errors
/// When the file can't be read. Its mistakes come beside what is right in it.
pub fn load_config(options: &Options) -> Result<(Config, Vec<config::ConfigError>), StartError> {
    let (text, access) = read_config(options)?;
    Ok(config::parse(&options.config, &text, access.as_deref()))
}

/// What makes TLS of connections, when there is a certificate.
pub(crate) fn acceptor(options: &Options) -> Result<Option<TlsAcceptor>, TlsError> {
    let settings = TlsSettings::load();
    let demand = options.require_certificates;
    if !settings.can_serve() && !demand {
        return Ok(None);
    }
    Ok(Some(settings.server(demand)?.into()))
}

/// Becomes the user of `-U`, when that is another.
pub(crate) fn become_user(options: &Options) -> Result<(), StartError> {
    let Some(name) = &options.user else {
        return Ok(());
    };
    let failed = |what: &dyn std::fmt::Display| StartError::User(name.clone(), what.to_string());
    let user = User::from_name(name)
        .map_err(|e| failed(&e))?
        .ok_or_else(|| failed(&"there is no such user"))?;
    if user.uid == Uid::effective() {
        return Ok(());
    }
    let c_name = std::ffi::CString::new(name.as_str()).map_err(|e| failed(&e))?;
    // Root's other groups are left as well.
    nix::unistd::initgroups(&c_name, user.gid).map_err(|e| failed(&e))?;
    nix::unistd::setgid(user.gid).map_err(|e| failed(&e))?;
    nix::unistd::setuid(user.uid).map_err(|e| failed(&e))
}
