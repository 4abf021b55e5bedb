//! The subnet that follows from an address: its host part is the subnet's index.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay::{NodeName, Pool, Role};

use super::ListedNode;

/// The nodes of a list of addresses.
pub(super) fn nodes(addresses: &[IpAddr], pool: &Pool) -> Result<Vec<ListedNode>, String> {
    let mut owners: BTreeMap<IpNet, IpAddr> = BTreeMap::new();
    let mut found: Vec<ListedNode> = Vec::new();
    for address in addresses {
        let node = node(*address, pool)?;
        if found.iter().any(|other| other.name == node.name) {
            continue;
        }
        for subnet in &node.subnets {
            if let Some(other) = owners.insert(*subnet, *address) {
                return Err(format!(
                    "{subnet} follows from {other} and from {address}: take a larger range, so that more of the address \
                     counts, or the store static"
                ));
            }
        }
        found.push(node);
    }
    Ok(found)
}

fn node(address: IpAddr, pool: &Pool) -> Result<ListedNode, String> {
    let subnet = |range: &overlay::Range| range.subnet(range.derived_index(address));
    Ok(ListedNode {
        id: None,
        name: NodeName::new(&address.to_string().replace([':', '.'], "-").replace("--", "-0-"))?,
        addresses: vec![address],
        subnets: pool.ranges().iter().filter_map(subnet).collect(),
        role: Role::Worker,
        mode: None,
        mtu: None,
    })
}
