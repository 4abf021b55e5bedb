//! Messages (RFC 2131, 2): `dhcproto`'s, and what it leaves to others.
//!
//! Reading never panics, whatever the bytes are; writing cannot fail.

use std::collections::BTreeMap;
use std::ops::Range;

use dhcproto::v4::borrowed::DhcpOptionIterator;
use dhcproto::v4::{
    DhcpOption, DhcpOptions, HType, MAGIC, MIN_PACKET_SIZE, Message, OptionCode, encode_long_opt_bytes,
};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

/// The options of answers that mean something here (RFC 2132; 119: RFC 3397; 121: RFC 3442). `dhcproto` decodes no others:
/// it has assertions about the lengths of some.
const UNDERSTOOD: [OptionCode; 14] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::StaticRoutingTable,
    OptionCode::AddressLeaseTime,
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::Message,
    OptionCode::Renewal,
    OptionCode::Rebinding,
    OptionCode::ClientIdentifier,
    OptionCode::DomainSearch,
    OptionCode::ClasslessStaticRoute,
];

/// Where the fields are.
const SERVER_NAME: Range<usize> = 44..108;
const FILE: Range<usize> = 108..236;
const OPTIONS: usize = 240;

/// `None` if it is not one, or not of a client on Ethernet.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let (fixed, options) = bytes.split_at_checked(OPTIONS)?;
    let mut message = Message::decode(&mut Decoder::new(fixed)).ok()?;
    // The length is also what `chaddr()` believes.
    if message.htype() != HType::Eth || message.hlen() != 6 || !fixed.ends_with(&MAGIC) {
        return None;
    }
    let mut values = BTreeMap::new();
    gather(options, &mut values);
    // The two texts may hold more options (RFC 2132, 9.3).
    let overload = values.get(&OptionCode::OptionOverload).and_then(|value| value.first());
    let overload = overload.copied().unwrap_or(0);
    if overload & 1 != 0 {
        gather(&fixed[FILE], &mut values);
    }
    if overload & 2 != 0 {
        gather(&fixed[SERVER_NAME], &mut values);
    }
    message.set_opts(values.iter().filter_map(|(code, value)| decode(*code, value)).collect());
    Some(message)
}

pub(super) fn write(message: &Message) -> Vec<u8> {
    // Only texts and names can be too long; there are none in what a client says.
    let mut bytes = message.to_vec().unwrap_or_default();
    // Shorter ones are dropped by old relays (RFC 1542, 2.1).
    bytes.resize(bytes.len().max(MIN_PACKET_SIZE), OptionCode::Pad.into());
    bytes
}

/// A message's options, by their numbers: one that is given as bytes `dhcproto` takes for another than the one that it
/// knows by that number, and would write 82 twice.
pub(super) fn options(all: Vec<DhcpOption>) -> DhcpOptions {
    let numbered = |option| (OptionCode::from(u8::from(OptionCode::from(&option))), option);
    all.into_iter().map(numbered).collect()
}

/// Adds what stands there, as far as it makes sense. An option that comes in several pieces is one, also where they are not
/// side by side (RFC 3396).
fn gather(bytes: &[u8], values: &mut BTreeMap<OptionCode, Vec<u8>>) {
    for option in DhcpOptionIterator::new(bytes) {
        values.entry(option.code()).or_default().extend(option.data());
    }
}

/// One option; `None` if it makes no sense, so that it takes no others with it.
fn decode(code: OptionCode, value: &[u8]) -> Option<DhcpOption> {
    if !UNDERSTOOD.contains(&code) {
        return None;
    }
    if code == OptionCode::Message {
        // Words for people, in whatever characters.
        return Some(DhcpOption::Message(String::from_utf8_lossy(value).into_owned()));
    }
    let value = match code {
        // One address; of one that is said twice, the first.
        OptionCode::SubnetMask | OptionCode::ServerIdentifier => value.get(..4)?,
        _ => value,
    };
    let mut whole = Vec::new();
    encode_long_opt_bytes(code, value, &mut Encoder::new(&mut whole)).ok()?;
    DhcpOption::decode(&mut Decoder::new(&whole)).ok()
}
