//! A client's connection: its requests, taken one after the other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use pcp::pdu::{Features, HEADER_LEN, Header, Info, Pdu, Profile, attr};
use pcp::{Error, ErrorCode, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::access::{Operations, Peer, Refused};
use crate::daemon::Daemon;
use crate::fetch;
use crate::names;
use crate::requests;

/// What this daemon can do.
pub const FEATURES: Features = Features::LABELS
    .with(Features::HIGHRES)
    .with(Features::DESCS)
    .with(Features::CONTAINER);

/// What is known of a client.
#[derive(Debug)]
pub struct ClientInfo {
    /// Its number, as agents know it.
    pub number: i32,
    /// A number that no other client ever had.
    pub sequence: u32,
    /// Who it is.
    pub peer: Peer,
    /// What it may do.
    pub operations: Operations,
    /// What agents are told of it.
    pub attributes: RefCell<Vec<(u32, Bytes)>>,
    /// What changed among the agents since its last fetch.
    pub changes: Cell<i32>,
    /// When it came.
    pub started: Timestamp,
    /// What it says that it is (pmcd.client.whoami).
    pub whoami: RefCell<Option<String>>,
}

impl ClientInfo {
    /// The name of the container that it asks about.
    #[must_use]
    pub fn container(&self) -> Option<String> {
        let attributes = self.attributes.borrow();
        let found = attributes.iter().rev().find(|(a, _)| *a == attr::CONTAINER);
        found.map(|(_, value)| String::from_utf8_lossy(value).trim_matches('\0').to_owned())
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    daemon: Rc<Daemon>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    attributes: Vec<(u32, Bytes)>,
) {
    let operations = match daemon.connect(&peer) {
        Ok(operations) => operations,
        Err(refused) => {
            let code = match refused {
                Refused::Permission => ErrorCode::PERMISSION,
                Refused::Limit => ErrorCode::CONNLIMIT,
            };
            let _ = stream
                .write_all(&Pdu::Error { code, info: None }.to_bytes(0))
                .await;
            return;
        }
    };
    let client = daemon.add_client(peer, operations, attributes);
    let mut connection = Connection {
        stream,
        input: BytesMut::new(),
        output: Vec::new(),
        profiles: HashMap::new(),
        said_hello: false,
    };
    // A connection ends by its client's will or its client's fault; either way only that client is concerned.
    if let Err(error) = connection.run(&daemon, &client).await
        && !matches!(error, Error::Code(ErrorCode::EOF) | Error::Io(_))
    {
        eprintln!("pmcd: client {} is disconnected: {error}", client.number);
    }
    drop(connection);
    daemon.remove_client(&client).await;
}

struct Connection<S> {
    stream: S,
    input: BytesMut,
    output: Vec<u8>,
    profiles: HashMap<i32, Rc<Profile>>,
    said_hello: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self, daemon: &Rc<Daemon>, client: &Rc<ClientInfo>) -> Result<(), Error> {
        self.answer(
            daemon,
            &Pdu::Error {
                code: ErrorCode::OK,
                info: Some(Info::new(FEATURES)),
            },
        );
        self.flush().await?;
        loop {
            let pdu = self.receive(daemon).await?;
            match self.handle(daemon, client, pdu).await? {
                Ok(Some(answer)) => self.answer(daemon, &answer),
                Ok(None) => continue,
                Err(code) => self.answer(daemon, &Pdu::Error { code, info: None }),
            }
            self.flush().await?;
        }
    }

    async fn receive(&mut self, daemon: &Daemon) -> Result<Pdu, Error> {
        let mut need = HEADER_LEN;
        loop {
            if let Some(header) = Header::decode(&self.input, daemon.client_limit())? {
                need = header.length;
                if self.input.len() >= need {
                    let frame = self.input.split_to(need).freeze();
                    let pdu = Pdu::decode(&frame)?.1;
                    daemon.statistics.received(&pdu);
                    return Ok(pdu);
                }
            }
            // Idle connections are many, and keep no buffer.
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            self.input
                .reserve(need.saturating_sub(self.input.len()).max(512));
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ErrorCode::EOF.into());
            }
        }
    }

    fn answer(&mut self, daemon: &Daemon, pdu: &Pdu) {
        daemon.statistics.sent(pdu);
        pdu.encode(0, &mut self.output);
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        if self.output.capacity() > 64 * 1024 {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// The answer to a request. The outer error ends the connection, the inner one is the answer.
    async fn handle(
        &mut self,
        daemon: &Rc<Daemon>,
        client: &Rc<ClientInfo>,
        pdu: Pdu,
    ) -> Result<Result<Option<Pdu>, ErrorCode>, Error> {
        if let Pdu::Creds(creds) = &pdu {
            let wanted = creds.iter().find_map(|c| c.features()).unwrap_or_default();
            if self.said_hello || !FEATURES.has(wanted) {
                return Err(Error::Malformed {
                    code: ErrorCode::IPC,
                    what: format!("asks for features {:#x}", wanted.0),
                });
            }
            self.said_hello = true;
            return Ok(Ok(None));
        }
        let needed = match &pdu {
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
        if !client.operations.has(needed) {
            return Ok(Err(ErrorCode::PERMISSION));
        }
        let answer = match pdu {
            Pdu::Profile { context, profile } => {
                self.profiles.insert(context, Rc::new(profile));
                return Ok(Ok(None));
            }
            Pdu::Fetch { context, pmids } => match self.profiles.get(&context) {
                Some(profile) => {
                    let fetched = fetch::fetch(daemon, client, profile, &pmids).await;
                    self.tell_changes(daemon, client);
                    Ok(Pdu::Result(fetched))
                }
                None => Err(ErrorCode::NOPROFILE),
            },
            Pdu::HighResFetch { context, pmids } => match self.profiles.get(&context) {
                Some(profile) => {
                    let fetched = fetch::fetch(daemon, client, profile, &pmids).await;
                    self.tell_changes(daemon, client);
                    Ok(Pdu::HighResResult(fetched))
                }
                None => Err(ErrorCode::NOPROFILE),
            },
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
            Pdu::Attr { attr, value } => {
                if attr != attr::CONTAINER {
                    return Err(Error::Malformed {
                        code: ErrorCode::IPC,
                        what: format!("attribute {attr} is none that a client may set"),
                    });
                }
                client.attributes.borrow_mut().push((attr, value));
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

    /// What changed among the agents goes ahead of a fetch's result.
    fn tell_changes(&mut self, daemon: &Daemon, client: &ClientInfo) {
        let changes = client.changes.take();
        if changes != 0 {
            let code = ErrorCode(changes);
            self.answer(daemon, &Pdu::Error { code, info: None });
        }
    }
}
