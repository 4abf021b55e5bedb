//! DHCPv6 (RFC 8415), for one address that lasts (IA_NA), in UDP datagrams to all servers of the segment.
//!
//! Prefix lengths and routers are not this protocol's business: they are announced by routers (RFC 4861).

mod message;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use cni_spec::Dns;
use ipnet::{IpNet, Ipv6Net};

use crate::client::{Ask, Dialect, Identity, Jitter, Offer, Patience, Reply, Step};
use crate::lease::{Facts, Lease, Server, Terms};
use crate::names;
use crate::time::Time;
use crate::v4::code as v4_code;
use crate::wishes::Wishes;
use message::{Message, Options, code, kind, status};

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
        let message = Message::read(datagram);
        let options = message.as_ref().map(|message| message.options.clone()).unwrap_or_default();
        let association = options.first(code::ASSOCIATION).and_then(|value| value.first_chunk::<4>());
        let client = Self {
            duid: options.first(code::CLIENT_ID).unwrap_or_default().to_vec(),
            association: association.copied().map(u32::from_be_bytes).unwrap_or_default(),
            wishes: Wishes::default(),
        };
        (client, message.map_or(0, |message| message.transaction))
    }

    /// What to ask for beside the address: version 4's options by their names here.
    fn requested(&self) -> Vec<u8> {
        let wanted = self.wishes.requested();
        let here = [
            (v4_code::NAME_SERVERS, code::NAME_SERVERS),
            (v4_code::SEARCH, code::SEARCH),
            (v4_code::DOMAIN, code::SEARCH),
        ];
        let mut codes: Vec<u16> =
            here.iter().filter(|(v4, _)| wanted.contains(v4)).map(|(_, v6)| *v6).collect();
        codes.dedup();
        codes.into_iter().flat_map(u16::to_be_bytes).collect()
    }

    /// An IA_NA with an address, or without.
    fn association(&self, address: Option<Ipv6Addr>) -> Vec<u8> {
        let mut bytes = [&self.association.to_be_bytes()[..], &[0; 8]].concat();
        if let Some(address) = address {
            let mut options = Options::default();
            options.add(code::ADDRESS, [&address.octets()[..], &[0; 8]].concat());
            options.write(&mut bytes);
        }
        bytes
    }

    /// Finds our association's address in an answer.
    fn granted(&self, answer: &Message) -> Result<Association, Nothing> {
        let whole = answer.options.status();
        let no = |(code, text): (u16, String)| match code {
            status::NO_BINDING => Nothing::Unknown,
            status::NOT_ON_LINK => Nothing::Refused(format!("it is none of this segment: {text:?}")),
            _ => Nothing::Useless(format!("status {code}: {text:?}")),
        };
        if let Some(status) = whole {
            return Err(no(status));
        }
        let mut refused = None;
        for bytes in answer.options.all(code::ASSOCIATION) {
            let Some((fixed, options)) = bytes.split_first_chunk::<12>() else { continue };
            let number =
                |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
            if number(0) != self.association {
                continue;
            }
            let options = Options::read(options);
            if let Some(status) = options.status() {
                refused = Some(no(status));
                continue;
            }
            for bytes in options.all(code::ADDRESS) {
                let Some((fixed, options)) = bytes.split_first_chunk::<24>() else { continue };
                let (address, times) = fixed.split_at(16);
                let Ok(address) = <[u8; 16]>::try_from(address).map(Ipv6Addr::from) else { continue };
                let time =
                    |at: usize| u32::from_be_bytes([times[at], times[at + 1], times[at + 2], times[at + 3]]);
                let (preferred, valid) = (time(0), time(4));
                let usable = !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
                if usable && valid > 0 && preferred <= valid && Options::read(options).status().is_none() {
                    return Ok(Association {
                        address,
                        preferred,
                        valid,
                        renew: number(4),
                        rebind: number(8),
                    });
                }
            }
        }
        Err(refused.unwrap_or_else(|| Nothing::Useless("there is no address in it".to_owned())))
    }

    fn lease(&self, association: &Association, server: Vec<u8>, options: &Options, now: Time) -> Lease {
        let Association { address, preferred, valid, renew, rebind } = *association;
        let time = |seconds: u32| (seconds != INFINITE).then(|| Duration::from_secs(seconds.into()));
        // Where the server leaves T1 and T2 to us: half and four fifths of the preferred lifetime (RFC 8415, 21.4).
        let chosen = |given: u32, tenths: u32| match given {
            0 => time(preferred).map(|preferred| preferred / 10 * tenths),
            _ => time(given),
        };
        let terms = Terms { lasts: time(valid), renew: chosen(renew, 5), rebind: chosen(rebind, 8) };
        let [renew_at, rebind_at, expires_at] = terms.from(now);
        let servers = options.first(code::NAME_SERVERS).unwrap_or_default().chunks_exact(16);
        let servers = servers.filter_map(|octets| <[u8; 16]>::try_from(octets).ok());
        let dns = Dns {
            nameservers: servers.map(|octets| Ipv6Addr::from(octets).to_string()).collect(),
            search: names::read(options.first(code::SEARCH).unwrap_or_default(), false),
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
            Ask::Seek => (kind::SOLICIT, None, None),
            Ask::Request(offer) => (kind::REQUEST, Some(offer.address), Some(&offer.server)),
            Ask::Renew(lease) => (kind::RENEW, Some(lease.address.addr()), Some(&lease.server)),
            Ask::Rebind(lease) => (kind::REBIND, Some(lease.address.addr()), None),
            Ask::Release(lease) => (kind::RELEASE, Some(lease.address.addr()), Some(&lease.server)),
        };
        let address = match address {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        };
        let mut options = Options::default();
        options.add(code::CLIENT_ID, self.duid.clone());
        if let Some(Server::V6(duid)) = server {
            options.add(code::SERVER_ID, duid.clone());
        }
        let hundredths = u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        options.add(code::ELAPSED, hundredths.to_be_bytes());
        options.add(code::ASSOCIATION, self.association(address));
        let requested = self.requested();
        if !requested.is_empty() && !matches!(ask, Ask::Release(_)) {
            options.add(code::REQUESTED_OPTIONS, requested);
        }
        if matches!(ask, Ask::Seek) {
            options.add(code::RAPID_COMMIT, []);
        }
        Message { kind, transaction: transaction & Message::TRANSACTION, options }.write()
    }

    fn read(&self, datagram: &[u8], transaction: u32, now: Time) -> Result<Option<Reply>, String> {
        let Some(answer) = Message::read(datagram) else { return Ok(None) };
        let ours = answer.transaction == transaction & Message::TRANSACTION
            && answer.options.first(code::CLIENT_ID) == Some(&self.duid);
        let server =
            answer.options.first(code::SERVER_ID).filter(|duid| (1..=MAX_DUID).contains(&duid.len()));
        let (true, Some(server)) = (ours, server) else { return Ok(None) };
        if !matches!(answer.kind, kind::ADVERTISE | kind::REPLY) {
            return Ok(None);
        }
        let unusable = |why: String| format!("the answer of server {} is of no use: {why}", hex(server));
        match (self.granted(&answer), answer.kind) {
            (Ok(found), kind::ADVERTISE) => {
                let preference = answer.options.first(code::PREFERENCE).and_then(|value| value.first());
                Ok(Some(Reply::Offer(Offer {
                    address: found.address.into(),
                    server: Server::V6(server.to_vec()),
                    preference: preference.copied().unwrap_or(0),
                })))
            }
            (Ok(found), _) => {
                Ok(Some(Reply::Granted(self.lease(&found, server.to_vec(), &answer.options, now))))
            }
            (Err(Nothing::Useless(why)), _) => Err(unusable(why)),
            (Err(Nothing::Refused(why)), kind::REPLY) => Ok(Some(Reply::Refused(why))),
            (Err(Nothing::Unknown), kind::REPLY) => Ok(Some(Reply::Unknown)),
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests;
