//! What is written and read, beside another implementation of the codec (`dhcproto`).

use cni_spec::{CniArgs, NetworkConfig};
use dhcproto::{Decodable, Decoder, Encodable, v6};
use netops::MacAddr;

use super::*;

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
