//! From the topology to what this node's kernel must hold.

use std::net::IpAddr;

use ipnet::IpNet;

/// The bridge's address in a subnet, which pods send to what is elsewhere: the first one that a host may have.
pub fn gateway(subnet: IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(network) => IpAddr::V4((network.to_bits().saturating_add(1)).into()),
        IpAddr::V6(network) => IpAddr::V6((network.to_bits().saturating_add(1)).into()),
    }
}
