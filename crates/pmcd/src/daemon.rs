//! The daemon's state and its main loop: sockets, agents, signals.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::unistd::User;
use pcp::pdu::{Features, Pdu, attr};
use pcp::pmns::Pmns;
use pcp::{Desc, ErrorCode, LabelSet, Pmid, Timestamp};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::access::{Access, Operations, Peer, Refused};
use crate::accounts::Accounts;
use crate::agent::{Agent, Answer, Request, State};
use crate::client::{self, ClientInfo};
use crate::config::{self, AgentSpec, Config, Transport};
use crate::event_trace::EventTrace;
use crate::host_labels::HostLabels;
use crate::listen::{Sockets, groups_of};
use crate::options::Options;
use crate::own_metrics::OwnMetrics;
use crate::startup::{StartError, acceptor, become_user, load_config, read_config};
use crate::startup_pages;
use crate::statistics::Statistics;

/// The domain of the daemon's own metrics.
pub const OWN_DOMAIN: u32 = 2;

/// How changes among the agents are told to clients (`PMCD_ADD_AGENT` and so on in `pmapi.h`).
mod change {
    pub const ADD: i32 = 1;
    pub const RESTART: i32 = 2;
    pub const DROP: i32 = 4;
    pub const LABELS: i32 = 8;
    pub const NAMES: i32 = 16;
}

/// First wait before an agent that ended is started again; it doubles up to the longest.
const RESTART_FIRST: Duration = Duration::from_secs(5);
const RESTART_LONGEST: Duration = Duration::from_secs(300);
/// How often agents are looked after, beside when a child ends.
const LOOK: Duration = Duration::from_secs(1);

/// When an agent is started again.
#[derive(Clone, Copy, Debug)]
struct Restart {
    at: Instant,
    wait: Duration,
}

/// Everything that requests need.
pub struct Daemon {
    /// The command line.
    pub options: Options,
    /// The name of this host.
    pub hostname: String,
    /// The name space.
    pub pmns: RefCell<Pmns>,
    /// What is counted.
    pub statistics: Statistics,
    /// The seconds that agents and clients are waited for; 0 for ever.
    pub patience: Cell<u32>,
    /// One more than how often agents were started.
    pub changes: Cell<u32>,
    /// Asks the main loop to act as on SIGHUP.
    pub reload: Rc<tokio::sync::Notify>,
    agents: RefCell<Vec<Rc<Agent>>>,
    by_domain: RefCell<HashMap<u32, Rc<Agent>>>,
    restarts: RefCell<HashMap<u32, Restart>>,
    access: RefCell<Rc<Access>>,
    config_text: RefCell<(String, Option<String>)>,
    clients: RefCell<BTreeMap<i32, Rc<ClientInfo>>>,
    /// How many numbers clients ever had at a time, and those of them that nobody has now.
    numbers: Cell<i32>,
    free_numbers: RefCell<BTreeSet<i32>>,
    sequence: Cell<u32>,
    labels: RefCell<HostLabels>,
    /// What happened lately.
    pub trace: EventTrace,
    tls: RefCell<Option<TlsAcceptor>>,
    built_in: BuiltIn,
}

/// Agents that can run in the daemon's process: those that a `dso` line means by the name of its function, such as `linux_init`.
pub type BuiltIn = fn(entry: &str, domain: u32) -> Option<Result<Box<dyn pmda::Agent>, String>>;

impl Daemon {
    /// One without agents.
    ///
    /// # Errors
    /// When the name space can't be loaded.
    pub fn new(options: Options, built_in: BuiltIn) -> Result<Rc<Daemon>, StartError> {
        let pmns = Pmns::load(&options.pmns)
            .map_err(|error| StartError::Pmns(options.pmns.clone(), error))?;
        let hostname = options.hostname.clone().unwrap_or_else(|| {
            nix::unistd::gethostname()
                .map(|h| h.to_string_lossy().into_owned())
                .unwrap_or_else(|_| "localhost".to_owned())
        });
        let text = read_config(&options)?;
        let tls = match acceptor(&options) {
            Ok(tls) => tls,
            Err(error) if options.require_certificates => return Err(error.into()),
            Err(error) => {
                eprintln!("pmcd: no TLS: {error}");
                None
            }
        };
        Ok(Rc::new(Daemon {
            labels: RefCell::new(HostLabels::read(&hostname)),
            trace: EventTrace::new(options.trace),
            hostname,
            pmns: RefCell::new(pmns),
            statistics: Statistics::default(),
            patience: Cell::new(options.timeout),
            changes: Cell::new(1),
            reload: Rc::default(),
            agents: RefCell::default(),
            by_domain: RefCell::default(),
            restarts: RefCell::default(),
            access: RefCell::default(),
            config_text: RefCell::new(text),
            clients: RefCell::default(),
            numbers: Cell::new(0),
            free_numbers: RefCell::default(),
            sequence: Cell::new(0),
            tls: RefCell::new(tls),
            built_in,
            options,
        }))
    }

    /// The agents, in the order of the configuration.
    #[must_use]
    pub fn agents(&self) -> Vec<Rc<Agent>> {
        self.agents.borrow().clone()
    }

    /// The clients, by number.
    #[must_use]
    pub fn clients(&self) -> Vec<Rc<ClientInfo>> {
        self.clients.borrow().values().cloned().collect()
    }

    /// The socket in the file system.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        &self.options.socket
    }

    /// The clients that there are, as the log shows them (`pmcd.control.dumpconn`).
    #[must_use]
    pub fn connections(&self) -> String {
        let date = pcp::timezone::Zone::local().civil(Timestamp::now().sec);
        let mut text = format!(
            "\n->Current PMCD clients at {}\n     \
             fd  client connection from                    ipc ver  operations denied\n     \
             ==  ========================================  =======  =================\n",
            date.ctime()
        );
        for client in self.clients() {
            let operations = client.operations.get();
            let denied = |what, name| if operations.has(what) { "" } else { name };
            text.push_str(&format!(
                "    {:3}  {:40.40}  {:7}  {}{}\n",
                client.descriptor(),
                client.address(self),
                2,
                denied(Operations::FETCH, "fetch "),
                denied(Operations::STORE, "store ")
            ));
        }
        text
    }

    /// The longest PDU that a client may send, in bytes.
    #[must_use]
    pub fn client_limit(&self) -> usize {
        self.options.client_limit
    }

    /// The labels of the context level, as a client sees them.
    ///
    /// # Errors
    /// See [`HostLabels::seen_by`].
    pub fn context_labels(&self, client: &ClientInfo) -> Result<LabelSet, ErrorCode> {
        let (user, group) = (client.text(attr::USERID), client.text(attr::GROUPID));
        self.labels
            .borrow()
            .seen_by(user.as_deref(), group.as_deref())
    }

    /// Whether only users who are known may connect.
    #[must_use]
    pub fn needs_credentials(&self) -> bool {
        self.options.require_credentials || self.access.borrow().needs_credentials()
    }

    /// What a connection may be; one of this host's socket needs neither TLS nor to say who it is.
    #[must_use]
    pub fn features(&self, local: bool) -> Features {
        let mut features = client::FEATURES;
        if local {
            return features;
        }
        if self.tls.borrow().is_some() {
            features = features.with(Features::SECURE).with(Features::SECURE_ACK);
        }
        if self.options.require_certificates {
            features = features.with(Features::CERT_REQUIRED);
        }
        if self.needs_credentials() {
            features = features.with(Features::CREDS_REQUIRED);
        }
        features
    }

    /// What makes TLS of a connection, if there is a certificate.
    #[must_use]
    pub fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.borrow().clone()
    }

    /// Whom SASL knows now.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        Accounts::load(&self.hostname)
    }

    /// Asks the agent of a domain for a client.
    ///
    /// # Errors
    /// What it answers; `PM_ERR_NOAGENT` when it is not there, and when there never was one what PCP's pmcd says then.
    pub async fn ask(&self, domain: u32, client: &ClientInfo, pdu: Pdu) -> Result<Pdu, ErrorCode> {
        let request = Request {
            client,
            profile: None,
            pdu,
            raw: None,
            shared: false,
        };
        match self.request(domain, request).await? {
            Answer::Pdu(pdu) => Ok(pdu),
            Answer::Raw(_) => Err(ErrorCode::IPC),
        }
    }

    /// The same for a request of any kind.
    ///
    /// # Errors
    /// As [`Daemon::ask`].
    pub async fn request(&self, domain: u32, request: Request<'_>) -> Result<Answer, ErrorCode> {
        let agent = self.by_domain.borrow().get(&domain).cloned();
        let Some(agent) = agent else {
            return Err(match request.pdu {
                Pdu::DescReq(_) => ErrorCode::PMID,
                Pdu::InstanceReq { .. } => ErrorCode::INDOM,
                _ => ErrorCode::NOAGENT,
            });
        };
        let before = agent.state();
        let answer = agent.ask(request, self.patience(), &self.statistics);
        let answer = answer.await;
        self.found(&agent, before);
        answer
    }

    /// Descriptors of metrics of one domain.
    pub async fn descs(
        &self,
        domain: u32,
        client: &ClientInfo,
        pmids: &[Pmid],
    ) -> Vec<Result<Desc, ErrorCode>> {
        let agent = self.by_domain.borrow().get(&domain).cloned();
        let Some(agent) = agent else {
            return pmids.iter().map(|_| Err(ErrorCode::PMID)).collect();
        };
        let before = agent.state();
        let descs = agent.descs(client, pmids, self.patience(), &self.statistics);
        let descs = descs.await;
        self.found(&agent, before);
        descs
    }

    /// How long agents are waited for.
    fn patience(&self) -> Option<Duration> {
        match self.patience.get() {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        }
    }

    /// After an agent was asked: whether it is still there.
    fn found(&self, agent: &Agent, before: State) {
        if matches!(agent.state(), State::Gone(_)) && !matches!(before, State::Gone(_)) {
            self.dropped(agent);
        }
    }

    /// An agent that was there is not any more.
    fn dropped(&self, agent: &Agent) {
        self.tell_all(change::DROP);
        let mut restarts = self.restarts.borrow_mut();
        let now = Instant::now();
        let wait = match restarts.get(&agent.spec.domain) {
            // It held for a while since the last time.
            Some(last) if now.saturating_duration_since(last.at) < RESTART_LONGEST => {
                (last.wait * 2).min(RESTART_LONGEST)
            }
            _ => RESTART_FIRST,
        };
        let at = now + wait;
        restarts.insert(agent.spec.domain, Restart { at, wait });
    }

    fn tell_all(&self, change: i32) {
        if change & (change::ADD | change::RESTART) != 0 {
            self.changes.set(self.changes.get().wrapping_add(1));
        }
        for client in self.clients.borrow().values() {
            client.changes.set(client.changes.get() | change);
        }
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn connect(&self, peer: &Peer) -> Result<Operations, Refused> {
        self.access.borrow().connect(peer)
    }

    /// A client has proven to be a user.
    ///
    /// # Errors
    /// `ESRCH` when this host does not know the user; `PM_ERR_PERMISSION` and `PM_ERR_CONNLIMIT` by the rules about users.
    pub fn identify(&self, client: &ClientInfo, name: &str) -> Result<(), ErrorCode> {
        let user = User::from_name(name).ok().flatten();
        let user = user.ok_or(ErrorCode(-nix::libc::ESRCH))?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let access = self.access.borrow();
        let mut peer = client.peer.borrow_mut();
        access.disconnect(&peer);
        peer.user = Some(uid);
        peer.groups = Some(groups_of(uid, gid));
        let operations = access.connect(&peer).map_err(|refused| {
            // It is counted out again when it goes.
            access.count(&peer);
            match refused {
                Refused::Permission => ErrorCode::PERMISSION,
                Refused::Limit => ErrorCode::CONNLIMIT,
            }
        })?;
        client.operations.set(operations);
        client.set_attribute(attr::USERNAME, text_value(name));
        client.set_attribute(attr::USERID, text_value(&uid.to_string()));
        client.set_attribute(attr::GROUPID, text_value(&gid.to_string()));
        Ok(())
    }

    /// Gives a connection its number.
    pub fn add_client(&self, peer: Peer, operations: Operations) -> Rc<ClientInfo> {
        let free = self.free_numbers.borrow_mut().pop_first();
        let sequence = self.sequence.get();
        self.sequence.set(sequence.wrapping_add(1));
        let number = free.unwrap_or_else(|| {
            let next = self.numbers.get();
            self.numbers.set(next + 1);
            next
        });
        let client = Rc::new(ClientInfo {
            number,
            sequence,
            peer: RefCell::new(peer),
            operations: Cell::new(operations),
            attributes: RefCell::default(),
            attributes_told: Cell::new(0),
            changes: Cell::new(0),
            started: Timestamp::now(),
            whoami: RefCell::new(None),
            socket: Cell::new(None),
        });
        let mut clients = self.clients.borrow_mut();
        clients.insert(client.number, Rc::clone(&client));
        client
    }

    /// Forgets a client, and has the agents forget it before its number is given away again.
    pub async fn remove_client(&self, client: &ClientInfo) {
        self.access.borrow().disconnect(&client.peer.borrow());
        self.clients.borrow_mut().remove(&client.number);
        for agent in self.agents() {
            agent.forget(client.number, &self.statistics).await;
        }
        self.free_numbers.borrow_mut().insert(client.number);
    }

    async fn start_agent(self: &Rc<Daemon>, agent: &Rc<Agent>) -> bool {
        if agent.spec.domain == OWN_DOMAIN {
            let own = OwnMetrics::new(Rc::downgrade(self));
            agent.connect_built_in(Box::new(own)).await;
            return true;
        }
        let built_in = match &agent.spec.transport {
            Transport::Dso { entry, .. } => (self.built_in)(entry, agent.spec.domain),
            _ => None,
        };
        let started = match built_in {
            Some(Ok(built_in)) => {
                agent.connect_built_in(built_in).await;
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => {
                agent
                    .connect(self.options.hello_timeout, &self.statistics)
                    .await
            }
        };
        if let Err(error) = &started {
            eprintln!(
                "pmcd: cannot start agent {} (domain {}): {error}",
                agent.spec.name, agent.spec.domain
            );
            agent.disconnect().await;
        }
        started.is_ok()
    }

    /// Makes agents and access rules what a configuration says. Agents that it leaves as they were and that are there go on.
    async fn configure(self: &Rc<Daemon>, config: Config) {
        *self.access.borrow_mut() = Rc::new(Access::new(config.rules));
        let access = Rc::clone(&self.access.borrow());
        for client in self.clients() {
            let peer = client.peer.borrow();
            match access.connect(&peer) {
                Ok(operations) => client.operations.set(operations),
                // It is counted out again when it goes.
                Err(_) => {
                    access.count(&peer);
                    client.end();
                }
            }
        }
        let old = self.agents.take();
        let keep = |spec: &AgentSpec| {
            let same = old.iter().find(|a| a.spec == *spec);
            same.filter(|a| !matches!(a.state(), State::Gone(_)))
                .cloned()
        };
        let new: Vec<_> = config
            .agents
            .into_iter()
            .map(|spec| keep(&spec).unwrap_or_else(|| Rc::new(Agent::new(spec))))
            .collect();
        let dropped = old.iter().filter(|o| !new.iter().any(|n| Rc::ptr_eq(o, n)));
        futures_util::future::join_all(dropped.map(|agent| agent.disconnect())).await;
        *self.by_domain.borrow_mut() = new.iter().map(|a| (a.spec.domain, Rc::clone(a))).collect();
        *self.agents.borrow_mut() = new.clone();
        self.restarts.borrow_mut().clear();
        let fresh: Vec<_> = new
            .iter()
            .filter(|a| matches!(a.state(), State::Gone(_)))
            .collect();
        let started = fresh.iter().map(|agent| self.start_agent(agent));
        futures_util::future::join_all(started).await;
        for agent in fresh {
            let was_here = old.iter().any(|o| o.spec.domain == agent.spec.domain);
            if !matches!(agent.state(), State::Gone(_)) {
                self.tell_all(if was_here {
                    change::RESTART
                } else {
                    change::ADD
                });
            }
        }
    }

    /// As on SIGHUP: reads what changed, and starts the agents that are not there (pmcd(1), "RECONFIGURING PMCD").
    async fn reconfigure(self: &Rc<Daemon>) {
        let sighups = &self.statistics.sighups;
        sighups.set(sighups.get().wrapping_add(1));
        match acceptor(&self.options) {
            Ok(tls) => *self.tls.borrow_mut() = tls,
            Err(error) => eprintln!("pmcd: {error}; the old certificate stays"),
        }
        let labels = HostLabels::read(&self.hostname);
        if labels != self.labels.replace(labels.clone()) {
            self.tell_all(change::LABELS);
        }
        match Pmns::load(&self.options.pmns) {
            Ok(pmns) => {
                *self.pmns.borrow_mut() = pmns;
                self.tell_all(change::NAMES);
            }
            Err(error) => eprintln!(
                "pmcd: {}: {error}; the old name space stays",
                self.options.pmns.display()
            ),
        }
        let text = match read_config(&self.options) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("pmcd: {error}; the old configuration stays");
                self.config_text.borrow().clone()
            }
        };
        let (text, access) = &text;
        let (config, errors) = config::parse(&self.options.config, text, access.as_deref());
        for warning in &config.warnings {
            eprintln!("pmcd: {warning}");
        }
        if errors.is_empty() {
            *self.config_text.borrow_mut() = (text.clone(), access.clone());
            self.configure(config).await;
            return;
        }
        for error in errors {
            eprintln!("pmcd: {error}");
        }
        eprintln!("pmcd: the old configuration stays");
        let (text, access) = self.config_text.borrow().clone();
        let (config, _) = config::parse(&self.options.config, &text, access.as_deref());
        self.configure(config).await;
    }

    /// Looks for agents that ended, and starts those again whose time has come.
    fn look_after_agents(self: &Rc<Daemon>) {
        for agent in self.agents() {
            let there = !matches!(agent.state(), State::Gone(_));
            if agent.has_ended() && there {
                self.dropped(&agent);
            }
            let due = self.restarts.borrow().get(&agent.spec.domain).copied();
            let Some(due) = due.filter(|due| due.at <= Instant::now()) else {
                continue;
            };
            if matches!(agent.state(), State::Gone(_)) && !agent.starting.replace(true) {
                let daemon = Rc::clone(self);
                spawn_local(async move {
                    if daemon.start_agent(&agent).await {
                        daemon.tell_all(change::RESTART);
                    } else {
                        let wait = (due.wait * 2).min(RESTART_LONGEST);
                        let at = Instant::now() + wait;
                        let again = Restart { at, wait };
                        let mut restarts = daemon.restarts.borrow_mut();
                        restarts.insert(agent.spec.domain, again);
                    }
                    agent.starting.set(false);
                });
            }
        }
    }

    /// Runs until a signal ends it. `ready` is called when clients are served.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn run(self: Rc<Daemon>, ready: impl FnOnce()) -> Result<(), StartError> {
        let (config, errors) = load_config(&self.options)?;
        for error in errors.iter().chain(&config.warnings) {
            eprintln!("pmcd: {error}");
        }
        // Of rules about access that are not understood nobody knows whom they were to keep out.
        if !errors.is_empty() {
            return Err(StartError::Config(
                "not started, because of these mistakes".to_owned(),
            ));
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let child = signal(SignalKind::child())?;
        let sockets = Sockets::open(&self.options).await?;
        // Whoever ends the daemon does not wait for its agents to begin.
        let (end, mut ended) = tokio::sync::oneshot::channel();
        spawn_local(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = end.send(());
        });
        let started = tokio::select! {
            () = self.configure(config) => true,
            _ = &mut ended => false,
        };
        if started {
            become_user(&self.options)?;
            sockets.serve(&self);
            self.look_after(hangup, child);
            ready();
            startup_pages::give_back();
            let _ = ended.await;
        }
        let agents = self.agents();
        futures_util::future::join_all(agents.iter().map(|agent| agent.disconnect())).await;
        let _ = fs::remove_file(&self.options.socket);
        Ok(())
    }

    /// Starts what has to be done beside serving clients.
    fn look_after(self: &Rc<Daemon>, mut hangup: Signal, mut child: Signal) {
        let daemon = Rc::clone(self);
        spawn_local(async move {
            loop {
                tokio::select! {
                    _ = hangup.recv() => {}
                    () = daemon.reload.notified() => {}
                }
                daemon.reconfigure().await;
            }
        });
        let daemon = Rc::clone(self);
        spawn_local(async move {
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    _ = child.recv() => {}
                    _ = look.tick() => {}
                }
                daemon.look_after_agents();
            }
        });
    }
}

/// The value of an attribute, as C has texts.
pub fn text_value(text: &str) -> Bytes {
    Bytes::from(format!("{text}\0"))
}
