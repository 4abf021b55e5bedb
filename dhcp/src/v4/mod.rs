//! DHCPv4 (RFC 2131), in whole Ethernet frames: the interface has no address yet.

mod frame;
mod message;
mod options;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use netops::MacAddr;

use crate::client::{Ask, Dialect, Identity, Jitter, Offer, Patience, Reply, Step};
use crate::lease::{Lease, Server, Terms};
use crate::time::Time;
use crate::wishes::Wishes;
pub(crate) use frame::CLIENT_PORT;
use frame::Frame;
pub(crate) use message::code;
use message::{Message, Op, Options};

/// What a version 4 client knows.
#[derive(Debug)]
pub(crate) struct V4 {
    identity: Identity,
    wishes: Wishes,
    settings: Settings,
}

/// How a version 4 client behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Answers are to be sent to everybody: where several interfaces share a MAC address, or the network delivers nothing
    /// to an address that it does not know.
    pub(crate) broadcast: bool,
    /// The longest wait between two messages.
    pub(crate) resend_max: Duration,
}

/// `DHCP Message Type` (RFC 2132, 9.6).
mod kind {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const ACK: u8 = 5;
    pub(super) const NAK: u8 = 6;
    pub(super) const RELEASE: u8 = 7;
}

/// A client identifier's greatest length, without its type (one octet of length).
const MAX_CLIENT_ID: usize = 254;
/// A lease for ever (RFC 2131, 3.3).
const INFINITE: u32 = u32::MAX;
/// What a message may be long, IP and UDP headers included: what an Ethernet frame holds.
const MAX_MESSAGE: u16 = 1500;

impl V4 {
    pub(crate) fn new(identity: Identity, wishes: Wishes, settings: Settings) -> Self {
        Self { identity, wishes, settings }
    }

    /// The client identifier, with its type: 0, for "none of the hardware types" (RFC 2132, 9.14).
    fn client_id(&self) -> Vec<u8> {
        if let Some(id) = self.wishes.provided(code::CLIENT_ID) {
            return id.to_vec();
        }
        let name = self.identity.name.as_bytes();
        [&[0], &name[..name.len().min(MAX_CLIENT_ID)]].concat()
    }

    /// A message of a kind, with what is in all of them.
    fn message(&self, kind: u8, transaction: u32, elapsed: Duration) -> Message {
        let mut options = Options::default();
        options.set(code::MESSAGE_TYPE, [kind]);
        options.set(code::CLIENT_ID, self.client_id());
        Message {
            op: Op::Request,
            transaction,
            elapsed: elapsed.as_secs().try_into().unwrap_or(u16::MAX),
            broadcast: self.settings.broadcast,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::UNSPECIFIED,
            hardware: self.identity.mac,
            options,
        }
    }

    /// What is provided and requested.
    fn add_wishes(&self, options: &mut Options) {
        options.set(code::MAX_MESSAGE, MAX_MESSAGE.to_be_bytes());
        let requested = self.wishes.requested();
        if !requested.is_empty() {
            options.set(code::REQUESTED_OPTIONS, requested);
        }
        for (code, value) in self.wishes.all_provided() {
            options.set(code, value);
        }
    }

    fn granted(&self, answer: &Message, server: Server, now: Time) -> Result<Lease, String> {
        let options = &answer.options;
        let mask = options.address(code::SUBNET_MASK).ok_or("it says no subnet mask (option 1)")?;
        let address = Ipv4Net::with_netmask(answer.yours, mask)
            .map_err(|_| format!("its subnet mask {mask} is none"))?;
        let lasts = options.number(code::LEASE_TIME).ok_or("it says no lease time (option 51)")?;
        if lasts == 0 {
            return Err("its lease time is 0".to_owned());
        }
        let seconds = |code| options.number(code).map(|seconds| Duration::from_secs(seconds.into()));
        let terms = Terms {
            lasts: (lasts != INFINITE).then(|| Duration::from_secs(lasts.into())),
            renew: seconds(code::RENEWAL_TIME),
            rebind: seconds(code::REBINDING_TIME),
        };
        let [renew_at, rebind_at, expires_at] = terms.from(now);
        let facts = options::facts(options, self.wishes.priority());
        Ok(Lease { address: IpNet::V4(address), server, facts, renew_at, rebind_at, expires_at })
    }

    /// A message on its way: to one machine from the address that the client has, or to all from none.
    fn frame(&self, message: &Message, to: Option<(Ipv4Addr, MacAddr)>) -> Vec<u8> {
        let (target, hardware_target) = to.unwrap_or((Ipv4Addr::BROADCAST, frame::BROADCAST));
        Frame {
            source_mac: self.identity.mac,
            target_mac: hardware_target,
            source: message.client,
            target,
            payload: &message.write(),
        }
        .write()
    }
}

impl Dialect for V4 {
    fn write(&self, ask: Ask<'_>, transaction: u32, elapsed: Duration) -> Vec<u8> {
        let kind = match ask {
            Ask::Seek => kind::DISCOVER,
            Ask::Request(_) | Ask::Renew(_) | Ask::Rebind(_) => kind::REQUEST,
            Ask::Release(_) => kind::RELEASE,
        };
        let mut message = self.message(kind, transaction, elapsed);
        let mut to = None;
        match ask {
            Ask::Seek => {}
            Ask::Request(offer) => {
                if let (IpAddr::V4(address), Server::V4 { address: server, .. }) =
                    (offer.address, &offer.server)
                {
                    message.options.set(code::REQUESTED_ADDRESS, address.octets());
                    message.options.set(code::SERVER_ID, server.octets());
                }
            }
            Ask::Renew(lease) | Ask::Rebind(lease) | Ask::Release(lease) => {
                if let IpAddr::V4(address) = lease.address.addr() {
                    message.client = address;
                }
                if let (Ask::Renew(_) | Ask::Release(_), Server::V4 { address, mac }) = (ask, &lease.server) {
                    to = Some((*address, *mac));
                    if matches!(ask, Ask::Release(_)) {
                        message.options.set(code::SERVER_ID, address.octets());
                    }
                }
            }
        }
        if !matches!(ask, Ask::Release(_)) {
            self.add_wishes(&mut message.options);
        }
        self.frame(&message, to)
    }

    fn read(&self, datagram: &[u8], transaction: u32, now: Time) -> Result<Option<Reply>, String> {
        let Some(frame) = Frame::read(datagram) else { return Ok(None) };
        let Some(answer) = Message::read(frame.payload) else { return Ok(None) };
        let ours = answer.op == Op::Reply
            && answer.transaction == transaction
            && answer.hardware == self.identity.mac
            // Servers repeat it (RFC 6842); old ones do not.
            && answer.options.get(code::CLIENT_ID).is_none_or(|id| id == self.client_id());
        if !ours {
            return Ok(None);
        }
        let Some(address) = answer.options.address(code::SERVER_ID) else {
            return Err(format!("{} answers without a server identifier (option 54)", frame.source));
        };
        let kind = match answer.options.get(code::MESSAGE_TYPE) {
            Some([kind]) => *kind,
            _ => return Ok(None),
        };
        let server = Server::V4 { address, mac: frame.source_mac };
        let usable = |yours: Ipv4Addr| {
            !(yours.is_unspecified() || yours.is_broadcast() || yours.is_multicast() || yours.is_loopback())
        };
        let unusable = |why: String| format!("the answer of server {address} is of no use: {why}");
        match kind {
            kind::NAK => {
                let text = answer.options.get(code::MESSAGE).map(String::from_utf8_lossy);
                let text =
                    text.map(|text| format!(": {:?}", text.trim_end_matches('\0'))).unwrap_or_default();
                Ok(Some(Reply::Refused(format!("server {address} refuses it{text}"))))
            }
            kind::OFFER | kind::ACK if !usable(answer.yours) => {
                Err(unusable(format!("{} is not an address for an interface", answer.yours)))
            }
            kind::OFFER => Ok(Some(Reply::Offer(Offer {
                address: answer.yours.into(),
                server,
                preference: Offer::AT_ONCE,
            }))),
            kind::ACK => {
                self.granted(&answer, server, now).map(|lease| Some(Reply::Granted(lease))).map_err(unusable)
            }
            _ => Ok(None),
        }
    }

    fn patience(&self, step: Step, rest: Duration) -> Patience {
        let most = match step {
            Step::Seek | Step::Request => self.settings.resend_max,
            // With hours left, there is no hurry: half of the time (RFC 2131, 4.4.5).
            Step::Renew | Step::Rebind => self.settings.resend_max.max(rest / 2),
        };
        // The standard's four seconds are for machines that start after a power cut; a pod's first message may well be lost,
        // as its bridge's port has just been made.
        Patience { first: Duration::from_secs(1), most, jitter: Jitter::Second }
    }
}

/// A server's half of the frames, for tests.
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
