//! One interface's clients, and what has become of them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use cni_spec::AddResult;

use crate::client::{Client, Dialect, Event, Identity, Random};
use crate::container::{Container, Present, Socket};
use crate::key::Key;
use crate::lease::Lease;
use crate::store::{Kept, Record};
use crate::time::Time;
use crate::v4::{self, V4};
use crate::v6::V6;
use crate::wishes::{Family, Wishes};

/// How clients behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) v4: v4::Settings,
    /// How long an answer is waited for.
    pub(crate) timeout: Duration,
}

/// An interface for which there is a client of each version that its configuration wants.
pub(crate) struct Attachment {
    key: Key,
    container: Container,
    wishes: Wishes,
    sessions: BTreeMap<Family, Session>,
    behaviour: Behaviour,
}

/// A client, its socket, and what the interface has of its lease.
struct Session {
    client: Client,
    /// Open while an answer may come.
    socket: Option<Socket>,
    configured: Option<Lease>,
}

/// What came of some time, or of some datagrams.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Leases have changed in some way: there is something to be written down.
    pub(crate) changed: bool,
    /// What to say about it.
    pub(crate) news: Vec<String>,
    /// The interface is gone: there is nobody to keep leases for.
    pub(crate) gone: bool,
}

/// Datagrams that one socket may bring before others have their turn.
const AT_A_TIME: usize = 16;

impl Attachment {
    /// Clients that have nothing yet.
    pub(crate) fn new(
        key: Key,
        container: Container,
        present: &Present,
        wishes: Wishes,
        behaviour: Behaviour,
        now: Time,
        random: Random<'_>,
    ) -> Self {
        let mut attachment = Self { key, container, wishes, sessions: BTreeMap::new(), behaviour };
        for family in attachment.wishes.families().to_vec() {
            let dialect = attachment.dialect(family, present);
            let client = Client::new(dialect, behaviour.timeout, now, random);
            attachment.sessions.insert(family, Session { client, socket: None, configured: None });
        }
        attachment
    }

    /// Clients that go on with what another process had. `None` if the interface is gone.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn adopt(
        record: Record,
        behaviour: Behaviour,
        now: Time,
        random: Random<'_>,
    ) -> Result<Option<Self>, netops::Error> {
        let Some(present) = record.container.reach()? else { return Ok(None) };
        let Record { key, container, wishes, leases } = record;
        let mut attachment = Self::new(key, container, &present, wishes, behaviour, now, random);
        for Kept { family, held, configured } in leases {
            let Some(mut session) = attachment.sessions.remove(&family) else { continue };
            if let Some(lease) = held {
                session.client = session.client.resume(lease);
            }
            session.configured = configured;
            attachment.sessions.insert(family, session);
        }
        Ok(Some(attachment))
    }

    fn dialect(&self, family: Family, present: &Present) -> Box<dyn Dialect> {
        let identity = Identity { name: self.key.client_name(), mac: present.mac };
        let wishes = self.wishes.clone();
        match family {
            Family::V4 => Box::new(V4::new(identity, wishes, self.behaviour.v4)),
            Family::V6 => Box::new(V6::new(&identity, wishes)),
        }
    }

    /// Whether it is about this interface, asked for with these wishes.
    pub(crate) fn is_for(&self, container: &Container, wishes: &Wishes) -> bool {
        self.container == *container && self.wishes == *wishes
    }

    /// Whether every client has a lease.
    pub(crate) fn is_complete(&self) -> bool {
        self.sessions.values().all(|session| session.client.lease().is_some())
    }

    /// What a runtime is told.
    pub(crate) fn result(&self) -> AddResult {
        let mut result = AddResult::default();
        self.leases().for_each(|lease| lease.add_to(&mut result));
        result
    }

    /// The leases that there are.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.sessions.values().filter_map(|session| session.client.lease())
    }

    /// What was wrong with answers so far.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        self.sessions.values().filter_map(|session| session.client.complaint()).collect()
    }

    /// What the plugin is about to give the interface: from now on it is ours to change.
    pub(crate) fn hand_over(&mut self) {
        for session in self.sessions.values_mut() {
            session.configured = session.client.lease().cloned();
        }
    }

    pub(crate) fn record(&self) -> Record {
        let kept = self.sessions.iter().map(|(family, session)| Kept {
            family: *family,
            held: session.client.lease().cloned(),
            configured: session.configured.clone(),
        });
        Record {
            key: self.key.clone(),
            container: self.container.clone(),
            wishes: self.wishes.clone(),
            leases: kept.collect(),
        }
    }

    /// When [`on_time`](Self::on_time) is to be called at the latest: a client wants it, or a socket is to be closed.
    pub(crate) fn next_timeout(&self) -> Time {
        let next = |session: &Session| {
            let closing = session.socket.as_ref().map_or(Time::NEVER, |_| session.client.listens_until());
            session.client.next_timeout().min(closing)
        };
        self.sessions.values().map(next).min().unwrap_or(Time::NEVER)
    }

    /// What to wait for.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (Family, BorrowedFd<'_>)> {
        self.sessions.iter().filter_map(|(family, session)| Some((*family, session.socket.as_ref()?.as_fd())))
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, now: Time, random: Random<'_>) -> Progress {
        let mut progress = Progress::default();
        for family in self.families() {
            let Some(session) = self.sessions.get_mut(&family) else { continue };
            if session.client.next_timeout() <= now {
                let events = session.client.on_time(now, random);
                self.follow(family, events, now, &mut progress);
            }
            self.close_idle(family, now);
        }
        progress
    }

    /// Something arrived for a client.
    pub(crate) fn on_readable(&mut self, family: Family, now: Time, random: Random<'_>) -> Progress {
        let mut progress = Progress::default();
        let mut buffer = [0; 2048];
        for _ in 0..AT_A_TIME {
            let Some(session) = self.sessions.get_mut(&family) else { break };
            let Some(socket) = &session.socket else { break };
            match socket.receive(&mut buffer) {
                Ok(length) => {
                    let events = session.client.on_datagram(&buffer[..length], now, random);
                    self.follow(family, events, now, &mut progress);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    // The interface went down, or away: the next message opens another, or finds out.
                    progress.news.push(format!("{family}: listen: {error}"));
                    session.socket = None;
                }
            }
        }
        self.close_idle(family, now);
        progress
    }

    /// Makes the interface what the leases say, where it is not.
    pub(crate) fn configure(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        let differs = |session: &Session| !is_same(session.configured.as_ref(), session.client.lease());
        if !self.sessions.values().any(differs) {
            return news;
        }
        let present = match self.container.reach() {
            Ok(Some(present)) => present,
            Ok(None) => return news,
            Err(error) => return vec![error.to_string()],
        };
        for (family, session) in &mut self.sessions {
            let new = session.client.lease();
            if !is_same(session.configured.as_ref(), new) {
                match present.configure(session.configured.as_ref(), new) {
                    Ok(()) => news.push(format!("{family}: the interface now has {}", name(new))),
                    Err(error) => {
                        // Tried again when the next thing happens to the lease.
                        news.push(format!("{family}: {error}"));
                        continue;
                    }
                }
            }
            session.configured = new.cloned();
        }
        news
    }

    /// Gives everything back: the addresses are taken from the interface, then the servers are told.
    pub(crate) fn end(mut self, random: Random<'_>) -> Vec<String> {
        let mut news = Vec::new();
        if self.leases().next().is_none() {
            return news;
        }
        let present = match self.container.reach() {
            Ok(Some(present)) => present,
            Ok(None) => {
                let left: Vec<_> = self.leases().map(|lease| lease.address.addr().to_string()).collect();
                news.push(format!(
                    "the interface is gone, and the server cannot be told: {} will expire",
                    left.join(" and ")
                ));
                return news;
            }
            Err(error) => return vec![error.to_string()],
        };
        for (family, session) in std::mem::take(&mut self.sessions) {
            if let Some(configured) = &session.configured
                && let Err(error) = present.configure(Some(configured), None)
            {
                news.push(format!("{family}: {error}"));
            }
            let address = name(session.client.lease());
            let Some(message) = session.client.release(random) else { continue };
            let sent = session.socket.map_or_else(|| present.socket(family), Ok);
            match sent.and_then(|socket| socket.send(&message)) {
                Ok(()) => news.push(format!("{family}: {address} is given back")),
                Err(error) => news.push(format!("{family}: {address} cannot be given back: {error}")),
            }
        }
        news
    }

    fn families(&self) -> Vec<Family> {
        self.sessions.keys().copied().collect()
    }

    /// Does what a client wants.
    fn follow(&mut self, family: Family, events: Vec<Event>, now: Time, progress: &mut Progress) {
        for event in events {
            match event {
                Event::Send(message) => match self.send(family, &message) {
                    Ok(true) => {}
                    Ok(false) => progress.gone = true,
                    Err(error) => {
                        let client = self.sessions.get_mut(&family).map(|session| &mut session.client);
                        if !client.is_some_and(|client| client.not_sent(now)) {
                            progress.news.push(format!("{family}: send: {error}"));
                        }
                    }
                },
                Event::Held(lease) => {
                    progress.changed = true;
                    progress.news.push(format!("{family}: {}", describe(&lease)));
                }
                Event::Lost { lease, why } => {
                    progress.changed = true;
                    progress.news.push(format!("{family}: {} is lost: {why}", lease.address.addr()));
                }
            }
        }
    }

    /// Sends a message, through a socket that is opened if need be. Says whether the interface is there.
    fn send(&mut self, family: Family, message: &[u8]) -> io::Result<bool> {
        if self.sessions.get(&family).is_some_and(|session| session.socket.is_none()) {
            let Some(present) = self.container.reach().map_err(io::Error::other)? else { return Ok(false) };
            let (socket, dialect) = (present.socket(family)?, self.dialect(family, &present));
            if let Some(session) = self.sessions.get_mut(&family) {
                session.socket = Some(socket);
                // The interface may have got another MAC address meanwhile: the next message has it.
                session.client.speak(dialect);
            }
        }
        let socket = self.sessions.get(&family).and_then(|session| session.socket.as_ref());
        socket.map_or(Ok(()), |socket| socket.send(message)).map(|()| true)
    }

    fn close_idle(&mut self, family: Family, now: Time) {
        if let Some(session) = self.sessions.get_mut(&family)
            && session.client.listens_until() <= now
        {
            session.socket = None;
        }
    }
}

/// Whether an interface that has one lease's address and routes has the other's.
fn is_same(old: Option<&Lease>, new: Option<&Lease>) -> bool {
    let visible = |lease: &Lease| (lease.address, lease.facts.routes.clone());
    old.map(visible) == new.map(visible)
}

fn name(lease: Option<&Lease>) -> String {
    lease.map_or_else(|| "no address".to_owned(), |lease| lease.address.addr().to_string())
}

fn describe(lease: &Lease) -> String {
    let server = match &lease.server {
        crate::lease::Server::V4 { address, .. } => format!(" from {address}"),
        crate::lease::Server::V6(_) => String::new(),
    };
    format!("has {}{server}", lease.address)
}
