//! A client's connection: its requests, taken one after the other.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pcp::pdu::{Features, HEADER_LEN, Header, Info, Pdu, Profile, RawResult, attr};
use pcp::sasl::{Mechanism, ServerExchange, Step};
use pcp::{Error, ErrorCode, Pmid, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::access::{Operations, Peer, Refused};
use crate::daemon::Daemon;
use crate::event_trace;
use crate::fetch::{self, Values};
use crate::names;
use crate::requests;
use crate::socket::Socket;

/// What every connection offers; see [`Daemon::features`].
pub const FEATURES: Features = Features::LABELS
    .with(Features::HIGHRES)
    .with(Features::DESCS)
    .with(Features::CONTAINER)
    .with(Features::AUTH);

/// How many contexts of a client have profiles here. PCP's library has one for each connection; of one that has more, those that
/// were not changed for longest are forgotten and have to be sent again.
const PROFILES: usize = 64;
/// How long a client may take for its part of TLS's beginning.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is known of a client.
#[derive(Debug)]
pub struct ClientInfo {
    /// Its number, as agents know it.
    pub number: i32,
    /// A number that no other client ever had.
    pub sequence: u32,
    /// Who it is.
    pub peer: RefCell<Peer>,
    /// What it may do.
    pub operations: Cell<Operations>,
    /// What agents are told of it: when it changed (see [`ClientInfo::attributes_told`]), what it is, its value.
    pub attributes: RefCell<Vec<(u64, u32, Bytes)>>,
    /// The number of changes of attributes.
    pub attributes_told: Cell<u64>,
    /// What changed among the agents since its last fetch.
    pub changes: Cell<i32>,
    /// When it came.
    pub started: Timestamp,
    /// What it says that it is (pmcd.client.whoami).
    pub whoami: RefCell<Option<String>>,
    /// Its socket, to be shut down when it may not go on.
    pub socket: Cell<Option<RawFd>>,
}

impl ClientInfo {
    /// The name of the container that it asks about.
    #[must_use]
    pub fn container(&self) -> Option<String> {
        self.text(attr::CONTAINER)
    }

    /// Where it is, as the log shows it.
    #[must_use]
    pub fn address(&self, daemon: &Daemon) -> String {
        match self.peer.borrow().address {
            Some(address) => address.to_string(),
            None => daemon.socket_path().display().to_string(),
        }
    }

    /// Its socket, for the log; −1 when it has none any more.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.get().unwrap_or(-1)
    }

    /// The value of an attribute.
    #[must_use]
    pub fn text(&self, attr: u32) -> Option<String> {
        let attributes = self.attributes.borrow();
        let found = attributes.iter().find(|(_, a, _)| *a == attr);
        found.map(|(_, _, value)| String::from_utf8_lossy(value).trim_matches('\0').to_owned())
    }

    /// Sets an attribute, in the place of what it was before.
    pub fn set_attribute(&self, attr: u32, value: Bytes) {
        let told = self.attributes_told.get() + 1;
        self.attributes_told.set(told);
        let mut attributes = self.attributes.borrow_mut();
        attributes.retain(|(_, a, _)| *a != attr);
        attributes.push((told, attr, value));
    }

    /// Ends its connection, which it finds out when it has what it is being answered.
    pub fn end(&self) {
        self.operations.set(Operations::NONE);
        if let Some(socket) = self.socket.take() {
            let _ = nix::sys::socket::shutdown(socket, nix::sys::socket::Shutdown::Both);
        }
    }
}

fn refusal(refused: Refused) -> ErrorCode {
    match refused {
        Refused::Permission => ErrorCode::PERMISSION,
        Refused::Limit => ErrorCode::CONNLIMIT,
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    daemon: Rc<Daemon>,
    mut socket: Socket,
    peer: Peer,
    attributes: Vec<(u32, Bytes)>,
) {
    let operations = match daemon.connect(&peer) {
        Ok(operations) => operations,
        Err(refused) => {
            // Before a client has said which version it speaks, codes are those of the first, and come in a greeting.
            let code = refusal(refused).in_first_version();
            let info = Some(Info::new(daemon.features(socket.is_local())));
            let refusal = Pdu::Error { code, info }.to_bytes(0);
            let _ = socket.write_all(&refusal).await;
            return;
        }
    };
    let client = daemon.add_client(peer, operations);
    for (attr, value) in attributes {
        client.set_attribute(attr, value);
    }
    client.socket.set(socket.descriptor());
    daemon.trace.event(event_trace::CLIENTS, || {
        format!(
            "New client: [{}] addr={}, fd={}, seq={}",
            client.number,
            client.address(&daemon),
            client.descriptor(),
            client.sequence
        )
    });
    let mut connection = Connection {
        offered: daemon.features(socket.is_local()),
        socket,
        input: BytesMut::new(),
        output: Vec::new(),
        profiles: Vec::new(),
        said_hello: false,
        authentication: Authentication::None,
    };
    // A connection ends by its client's will or its client's fault; either way only that client is concerned.
    if let Err(error) = connection.run(&daemon, &client).await
        && !matches!(error, Error::Code(ErrorCode::EOF) | Error::Io(_))
    {
        eprintln!("pmcd: client {} is disconnected: {error}", client.number);
    }
    daemon.trace.event(event_trace::CLIENTS, || {
        format!("End client: [{}] fd={}", client.number, client.descriptor())
    });
    client.socket.set(None);
    drop(connection);
    daemon.remove_client(&client).await;
}

/// How far a client has come with saying who it is.
enum Authentication {
    None,
    Offered,
    Exchange(ServerExchange),
}

struct Connection {
    socket: Socket,
    offered: Features,
    input: BytesMut,
    output: Vec<u8>,
    profiles: Vec<(i32, Rc<Profile>)>,
    said_hello: bool,
    authentication: Authentication,
}

/// What the client gets for a request; the error is an answer, too.
type Answered = Result<Option<Pdu>, ErrorCode>;

impl Connection {
    async fn run(&mut self, daemon: &Rc<Daemon>, client: &Rc<ClientInfo>) -> Result<(), Error> {
        let info = Some(Info::new(self.offered));
        let code = ErrorCode::OK;
        self.answer(daemon, &Pdu::Error { code, info });
        self.flush().await?;
        loop {
            let pdu = self.receive(daemon).await?;
            match self.handle(daemon, client, pdu).await? {
                Ok(Some(answer)) => self.answer(daemon, &answer),
                Ok(None) => {}
                Err(code) => self.answer(daemon, &Pdu::Error { code, info: None }),
            }
            if !self.output.is_empty() {
                self.flush().await?;
            }
        }
    }

    async fn receive(&mut self, daemon: &Daemon) -> Result<Pdu, Error> {
        let mut need = HEADER_LEN;
        loop {
            if let Some(header) = Header::decode(&self.input, daemon.client_limit())? {
                need = header.length;
                if self.input.len() >= need {
                    let frame = self.input.split_to(need).freeze();
                    daemon.statistics.received(header.kind);
                    self.trace(daemon, "Recv", header.kind, String::new);
                    return Ok(Pdu::decode(&frame)?.1);
                }
            }
            // Idle connections are many, and keep no buffer.
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            self.input
                .reserve(need.saturating_sub(self.input.len()).max(512));
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(ErrorCode::EOF.into());
            }
        }
    }

    fn answer(&mut self, daemon: &Daemon, pdu: &Pdu) {
        daemon.statistics.sent(pdu.kind());
        self.trace(daemon, "Xmit", pdu.kind(), || match pdu {
            Pdu::Error { code, .. } => format!(", err={}: {code}", code.0),
            Pdu::PmnsIds { pmids, .. } => format!(", numpmid={}", pmids.len()),
            Pdu::Desc(desc) => format!(", pmid={}", desc.pmid),
            _ => String::new(),
        });
        pdu.encode(0, &mut self.output);
    }

    fn trace(&self, daemon: &Daemon, way: &str, kind: u32, more: impl FnOnce() -> String) {
        daemon.trace.event(event_trace::PDUS, || {
            let name = pcp::debug::pdu_name(kind);
            let fd = self.socket.descriptor().unwrap_or(-1);
            format!("{way}: {name} PDU, fd={fd}{}", more())
        });
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.output).await?;
        self.socket.flush().await?;
        self.output.clear();
        if self.output.capacity() > 64 * 1024 {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// An answer that is the last one.
    async fn refuse(&mut self, daemon: &Daemon, code: ErrorCode) -> Error {
        self.answer(daemon, &Pdu::Error { code, info: None });
        match self.flush().await {
            Ok(()) => code.into(),
            Err(error) => error.into(),
        }
    }

    /// The answer to a request. The outer error ends the connection, the inner one is the answer.
    async fn handle(
        &mut self,
        daemon: &Rc<Daemon>,
        client: &Rc<ClientInfo>,
        pdu: Pdu,
    ) -> Result<Answered, Error> {
        let needed = match &pdu {
            Pdu::Creds(creds) => {
                let wanted = creds.iter().find_map(|c| c.features()).unwrap_or_default();
                return self.hello(daemon, client, wanted).await;
            }
            Pdu::Attr { .. } => Operations::NONE,
            _ if daemon.needs_credentials() && client.peer.borrow().user.is_none() => {
                return Err(self.refuse(daemon, ErrorCode::PERMISSION).await);
            }
            Pdu::Result(_) => Operations::STORE,
            Pdu::Fetch { .. }
            | Pdu::HighResFetch { .. }
            | Pdu::DescReq(_)
            | Pdu::DescIds(_)
            | Pdu::InstanceReq { .. }
            | Pdu::TextReq { .. }
            | Pdu::LabelReq { .. } => Operations::FETCH,
            _ => Operations::NONE,
        };
        if !client.operations.get().has(needed) {
            return Ok(Err(ErrorCode::PERMISSION));
        }
        let answer = match pdu {
            Pdu::Profile { context, profile } => {
                self.profiles.retain(|(of, _)| *of != context);
                if self.profiles.len() >= PROFILES {
                    self.profiles.remove(0);
                }
                self.profiles.push((context, Rc::new(profile)));
                return Ok(Ok(None));
            }
            Pdu::Fetch { context, pmids } => {
                return Ok(self.fetch(daemon, client, context, &pmids, false).await);
            }
            Pdu::HighResFetch { context, pmids } => {
                return Ok(self.fetch(daemon, client, context, &pmids, true).await);
            }
            Pdu::DescReq(pmid) => requests::desc(daemon, client, pmid).await.map(Pdu::Desc),
            Pdu::DescIds(pmids) => requests::descs(daemon, client, &pmids).await,
            Pdu::InstanceReq { .. } | Pdu::TextReq { .. } | Pdu::LabelReq { .. } => {
                requests::forward(daemon, client, pdu).await
            }
            Pdu::Result(fetched) => requests::store(daemon, client, fetched).await,
            Pdu::PmnsNames { names, .. } => names::lookup(daemon, client, &names).await,
            Pdu::PmnsIds { pmids, .. } => match pmids.first() {
                Some(pmid) => names::names_of(daemon, client, *pmid).await,
                None => Err(ErrorCode::PMID),
            },
            Pdu::PmnsChild { name, with_status } => {
                names::children(daemon, client, &name, with_status).await
            }
            Pdu::PmnsTraverse { name } => names::traverse(daemon, client, &name).await,
            Pdu::Attr { attr: 0, value } => {
                return self.authenticate(daemon, client, &value).await;
            }
            Pdu::Attr { attr, value } => {
                if attr != attr::CONTAINER {
                    return Err(Error::Malformed {
                        code: ErrorCode::IPC,
                        what: format!("attribute {attr} is none that a client may set"),
                    });
                }
                client.set_attribute(attr, Bytes::copy_from_slice(&value));
                return Ok(Ok(None));
            }
            other => {
                return Err(Error::Malformed {
                    code: ErrorCode::IPC,
                    what: format!("PDU {:#x} as a request", other.kind()),
                });
            }
        };
        Ok(answer.map(Some))
    }

    /// The client chose among what was offered.
    async fn hello(
        &mut self,
        daemon: &Daemon,
        client: &ClientInfo,
        wanted: Features,
    ) -> Result<Answered, Error> {
        if self.said_hello || !self.offered.has(wanted) {
            return Err(Error::Malformed {
                code: ErrorCode::IPC,
                what: format!("asks for features {:#x}", wanted.0),
            });
        }
        self.said_hello = true;
        if wanted.has(Features::SECURE) {
            if wanted.has(Features::SECURE_ACK) {
                let (code, info) = (ErrorCode::OK, None);
                self.answer(daemon, &Pdu::Error { code, info });
                self.flush().await?;
            }
            self.encrypt(daemon, client).await?;
        } else if self.offered.has(Features::CERT_REQUIRED) && client.peer.borrow().is_remote() {
            return Err(self.refuse(daemon, ErrorCode::NEEDCLIENTCERT).await);
        }
        let authenticates = wanted.has(Features::AUTH) || wanted.has(Features::CREDS_REQUIRED);
        if authenticates {
            self.authentication = Authentication::Offered;
            let value = daemon.accounts().offer().into();
            return Ok(Ok(Some(Pdu::Attr { attr: 0, value })));
        }
        Ok(Ok(None))
    }

    async fn encrypt(&mut self, daemon: &Daemon, client: &ClientInfo) -> Result<(), Error> {
        let failed = |what: String| Error::Malformed {
            code: ErrorCode::TLS,
            what,
        };
        // Nothing that was said in the clear may count as said in secret.
        if !self.input.is_empty() {
            return Err(failed("more was said in the clear".to_owned()));
        }
        let acceptor = daemon.tls();
        let acceptor = acceptor.ok_or_else(|| failed("there is no certificate".to_owned()))?;
        client.socket.set(None);
        let shaken = tokio::time::timeout(HANDSHAKE, self.socket.encrypt(&acceptor)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        shaken.map_err(|error| failed(error.to_string()))?;
        client.socket.set(self.socket.descriptor());
        Ok(())
    }

    /// One message of a client that says who it is.
    async fn authenticate(
        &mut self,
        daemon: &Daemon,
        client: &ClientInfo,
        said: &[u8],
    ) -> Result<Answered, Error> {
        let accounts = daemon.accounts();
        let passwords = |user: &str| accounts.password(user);
        let before = std::mem::replace(&mut self.authentication, Authentication::None);
        let stepped = match before {
            Authentication::None => {
                return Err(Error::Malformed {
                    code: ErrorCode::IPC,
                    what: "authenticates without having asked to".to_owned(),
                });
            }
            Authentication::Offered => {
                let end = said.iter().position(|b| *b == 0).unwrap_or(said.len());
                let (name, rest) = said.split_at(end);
                let name = String::from_utf8_lossy(name);
                let mechanism = Mechanism::named(&name);
                match mechanism.filter(|m| accounts.mechanisms.contains(m)) {
                    Some(mechanism) => {
                        let rest = rest.get(1..).unwrap_or_default();
                        ServerExchange::start(mechanism, rest, &passwords)
                    }
                    None => Err(ErrorCode::SASL_NOMECH),
                }
            }
            Authentication::Exchange(mut exchange) => {
                let step = exchange.step(said, &passwords);
                step.map(|step| (exchange, step))
            }
        };
        let known = match stepped {
            Ok((exchange, Step::Send(message))) => {
                self.authentication = Authentication::Exchange(exchange);
                let value = message.into();
                return Ok(Ok(Some(Pdu::Attr { attr: 0, value })));
            }
            Ok((exchange, Step::Done)) => daemon.identify(client, exchange.user()),
            Err(code) => Err(code),
        };
        match known {
            Ok(()) => Ok(Ok(None)),
            Err(code @ (ErrorCode::PERMISSION | ErrorCode::CONNLIMIT)) => {
                Err(self.refuse(daemon, code).await)
            }
            Err(code) => {
                eprintln!("pmcd: client {}: {code}", client.number);
                if daemon.needs_credentials() {
                    return Err(self.refuse(daemon, code).await);
                }
                Ok(Err(code))
            }
        }
    }

    async fn fetch(
        &mut self,
        daemon: &Daemon,
        client: &ClientInfo,
        context: i32,
        pmids: &[Pmid],
        high_res: bool,
    ) -> Answered {
        let profile = self.profiles.iter().find(|(of, _)| *of == context);
        let (_, profile) = profile.ok_or(ErrorCode::NOPROFILE)?;
        let fetched = fetch::fetch(daemon, client, profile, pmids).await;
        // What changed among the agents goes ahead of a fetch's result.
        let changes = client.changes.take();
        if changes != 0 {
            let code = ErrorCode(changes);
            self.answer(daemon, &Pdu::Error { code, info: None });
        }
        let answer = match fetched? {
            Values::Raw(raw) => {
                self.pass_on(daemon, &raw, high_res);
                return Ok(None);
            }
            Values::Sets(fetched) if high_res => Pdu::HighResResult(fetched),
            Values::Sets(fetched) => Pdu::Result(fetched),
        };
        Ok(Some(answer))
    }

    fn pass_on(&mut self, daemon: &Daemon, raw: &RawResult, high_res: bool) {
        use pcp::pdu::kind;
        let kind = if high_res {
            kind::HIGHRES_RESULT
        } else {
            kind::RESULT
        };
        daemon.statistics.sent(kind);
        self.trace(daemon, "Xmit", kind, String::new);
        raw.encode(Timestamp::now(), high_res, &mut self.output);
    }
}
