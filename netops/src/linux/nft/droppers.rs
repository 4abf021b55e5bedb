//! Chains on the way of what a node forwards that drop whatever none of their rules lets pass.

use super::{dump, message};
use crate::error::Error;
use crate::foreign::{Family, ForeignChain};
use crate::linux::LinuxKernel;
use crate::linux::netlink::{Datagram, attribute, attribute_be32, text};
use crate::place::Place;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_HOOK_HOOKNUM: u16 = 1;

pub(in crate::linux) fn all(kernel: &mut LinuxKernel, place: Place) -> Result<Vec<ForeignChain>, Error> {
    let mut request = Datagram::default();
    message::get_chains(&mut request);
    let answers = dump(kernel, place, &mut request, "chains of nf_tables")?;
    Ok(answers.iter().filter_map(|body| dropper(body)).collect())
}

/// The chain that a message tells of, if it is such.
fn dropper(body: &[u8]) -> Option<ForeignChain> {
    let family = match i32::from(*body.first()?) {
        libc::NFPROTO_IPV4 => Family::Ipv4,
        libc::NFPROTO_IPV6 => Family::Ipv6,
        libc::NFPROTO_INET => Family::Inet,
        _ => return None,
    };
    let chain = message::content(body);
    let hook = attribute_be32(attribute(chain, NFTA_CHAIN_HOOK)?, NFTA_HOOK_HOOKNUM)?;
    let policy = attribute_be32(chain, NFTA_CHAIN_POLICY)?;
    if hook != libc::NF_INET_FORWARD as u32 || policy != libc::NF_DROP as u32 {
        return None;
    }
    let name = |kind: u16| attribute(chain, kind).and_then(text);
    Some(ForeignChain::new(family, name(NFTA_CHAIN_TABLE)?, name(NFTA_CHAIN_NAME)?))
}
