//! The CNI plugin `overlay`: a container is plugged into the bridge of a network that spans nodes.
//!
//! ```text
//!   container                   host                                                             other nodes
//!   eth0 10.244.3.9/24  ━━━━━━  veth…  ── bridge 10.244.3.1/24 ── routes, tunnels: the agent's ── 10.244.0.0/16
//! ```
//!
//! An overlay node is a bridge plus routes. The bridge is plugin [`bridge`](plugin_bridge)'s; [`Overlay::plan`] asks it for its
//! plan. The routes to other nodes are the agent's, and so is the subnet of this one, which the plugin reads in a small
//! file, [`NodeFile`]. That is all they have to do with one another: an `ADD` and a `DEL` never wait for the agent, and
//! work while it is dead.
//!
//! | command | the file |
//! | --- | --- |
//! | `ADD` | is read; without a subnet in it the runtime is told to try again later |
//! | `DEL`, `GC` | is not looked at: leases are found by their owner, whatever subnet they are of |
//! | `CHECK` | may say that an address is another pod's as well |
//! | `STATUS` | is read: no subnet, or no other node within reach |

mod addresses;
mod config;
mod node_file;
mod socket;

pub use addresses::{data_dir, supply};
pub use config::Config;
pub use node_file::{Assigned, DIRECTORY, Duplicate, NodeFile, NodeFileError};

use cni_spec::{Error, NetworkConfig};
use netops::{Kernel, LinkName, MacAddr, OtherAddresses};
use plugin_bridge::{Bridge, Gateway, Reflection};
use plugin_kit::ipam::Manager;
use plugin_kit::{Addressing, Attach, Attachment, Request};

use crate::addresses::Addresses;
use crate::socket::Socket;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overlay;

impl Attach for Overlay {
    type Config = Config;

    const TYPE: &'static str = "overlay";
    const ABOUT: &'static str =
        concat!("cnikit overlay ", env!("CARGO_PKG_VERSION"), ": containers on a network that spans nodes");
    const ADDRESSING: Addressing = Addressing::Own;

    fn plan(&self, request: &Request<'_, Config>, kernel: &mut dyn Kernel) -> Result<Attachment, Error> {
        let config = &request.config;
        let socket = match Socket::recorded(request) {
            Some(socket) => socket,
            None => {
                let socket = Socket::of(&addresses::read(config, &request.owner.network)?)?;
                Socket { mtu: config.mtu.or(socket.mtu), ..socket }
            }
        };
        let bridge = plugin_bridge::Config {
            bridge: socket.bridge,
            bridge_mac: socket.mac,
            gateway: if config.default_route { Gateway::DefaultRoute } else { Gateway::Address },
            // A node's subnet may change while pods of the old one live on: the bridge is the gateway of both.
            other_addresses: OtherAddresses::Welcome,
            // The agent masquerades for the node as a whole.
            masquerade: false,
            mtu: socket.mtu,
            reflection: if config.hairpin { Reflection::Hairpin } else { Reflection::None },
            vlans: None,
            check_spoofing: config.check_spoofing,
            detect_duplicates: false,
            interface_down: false,
            isolated: config.isolated,
        };
        Bridge.plan(&request.with_config(bridge), kernel)
    }

    fn manager(&self, _: &NetworkConfig) -> Result<Option<Box<dyn Manager>>, Error> {
        Ok(Some(Box::new(Addresses::new())))
    }
}

/// The MAC address of a network's bridge on a node, whose id is as [`NodeFile::node`] has it. Plugin and agent make the
/// same bridge, whichever comes first; and should it be deleted and made again, it is whom pods remember.
///
/// Locally administered; each node's is another, so that two bridges may meet on a segment.
pub fn bridge_mac(node: &str, bridge: &LinkName) -> MacAddr {
    let [a, b, c, d, e, ..] =
        plugin_kit::derived_number(&["bridge MAC", node, bridge.as_str()]).to_be_bytes();
    MacAddr::new([0x02, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridges_mac_address_is_its_nodes_for_ever() {
        let bridge = LinkName::new("cnikit0").unwrap();
        let mac = bridge_mac("0123456789abcdef0123456789abcdef", &bridge);
        assert_eq!(mac.to_string(), "02:a6:b9:76:b7:a0");
        assert!(mac.is_unicast());
        assert_ne!(mac, bridge_mac("0123456789abcdef0123456789abcdee", &bridge));
        assert_ne!(mac, bridge_mac("0123456789abcdef0123456789abcdef", &LinkName::new("cnikit1").unwrap()));
    }
}
