//! Rules of the routing policy: `RTM_NEWRULE`, `RTM_GETRULE`, `RTM_DELRULE` (`linux/fib_rules.h`).

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage::{DelRule, GetRule, NewRule};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage};

use super::address::parse_ip;
use crate::linux::netlink::{Datagram, attribute, attributes, get_u32};
use crate::resource::{IpVersion, Rule, Selector};

/// Length of `struct fib_rule_hdr`.
const HEADER: usize = 12;
/// `FRA_*`, which the C library's headers lack.
const SOURCE: u16 = 2;
const PRIORITY: u16 = 6;
const MARK: u16 = 10;
const SUPPRESSED_GROUP: u16 = 13;
const SUPPRESSED_LENGTH: u16 = 14;
const TABLE: u16 = 15;
const MASK: u16 = 16;
const PROTOCOL: u16 = 21;
/// A rule that suppresses nothing has this for the longest prefix that it suppresses.
const NOTHING: u32 = u32::MAX;

/// Adds a rule.
pub(in crate::linux) fn create(datagram: &mut Datagram, rule: &Rule) {
    let message = message(rule);
    datagram.request(libc::NLM_F_CREATE | libc::NLM_F_EXCL, &NewRule(message));
}

/// Removes a rule: the first that has all that is said.
pub(in crate::linux) fn delete(datagram: &mut Datagram, rule: &Rule) {
    datagram.request(0, &DelRule(message(rule)));
}

fn message(rule: &Rule) -> RuleMessage {
    let version = match rule.selector.version() {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    };
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: version,
        // Tables past what the field holds are in an attribute.
        table: u8::try_from(rule.table).unwrap_or_default(),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    let attributes = &mut message.attributes;
    match rule.selector {
        Selector::From(from) if from.prefix_len() > 0 => {
            message.header.src_len = from.prefix_len();
            attributes.push(RuleAttribute::Source(from.trunc().addr()));
        }
        Selector::From(_) => {}
        Selector::Mark { mark, mask, .. } => {
            attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
        }
    }
    attributes.extend(rule.priority.map(RuleAttribute::Priority));
    if u8::try_from(rule.table).is_err() {
        attributes.push(RuleAttribute::Table(rule.table));
    }
    message
}

/// Asks for all rules, of both families: of one that the kernel does not have there are none.
pub(in crate::linux) fn get(datagram: &mut Datagram) {
    datagram.request(0, &GetRule(RuleMessage::default()));
}

/// The rule that a message tells of, if it looks at nothing but where a packet comes from, or at nothing but its mark.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<Rule> {
    let header = RuleHeader::parse(body).ok()?;
    let table = table(body)?;
    let details = body.get(HEADER..)?;
    let is_plain = |(kind, value): (u16, &[u8])| match kind {
        SOURCE | PRIORITY | TABLE | PROTOCOL | MARK | MASK => true,
        SUPPRESSED_GROUP | SUPPRESSED_LENGTH => get_u32(value, 0) == Some(NOTHING),
        _ => false,
    };
    let other_header = header.dst_len != 0 || header.tos != 0 || header.flags.contains(RuleFlags::Invert);
    if other_header || !attributes(details).all(is_plain) {
        return None;
    }
    let number = |kind| attribute(details, kind).and_then(|value| get_u32(value, 0));
    let selector = match (header.family, attribute(details, SOURCE), number(MARK)) {
        (AddressFamily::Inet, None, None) => Selector::From(IpNet::V4(Ipv4Net::default())),
        (AddressFamily::Inet6, None, None) => Selector::From(IpNet::V6(Ipv6Net::default())),
        (_, Some(address), None) => Selector::From(IpNet::new(parse_ip(address)?, header.src_len).ok()?),
        (family, None, Some(mark)) => Selector::Mark {
            mark,
            mask: number(MASK).unwrap_or(u32::MAX),
            version: if family == AddressFamily::Inet { IpVersion::V4 } else { IpVersion::V6 },
        },
        _ => return None,
    };
    let priority = attribute(details, PRIORITY).map_or(Some(0), |value| get_u32(value, 0))?;
    Some(Rule { selector, table, priority: Some(priority) })
}

/// The table that a rule leads to, whatever it looks at.
pub(in crate::linux) fn table(body: &[u8]) -> Option<u32> {
    let header = RuleHeader::parse(body).ok()?;
    let of_ip = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    let named = attribute(body.get(HEADER..)?, TABLE).and_then(|value| get_u32(value, 0));
    let table = named.unwrap_or_else(|| header.table.into());
    (of_ip && header.action == RuleAction::ToTable && table != 0).then_some(table)
}
