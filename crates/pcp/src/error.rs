//! Error codes of the PMAPI and their messages.

use std::fmt;
use std::io;

/// A status of the PMAPI as it stands in PDUs and results: zero or more is success, a small negative number is a negated
/// `errno`, anything from −12345 down is one of PCP's own errors (pmErrStr(3), `pmapi.h`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $message:literal;)*) => {
        impl ErrorCode {
            $(#[doc = concat!("`PM_ERR_", stringify!($name), "`: ", $message, ".")]
            pub const $name: ErrorCode = ErrorCode($value);)*

            /// Every code that PCP names.
            pub const ALL: &'static [(ErrorCode, &'static str)] = &[
                $((ErrorCode($value), stringify!($name)),)*
            ];

            fn pcp_message(self) -> Option<&'static str> {
                Some(match self.0 {
                    $($value => $message,)*
                    _ => return None,
                })
            }
        }
    };
}

codes! {
    GENERIC = -12345, "Generic error, already reported above";
    PMNS = -12346, "Problems parsing PMNS definitions";
    NOPMNS = -12347, "PMNS not accessible";
    DUPPMNS = -12348, "Attempt to reload the PMNS";
    TEXT = -12349, "One-line or help text is not available";
    APPVERSION = -12350, "Metric not supported by this version of monitored application";
    VALUE = -12351, "Missing metric value(s)";
    TIMEOUT = -12353, "Timeout waiting for a response from PMCD";
    NODATA = -12354, "Empty archive log file";
    RESET = -12355, "PMCD reset or configuration change";
    NAME = -12357, "Unknown metric name";
    PMID = -12358, "Unknown or illegal metric identifier";
    INDOM = -12359, "Unknown or illegal instance domain identifier";
    INST = -12360, "Unknown or illegal instance identifier";
    UNIT = -12361, "Illegal pmUnits specification";
    CONV = -12362, "Impossible value or scale conversion";
    TRUNC = -12363, "Truncation in value conversion";
    SIGN = -12364, "Negative value in conversion to unsigned";
    PROFILE = -12365, "Explicit instance identifier(s) required";
    IPC = -12366, "IPC protocol failure";
    EOF = -12368, "IPC channel closed";
    NOTHOST = -12369, "Operation requires context with host source of metrics";
    EOL = -12370, "End of PCP archive log";
    MODE = -12371, "Illegal mode specification";
    LABEL = -12372, "Illegal label record at start of a PCP archive log file";
    LOGREC = -12373, "Corrupted record in a PCP archive log";
    NOTARCHIVE = -12374, "Operation requires context with archive source of metrics";
    LOGFILE = -12375, "Missing PCP archive log file";
    NOCONTEXT = -12376, "Attempt to use an illegal context";
    PROFILESPEC = -12377, "NULL pmInDom with non-NULL instlist";
    PMID_LOG = -12378, "Metric not defined in the PCP archive log";
    INDOM_LOG = -12379, "Instance domain identifier not defined in the PCP archive log";
    INST_LOG = -12380, "Instance identifier not defined in the PCP archive log";
    NOPROFILE = -12381, "Missing profile - protocol botch";
    NOAGENT = -12386, "No PMCD agent for domain of request";
    PERMISSION = -12387, "No permission to perform requested operation";
    CONNLIMIT = -12388, "PMCD connection limit for this host exceeded";
    AGAIN = -12389, "Try again. Information not currently available";
    ISCONN = -12390, "Already Connected";
    NOTCONN = -12391, "Not Connected";
    NEEDPORT = -12392, "A non-null port name is required";
    NONLEAF = -12394, "Metric name is not a leaf in PMNS";
    TYPE = -12397, "Unknown or illegal metric type";
    THREAD = -12398, "Operation not supported for multi-threaded applications";
    NOCONTAINER = -12399, "Container not found";
    BADSTORE = -12400, "Bad input to pmstore";
    LOGOVERLAP = -12401, "Archives overlap in time";
    LOGHOST = -12402, "Archives differ by host";
    LOGCHANGETYPE = -12404, "The type of a metric has changed in an archive";
    LOGCHANGESEM = -12405, "The semantics of a metric has changed in an archive";
    LOGCHANGEINDOM = -12406, "The instance domain of a metric has changed in an archive";
    LOGCHANGEUNITS = -12407, "The units of a metric have changed in an archive";
    NEEDCLIENTCERT = -12408, "PMCD requires a client certificate";
    BADDERIVE = -12409, "Derived metric definition failed";
    NOLABELS = -12410, "No support for metric label metadata";
    PMDAFENCED = -12411, "PMDA is currently fenced and unable to respond to requests";
    RECTYPE = -12412, "Incorrect record type in an archive";
    FEATURE = -12413, "Archive feature not supported";
    TLS = -12414, "TLS protocol failure";
    BOTCH = -12442, "Internal inconsistency detected or assertion failed";
    TOOSMALL = -12443, "Insufficient elements in list";
    TOOBIG = -12444, "Result size exceeded";
    FAULT = -12445, "QA fault injected";
    PMDAREADY = -13393, "PMDA is now responsive to requests";
    PMDANOTREADY = -13394, "PMDA is not yet ready to respond to requests";
    NYI = -21344, "Functionality not yet implemented";
}

/// What SASL's codes mean, from -1 on, as PCP numbers them behind `PM_ERR_NYI` (sasl_errors(3)).
const SASL: [&str; 32] = [
    "generic failure",
    "no memory available",
    "overflowed buffer",
    "no mechanism available",
    "bad protocol / cancel",
    "can't request information until later in exchange",
    "invalid parameter supplied",
    "transient failure (e.g., weak key)",
    "integrity check failed",
    "server failed mutual authentication step",
    "mechanism doesn't support requested feature",
    "SASL library is not initialized",
    "authentication failure",
    "authorization failure",
    "mechanism too weak for this user",
    "encryption needed to use mechanism",
    "One time use of a plaintext password will enable requested mechanism for user",
    "passphrase expired, has to be reset",
    "account disabled",
    "user not found",
    "passphrase locked",
    "requested change was not needed",
    "version mismatch with plug-in",
    "remote authentication server unavailable",
    "undefined error!",
    "user exists, but no verifier for user",
    "passphrase is too weak for security policy",
    "user supplied passwords are not permitted",
    "sasl_setpass needs old password in order to perform password change",
    "sasl_setpass can't store a property because of a constraint violation",
    "undefined error!",
    "channel binding failure",
];

impl ErrorCode {
    /// SASL: generic failure.
    pub const SASL_FAIL: ErrorCode = ErrorCode(Self::NYI.0 - 1);
    /// SASL: no mechanism that both ends know.
    pub const SASL_NOMECH: ErrorCode = ErrorCode(Self::NYI.0 - 4);
    /// SASL: bad protocol.
    pub const SASL_BADPROT: ErrorCode = ErrorCode(Self::NYI.0 - 5);
    /// SASL: a parameter, such as the user's name, is missing.
    pub const SASL_BADPARAM: ErrorCode = ErrorCode(Self::NYI.0 - 7);
    /// SASL: the server does not know the password.
    pub const SASL_BADSERV: ErrorCode = ErrorCode(Self::NYI.0 - 10);
    /// SASL: authentication failure.
    pub const SASL_BADAUTH: ErrorCode = ErrorCode(Self::NYI.0 - 13);
    /// SASL: user not found.
    pub const SASL_NOUSER: ErrorCode = ErrorCode(Self::NYI.0 - 20);

    /// No error.
    pub const OK: ErrorCode = ErrorCode(0);

    /// How far PCP's codes are from those of its first version, which began at -1000.
    const SINCE_FIRST_VERSION: i32 = 11_345;

    /// The code that the first version of the protocol had for it, which greetings have (pcp's `XLATE_ERR_2TO1`).
    #[must_use]
    pub fn in_first_version(self) -> ErrorCode {
        match self.0 <= Self::GENERIC.0 && self.0 > Self::NYI.0 {
            true => ErrorCode(self.0 + Self::SINCE_FIRST_VERSION),
            false => self,
        }
    }

    /// The code of today for one that may be of the first version (`XLATE_ERR_1TO2`).
    #[must_use]
    pub fn of_either_version(self) -> ErrorCode {
        let today = ErrorCode(self.0.saturating_sub(Self::SINCE_FIRST_VERSION));
        match today.in_first_version() == self && today != self {
            true => today,
            false => self,
        }
    }

    /// The code for a system error number.
    #[must_use]
    pub fn from_errno(errno: i32) -> ErrorCode {
        ErrorCode(-errno.abs())
    }

    /// The code's name without its `PM_ERR_` prefix, if it is one of PCP's.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(c, _)| *c == self).map(|&(_, n)| n)
    }

    /// Whether this stands for a failure.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.0 < 0
    }
}

/// As pmErrStr(3) words it.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("No error"),
            // The two words that TLS libraries' numbers used to be resolved from; PCP keeps the range.
            code if code <= -22345 => {
                write!(f, "Unknown secure sockets error {code} ({})", code + 21344)
            }
            code if code < Self::NYI.0 => {
                let at = usize::try_from(Self::NYI.0 - 1 - code).unwrap_or(usize::MAX);
                let what = SASL.get(at).unwrap_or(&"undefined error!");
                write!(f, "Authentication - {what}")
            }
            code if code > 0 || code <= -12345 => match self.pcp_message() {
                Some(text) => f.write_str(text),
                None => write!(f, "No such PMAPI error code ({code})"),
            },
            code => {
                let errno = nix::errno::Errno::from_raw(-code);
                if errno == nix::errno::Errno::UnknownErrno {
                    write!(f, "Unknown error {}", -code)
                } else {
                    // As strerror(3) says it.
                    let text = std::io::Error::from(errno).to_string();
                    f.write_str(text.split(" (os error").next().unwrap_or(errno.desc()))
                }
            }
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "ErrorCode({})", self.0),
        }
    }
}

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A status of the PMAPI, from the other end or from here.
    #[error("{0}")]
    Code(ErrorCode),
    /// Bytes that are not what the format says, with where and what.
    #[error("{code}: {what}")]
    Malformed {
        /// The status that a PMAPI client would see.
        code: ErrorCode,
        /// The offending thing.
        what: String,
    },
    /// The system refused.
    #[error("{}", ErrorCode::from(.0))]
    Io(#[from] io::Error),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The status that stands for this error in a PDU and in messages of PCP's tools.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Code(code) | Error::Malformed { code, .. } => *code,
            Error::Io(error) => error.into(),
        }
    }

    /// A malformed PDU.
    pub(crate) fn ipc(what: impl Into<String>) -> Error {
        Error::Malformed {
            code: ErrorCode::IPC,
            what: what.into(),
        }
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Error {
        Error::Code(code)
    }
}

impl From<&io::Error> for ErrorCode {
    fn from(error: &io::Error) -> ErrorCode {
        match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => ErrorCode::from_errno(errno),
            (None, io::ErrorKind::UnexpectedEof) => ErrorCode::EOF,
            (None, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => ErrorCode::TIMEOUT,
            (None, io::ErrorKind::NotFound) => ErrorCode(-2),
            _ => ErrorCode::IPC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_pmerrstr() {
        for (code, text) in [
            (0, "No error"),
            (-1, "Operation not permitted"),
            (-2, "No such file or directory"),
            (-12345, "Generic error, already reported above"),
            (-12357, "Unknown metric name"),
            (-12352, "No such PMAPI error code (-12352)"),
            (-20000, "No such PMAPI error code (-20000)"),
            (5, "No such PMAPI error code (5)"),
            (-1000, "Unknown error 1000"),
            (-30000, "Unknown secure sockets error -30000 (-8656)"),
        ] {
            assert_eq!(ErrorCode(code).to_string(), text);
        }
    }

    #[test]
    fn greetings_have_codes_of_the_first_version() {
        // What Debian's pmcd sends to one client too many.
        assert_eq!(ErrorCode(-1043).of_either_version(), ErrorCode::CONNLIMIT);
        assert_eq!(ErrorCode::CONNLIMIT.in_first_version(), ErrorCode(-1043));
        for same in [0, -2, -12345, -12388, -21344] {
            assert_eq!(ErrorCode(same).of_either_version(), ErrorCode(same));
        }
        assert_eq!(ErrorCode(-2).in_first_version(), ErrorCode(-2));
    }
}
