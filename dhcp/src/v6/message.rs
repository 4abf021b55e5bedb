//! Messages (RFC 8415, 8 and 21): `dhcproto`'s, taken apart here, as some of the options hold options.
//!
//! Reading never panics, whatever the bytes are; writing cannot fail.
//!
//! `dhcproto` ends reading at the first option that makes no sense to it, may read beyond an option's end, and goes as deep as
//! options are nested. So options are found here, where they may stand, and it is given one at a time.

use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, IANA, Message, OptionCode, StatusCode};
use dhcproto::{Decodable, Decoder, Encodable};

/// The options that mean something in an answer (RFC 8415, 21; 23 and 24: RFC 3646).
const IN_MESSAGE: &[OptionCode] = &[
    OptionCode::ClientId,
    OptionCode::ServerId,
    OptionCode::IANA,
    OptionCode::Preference,
    OptionCode::StatusCode,
    OptionCode::DomainNameServers,
    OptionCode::DomainSearchList,
];
/// ... in an IA_NA ...
const IN_ASSOCIATION: &[OptionCode] = &[OptionCode::IAAddr, OptionCode::StatusCode];
/// ... and in an address of it.
const IN_ADDRESS: &[OptionCode] = &[OptionCode::StatusCode];

/// Bytes of a message, an option, an IA_NA and an address before what they hold.
const HEADER: usize = 4;
const OPTION: usize = 4;
const ASSOCIATION: usize = 12;
const ADDRESS: usize = 24;

/// The bits of a transaction.
pub(super) const TRANSACTION: u32 = 0xff_ffff;

/// `None` if it is not one.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let mut message = Message::decode(&mut Decoder::new(header)).ok()?;
    message.set_opts(options(rest, IN_MESSAGE));
    Some(message)
}

pub(super) fn write(message: &Message) -> Vec<u8> {
    // Only names can be too long; there are none in what a client says.
    message.to_vec().unwrap_or_default()
}

/// The options that are understood there, each one that makes sense.
fn options(mut bytes: &[u8], understood: &[OptionCode]) -> DhcpOptions {
    let next = || {
        let mut header = Decoder::new(bytes);
        let code = OptionCode::from(header.read_u16().ok()?);
        let length = usize::from(header.read_u16().ok()?);
        let (option, rest) = bytes.split_at_checked(OPTION + length)?;
        bytes = rest;
        Some((code, option))
    };
    let all = std::iter::from_fn(next).filter(|(code, _)| understood.contains(code));
    all.filter_map(|(code, option)| decode(code, option)).collect()
}

/// One option, with its header.
fn decode(code: OptionCode, option: &[u8]) -> Option<DhcpOption> {
    let value = option.get(OPTION..)?;
    Some(match code {
        OptionCode::IANA => {
            let (fixed, rest) = value.split_at_checked(ASSOCIATION)?;
            let association = IANA::decode(&mut Decoder::new(fixed)).ok()?;
            DhcpOption::IANA(IANA { opts: options(rest, IN_ASSOCIATION), ..association })
        }
        OptionCode::IAAddr => {
            let (fixed, rest) = value.split_at_checked(ADDRESS)?;
            let address = IAAddr::decode(&mut Decoder::new(fixed)).ok()?;
            DhcpOption::IAAddr(IAAddr { opts: options(rest, IN_ADDRESS), ..address })
        }
        OptionCode::StatusCode => {
            let (status, text) = value.split_first_chunk::<2>()?;
            // Words for people, in whatever characters: the number counts also without them.
            let msg = String::from_utf8_lossy(text).into_owned();
            DhcpOption::StatusCode(StatusCode { status: u16::from_be_bytes(*status).into(), msg })
        }
        _ => DhcpOption::decode(&mut Decoder::new(option)).ok()?,
    })
}
