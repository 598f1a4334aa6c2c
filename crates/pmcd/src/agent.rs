//! The daemon's side of an agent: how it is started, asked, found dead and started again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pcp::pdu::{Cred, Features, HEADER_LEN, Header, Pdu, Profile, RawResult, kind};
use pcp::{Desc, ErrorCode, Pmid, SERVER_LIMIT};
use pmda::Answerer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::client::ClientInfo;
use crate::config::{AgentSpec, SocketAddress, Transport};
use crate::statistics::Statistics;

/// How an agent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It answers.
    Connected,
    /// It said that it can't answer yet.
    NotReady,
    /// It is not there; its exit status if it ended by itself.
    Gone(i32),
}

/// An agent that keeps one client waiting for longer is not waited for by fetches that others could answer, too.
const HANGS: Duration = Duration::from_secs(1);

/// How many descriptors it is asked for at a time.
const DESCS: usize = 64;

/// An agent of a configuration.
pub struct Agent {
    /// What the configuration says of it.
    pub spec: AgentSpec,
    /// Its process, if it was started.
    pub pid: Cell<Option<u32>>,
    /// Whether clients are kept away from it.
    pub fenced: Cell<bool>,
    state: Cell<State>,
    features: Cell<Features>,
    /// Clients that it heard of, and the last change of their attributes that it knows.
    known: RefCell<HashMap<i32, u64>>,
    link: Mutex<Option<Link>>,
    /// Since when it has been asked what it has not answered.
    asked: Cell<Option<Instant>>,
    /// Whether it is being started.
    pub starting: Cell<bool>,
    /// What it was started with is over when this is dropped or told.
    child: RefCell<Option<Child>>,
}

enum Link {
    /// In this process.
    BuiltIn {
        agent: Box<dyn pmda::Agent>,
        answerer: Answerer,
    },
    /// At the other ends of two streams.
    Streams(Streams),
}

struct Streams {
    input: Box<dyn AsyncRead + Unpin>,
    output: Box<dyn AsyncWrite + Unpin>,
    buffer: BytesMut,
    out: Vec<u8>,
    /// The profile that it was told last.
    profile: Option<Rc<Profile>>,
}

impl Streams {
    async fn send(&mut self) -> io::Result<()> {
        self.output.write_all(&self.out).await?;
        self.out.clear();
        self.output.flush().await
    }

    async fn receive(&mut self) -> pcp::Result<Pdu> {
        let frame = self.receive_frame().await?;
        Ok(Pdu::decode(&frame)?.1)
    }

    async fn receive_frame(&mut self) -> pcp::Result<Bytes> {
        let mut need = HEADER_LEN;
        loop {
            if let Some(header) = Header::decode(&self.buffer, SERVER_LIMIT)? {
                need = header.length;
                if self.buffer.len() >= need {
                    return Ok(self.buffer.split_to(need).freeze());
                }
            }
            // What is said of the length is believed only so far.
            let room = need.saturating_sub(self.buffer.len()).clamp(4096, 1 << 20);
            self.buffer.reserve(room);
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorCode::EOF.into());
            }
        }
    }
}

/// A request on behalf of a client.
pub struct Request<'a> {
    /// Whose.
    pub client: &'a ClientInfo,
    /// The instances wanted, for a fetch.
    pub profile: Option<Rc<Profile>>,
    /// What is asked.
    pub pdu: Pdu,
    /// For a fetch of these metrics: that values need not be looked into.
    pub raw: Option<&'a [Pmid]>,
    /// Whether others are asked at the same time, so that this agent is not waited for while it keeps somebody else waiting.
    pub shared: bool,
}

/// What an agent answers.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are PDUs"
)]
pub enum Answer {
    /// Any PDU.
    Pdu(Pdu),
    /// Values that are passed on as they came.
    Raw(RawResult),
}

impl Agent {
    /// One that was not started yet.
    #[must_use]
    pub fn new(spec: AgentSpec) -> Agent {
        Agent {
            spec,
            pid: Cell::new(None),
            fenced: Cell::new(false),
            state: Cell::new(State::Gone(0)),
            features: Cell::new(Features::default()),
            known: RefCell::default(),
            link: Mutex::new(None),
            asked: Cell::new(None),
            starting: Cell::new(false),
            child: RefCell::new(None),
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Whether somebody waits for its answer so long that others should not.
    fn hangs(&self) -> bool {
        let asked = self.asked.get();
        asked.is_some_and(|since| since.elapsed() > HANGS)
    }

    /// Puts an agent of this process behind it.
    pub async fn connect_built_in(&self, agent: Box<dyn pmda::Agent>) {
        *self.link.lock().await = Some(Link::BuiltIn {
            agent,
            answerer: Answerer::new(),
        });
        self.state.set(State::Connected);
    }

    /// Starts its program, if it has one, and shakes hands.
    ///
    /// # Errors
    /// Why it can't be reached.
    pub async fn connect(&self, patience: Duration, statistics: &Statistics) -> Result<(), String> {
        let (command, socket, not_ready) = match &self.spec.transport {
            Transport::Dso { path, .. } => {
                return Err(format!(
                    "{} is a shared object for PCP's own pmcd; configure the agent's program (pipe) instead",
                    path.display()
                ));
            }
            Transport::Pipe { command, not_ready } => (command, None, *not_ready),
            Transport::Socket { address, command } => (command, Some(address), false),
        };
        if let Some((program, arguments)) = command.split_first() {
            let mut start = Command::new(program);
            start.args(arguments).kill_on_drop(true);
            if socket.is_none() {
                start.stdin(Stdio::piped()).stdout(Stdio::piped());
            } else {
                start.stdin(Stdio::null());
            }
            let child = start.spawn().map_err(|e| format!("{program}: {e}"))?;
            self.pid.set(child.id());
            *self.child.borrow_mut() = Some(child);
        }
        let (input, output): (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>) =
            match socket {
                None => {
                    let mut child = self.child.borrow_mut();
                    let ends = child
                        .as_mut()
                        .and_then(|c| Some((c.stdout.take()?, c.stdin.take()?)));
                    let (input, output) = ends.ok_or("no pipes")?;
                    (Box::new(input), Box::new(output))
                }
                Some(address) => timeout(patience, reach(address))
                    .await
                    .map_err(|_| "nobody listens there".to_owned())?
                    .map_err(|e| e.to_string())?,
            };
        let mut streams = Streams {
            input,
            output,
            buffer: BytesMut::new(),
            out: Vec::new(),
            profile: None,
        };
        let hello = timeout(patience, streams.receive()).await;
        match hello {
            Ok(Ok(Pdu::Creds(creds))) => {
                let features = creds.iter().find_map(|c| c.features());
                self.features.set(features.unwrap_or_default());
            }
            Ok(Ok(other)) => return Err(format!("said PDU {:#x} first", other.kind())),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("said nothing for {} s", patience.as_secs_f64())),
        }
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let answer = Pdu::Creds(vec![Cred::version(Features::default())]);
        answer.encode(pid, &mut streams.out);
        statistics.sent(answer.kind());
        streams.send().await.map_err(|e| e.to_string())?;
        self.known.borrow_mut().clear();
        *self.link.lock().await = Some(Link::Streams(streams));
        self.state.set(if not_ready {
            State::NotReady
        } else {
            State::Connected
        });
        Ok(())
    }

    /// Asks it. Requests to one agent wait for each other, no longer than `patience`; an agent that does not answer in that time
    /// is given up.
    ///
    /// # Errors
    /// What it answers; `PM_ERR_NOAGENT` when it is not there, `PM_ERR_AGAIN` when it went meanwhile, is not ready, or is busy.
    pub async fn ask(
        &self,
        request: Request<'_>,
        patience: Option<Duration>,
        statistics: &Statistics,
    ) -> Result<Answer, ErrorCode> {
        let mut link = self.turn(request.shared, patience).await?;
        let client = request.client.number;
        let answer = match link.as_mut() {
            None => return Err(ErrorCode::NOAGENT),
            Some(Link::BuiltIn { agent, answerer }) => {
                if let Some(profile) = request.profile {
                    answerer.set_profile(&profile);
                }
                self.tell(
                    request.client,
                    Features::AUTH.with(Features::CONTAINER),
                    |pdu| {
                        answerer.answer(&mut **agent, client, pdu);
                    },
                );
                let answer = answerer.answer(&mut **agent, client, request.pdu);
                Answer::Pdu(answer.unwrap_or(Pdu::Error {
                    code: ErrorCode::IPC,
                    info: None,
                }))
            }
            Some(Link::Streams(streams)) => {
                let exchange = self.exchange(streams, request, statistics);
                match self.wait(patience, exchange).await {
                    Ok(answer) => answer?,
                    Err(error) => return Err(self.lose(&mut link, &error)),
                }
            }
        };
        match answer {
            Answer::Pdu(Pdu::Error {
                code: ErrorCode::PMDANOTREADY,
                ..
            }) => {
                self.state.set(State::NotReady);
                Err(ErrorCode::AGAIN)
            }
            Answer::Pdu(Pdu::Error { code, .. }) if code.is_error() => Err(code),
            answer => Ok(answer),
        }
    }

    /// Waits until it may be asked.
    async fn turn(
        &self,
        shared: bool,
        patience: Option<Duration>,
    ) -> Result<MutexGuard<'_, Option<Link>>, ErrorCode> {
        if self.fenced.get() {
            return Err(ErrorCode::PMDAFENCED);
        }
        let in_queue = match patience {
            Some(patience) if shared => Some(patience.min(HANGS)),
            None if shared => Some(HANGS),
            patience => patience,
        };
        let link = match (self.link.try_lock(), in_queue) {
            (Ok(link), _) => link,
            (Err(_), _) if shared && self.hangs() => return Err(ErrorCode::AGAIN),
            (Err(_), None) => self.link.lock().await,
            (Err(_), Some(patience)) => {
                let link = timeout(patience, self.link.lock()).await;
                link.map_err(|_| ErrorCode::AGAIN)?
            }
        };
        Ok(link)
    }

    /// Asks it for descriptors, as [`Agent::ask`] does, but for many at a time.
    pub async fn descs(
        &self,
        client: &ClientInfo,
        pmids: &[Pmid],
        patience: Option<Duration>,
        statistics: &Statistics,
    ) -> Vec<Result<Desc, ErrorCode>> {
        let failed = |code| pmids.iter().map(|_| Err(code)).collect();
        let mut link = match self.turn(false, patience).await {
            Ok(link) => link,
            Err(code) => return failed(code),
        };
        match link.as_mut() {
            None => failed(ErrorCode::NOAGENT),
            Some(Link::BuiltIn { agent, .. }) => pmids.iter().map(|p| agent.desc(*p)).collect(),
            Some(Link::Streams(streams)) => {
                if self.state.get() == State::NotReady {
                    match self.became_ready(streams).await {
                        Ok(true) => {}
                        Ok(false) => return failed(ErrorCode::AGAIN),
                        Err(error) => return failed(self.lose(&mut link, &error)),
                    }
                }
                self.introduce(client, streams, statistics);
                let mut descs = Vec::with_capacity(pmids.len());
                for some in pmids.chunks(DESCS) {
                    let exchange = self.exchange_descs(streams, client.number, some, statistics);
                    match self.wait(patience, exchange).await {
                        Ok(more) => descs.extend(more),
                        Err(error) => {
                            self.lose(&mut link, &error);
                            break;
                        }
                    }
                    if self.state.get() == State::NotReady {
                        break;
                    }
                }
                descs.resize(pmids.len(), Err(ErrorCode::AGAIN));
                descs
            }
        }
    }

    /// Waits for its answer, no longer than `patience`.
    async fn wait<T>(
        &self,
        patience: Option<Duration>,
        exchange: impl Future<Output = pcp::Result<T>>,
    ) -> pcp::Result<T> {
        self.asked.set(Some(Instant::now()));
        let answer = match patience {
            Some(patience) => timeout(patience, exchange)
                .await
                .unwrap_or(Err(ErrorCode::TIMEOUT.into())),
            None => exchange.await,
        };
        self.asked.set(None);
        answer
    }

    /// Gives it up after an error of its connection; what clients are told.
    fn lose(&self, link: &mut Option<Link>, error: &pcp::Error) -> ErrorCode {
        *link = None;
        self.give_up(&error.to_string());
        ErrorCode::AGAIN
    }

    /// One request and its answer. The outer error ends the connection.
    async fn exchange(
        &self,
        streams: &mut Streams,
        request: Request<'_>,
        statistics: &Statistics,
    ) -> pcp::Result<Result<Answer, ErrorCode>> {
        let client = request.client.number;
        if self.state.get() == State::NotReady && !self.became_ready(streams).await? {
            return Ok(Err(ErrorCode::AGAIN));
        }
        self.introduce(request.client, streams, statistics);
        if let Some(profile) = request.profile
            && streams.profile.as_ref().is_none_or(|p| *p != profile)
        {
            let pdu = Pdu::Profile {
                context: client,
                profile: (*profile).clone(),
            };
            statistics.sent(pdu.kind());
            pdu.encode(client, &mut streams.out);
            streams.profile = Some(profile);
        }
        statistics.sent(request.pdu.kind());
        request.pdu.encode(client, &mut streams.out);
        streams.send().await?;
        let frame = streams.receive_frame().await?;
        if let (Some(pmids), Some(header)) = (request.raw, Header::decode(&frame, SERVER_LIMIT)?)
            && header.kind == kind::RESULT
        {
            statistics.received(kind::RESULT);
            let raw = RawResult::check(frame)?;
            return Ok(if raw.is_of(pmids) {
                Ok(Answer::Raw(raw))
            } else {
                Err(ErrorCode::IPC)
            });
        }
        let (_, answer) = Pdu::decode(&frame)?;
        statistics.received(answer.kind());
        Ok(Ok(Answer::Pdu(answer)))
    }

    /// Requests of one turn; they and their answers fit into what a pipe holds, so that nobody waits for room.
    async fn exchange_descs(
        &self,
        streams: &mut Streams,
        client: i32,
        pmids: &[Pmid],
        statistics: &Statistics,
    ) -> pcp::Result<Vec<Result<Desc, ErrorCode>>> {
        for pmid in pmids {
            statistics.sent(kind::DESC_REQ);
            Pdu::DescReq(*pmid).encode(client, &mut streams.out);
        }
        streams.send().await?;
        let mut descs = Vec::with_capacity(pmids.len());
        while descs.len() < pmids.len() {
            let answer = streams.receive().await?;
            statistics.received(answer.kind());
            descs.push(match answer {
                Pdu::Desc(desc) => Ok(desc),
                // The request is lost; those behind it are answered once it is ready.
                Pdu::Error {
                    code: ErrorCode::PMDANOTREADY,
                    ..
                } => {
                    self.state.set(State::NotReady);
                    Err(ErrorCode::AGAIN)
                }
                Pdu::Error {
                    code: ErrorCode::PMDAREADY,
                    ..
                } => {
                    self.state.set(State::Connected);
                    continue;
                }
                Pdu::Error { code, .. } if code.is_error() => Err(code),
                _ => Err(ErrorCode::IPC),
            });
        }
        Ok(descs)
    }

    /// Whether an agent that was not ready said meanwhile that it is.
    async fn became_ready(&self, streams: &mut Streams) -> pcp::Result<bool> {
        let Ok(said) = timeout(Duration::ZERO, streams.receive()).await else {
            return Ok(false);
        };
        let ready = matches!(
            said?,
            Pdu::Error {
                code: ErrorCode::PMDAREADY,
                ..
            }
        );
        if ready {
            self.state.set(State::Connected);
        }
        Ok(ready)
    }

    /// Says who the client is, if it wants to know and does not yet.
    fn introduce(&self, client: &ClientInfo, streams: &mut Streams, statistics: &Statistics) {
        self.tell(client, self.features.get(), |pdu| {
            statistics.sent(pdu.kind());
            pdu.encode(client.number, &mut streams.out);
        });
    }

    /// What an agent of those features has not heard of a client.
    fn tell(&self, client: &ClientInfo, features: Features, mut say: impl FnMut(Pdu)) {
        let mut known = self.known.borrow_mut();
        let told = known.entry(client.number).or_insert(0);
        if *told == client.attributes_told.get() {
            return;
        }
        for (changed, attr, value) in client.attributes.borrow().iter() {
            let wanted = if *attr == pcp::pdu::attr::CONTAINER {
                Features::CONTAINER
            } else {
                Features::AUTH
            };
            if *changed > *told && features.has(wanted) {
                say(Pdu::Attr {
                    attr: *attr,
                    value: value.clone(),
                });
            }
        }
        *told = client.attributes_told.get();
    }

    /// Tells it that a client went, if it ever heard of it.
    pub async fn forget(&self, client: i32, statistics: &Statistics) {
        if self.known.borrow_mut().remove(&client).is_none() {
            return;
        }
        let gone = Pdu::Error {
            code: ErrorCode::NOTCONN,
            info: None,
        };
        match self.link.lock().await.as_mut() {
            None => {}
            Some(Link::BuiltIn { agent, answerer }) => {
                answerer.answer(&mut **agent, client, gone);
            }
            Some(Link::Streams(streams)) => {
                statistics.sent(gone.kind());
                gone.encode(client, &mut streams.out);
                // An agent that takes nothing is found out by the next one who asks it.
                let _ = timeout(Duration::from_secs(1), streams.send()).await;
            }
        }
    }

    /// Ends the connection, and the program with it.
    fn give_up(&self, why: &str) {
        eprintln!("pmcd: agent {} is given up: {why}", self.spec.name);
        if let Some(child) = self.child.borrow_mut().as_mut() {
            let _ = child.start_kill();
        }
        self.state.set(State::Gone(1));
    }

    /// Ends it as the daemon ends or no longer wants it: its input closes, and it is killed if that does not do, or if it is being
    /// waited for.
    pub async fn disconnect(&self) {
        self.state.set(State::Gone(0));
        let closed = match self.link.try_lock() {
            Ok(mut link) => {
                *link = None;
                true
            }
            Err(_) => false,
        };
        let child = self.child.borrow_mut().take();
        if let Some(mut child) = child
            && (!closed || timeout(Duration::from_secs(1), child.wait()).await.is_err())
        {
            let _ = child.kill().await;
        }
        self.pid.set(None);
    }

    /// Whether its program ended since it was looked at last.
    pub fn has_ended(&self) -> bool {
        let ended = match self.child.borrow_mut().as_mut() {
            Some(child) => child.try_wait().ok().flatten(),
            None => None,
        };
        let Some(status) = ended else {
            return false;
        };
        eprintln!("pmcd: agent {} ended: {status}", self.spec.name);
        self.child.borrow_mut().take();
        self.state
            .set(State::Gone(status.code().unwrap_or(1).max(1)));
        // Whoever is being answered finds out by the end of the stream.
        if let Ok(mut link) = self.link.try_lock() {
            *link = None;
        }
        true
    }
}

type Ends = (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>);

/// Connects to an agent that listens, or will.
async fn reach(address: &SocketAddress) -> io::Result<Ends> {
    loop {
        let reached: io::Result<Ends> = match address {
            SocketAddress::Unix(path) => UnixStream::connect(path).await.map(|stream| {
                let (read, write) = stream.into_split();
                (Box::new(read) as _, Box::new(write) as _)
            }),
            SocketAddress::Inet(port) => tcp("127.0.0.1", *port).await,
            SocketAddress::Inet6(port) => tcp("::1", *port).await,
        };
        match reached {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<Ends> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Box::new(read), Box::new(write)))
}
