//! What is written and read, beside another implementation of the codec (`dhcproto`).

use cni_spec::{CniArgs, NetworkConfig};
use dhcproto::{Decodable, Decoder, Encodable, v4};
use proptest::prelude::*;

use super::testing::{payload, server_frame};
use super::*;

const MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 7]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const SERVER_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);

fn client(name: &str, ipam: &str) -> V4 {
    let config = format!(r#"{{"cniVersion": "1.0.0", "name": "lan", "ipam": {ipam}}}"#);
    let config = NetworkConfig::from_json(config.as_bytes()).unwrap();
    let wishes = Wishes::of(&config, &CniArgs::parse("")).unwrap();
    let identity = Identity { name: name.to_owned(), mac: MAC };
    V4::new(identity, wishes, Settings { broadcast: false, resend_max: Duration::from_secs(62) })
}

fn now() -> Time {
    Time::since_boot(Duration::from_secs(100))
}

fn lease() -> Lease {
    let [renew_at, rebind_at, expires_at] =
        [150, 180, 200].map(|at| Time::since_boot(Duration::from_secs(at)));
    Lease {
        address: "10.9.0.50/24".parse().unwrap(),
        server: Server::V4 { address: SERVER, mac: SERVER_MAC },
        facts: Default::default(),
        renew_at,
        rebind_at,
        expires_at,
    }
}

/// An answer, with some options besides kind and server.
fn answer(kind: v4::MessageType, options: Vec<v4::DhcpOption>) -> v4::Message {
    let mut message = v4::Message::default();
    message.set_opcode(v4::Opcode::BootReply).set_xid(5).set_chaddr(&MAC.bytes());
    message.set_yiaddr(Ipv4Addr::new(10, 9, 0, 50));
    let all = message.opts_mut();
    all.insert(v4::DhcpOption::MessageType(kind));
    all.insert(v4::DhcpOption::ServerIdentifier(SERVER));
    options.into_iter().for_each(|option| drop(all.insert(option)));
    message
}

fn read(client: &V4, message: &v4::Message) -> Result<Option<Reply>, String> {
    client.read(&server_frame(SERVER, &message.to_vec().unwrap()), 5, now())
}

fn usual() -> Vec<v4::DhcpOption> {
    vec![
        v4::DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        v4::DhcpOption::AddressLeaseTime(3600),
        v4::DhcpOption::Router(vec![SERVER]),
    ]
}

fn granted(options: Vec<v4::DhcpOption>) -> Lease {
    match read(&client("c", "{}"), &answer(v4::MessageType::Ack, options)) {
        Ok(Some(Reply::Granted(lease))) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_say_what_the_standard_wants_in_each_state() {
    let client = client("c1/lan/eth0", r#"{"provide": [{"option": "host-name", "value": "web"}]}"#);
    let offer = Offer {
        address: Ipv4Addr::new(10, 9, 0, 50).into(),
        server: Server::V4 { address: SERVER, mac: SERVER_MAC },
        preference: Offer::AT_ONCE,
    };
    let lease = lease();
    // RFC 2131, table 5: kind, ciaddr, requested address, server identifier; and where it is sent to.
    let asks = [
        (Ask::Seek, "Discover", false, false, false, true),
        (Ask::Request(&offer), "Request", false, true, true, true),
        (Ask::Renew(&lease), "Request", true, false, false, false),
        (Ask::Rebind(&lease), "Request", true, false, false, true),
        (Ask::Release(&lease), "Release", true, false, true, false),
    ];
    for (ask, kind, has_address, requests_address, names_server, to_all) in asks {
        let frame = client.write(ask, 77, Duration::from_secs(3));
        let message = v4::Message::decode(&mut Decoder::new(payload(&frame))).unwrap();
        let options = message.opts();
        assert_eq!(format!("{:?}", options.msg_type().unwrap()), kind);
        assert_eq!((message.xid(), message.secs(), message.chaddr()), (77, 3, &MAC.bytes()[..]));
        assert_eq!(!message.ciaddr().is_unspecified(), has_address, "{kind}");
        assert_eq!(options.get(v4::OptionCode::RequestedIpAddress).is_some(), requests_address, "{kind}");
        assert_eq!(options.get(v4::OptionCode::ServerIdentifier).is_some(), names_server, "{kind}");
        let identifier = [&[0][..], b"c1/lan/eth0"].concat();
        let Some(v4::DhcpOption::ClientIdentifier(id)) = options.get(v4::OptionCode::ClientIdentifier) else {
            panic!()
        };
        assert_eq!(*id, identifier);
        let released = kind == "Release";
        assert_eq!(options.get(v4::OptionCode::ParameterRequestList).is_none(), released);
        assert_eq!(options.get(v4::OptionCode::Hostname).is_none(), released);
        assert_eq!(frame[..6] == [0xff; 6], to_all, "{kind}");
        assert_eq!(frame[30..34] == [0xff; 4], to_all, "{kind}");
        assert!(payload(&frame).len() >= 300);
    }
}

#[test]
fn an_identifier_is_the_references_and_never_too_long() {
    let long = client(&"x".repeat(400), "{}");
    assert_eq!(long.client_id().len(), 255);
    let own = client("c", r#"{"provide": [{"option": "61", "value": "mine"}]}"#);
    assert_eq!(own.client_id(), b"mine");
}

#[test]
fn an_answer_to_somebody_else_is_none() {
    let client = client("c", "{}");
    let good = answer(v4::MessageType::Ack, usual());
    assert!(matches!(read(&client, &good), Ok(Some(_))));
    let frame = server_frame(SERVER, &good.to_vec().unwrap());
    assert_eq!(client.read(&frame, 6, now()), Ok(None), "another transaction");
    let mut other = good.clone();
    other.set_chaddr(&[2, 0, 0, 0, 0, 8]);
    assert_eq!(read(&client, &other), Ok(None), "another interface");
    let mut other = good.clone();
    other.opts_mut().insert(v4::DhcpOption::ClientIdentifier(vec![0, b'd']));
    assert_eq!(read(&client, &other), Ok(None), "another identifier");
    let mut other = good.clone();
    other.set_opcode(v4::Opcode::BootRequest);
    assert_eq!(read(&client, &other), Ok(None), "a request");
    for (byte, what) in [
        (12, "no IPv4"),
        (14, "another version"),
        (20, "a fragment"),
        (23, "no UDP"),
        (24, "a bad checksum"),
        (36, "another port"),
    ] {
        let mut other = frame.clone();
        other[byte] ^= 0x21;
        assert_eq!(client.read(&other, 5, now()), Ok(None), "{what}");
    }
    for length in 0..frame.len() {
        let _ = client.read(&frame[..length], 5, now());
    }
}

#[test]
fn an_answer_of_no_use_says_why() {
    let client = client("c", "{}");
    let complaint = |message: &v4::Message| read(&client, message).unwrap_err();
    let without = |index: usize| {
        let mut options = usual();
        options.remove(index);
        answer(v4::MessageType::Ack, options)
    };
    assert!(complaint(&without(0)).contains("subnet mask"));
    assert!(complaint(&without(1)).contains("lease time"));
    for address in
        [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1)]
    {
        let mut message = answer(v4::MessageType::Offer, usual());
        message.set_yiaddr(address);
        assert!(complaint(&message).contains("not an address for an interface"), "{address}");
    }
    let mut message = answer(v4::MessageType::Ack, usual());
    message.opts_mut().insert(v4::DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)));
    assert!(complaint(&message).contains("is none"));
    let mut message = answer(v4::MessageType::Ack, usual());
    message.opts_mut().remove(v4::OptionCode::ServerIdentifier);
    assert!(complaint(&message).contains("option 54"));
}

#[test]
fn a_refusal_is_given_with_the_servers_words() {
    let mut message = answer(v4::MessageType::Nak, vec![v4::DhcpOption::Message("wrong network".to_owned())]);
    message.set_yiaddr(Ipv4Addr::UNSPECIFIED);
    let Ok(Some(Reply::Refused(why))) = read(&client("c", "{}"), &message) else { panic!() };
    assert_eq!(why, "server 10.9.0.1 refuses it: \"wrong network\"");
}

#[test]
fn a_lease_for_ever_has_no_end() {
    let mut options = usual();
    options[1] = v4::DhcpOption::AddressLeaseTime(u32::MAX);
    let lease = granted(options);
    assert_eq!((lease.renew_at, lease.expires_at), (Time::NEVER, Time::NEVER));
}

#[test]
fn classless_routes_stand_for_the_others() {
    let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
    let routes = |lease: Lease| {
        let text = |route: &cni_spec::Route| match route.gw {
            Some(gateway) => format!("{} via {gateway}", route.dst),
            None => route.dst.to_string(),
        };
        lease.facts.routes.iter().map(text).collect::<Vec<_>>()
    };
    let mut options = usual();
    assert_eq!(routes(granted(options.clone())), ["0.0.0.0/0 via 10.9.0.1"]);
    let pair = |destination: [u8; 4]| (destination.into(), Ipv4Addr::new(10, 9, 0, 2));
    options.push(v4::DhcpOption::StaticRoutingTable(vec![
        pair([10, 0, 0, 0]),
        pair([0, 0, 0, 0]),
        pair([172, 16, 0, 0]),
        pair([192, 0, 2, 0]),
        pair([224, 0, 0, 0]),
    ]));
    assert_eq!(
        routes(granted(options.clone())),
        [
            "10.0.0.0/8 via 10.9.0.2",
            "172.16.0.0/16 via 10.9.0.2",
            "192.0.2.0/24 via 10.9.0.2",
            "0.0.0.0/0 via 10.9.0.1"
        ]
    );
    options.push(v4::DhcpOption::ClasslessStaticRoute(vec![
        (net("198.51.100.128/25"), Ipv4Addr::new(10, 9, 0, 3)),
        (net("10.8.0.0/16"), Ipv4Addr::UNSPECIFIED),
        (net("0.0.0.0/0"), Ipv4Addr::new(10, 9, 0, 4)),
    ]));
    let lease = granted(options);
    assert_eq!(lease.facts.gateway, Some(SERVER.into()));
    assert_eq!(routes(lease), ["198.51.100.128/25 via 10.9.0.3", "10.8.0.0/16", "0.0.0.0/0 via 10.9.0.4"]);
}

#[test]
fn options_in_the_places_of_texts_are_found() {
    // Everything but the overload itself is where the server's name and the file's would be.
    let mut message = answer(v4::MessageType::Ack, Vec::new()).to_vec().unwrap();
    let end = message.iter().rposition(|byte| *byte == 255).unwrap();
    message.splice(end..=end, [52, 1, 3, 255]);
    message[108..122].copy_from_slice(&[1, 4, 255, 255, 0, 0, 51, 4, 0, 0, 0, 60, 255, 0]);
    message[44..52].copy_from_slice(&[0, 3, 4, 10, 9, 0, 9, 255]);
    let reply = client("c", "{}").read(&server_frame(SERVER, &message), 5, now());
    let Ok(Some(Reply::Granted(lease))) = reply else { panic!("{reply:?}") };
    assert_eq!(lease.address.to_string(), "10.9.0.50/16");
    assert_eq!(lease.facts.gateway, Some(Ipv4Addr::new(10, 9, 0, 9).into()));
}

proptest! {
    /// What we write, the other codec reads and writes so that we read it again.
    #[test]
    fn both_codecs_agree(
        transaction in any::<u32>(), elapsed in any::<u16>(), broadcast in any::<bool>(),
        addresses in any::<[u32; 2]>(), mac in any::<[u8; 6]>(),
        lease in any::<u32>(), name in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        let mut options = Options::default();
        options.set(code::MESSAGE_TYPE, [5]);
        options.set(code::LEASE_TIME, lease.to_be_bytes());
        options.set(224, name);
        let message = Message {
            op: Op::Reply, transaction, elapsed, broadcast,
            client: addresses[0].into(), yours: addresses[1].into(),
            hardware: MacAddr::new(mac), options,
        };
        let bytes = message.write();
        prop_assert_eq!(Message::read(&bytes), Some(message.clone()));
        let theirs = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        prop_assert_eq!(theirs.xid(), transaction);
        prop_assert_eq!(theirs.yiaddr(), message.yours);
        prop_assert_eq!(Message::read(&theirs.to_vec().unwrap()), Some(message));
    }

    /// Frames that were read are the ones that were written.
    #[test]
    fn frames_come_through(payload in prop::collection::vec(any::<u8>(), 0..600), padding in 0_usize..30) {
        let mut bytes = server_frame(SERVER, &payload);
        bytes.resize(bytes.len() + padding, 0);
        let frame = Frame::read(&bytes).unwrap();
        prop_assert_eq!((frame.payload, frame.source, frame.source_mac), (&payload[..], SERVER, SERVER_MAC));
    }
}
