//! What both ends say when a connection begins: features and credentials.

/// What a server can do, from its greeting, and what a client wants of it (`PDU_FLAG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Features(pub u16);

impl Features {
    /// TLS on the same socket.
    pub const SECURE: Features = Features(1 << 0);
    /// Compression within TLS; nobody uses it.
    pub const COMPRESS: Features = Features(1 << 1);
    /// SASL authentication.
    pub const AUTH: Features = Features(1 << 2);
    /// Authentication is demanded.
    pub const CREDS_REQUIRED: Features = Features(1 << 3);
    /// The server acknowledges a request for TLS.
    pub const SECURE_ACK: Features = Features(1 << 4);
    /// Connections may be bound to a container.
    pub const CONTAINER: Features = Features(1 << 6);
    /// A client certificate is demanded.
    pub const CERT_REQUIRED: Features = Features(1 << 7);
    /// Label requests.
    pub const LABELS: Features = Features(1 << 9);
    /// Fetches with nanoseconds.
    pub const HIGHRES: Features = Features(1 << 10);
    /// Many descriptors in one request.
    pub const DESCS: Features = Features(1 << 11);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// Whether all of `other` is here.
    #[must_use]
    pub const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The information word of an extended ERROR PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// The protocol's version, 2.
    pub version: u8,
    /// Set by every server (a licence was once asked for).
    pub licensed: u8,
    /// What the server can do.
    pub features: Features,
}

impl Info {
    /// The greeting of a server of protocol version 2 with those features.
    #[must_use]
    pub const fn new(features: Features) -> Info {
        Info {
            version: 2,
            licensed: 1,
            features,
        }
    }

    pub(crate) const fn from_raw(raw: u32) -> Info {
        Info {
            version: (raw >> 24 & 0x7f) as u8,
            licensed: (raw >> 16) as u8,
            features: Features(raw as u16),
        }
    }

    pub(crate) const fn raw(self) -> u32 {
        (self.version as u32 & 0x7f) << 24 | (self.licensed as u32) << 16 | self.features.0 as u32
    }
}

/// One credential of a CREDS PDU: a type and three bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cred {
    /// What it is; see [`Cred::VERSION`].
    pub ty: u8,
    /// Its bytes. For a version: the version, then sixteen bits of features wanted.
    pub bytes: [u8; 3],
}

impl Cred {
    /// The type of a version credential (`CVERSION`).
    pub const VERSION: u8 = 1;

    /// The credential that a peer of protocol version 2 sends.
    #[must_use]
    pub const fn version(features: Features) -> Cred {
        let [high, low] = features.0.to_be_bytes();
        Cred {
            ty: Cred::VERSION,
            bytes: [2, high, low],
        }
    }

    /// The features asked for, if this is a version credential.
    #[must_use]
    pub const fn features(self) -> Option<Features> {
        if self.ty == Cred::VERSION {
            Some(Features(u16::from_be_bytes([self.bytes[1], self.bytes[2]])))
        } else {
            None
        }
    }
}
