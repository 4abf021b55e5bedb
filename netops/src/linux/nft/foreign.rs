//! Other programs' chains and rules, as far as they have to be told apart.

use super::element;
use super::expression::{
    NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME,
    NFTA_IMMEDIATE_DATA, NFTA_MATCH_INFO, NFTA_MATCH_NAME, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_LEN,
    NFTA_PAYLOAD_OFFSET, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
};
use super::message::{self, HEADER, NFTA_RULE_HANDLE};
use super::rule::NFTA_RULE_EXPRESSIONS;
use super::transaction::Transaction;
use super::{dump, first_refusal, send};
use crate::error::{Errno, Error, Operation};
use crate::foreign::ForeignChain;
use crate::linux::foreign::Rule;
use crate::linux::netlink::{Datagram, Refusal, attribute, attribute_be32, attributes, text};
use crate::linux::{LinuxKernel, failed, refused};
use crate::place::Place;

/// Which of some chains there are: one datagram, however many.
pub(in crate::linux) fn exist(
    kernel: &mut LinuxKernel,
    place: Place,
    chains: &[&ForeignChain],
    operation: Operation,
) -> Result<Vec<bool>, Error> {
    let mut request = Datagram::default();
    chains.iter().for_each(|chain| message::get_chain(&mut request, chain));
    if request.is_empty() {
        return Ok(Vec::new());
    }
    let replies = kernel.side(place)?.netfilter()?.exchange(&mut request);
    let replies = replies.map_err(|failure| failed(operation, place, "chains of nf_tables", failure))?;
    let exists = |(chain, refusal): (&&ForeignChain, Option<Refusal>)| match refusal {
        None => Ok(true),
        Some(refusal) if refusal.errno == Errno::ENOENT => Ok(false),
        Some(refusal) => Err(refused(operation, place, &format!("chain {chain}"), refusal)),
    };
    chains.iter().zip(replies.into_iter().map(|reply| reply.refusal)).map(exists).collect()
}

/// A chain's rules and their handles; none if there is no such chain.
pub(in crate::linux) fn rules(
    kernel: &mut LinuxKernel,
    place: Place,
    chain: &ForeignChain,
) -> Result<Vec<(u64, Rule)>, Error> {
    let mut request = Datagram::default();
    message::get_rules(&mut request, chain);
    let object = format!("rules of chain {chain}");
    let answers = dump(kernel, place, &mut request, &object)?;
    Ok(answers.iter().filter_map(|body| parse(body)).collect())
}

/// Deletes rules, and then a chain with all that is in it: everything or, if something has gone since it was looked
/// up, nothing. Says whether it is done.
pub(in crate::linux) fn delete(
    kernel: &mut LinuxKernel,
    place: Place,
    rules: &[(ForeignChain, u64)],
    chain: Option<&ForeignChain>,
    object: &str,
) -> Result<bool, Error> {
    let mut transaction = Transaction::default();
    for (chain, handle) in rules {
        transaction.delete_rule(chain, *handle);
    }
    if let Some(chain) = chain {
        transaction.delete_chain(chain);
    }
    match first_refusal(send(kernel, place, transaction, Operation::Remove, object)?, &[]) {
        Ok(()) => Ok(true),
        Err((_, refusal)) if refusal.errno == Errno::ENOENT => Ok(false),
        Err((_, refusal)) => Err(refused(Operation::Remove, place, object, refusal)),
    }
}

/// A rule's handle, and what tells it from others.
pub(in crate::linux) fn parse(body: &[u8]) -> Option<(u64, Rule)> {
    let message = body.get(HEADER..)?;
    let handle = u64::from_be_bytes(attribute(message, NFTA_RULE_HANDLE)?.try_into().ok()?);
    let userdata = attribute(message, NFTA_RULE_USERDATA).unwrap_or_default();
    let mut rule = Rule { comment: element::parse_comment(userdata).map(str::to_owned), ..Rule::default() };
    let (mut loaded, mut address, mut accepted) = (None, None, false);
    for (_, expression) in attributes(attribute(message, NFTA_RULE_EXPRESSIONS).unwrap_or_default()) {
        let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match attribute(expression, NFTA_EXPR_NAME).and_then(text).unwrap_or_default() {
            "payload" => loaded = payload(data),
            "bitwise" => loaded = None,
            "cmp" => address = loaded.take().and_then(|field| compared(data, field)).or(address),
            "immediate" => {
                let verdict = attribute(data, NFTA_IMMEDIATE_DATA).unwrap_or_default();
                let verdict = attribute(verdict, NFTA_DATA_VERDICT).unwrap_or_default();
                accepted |= attribute_be32(verdict, NFTA_VERDICT_CODE) == Some(libc::NF_ACCEPT as u32);
                rule.jump = attribute(verdict, NFTA_VERDICT_CHAIN).and_then(text).map(str::to_owned);
            }
            // What iptables-nft has for `-m comment`: a match of the older iptables, which is 256 bytes of text.
            "match" if attribute(data, NFTA_MATCH_NAME).and_then(text) == Some("comment") => {
                let comment = attribute(data, NFTA_MATCH_INFO).and_then(text);
                rule.comment = rule.comment.or_else(|| comment.map(str::to_owned));
            }
            _ => {}
        }
    }
    rule.accepted = address.filter(|_| accepted);
    Some((handle, rule))
}

/// The version of IP whose source or destination address a `payload` loads, if it loads one.
fn payload(data: &[u8]) -> Option<AddressLength> {
    if attribute_be32(data, NFTA_PAYLOAD_BASE)? != libc::NFT_PAYLOAD_NETWORK_HEADER as u32 {
        return None;
    }
    match (attribute_be32(data, NFTA_PAYLOAD_OFFSET)?, attribute_be32(data, NFTA_PAYLOAD_LEN)?) {
        (12 | 16, 4) => Some(AddressLength::V4),
        (8 | 24, 16) => Some(AddressLength::V6),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressLength {
    V4,
    V6,
}

/// The address that a `cmp` wants the loaded one to be.
fn compared(data: &[u8], length: AddressLength) -> Option<std::net::IpAddr> {
    if attribute_be32(data, NFTA_CMP_OP)? != libc::NFT_CMP_EQ as u32 {
        return None;
    }
    let value = attribute(attribute(data, NFTA_CMP_DATA)?, NFTA_DATA_VALUE)?;
    match length {
        AddressLength::V4 => <[u8; 4]>::try_from(value).ok().map(Into::into),
        AddressLength::V6 => <[u8; 16]>::try_from(value).ok().map(Into::into),
    }
}

const NFTA_RULE_USERDATA: u16 = 7;
