//! A client of DHCP, without input, output and clock: it is told the time and what arrived, and says what is to be sent
//! and what has become of its lease. Version 4 and version 6 differ in words ([`Dialect`]), not in what happens:
//!
//! ```text
//!            ┌───────────── refused, no answer ◀────────────┐
//!            ▼                                              │
//!         Seeking ── offer ──▶ Requesting ── granted ──▶ Holding ── T1 ──▶ Renewing ── T2 ──▶ Rebinding
//!            ▲  └──── granted at once (v6) ────────────▶    ▲                  └── granted ──────┘ │
//!            └──────────────── the lease is over (expired, refused) ◀─────────────────────────────┘
//! ```
//!
//! It never gives up: without a server it goes on seeking, ever more slowly.

use std::time::Duration;

use netops::MacAddr;

use crate::lease::{Lease, Server};
use crate::time::Time;

/// How a version of DHCP says things.
pub(crate) trait Dialect: Send {
    /// A message, as it goes into the socket. `elapsed`: since the exchange began.
    fn write(&self, ask: Ask<'_>, transaction: u32, elapsed: Duration) -> Vec<u8>;

    /// An answer, as it came out of the socket; `None` if it is not for this client.
    ///
    /// # Errors
    /// What is wrong with an answer that is.
    fn read(&self, datagram: &[u8], transaction: u32, now: Time) -> Result<Option<Reply>, String>;

    /// How often a message is repeated. `rest`: how long there is for it, from now on.
    fn patience(&self, step: Step, rest: Duration) -> Patience;
}

/// What a client says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// Is there a server? (DISCOVER, SOLICIT)
    Seek,
    /// I take this offer.
    Request(&'a Offer),
    /// To the server that granted it: may I keep this?
    Renew(&'a Lease),
    /// To all servers: may I keep this?
    Rebind(&'a Lease),
    /// I have no more use for this.
    Release(&'a Lease),
}

/// The same without what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Seek,
    Request,
    Renew,
    Rebind,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// You could have this.
    Offer(Offer),
    /// You have this.
    Granted(Lease),
    /// You must not have this (NAK).
    Refused(String),
    /// I know of no such lease, but you may ask for one like it (v6).
    Unknown,
}

/// What a server would grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) address: std::net::IpAddr,
    pub(crate) server: Server,
    /// Of several offers the one with the greatest is taken; [`Offer::AT_ONCE`] without waiting for others.
    pub(crate) preference: u8,
}

impl Offer {
    /// The greatest preference (RFC 8415, 18.2.1). Offers of version 4 have no preference: the first is taken.
    pub(crate) const AT_ONCE: u8 = 255;
}

/// How often a message is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The wait after the first; it doubles each time.
    pub(crate) first: Duration,
    /// The longest wait.
    pub(crate) most: Duration,
    /// Each wait is longer or shorter by up to this, so that many clients do not speak at once.
    pub(crate) jitter: Jitter,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Jitter {
    /// A second (RFC 2131, 4.1); of short waits a quarter.
    Second,
    /// A tenth of the wait (RFC 8415, 15).
    Tenth,
}

/// Random numbers, from outside.
pub(crate) type Random<'a> = &'a mut dyn FnMut() -> u32;

/// What a client has to say to whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Send this: an Ethernet frame (version 4), or a datagram to all servers of the segment (version 6).
    Send(Vec<u8>),
    /// The client has this lease: a new one, or one with more time. If it had another, this one takes its place.
    Held(Lease),
    /// The lease is over, and its address must be used no more.
    Lost {
        /// What it was.
        lease: Lease,
        /// Why it is over.
        why: String,
    },
}

/// A client that acquires one address and keeps it.
pub(crate) struct Client {
    dialect: Box<dyn Dialect>,
    phase: Phase,
    /// What the client has, whatever it is up to.
    held: Option<Lease>,
    transaction: u32,
    /// When the exchange that is going on began.
    began: Time,
    /// How many messages of this phase have been sent.
    sent: u32,
    /// When to say something (again).
    due: Time,
    /// Until when an answer to what was said last may come.
    listens_until: Time,
    /// How long that is.
    timeout: Duration,
    /// What was wrong with the last answer that was of no use.
    complaint: Option<String>,
}

enum Phase {
    Seeking { best: Option<Offer> },
    Requesting(Offer),
    Holding,
    Renewing,
    Rebinding,
}

/// A request that nobody answers is given up after so many messages (RFC 8415: 10; RFC 2131 leaves it open).
const REQUESTS: u32 = 4;

/// How long an interface may take until it can be sent through.
const SETTLING: Duration = Duration::from_secs(5);

impl Client {
    pub(crate) fn new(dialect: Box<dyn Dialect>, timeout: Duration, now: Time, random: Random<'_>) -> Self {
        Self {
            dialect,
            phase: Phase::Seeking { best: None },
            held: None,
            transaction: random(),
            began: now,
            sent: 0,
            due: now,
            listens_until: now,
            timeout,
            complaint: None,
        }
    }

    /// Goes on with a lease that the client had before.
    #[must_use]
    pub(crate) fn resume(mut self, lease: Lease) -> Self {
        self.due = lease.renew_at;
        self.phase = Phase::Holding;
        self.held = Some(lease);
        self
    }

    /// Changes who it is, or how it speaks, from the next message on.
    pub(crate) fn speak(&mut self, dialect: Box<dyn Dialect>) {
        self.dialect = dialect;
    }

    /// The lease that the client has.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.held.as_ref()
    }

    /// What was wrong with the last answer that was of no use.
    pub(crate) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// When [`on_time`](Self::on_time) is to be called at the latest.
    pub(crate) fn next_timeout(&self) -> Time {
        let expiry = self.held.as_ref().map_or(Time::NEVER, |lease| lease.expires_at);
        self.due.min(expiry)
    }

    /// Until when an answer may come: a moment that has passed if none is waited for. Meanwhile a socket must be open.
    pub(crate) fn listens_until(&self) -> Time {
        self.listens_until
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, now: Time, random: Random<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(lease) = self.held.take_if(|lease| lease.expires_at <= now) {
            let why = self.complaint.take().unwrap_or_else(|| "no server answers".to_owned());
            events.push(Event::Lost { lease, why: format!("it has expired: {why}") });
            if !matches!(self.phase, Phase::Seeking { .. } | Phase::Requesting(_)) {
                self.enter(Phase::Seeking { best: None }, now, random);
            }
        }
        if self.due > now {
            return events;
        }
        match &mut self.phase {
            Phase::Seeking { best: Some(_) } => self.take_best_offer(now, random),
            Phase::Requesting(_) if self.sent >= REQUESTS => {
                self.enter(Phase::Seeking { best: None }, now, random);
            }
            Phase::Holding => self.enter(Phase::Renewing, now, random),
            _ => {}
        }
        let rebinds = self.held.as_ref().is_some_and(|lease| lease.rebind_at <= now);
        if rebinds && matches!(self.phase, Phase::Renewing) {
            self.enter(Phase::Rebinding, now, random);
        }
        events.extend(self.send(now, random));
        events
    }

    /// Something arrived.
    pub(crate) fn on_datagram(&mut self, datagram: &[u8], now: Time, random: Random<'_>) -> Vec<Event> {
        if matches!(self.phase, Phase::Holding) || self.sent == 0 {
            return Vec::new();
        }
        let reply = match self.dialect.read(datagram, self.transaction, now) {
            Ok(Some(reply)) => reply,
            Ok(None) => return Vec::new(),
            Err(complaint) => {
                self.complaint = Some(complaint);
                return Vec::new();
            }
        };
        match (&mut self.phase, reply) {
            (Phase::Seeking { best }, Reply::Offer(offer)) => {
                // Others may be better, as long as the first message has not been repeated.
                let decided = offer.preference == Offer::AT_ONCE || self.sent > 1;
                if best.as_ref().is_none_or(|best| best.preference < offer.preference) {
                    *best = Some(offer);
                }
                if !decided {
                    return Vec::new();
                }
                self.take_best_offer(now, random);
                self.send(now, random).into_iter().collect()
            }
            (_, Reply::Granted(lease)) => vec![self.hold(lease)],
            (Phase::Requesting(_), Reply::Refused(why)) => {
                self.complaint = Some(why);
                self.enter(Phase::Seeking { best: None }, now, random);
                // A server that refuses what it offers must not keep us busy.
                self.due = now + Duration::from_secs(2) + self.spread(Duration::from_secs(1), random);
                Vec::new()
            }
            (Phase::Renewing | Phase::Rebinding, Reply::Refused(why)) => {
                self.enter(Phase::Seeking { best: None }, now, random);
                let lost = self.held.take().map(|lease| Event::Lost { lease, why });
                lost.into_iter().chain(self.send(now, random)).collect()
            }
            (Phase::Renewing | Phase::Rebinding, Reply::Unknown) => {
                let Some(lease) = &self.held else { return Vec::new() };
                let (address, server) = (lease.address.addr(), lease.server.clone());
                let again = Offer { address, server, preference: Offer::AT_ONCE };
                self.enter(Phase::Requesting(again), now, random);
                self.send(now, random).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The last message could not be sent: it counts as not said. An interface that was just made may not be ready (IPv6
    /// addresses are looked for duplicates first), so that it is soon tried again; later on, as if it had been lost.
    /// Returns whether it is too early to speak of it.
    pub(crate) fn not_sent(&mut self, now: Time) -> bool {
        let settling = now.since(self.began) < SETTLING;
        if settling {
            self.sent = self.sent.saturating_sub(1);
            self.due = self.due.min(now + SETTLING / 50);
        }
        settling
    }

    /// The message that ends the lease, if there is one. The client is of no more use then.
    pub(crate) fn release(self, random: Random<'_>) -> Option<Vec<u8>> {
        Some(self.dialect.write(Ask::Release(self.held.as_ref()?), random(), Duration::ZERO))
    }

    fn take_best_offer(&mut self, now: Time, random: Random<'_>) {
        if let Phase::Seeking { best } = &mut self.phase
            && let Some(offer) = best.take()
        {
            let transaction = self.transaction;
            let version_4 = matches!(offer.server, Server::V4 { .. });
            self.enter(Phase::Requesting(offer), now, random);
            if version_4 {
                // One exchange, to version 4, from DISCOVER to ACK (RFC 2131, 4.4.1).
                self.transaction = transaction;
            }
        }
    }

    fn hold(&mut self, lease: Lease) -> Event {
        self.phase = Phase::Holding;
        self.due = lease.renew_at;
        self.listens_until = self.began;
        self.complaint = None;
        self.held = Some(lease.clone());
        Event::Held(lease)
    }

    fn enter(&mut self, phase: Phase, now: Time, random: Random<'_>) {
        self.phase = phase;
        self.transaction = random();
        self.began = now;
        self.sent = 0;
        self.due = now;
    }

    /// Says what belongs to the phase, and when to repeat it.
    fn send(&mut self, now: Time, random: Random<'_>) -> Option<Event> {
        let (ask, step) = match (&self.phase, &self.held) {
            (Phase::Seeking { .. }, _) => (Ask::Seek, Step::Seek),
            (Phase::Requesting(offer), _) => (Ask::Request(offer), Step::Request),
            (Phase::Renewing, Some(lease)) => (Ask::Renew(lease), Step::Renew),
            (Phase::Rebinding, Some(lease)) => (Ask::Rebind(lease), Step::Rebind),
            _ => return None,
        };
        let message = self.dialect.write(ask, self.transaction, now.since(self.began));
        let end = match (step, &self.held) {
            (Step::Renew, Some(lease)) => lease.rebind_at,
            (Step::Rebind, Some(lease)) => lease.expires_at,
            _ => Time::NEVER,
        };
        let patience = self.dialect.patience(step, end.since(now));
        let wait = patience.first.saturating_mul(1 << self.sent.min(16)).min(patience.most);
        let jitter = match patience.jitter {
            Jitter::Second => Duration::from_secs(1).min(wait / 4),
            Jitter::Tenth => wait / 10,
        };
        let wait = wait - jitter + self.spread(2 * jitter, random);
        self.sent += 1;
        self.due = (now + wait).min(end);
        self.listens_until = now + self.timeout;
        Some(Event::Send(message))
    }

    /// A random part of a duration.
    fn spread(&self, whole: Duration, random: Random<'_>) -> Duration {
        whole.mul_f64(f64::from(random()) / f64::from(u32::MAX))
    }
}

/// Who a client is, on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// `CONTAINER/NETWORK/INTERFACE`.
    pub(crate) name: String,
    /// The interface's address.
    pub(crate) mac: MacAddr,
}

#[cfg(test)]
mod tests;
