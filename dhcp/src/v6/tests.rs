//! What is written and read: byte by byte, and in the words of `dhcproto`.

use cni_spec::{CniArgs, NetworkConfig};
use dhcproto::{Decodable, Decoder, Encodable, v6};
use netops::MacAddr;

use super::*;
use crate::codec::recorded;

const SERVER: [u8; 5] = [0, 3, 0, 1, 9];

fn client(ipam: &str) -> V6 {
    let config = format!(r#"{{"cniVersion": "1.0.0", "name": "lan", "ipam": {ipam}}}"#);
    let config = NetworkConfig::from_json(config.as_bytes()).unwrap();
    let wishes = Wishes::of(&config, &CniArgs::parse("")).unwrap();
    V6::new(&Identity { name: "c1/lan/eth0".to_owned(), mac: MacAddr::new([2; 6]) }, wishes)
}

fn now() -> Time {
    Time::since_boot(Duration::from_secs(100))
}

fn address() -> Ipv6Addr {
    "fd09::10".parse().unwrap()
}

/// A reply, whose association holds some options.
fn reply(client: &V6, inner: Vec<v6::DhcpOption>) -> v6::Message {
    let mut opts = v6::DhcpOptions::new();
    inner.into_iter().for_each(|option| opts.insert(option));
    let mut message = v6::Message::new_with_id(v6::MessageType::Reply, [0, 0, 5]);
    let options = message.opts_mut();
    options.insert(v6::DhcpOption::ClientId(client.duid.clone()));
    options.insert(v6::DhcpOption::ServerId(SERVER.to_vec()));
    options.insert(v6::DhcpOption::IANA(v6::IANA { id: client.association, t1: 0, t2: 0, opts }));
    message
}

fn granted_address(valid_life: u32) -> v6::DhcpOption {
    let opts = v6::DhcpOptions::new();
    v6::DhcpOption::IAAddr(v6::IAAddr {
        addr: address(),
        preferred_life: valid_life.min(600),
        valid_life,
        opts,
    })
}

fn status(status: v6::Status) -> v6::DhcpOption {
    v6::DhcpOption::StatusCode(v6::StatusCode { status, msg: "so".to_owned() })
}

fn read(client: &V6, message: &v6::Message) -> Result<Option<Reply>, String> {
    client.read(&message.to_vec().unwrap(), 5, now())
}

#[test]
fn an_exchange_with_dnsmasq_is_the_recorded_one_byte_by_byte() {
    let recorded = recorded(include_str!("dnsmasq.txt"));
    // A server may answer with a lease at once (RFC 8415, 18.2.1), and dnsmasq does.
    let [solicit, at_once, request, reply, rebind, rebound, release, _] = &recorded[..] else { panic!() };
    let client = client(r#"{"request": [{"option": "6"}, {"option": "119"}]}"#);
    let ask = |ask: Ask<'_>| client.write(ask, 5, Duration::from_millis(1230));
    let granted = |datagram: &[u8]| match client.read(datagram, 5, now()) {
        Ok(Some(Reply::Granted(lease))) => lease,
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(Ask::Seek), *solicit);
    let lease = granted(at_once);
    let offer = Offer { address: lease.address.addr(), server: lease.server.clone(), preference: 0 };
    assert_eq!(ask(Ask::Request(&offer)), *request);
    assert_eq!(granted(reply), lease);
    assert_eq!(ask(Ask::Rebind(&lease)), *rebind);
    assert_eq!(ask(Ask::Release(&granted(rebound))), *release);

    assert_eq!(lease.address.to_string(), "fd09::18/128");
    let after = |seconds| now() + Duration::from_secs(seconds);
    assert_eq!((lease.renew_at, lease.rebind_at, lease.expires_at), (after(1800), after(3150), after(3600)));
    assert_eq!(
        (&lease.facts.dns.nameservers[..], &lease.facts.dns.search[..]),
        (&["fd09::53".to_owned()][..], &["example.com".to_owned()][..])
    );
}

#[test]
fn messages_say_what_the_standard_wants_in_each_state() {
    let client = client(r#"{"request": [{"option": "6"}, {"option": "119"}]}"#);
    let Ok(Some(Reply::Granted(lease))) = read(&client, &reply(&client, vec![granted_address(1000)])) else {
        panic!()
    };
    let offer = Offer { address: address().into(), server: Server::V6(SERVER.to_vec()), preference: 0 };
    // Kind, address, server.
    let asks = [
        (Ask::Seek, v6::MessageType::Solicit, false, false),
        (Ask::Request(&offer), v6::MessageType::Request, true, true),
        (Ask::Renew(&lease), v6::MessageType::Renew, true, true),
        (Ask::Rebind(&lease), v6::MessageType::Rebind, true, false),
        (Ask::Release(&lease), v6::MessageType::Release, true, true),
    ];
    for (ask, kind, names_address, names_server) in asks {
        let bytes = client.write(ask, 0xff00_0007, Duration::from_millis(1230));
        let message = v6::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let options = message.opts();
        assert_eq!((message.msg_type(), message.xid_num()), (kind, 7));
        assert_eq!(options.get(v6::OptionCode::ServerId).is_some(), names_server, "{kind:?}");
        let Some(v6::DhcpOption::IANA(association)) = options.get(v6::OptionCode::IANA) else { panic!() };
        let there = association.opts.get(v6::OptionCode::IAAddr);
        assert_eq!(there.is_some(), names_address, "{kind:?}");
        assert_eq!(options.get(v6::OptionCode::ElapsedTime), Some(&v6::DhcpOption::ElapsedTime(123)));
        let requested = options.get(v6::OptionCode::ORO).is_some();
        assert_eq!(requested, kind != v6::MessageType::Release);
        assert_eq!(options.get(v6::OptionCode::RapidCommit).is_some(), kind == v6::MessageType::Solicit);
    }
}

#[test]
fn a_client_is_the_same_after_a_restart_and_no_other() {
    let first = client("{}");
    assert_eq!((&first.duid, first.association), (&client("{}").duid, client("{}").association));
    assert_eq!((first.duid.len(), &first.duid[..2]), (18, &[0, 4][..]));
    let identity = Identity { name: "c2/lan/eth0".to_owned(), mac: MacAddr::new([2; 6]) };
    assert_ne!(V6::new(&identity, Wishes::default()).duid, first.duid);
}

#[test]
fn times_that_are_left_to_the_client_follow_from_the_preferred_lifetime() {
    let client = client("{}");
    let Ok(Some(Reply::Granted(lease))) = read(&client, &reply(&client, vec![granted_address(1000)])) else {
        panic!()
    };
    let after = |seconds| now() + Duration::from_secs(seconds);
    assert_eq!((lease.renew_at, lease.rebind_at, lease.expires_at), (after(300), after(480), after(1000)));
    assert_eq!(lease.address.to_string(), "fd09::10/128");
}

#[test]
fn a_status_is_understood_wherever_it_stands() {
    let client = client("{}");
    let refused = |reply: Result<Option<Reply>, String>| matches!(reply, Ok(Some(Reply::Refused(_))));
    for inside in [true, false] {
        let with = |code: v6::Status| {
            let mut message = reply(&client, if inside { vec![status(code)] } else { Vec::new() });
            if !inside {
                message.opts_mut().insert(status(code));
            }
            read(&client, &message)
        };
        assert!(refused(with(v6::Status::NotOnLink)));
        assert_eq!(with(v6::Status::NoBinding), Ok(Some(Reply::Unknown)));
        assert!(with(v6::Status::NoAddrsAvail).unwrap_err().contains("status 2"));
    }
    let nothing = read(&client, &reply(&client, vec![granted_address(0)]));
    assert!(nothing.unwrap_err().contains("no address"), "a lifetime of nothing");
}

/// A reply, with these bytes before what is granted.
fn read_with(client: &V6, bytes: &[u8]) -> Result<Option<Reply>, String> {
    let good = reply(client, vec![granted_address(1000)]).to_vec().unwrap();
    client.read(&[&good[..4], bytes, &good[4..]].concat(), 5, now())
}

#[test]
fn an_option_that_makes_no_sense_takes_no_other_with_it() {
    let client = client("{}");
    // Name servers of one byte; a status, a vendor's class and a vendor's options that end before they begin; an
    // association that is too short.
    let nonsense = [0, 23, 0, 1, 9, 0, 13, 0, 0, 0, 16, 0, 0, 0, 17, 0, 0, 0, 3, 0, 1, 0];
    let granted = |reply: &Result<Option<Reply>, String>| matches!(reply, Ok(Some(Reply::Granted(_))));
    assert!(granted(&read_with(&client, &nonsense)));
    // What a server says counts, whatever characters it says it in.
    assert_eq!(read_with(&client, &[0, 13, 0, 3, 0, 3, 0xff]), Ok(Some(Reply::Unknown)));
    // A length that leads past the end is the end: there is no client's identifier.
    assert_eq!(read_with(&client, &[0, 99, 0xff, 0xff]), Ok(None));
}

#[test]
fn options_in_options_go_no_deeper_than_they_mean_something() {
    let client = client("{}");
    // Associations for temporary addresses (8 bytes each, and nothing here), and others, thousands of levels deep.
    for (code, fixed) in [(3, 12), (4, 4), (5, 24), (17, 4)] {
        let mut nested = Vec::new();
        while nested.len() + fixed <= u16::MAX.into() {
            let length = u16::try_from(nested.len() + fixed).unwrap();
            nested.splice(..0, [&[0, code][..], &length.to_be_bytes(), &vec![0; fixed]].concat());
        }
        assert!(matches!(read_with(&client, &nested), Ok(Some(Reply::Granted(_)))), "{code}");
    }
}

#[test]
fn servers_and_names_are_read() {
    let client = client("{}");
    let servers = [&[0, 23, 0, 32][..], &address().octets(), &Ipv6Addr::LOCALHOST.octets()].concat();
    let names = b"\0\x18\0\x15\x07example\x03com\0\x03a b\x02de\0";
    let reply = read_with(&client, &[&servers[..], names].concat());
    let Ok(Some(Reply::Granted(lease))) = reply else { panic!("{reply:?}") };
    assert_eq!(lease.facts.dns.nameservers, ["fd09::10", "::1"]);
    assert_eq!(lease.facts.dns.search, ["example.com"]);
}

#[test]
fn an_answer_to_somebody_else_is_none() {
    let client = client("{}");
    let good = reply(&client, vec![granted_address(1000)]);
    let bytes = good.to_vec().unwrap();
    assert!(matches!(client.read(&bytes, 5, now()), Ok(Some(_))));
    assert_eq!(client.read(&bytes, 6, now()), Ok(None));
    let mut other = good.clone();
    other.opts_mut().remove(v6::OptionCode::ClientId);
    assert_eq!(read(&client, &other), Ok(None));
    let mut other = good.clone();
    other.opts_mut().remove(v6::OptionCode::ServerId);
    assert_eq!(read(&client, &other), Ok(None));
    let mut other = good;
    other.set_msg_type(v6::MessageType::Request);
    assert_eq!(read(&client, &other), Ok(None));
    for length in 0..bytes.len() {
        let _ = client.read(&bytes[..length], 5, now());
    }
}
