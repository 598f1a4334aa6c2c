//! Authentication by SASL: both ends of the mechanisms that PCP's pmcd offers by default. Everything here works on messages;
//! who carries them is the caller's business.
//!
//! PLAIN is RFC 4616, SCRAM-SHA-256 RFC 5802 and 7677 without channel binding, LOGIN what everybody does.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use crate::error::ErrorCode;

/// How often a password is hashed, by RFC 7677 no less than this; and the most that a client lets a server ask for.
const ITERATIONS: u32 = 4096;
const MOST_ITERATIONS: u32 = 1_000_000;
const HASH: usize = digest::SHA256_OUTPUT_LEN;

/// A way to say who one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// The password in one message.
    Plain,
    /// The password in a dialogue.
    Login,
    /// A proof that one knows the password.
    ScramSha256,
}

impl Mechanism {
    /// All, those that tell least to a listener first.
    pub const ALL: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];

    /// The name in the registry of mechanisms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// The mechanism of that name, in any case of letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Mechanism> {
        let mut all = Mechanism::ALL.into_iter();
        all.find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// This message, then an answer.
    Send(Vec<u8>),
    /// Nothing: the user is known.
    Done,
}

struct Proof {
    salted: [u8; HASH],
    auth_message: String,
}

impl Proof {
    fn new(password: &[u8], salt: &[u8], iterations: NonZeroU32, auth_message: String) -> Proof {
        let mut salted = [0; HASH];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        Proof {
            salted,
            auth_message,
        }
    }

    /// The client's key, and what hides it.
    fn client(&self) -> ([u8; HASH], [u8; HASH]) {
        let key = mac(&self.salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &key);
        (key, mac(stored.as_ref(), self.auth_message.as_bytes()))
    }

    fn client_proof(&self) -> [u8; HASH] {
        let (mut key, hides) = self.client();
        for (byte, other) in key.iter_mut().zip(hides) {
            *byte ^= other;
        }
        key
    }

    fn server_signature(&self) -> [u8; HASH] {
        let key = mac(&self.salted, b"Server Key");
        mac(&key, self.auth_message.as_bytes())
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; HASH] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; HASH];
    for (byte, of_tag) in out.iter_mut().zip(tag.as_ref()) {
        *byte = *of_tag;
    }
    out
}

/// Compares in a time that says nothing of where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && difference == 0
}

fn nonce() -> Result<String, ErrorCode> {
    Ok(BASE64.encode(random()?))
}

fn random() -> Result<[u8; 24], ErrorCode> {
    let mut bytes = [0; 24];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| ErrorCode::SASL_FAIL)?;
    Ok(bytes)
}

/// The value of an attribute in a message of SCRAM.
fn field<'a>(message: &'a str, name: &str) -> Result<&'a str, ErrorCode> {
    let mut fields = message.split(',');
    let found = fields.find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    found.ok_or(ErrorCode::SASL_BADPROT)
}

fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn text(bytes: &[u8]) -> Result<&str, ErrorCode> {
    std::str::from_utf8(bytes).map_err(|_| ErrorCode::SASL_BADPROT)
}

/// A client's end of an exchange.
pub struct ClientExchange {
    user: String,
    password: String,
    state: ClientState,
}

enum ClientState {
    Plain,
    LoginUser,
    LoginPassword,
    ScramFirst { header: String, bare: String },
    ScramFinal { signature: [u8; HASH] },
    Done,
}

impl ClientExchange {
    /// The exchange and its first message, if the client begins.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn start(
        mechanism: Mechanism,
        user: &str,
        password: &str,
    ) -> Result<(ClientExchange, Option<Vec<u8>>), ErrorCode> {
        let (state, first) = match mechanism {
            Mechanism::Plain => {
                let message = format!("{user}\0{user}\0{password}");
                (ClientState::Plain, Some(message))
            }
            Mechanism::Login => (ClientState::LoginUser, None),
            Mechanism::ScramSha256 => {
                let name = escaped(user);
                let header = format!("n,a={name},");
                let bare = format!("n={name},r={}", nonce()?);
                let message = format!("{header}{bare}");
                (ClientState::ScramFirst { header, bare }, Some(message))
            }
        };
        let exchange = ClientExchange {
            user: user.to_owned(),
            password: password.to_owned(),
            state,
        };
        Ok((exchange, first.map(String::into_bytes)))
    }

    /// Whether the next word is not the server's: what it says to a password is the answer to the next request.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, ClientState::Plain | ClientState::Done)
    }

    /// The answer to what the server said.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub fn step(&mut self, said: &[u8]) -> Result<Vec<u8>, ErrorCode> {
        let (state, answer) = match std::mem::replace(&mut self.state, ClientState::Done) {
            ClientState::LoginUser => (ClientState::LoginPassword, self.user.clone()),
            ClientState::LoginPassword => (ClientState::Done, self.password.clone()),
            ClientState::ScramFirst { header, bare } => {
                let said = text(said)?;
                let (all, salt) = (field(said, "r")?, field(said, "s")?);
                if !all.starts_with(field(&bare, "r")?) {
                    return Err(ErrorCode::SASL_BADPROT);
                }
                let salt = BASE64.decode(salt).map_err(|_| ErrorCode::SASL_BADPROT)?;
                let iterations = field(said, "i")?.parse::<NonZeroU32>();
                let iterations = iterations.map_err(|_| ErrorCode::SASL_BADPROT)?;
                if iterations.get() > MOST_ITERATIONS {
                    return Err(ErrorCode::SASL_BADPROT);
                }
                let last = format!("c={},r={all}", BASE64.encode(header));
                let auth_message = format!("{bare},{said},{last}");
                let password = self.password.as_bytes();
                let proof = Proof::new(password, &salt, iterations, auth_message);
                let answer = format!("{last},p={}", BASE64.encode(proof.client_proof()));
                let signature = proof.server_signature();
                (ClientState::ScramFinal { signature }, answer)
            }
            ClientState::ScramFinal { signature } => {
                let said = field(text(said)?, "v")?;
                let said = BASE64.decode(said).map_err(|_| ErrorCode::SASL_BADPROT)?;
                if !same(&said, &signature) {
                    return Err(ErrorCode::SASL_BADSERV);
                }
                (ClientState::Done, String::new())
            }
            ClientState::Plain | ClientState::Done => return Err(ErrorCode::SASL_BADPROT),
        };
        self.state = state;
        Ok(answer.into_bytes())
    }
}

/// A server's end of an exchange.
pub struct ServerExchange {
    state: ServerState,
    user: String,
}

enum ServerState {
    Plain,
    LoginUser,
    LoginPassword,
    ScramFirst,
    ScramFinal {
        password: Vec<u8>,
        salt: [u8; 24],
        nonce: String,
        header: String,
        so_far: String,
    },
    ScramLast,
    /// Whatever is said more is wrong.
    Over,
}

/// The password of a user, if there is one of that name.
pub type Passwords<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

impl ServerExchange {
    /// The exchange, and what follows from what the client said with the mechanism's name.
    ///
    /// # Errors
    /// As [`ServerExchange::step`].
    pub fn start(
        mechanism: Mechanism,
        said: &[u8],
        passwords: Passwords<'_>,
    ) -> Result<(ServerExchange, Step), ErrorCode> {
        let mut exchange = ServerExchange {
            state: match mechanism {
                Mechanism::Plain => ServerState::Plain,
                Mechanism::Login => ServerState::LoginUser,
                Mechanism::ScramSha256 => ServerState::ScramFirst,
            },
            user: String::new(),
        };
        let step = match mechanism {
            Mechanism::Login if said.is_empty() => Step::Send(b"Username:".to_vec()),
            _ if said.is_empty() => Step::Send(Vec::new()),
            _ => exchange.step(said, passwords)?,
        };
        Ok((exchange, step))
    }

    /// The user; who that is is proven when [`Step::Done`] came.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What follows from what the client said.
    ///
    /// # Errors
    /// `SASL_NOUSER` for a user who is not known, `SASL_BADAUTH` for a password that is not theirs, `SASL_BADPROT` for what is no
    /// message of the mechanism.
    pub fn step(&mut self, said: &[u8], passwords: Passwords<'_>) -> Result<Step, ErrorCode> {
        let (state, step) = match std::mem::replace(&mut self.state, ServerState::Over) {
            ServerState::Plain => {
                let mut parts = said.splitn(3, |b| *b == 0);
                let (acting, user) = (parts.next(), parts.next());
                let (Some(acting), Some(user), Some(password)) = (acting, user, parts.next())
                else {
                    return Err(ErrorCode::SASL_BADPROT);
                };
                self.user = text(user)?.to_owned();
                // Nobody acts for somebody else.
                if !acting.is_empty() && acting != user {
                    return Err(ErrorCode::SASL_BADAUTH);
                }
                self.verify(password, passwords)?;
                (ServerState::Over, Step::Done)
            }
            ServerState::LoginUser => {
                self.user = text(said)?.to_owned();
                let ask = Step::Send(b"Password:".to_vec());
                (ServerState::LoginPassword, ask)
            }
            ServerState::LoginPassword => {
                self.verify(said, passwords)?;
                (ServerState::Over, Step::Done)
            }
            ServerState::ScramFirst => self.scram_first(text(said)?, passwords)?,
            ServerState::ScramFinal {
                password,
                salt,
                nonce,
                header,
                so_far,
            } => {
                let said = text(said)?;
                let (last, _) = said.rsplit_once(",p=").ok_or(ErrorCode::SASL_BADPROT)?;
                let binding = BASE64.decode(field(said, "c")?);
                let bound = binding.is_ok_and(|b| b == header.as_bytes());
                if !bound || field(said, "r")? != nonce {
                    return Err(ErrorCode::SASL_BADPROT);
                }
                let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
                let message = format!("{so_far},{last}");
                let proof = Proof::new(&password, &salt, iterations, message);
                let shown = BASE64.decode(field(said, "p")?);
                let shown = shown.map_err(|_| ErrorCode::SASL_BADPROT)?;
                if !same(&shown, &proof.client_proof()) {
                    return Err(ErrorCode::SASL_BADAUTH);
                }
                let signature = format!("v={}", BASE64.encode(proof.server_signature()));
                (ServerState::ScramLast, Step::Send(signature.into_bytes()))
            }
            // The client is content.
            ServerState::ScramLast => (ServerState::Over, Step::Done),
            ServerState::Over => return Err(ErrorCode::SASL_BADPROT),
        };
        self.state = state;
        Ok(step)
    }

    fn verify(&self, password: &[u8], passwords: Passwords<'_>) -> Result<(), ErrorCode> {
        let known = passwords(&self.user).ok_or(ErrorCode::SASL_NOUSER)?;
        if same(&known, password) {
            Ok(())
        } else {
            Err(ErrorCode::SASL_BADAUTH)
        }
    }

    fn scram_first(
        &mut self,
        said: &str,
        passwords: Passwords<'_>,
    ) -> Result<(ServerState, Step), ErrorCode> {
        let mut parts = said.splitn(3, ',');
        let (binding, acting) = (parts.next(), parts.next());
        let (Some("n" | "y"), Some(acting), Some(bare)) = (binding, acting, parts.next()) else {
            return Err(ErrorCode::SASL_BADPROT);
        };
        let header = said.get(..said.len() - bare.len()).unwrap_or_default();
        let name = field(bare, "n")?;
        if !acting.is_empty() && acting.strip_prefix("a=") != Some(name) {
            return Err(ErrorCode::SASL_BADAUTH);
        }
        self.user = name.replace("=2C", ",").replace("=3D", "=");
        let password = passwords(&self.user).ok_or(ErrorCode::SASL_NOUSER)?;
        let nonce = format!("{}{}", field(bare, "r")?, nonce()?);
        let salt = random()?;
        let first = format!("r={nonce},s={},i={ITERATIONS}", BASE64.encode(salt));
        let state = ServerState::ScramFinal {
            password,
            salt,
            header: header.to_owned(),
            so_far: format!("{bare},{first}"),
            nonce,
        };
        Ok((state, Step::Send(first.into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(user: &str) -> Option<Vec<u8>> {
        (user == "a=b,c").then(|| b"secret".to_vec())
    }

    /// What becomes of an exchange between the two ends.
    fn meet(mechanism: Mechanism, user: &str, password: &str) -> Result<String, ErrorCode> {
        let (mut client, first) = ClientExchange::start(mechanism, user, password)?;
        let first = first.unwrap_or_default();
        let (mut server, mut step) = ServerExchange::start(mechanism, &first, &passwords)?;
        while let Step::Send(message) = step {
            let answer = client.step(&message)?;
            step = server.step(&answer, &passwords)?;
        }
        assert!(client.is_done());
        Ok(server.user().to_owned())
    }

    #[test]
    fn both_ends_agree() {
        for mechanism in Mechanism::ALL {
            let name = mechanism.name();
            let user = Ok("a=b,c".to_owned());
            assert_eq!(meet(mechanism, "a=b,c", "secret"), user, "{name}");
            let bad = Err(ErrorCode::SASL_BADAUTH);
            assert_eq!(meet(mechanism, "a=b,c", "Secret"), bad, "{name}");
            let nobody = Err(ErrorCode::SASL_NOUSER);
            assert_eq!(meet(mechanism, "other", "secret"), nobody, "{name}");
        }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn proofs_are_those_of_the_standard() {
        let bare = "n=user,r=rOprNGfwEbeRWgbNEkqO";
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let iterations = NonZeroU32::new(4096).expect("a number");
        let message = format!("{bare},{first},{last}");
        let proof = Proof::new(b"pencil", &salt, iterations, message);
        assert_eq!(
            BASE64.encode(proof.client_proof()),
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            BASE64.encode(proof.server_signature()),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn rubbish_is_refused() {
        for mechanism in Mechanism::ALL {
            for said in ["x", "n,,", "p=tls-unique,,n=a,r=b", "n,,n=a=b,c", "\u{0}"] {
                let met = ServerExchange::start(mechanism, said.as_bytes(), &passwords);
                let known = matches!(met, Ok((_, Step::Done)));
                assert!(!known, "{} {said:?}", mechanism.name());
            }
        }
    }
}
