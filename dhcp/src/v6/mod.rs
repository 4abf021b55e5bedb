//! DHCPv6 (RFC 8415), for one address that lasts (IA_NA), in UDP datagrams to all servers of the segment.
//!
//! Prefix lengths and routers are not this protocol's business: they are announced by routers (RFC 4861).

mod message;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use cni_spec::Dns;
use dhcproto::v4::OptionCode as V4Code;
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, ORO, OptionCode, Status, StatusCode,
};
use ipnet::{IpNet, Ipv6Net};

use crate::client::{Ask, Dialect, Identity, Jitter, Offer, Patience, Reply, Step};
use crate::codec::value;
use crate::lease::{Facts, Lease, Server, Terms};
use crate::names;
use crate::time::Time;
use crate::wishes::Wishes;

/// The port that clients listen on.
pub(crate) const CLIENT_PORT: u16 = 546;
/// The port that servers listen on.
pub(crate) const SERVER_PORT: u16 = 547;
/// All servers and relays of the segment (RFC 8415, 7.1).
pub(crate) const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// A lifetime without end.
const INFINITE: u32 = u32::MAX;
/// A server's identifier has no more (RFC 8415, 11.1).
const MAX_DUID: usize = 130;

/// What a version 6 client knows.
#[derive(Debug)]
pub(crate) struct V6 {
    /// The client's DUID.
    duid: Vec<u8>,
    /// The association's identifier: one client has one here.
    association: u32,
    wishes: Wishes,
}

/// What an IA_NA in an answer comes to.
struct Association {
    address: Ipv6Addr,
    preferred: u32,
    valid: u32,
    renew: u32,
    rebind: u32,
}

/// Why there is no address in an answer.
enum Nothing {
    /// Of no use, with what is wrong.
    Useless(String),
    /// The server knows of no such lease.
    Unknown,
    /// The address is none for this segment.
    Refused(String),
}

impl V6 {
    /// The client's DUID and association follow from its name, so that they are the same after a restart. The DUID is a
    /// UUID (RFC 6355), of the kind whose bits mean nothing (RFC 9562, version 8).
    pub(crate) fn new(identity: &Identity, wishes: Wishes) -> Self {
        let hash = |purpose| plugin_kit::derived_number(&[purpose, &identity.name]);
        let mut uuid = [hash("DUID 1").to_be_bytes(), hash("DUID 2").to_be_bytes()].concat();
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Self { duid: [&[0, 4][..], &uuid].concat(), association: (hash("IAID") >> 32) as u32, wishes }
    }

    /// The client that an answer is for, as far as it says so, and the transaction.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn addressee_of(datagram: &[u8]) -> (Self, u32) {
        let message = message::read(datagram).unwrap_or_default();
        let options = message.opts();
        let client = Self {
            duid: value!(options, ClientId).cloned().unwrap_or_default(),
            association: value!(options, IANA).map_or(0, |association| association.id),
            wishes: Wishes::default(),
        };
        (client, message.xid_num())
    }

    /// What to ask for beside the address: version 4's options by their names here.
    fn requested(&self) -> Vec<OptionCode> {
        let wanted = self.wishes.requested();
        let here = [
            (V4Code::DomainNameServer, OptionCode::DomainNameServers),
            (V4Code::DomainSearch, OptionCode::DomainSearchList),
            (V4Code::DomainName, OptionCode::DomainSearchList),
        ];
        let wanted = here.into_iter().filter(|(v4, _)| wanted.contains(&u8::from(*v4)));
        let mut codes: Vec<_> = wanted.map(|(_, v6)| v6).collect();
        codes.dedup();
        codes
    }

    /// An IA_NA with an address, or without.
    fn association(&self, address: Option<Ipv6Addr>) -> IANA {
        let option = |addr| {
            DhcpOption::IAAddr(IAAddr { addr, preferred_life: 0, valid_life: 0, opts: DhcpOptions::new() })
        };
        let opts = address.map(option).into_iter().collect();
        IANA { id: self.association, t1: 0, t2: 0, opts }
    }

    /// Finds our association's address in an answer.
    fn granted(&self, answer: &Message) -> Result<Association, Nothing> {
        let no = |status: &StatusCode| match status.status {
            Status::NoBinding => Nothing::Unknown,
            Status::NotOnLink => Nothing::Refused(format!("it is none of this segment: {:?}", status.msg)),
            other => Nothing::Useless(format!("status {}: {:?}", u16::from(other), status.msg)),
        };
        if let Some(status) = failure(answer.opts()) {
            return Err(no(status));
        }
        let mut refused = None;
        for option in answer.opts().iter() {
            let DhcpOption::IANA(association) = option else { continue };
            if association.id != self.association {
                continue;
            }
            if let Some(status) = failure(&association.opts) {
                refused = Some(no(status));
                continue;
            }
            for option in association.opts.iter() {
                let DhcpOption::IAAddr(IAAddr { addr, preferred_life, valid_life, opts }) = option else {
                    continue;
                };
                let usable = !(addr.is_unspecified() || addr.is_multicast() || addr.is_loopback());
                if usable && *valid_life > 0 && preferred_life <= valid_life && failure(opts).is_none() {
                    return Ok(Association {
                        address: *addr,
                        preferred: *preferred_life,
                        valid: *valid_life,
                        renew: association.t1,
                        rebind: association.t2,
                    });
                }
            }
        }
        Err(refused.unwrap_or_else(|| Nothing::Useless("there is no address in it".to_owned())))
    }

    fn lease(&self, association: &Association, server: Vec<u8>, options: &DhcpOptions, now: Time) -> Lease {
        let Association { address, preferred, valid, renew, rebind } = *association;
        let time = |seconds: u32| (seconds != INFINITE).then(|| Duration::from_secs(seconds.into()));
        // Where the server leaves T1 and T2 to us: half and four fifths of the preferred lifetime (RFC 8415, 21.4).
        let chosen = |given: u32, tenths: u32| match given {
            0 => time(preferred).map(|preferred| preferred / 10 * tenths),
            _ => time(given),
        };
        let terms = Terms { lasts: time(valid), renew: chosen(renew, 5), rebind: chosen(rebind, 8) };
        let [renew_at, rebind_at, expires_at] = terms.from(now);
        let servers = value!(options, DomainNameServers).into_iter().flatten();
        let search = value!(options, DomainSearchList).into_iter().flatten();
        let dns = Dns {
            nameservers: servers.map(Ipv6Addr::to_string).collect(),
            search: search.filter_map(|name| names::harmless(&name.to_ascii())).collect(),
            ..Dns::default()
        };
        Lease {
            address: IpNet::V6(Ipv6Net::from(address)),
            server: Server::V6(server),
            facts: Facts { dns, ..Facts::default() },
            renew_at,
            rebind_at,
            expires_at,
        }
    }
}

impl Dialect for V6 {
    fn write(&self, ask: Ask<'_>, transaction: u32, elapsed: Duration) -> Vec<u8> {
        let (kind, address, server) = match ask {
            Ask::Seek => (MessageType::Solicit, None, None),
            Ask::Request(offer) => (MessageType::Request, Some(offer.address), Some(&offer.server)),
            Ask::Renew(lease) => (MessageType::Renew, Some(lease.address.addr()), Some(&lease.server)),
            Ask::Rebind(lease) => (MessageType::Rebind, Some(lease.address.addr()), None),
            Ask::Release(lease) => (MessageType::Release, Some(lease.address.addr()), Some(&lease.server)),
        };
        let address = match address {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        };
        // In hundredths of a second.
        let elapsed = u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        let mut options = vec![
            DhcpOption::ClientId(self.duid.clone()),
            DhcpOption::ElapsedTime(elapsed),
            DhcpOption::IANA(self.association(address)),
        ];
        if let Some(Server::V6(duid)) = server {
            options.push(DhcpOption::ServerId(duid.clone()));
        }
        let opts = self.requested();
        if !opts.is_empty() && !matches!(ask, Ask::Release(_)) {
            options.push(DhcpOption::ORO(ORO { opts }));
        }
        if matches!(ask, Ask::Seek) {
            options.push(DhcpOption::RapidCommit);
        }
        let mut message = Message::new(kind);
        message.set_xid_num(transaction).set_opts(options.into_iter().collect());
        message::write(&message)
    }

    fn read(&self, datagram: &[u8], transaction: u32, now: Time) -> Result<Option<Reply>, String> {
        let Some(answer) = message::read(datagram) else { return Ok(None) };
        let options = answer.opts();
        let ours = answer.xid_num() == transaction & message::TRANSACTION
            && value!(options, ClientId) == Some(&self.duid);
        let server = value!(options, ServerId).filter(|duid| (1..=MAX_DUID).contains(&duid.len()));
        let (true, Some(server)) = (ours, server) else { return Ok(None) };
        if !matches!(answer.msg_type(), MessageType::Advertise | MessageType::Reply) {
            return Ok(None);
        }
        let unusable = |why: String| format!("the answer of server {} is of no use: {why}", hex(server));
        match (self.granted(&answer), answer.msg_type()) {
            (Ok(found), MessageType::Advertise) => Ok(Some(Reply::Offer(Offer {
                address: found.address.into(),
                server: Server::V6(server.clone()),
                preference: value!(options, Preference).copied().unwrap_or(0),
            }))),
            (Ok(found), _) => Ok(Some(Reply::Granted(self.lease(&found, server.clone(), options, now)))),
            (Err(Nothing::Useless(why)), _) => Err(unusable(why)),
            (Err(Nothing::Refused(why)), MessageType::Reply) => Ok(Some(Reply::Refused(why))),
            (Err(Nothing::Unknown), MessageType::Reply) => Ok(Some(Reply::Unknown)),
            (Err(Nothing::Refused(_) | Nothing::Unknown), _) => Ok(None),
        }
    }

    fn patience(&self, step: Step, _rest: Duration) -> Patience {
        // RFC 8415, 7.6
        let (first, most) = match step {
            Step::Seek => (1, 3600),
            Step::Request => (1, 30),
            Step::Renew | Step::Rebind => (10, 600),
        };
        Patience { first: Duration::from_secs(first), most: Duration::from_secs(most), jitter: Jitter::Tenth }
    }
}

/// A status that is not success.
fn failure(options: &DhcpOptions) -> Option<&StatusCode> {
    value!(options, StatusCode).filter(|status| status.status != Status::Success)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests;
