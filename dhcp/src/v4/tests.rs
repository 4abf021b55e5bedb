//! What is written and read: byte by byte, and in the words of `dhcproto`.

use cni_spec::{CniArgs, NetworkConfig};
use dhcproto::{Decodable, Decoder, Encodable, v4};
use proptest::prelude::*;

use super::testing::{payload, server_frame};
use super::*;
use crate::codec::recorded;

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

/// What is granted if these bytes stand between the usual options, without a router, and the end.
fn granted_with(bytes: &[u8]) -> Lease {
    let mut message = answer(v4::MessageType::Ack, usual().into_iter().take(2).collect()).to_vec().unwrap();
    let end = message.len() - 1;
    message.splice(end..end, bytes.iter().copied());
    match client("c", "{}").read(&server_frame(SERVER, &message), 5, now()) {
        Ok(Some(Reply::Granted(lease))) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exchange_with_dnsmasq_is_the_recorded_one_byte_by_byte() {
    let recorded = recorded(include_str!("dnsmasq.txt"));
    let [discover, offer, request, ack, renew, renewed, release] = &recorded[..] else { panic!() };
    let client = client(
        "c1/lan/eth0",
        r#"{"request": [{"option": "6"}, {"option": "119"}, {"option": "121"}],
            "provide": [{"option": "host-name", "value": "web"}]}"#,
    );
    let ask = |ask: Ask<'_>| client.write(ask, 5, Duration::from_secs(3));
    let read = |frame: &[u8]| client.read(frame, 5, now()).unwrap().unwrap();
    assert_eq!(ask(Ask::Seek), *discover);
    let Reply::Offer(offer) = read(offer) else { panic!() };
    assert_eq!(ask(Ask::Request(&offer)), *request);
    let Reply::Granted(lease) = read(ack) else { panic!() };
    assert_eq!(ask(Ask::Renew(&lease)), *renew);
    let Reply::Granted(longer) = read(renewed) else { panic!() };
    assert_eq!(ask(Ask::Release(&longer)), *release);

    assert_eq!(lease.address.to_string(), "10.9.0.50/24");
    assert_eq!(lease.server, Server::V4 { address: SERVER, mac: SERVER_MAC });
    let after = |seconds| now() + Duration::from_secs(seconds);
    assert_eq!((lease.renew_at, lease.rebind_at, lease.expires_at), (after(1800), after(3150), after(3600)));
    let facts = &lease.facts;
    assert_eq!((facts.gateway, &facts.dns.nameservers), (Some(SERVER.into()), &vec!["10.9.0.53".to_owned()]));
    assert_eq!(facts.dns.search, ["eng.example.com", "example.com"]);
    let routes: Vec<_> = facts.routes.iter().map(|route| (route.dst.to_string(), route.gw)).collect();
    let via = |host| Some(Ipv4Addr::new(10, 9, 0, host).into());
    assert_eq!(routes, [("10.8.0.0/16".to_owned(), via(2)), ("0.0.0.0/0".to_owned(), via(1))]);
    assert_eq!((longer.address, &longer.facts), (lease.address, facts));
}

#[test]
fn an_option_of_any_number_is_written_once_and_as_it_is_given() {
    let client =
        client("c", r#"{"provide": [{"option": "82", "value": "x"}, {"option": "12", "value": "y"}]}"#);
    let frame = client.write(Ask::Seek, 5, Duration::ZERO);
    let options = payload(&frame)[240..].to_vec();
    let times = |wanted: &[u8]| options.windows(3).filter(|option| *option == wanted).count();
    assert_eq!((times(&[82, 1, b'x']), times(&[12, 1, b'y'])), (1, 1), "{options:?}");
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
fn an_option_that_makes_no_sense_takes_no_other_with_it() {
    // A router's half, and what dhcproto has assertions about: 80, 81, 94, 151 and 152 have other lengths; 116 another value.
    let nonsense = [3, 2, 10, 9, 80, 1, 1, 81, 1, 0, 94, 1, 1, 151, 0, 152, 1, 0, 116, 1, 9, 51, 0];
    let lease = granted_with(&[&nonsense[..], &[6, 4, 10, 9, 0, 2]].concat());
    assert_eq!((lease.facts.gateway, &lease.facts.dns.nameservers[..]), (None, &["10.9.0.2".to_owned()][..]));
    // A length that leads past the end is the end.
    assert_eq!(granted_with(&[6, 4, 10, 9, 0, 2, 15, 200, b'a']).facts.dns.domain, None);
    assert_eq!(granted_with(&[15, 2, 0xff, b'a']).facts.dns.domain, None, "no text");
    assert_eq!(granted_with(&[1, 4, 255, 255, 0, 0]).address.prefix_len(), 24, "a mask that is said twice");
}

#[test]
fn names_are_read_with_pointers_and_harmful_ones_left_out() {
    let search = |names: &[u8]| granted_with(&[&[119, names.len() as u8], names].concat()).facts.dns.search;
    assert_eq!(
        search(b"\x03eng\x07example\x03com\x00\x05sales\xc0\x04\xc0\x00"),
        ["eng.example.com", "sales.example.com", "eng.example.com"]
    );
    // A pointer in a circle is the end; backwards every time, and still around, too.
    assert_eq!(search(b"\x01a\x00\xc0\x03"), ["a"]);
    assert_eq!(search(b"\xc0\x00"), [""; 0]);
    assert_eq!(search(b"\x01a\xc0\x00"), [""; 0]);
    assert_eq!(search(b"\x0aa\nnameserv\x00\x01b\x00"), ["b"]);
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
    /// However an option is cut, and whatever stands between its pieces, it is one (RFC 3396).
    #[test]
    fn an_option_in_pieces_is_whole(
        servers in prop::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 1..90),
        size in 1_usize..=255, between in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let bytes: Vec<u8> = servers.iter().flat_map(Ipv4Addr::octets).collect();
        let mut pieces = Vec::new();
        for piece in bytes.chunks(size) {
            pieces.extend([6, piece.len() as u8]);
            pieces.extend(piece);
            pieces.extend([0, 224, between.len() as u8]);
            pieces.extend(&between);
        }
        let lease = granted_with(&pieces);
        let there: Vec<_> = servers.iter().map(Ipv4Addr::to_string).collect();
        prop_assert_eq!(lease.facts.dns.nameservers, there);
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
