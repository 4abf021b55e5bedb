//! DHCPv4 (RFC 2131), in whole Ethernet frames: the interface has no address yet.

mod frame;
mod message;
mod options;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use ipnet::{IpNet, Ipv4Net};
use netops::MacAddr;

use crate::client::{Ask, Dialect, Identity, Jitter, Offer, Patience, Reply, Step};
use crate::codec::value;
use crate::lease::{Lease, Server, Terms};
use crate::time::Time;
use crate::wishes::Wishes;
pub(crate) use frame::CLIENT_PORT;
use frame::Frame;

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
        if let Some(id) = self.wishes.provided(OptionCode::ClientIdentifier.into()) {
            return id.to_vec();
        }
        let name = self.identity.name.as_bytes();
        [&[0], &name[..name.len().min(MAX_CLIENT_ID)]].concat()
    }

    /// What is provided and requested.
    fn wishes(&self) -> impl Iterator<Item = DhcpOption> {
        let provided = |(code, value): (u8, &[u8])| {
            DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value.to_vec()))
        };
        let requested = self.wishes.requested().into_iter().map(OptionCode::from).collect();
        [DhcpOption::MaxMessageSize(MAX_MESSAGE), DhcpOption::ParameterRequestList(requested)]
            .into_iter()
            .chain(self.wishes.all_provided().map(provided))
    }

    fn granted(&self, answer: &Message, server: Server, now: Time) -> Result<Lease, String> {
        let options = answer.opts();
        let mask = *value!(options, SubnetMask).ok_or("it says no subnet mask (option 1)")?;
        let address = Ipv4Net::with_netmask(answer.yiaddr(), mask)
            .map_err(|_| format!("its subnet mask {mask} is none"))?;
        let lasts = *value!(options, AddressLeaseTime).ok_or("it says no lease time (option 51)")?;
        if lasts == 0 {
            return Err("its lease time is 0".to_owned());
        }
        let seconds = |seconds: &u32| Duration::from_secs((*seconds).into());
        let terms = Terms {
            lasts: (lasts != INFINITE).then(|| seconds(&lasts)),
            renew: value!(options, Renewal).map(seconds),
            rebind: value!(options, Rebinding).map(seconds),
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
            source: message.ciaddr(),
            target,
            payload: &message::write(message),
        }
        .write()
    }
}

impl Dialect for V4 {
    fn write(&self, ask: Ask<'_>, transaction: u32, elapsed: Duration) -> Vec<u8> {
        let kind = match ask {
            Ask::Seek => MessageType::Discover,
            Ask::Request(_) | Ask::Renew(_) | Ask::Rebind(_) => MessageType::Request,
            Ask::Release(_) => MessageType::Release,
        };
        let mut options = vec![DhcpOption::MessageType(kind), DhcpOption::ClientIdentifier(self.client_id())];
        let (mut own, mut to) = (Ipv4Addr::UNSPECIFIED, None);
        match ask {
            Ask::Seek => {}
            Ask::Request(offer) => {
                if let (IpAddr::V4(address), Server::V4 { address: server, .. }) =
                    (offer.address, &offer.server)
                {
                    options.push(DhcpOption::RequestedIpAddress(address));
                    options.push(DhcpOption::ServerIdentifier(*server));
                }
            }
            Ask::Renew(lease) | Ask::Rebind(lease) | Ask::Release(lease) => {
                if let IpAddr::V4(address) = lease.address.addr() {
                    own = address;
                }
                if let (Ask::Renew(_) | Ask::Release(_), Server::V4 { address, mac }) = (ask, &lease.server) {
                    to = Some((*address, *mac));
                    if matches!(ask, Ask::Release(_)) {
                        options.push(DhcpOption::ServerIdentifier(*address));
                    }
                }
            }
        }
        if !matches!(ask, Ask::Release(_)) {
            options.extend(self.wishes());
        }
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message =
            Message::new_with_id(transaction, own, none, none, none, &self.identity.mac.bytes());
        let flags = Flags::default();
        message
            .set_secs(elapsed.as_secs().try_into().unwrap_or(u16::MAX))
            .set_flags(if self.settings.broadcast { flags.set_broadcast() } else { flags })
            .set_opts(message::options(options));
        self.frame(&message, to)
    }

    fn read(&self, datagram: &[u8], transaction: u32, now: Time) -> Result<Option<Reply>, String> {
        let Some(frame) = Frame::read(datagram) else { return Ok(None) };
        let Some(answer) = message::read(frame.payload) else { return Ok(None) };
        let options = answer.opts();
        let ours = answer.opcode() == Opcode::BootReply
            && answer.xid() == transaction
            && answer.chaddr() == self.identity.mac.bytes()
            // Servers repeat it (RFC 6842); old ones do not.
            && value!(options, ClientIdentifier).is_none_or(|id| *id == self.client_id());
        if !ours {
            return Ok(None);
        }
        let Some(&address) = value!(options, ServerIdentifier) else {
            return Err(format!("{} answers without a server identifier (option 54)", frame.source));
        };
        let Some(kind) = value!(options, MessageType) else { return Ok(None) };
        let server = Server::V4 { address, mac: frame.source_mac };
        let usable = |yours: Ipv4Addr| {
            !(yours.is_unspecified() || yours.is_broadcast() || yours.is_multicast() || yours.is_loopback())
        };
        let unusable = |why: String| format!("the answer of server {address} is of no use: {why}");
        match kind {
            MessageType::Nak => {
                let text =
                    value!(options, Message).map(|text| format!(": {:?}", text.trim_end_matches('\0')));
                Ok(Some(Reply::Refused(format!("server {address} refuses it{}", text.unwrap_or_default()))))
            }
            MessageType::Offer | MessageType::Ack if !usable(answer.yiaddr()) => {
                Err(unusable(format!("{} is not an address for an interface", answer.yiaddr())))
            }
            MessageType::Offer => Ok(Some(Reply::Offer(Offer {
                address: answer.yiaddr().into(),
                server,
                preference: Offer::AT_ONCE,
            }))),
            MessageType::Ack => {
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
