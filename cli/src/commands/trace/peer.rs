//! What the agent knows of the other side.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cni_spec::NetworkName;
use overlay::report::{Map, MapNode, Way};
use overlay::{Conflict, Topology};
use plugin_overlay::{DIRECTORY, NodeFile};

use super::facts::Peer;

/// The other node that an address belongs to.
pub(super) fn of(map: &Map, to: IpAddr) -> Option<Peer> {
    let topology = topology(map);
    let (member, pod) = topology.locate(to)?;
    if member.node.id == map.node {
        return None;
    }
    let found = map.nodes.iter().find(|node| node.node.id == member.node.id)?;
    let router = match found.path.as_ref().map(|path| path.way) {
        Some(Way::Router { router }) => map.nodes.iter().find(|node| node.node.id == router),
        _ => None,
    };
    Some(Peer {
        name: found.node.name.to_string(),
        liveness: found.liveness,
        addresses: found.node.addresses.clone(),
        subnet: found.node.held().find(|subnet| subnet.contains(&to)),
        bridge: map.bridge.clone(),
        pod: pod.map(|pod| (pod.to_string(), pod.interface().to_owned())),
        path: found.path.clone(),
        router: router.map(|node: &MapNode| (node.node.name.to_string(), node.node.addresses.clone())),
    })
}

/// The name of the pod that has an address.
pub(super) fn pod_name(map: Option<&Map>, address: IpAddr) -> Option<String> {
    topology(map?).locate(address)?.1.map(ToString::to_string)
}

/// Whether an address is of the range of all nodes' pods: as the file for the plugin has it, else as nodes' subnets are.
pub(super) fn is_in_cluster(map: &Map, address: IpAddr) -> bool {
    let network = map.network.parse::<NetworkName>().ok();
    let file = network.and_then(|network| NodeFile::read(Path::new(DIRECTORY), &network).ok());
    let in_range = file.is_some_and(|file| file.cluster.iter().any(|range| range.contains(&address)));
    in_range || map.nodes.iter().any(|node| node.node.held().any(|subnet| subnet.contains(&address)))
}

/// Who else has one of two addresses, for people.
pub(super) fn duplicates(map: &Map, source: Option<IpAddr>, to: IpAddr) -> Vec<String> {
    let name = |id: &overlay::NodeId| {
        let found = map.nodes.iter().find(|node| node.node.id == *id);
        found.map_or_else(|| id.to_string(), |node| node.node.name.to_string())
    };
    let told = |conflict: &Conflict| match conflict {
        Conflict::Address { address, first, second } if Some(*address) == source || *address == to => {
            Some(format!(
                "{address} is two pods': {} on {}, and {} on {}",
                first.1,
                name(&first.0),
                second.1,
                name(&second.0)
            ))
        }
        _ => None,
    };
    map.conflicts.iter().filter_map(told).collect()
}

fn topology(map: &Map) -> Topology {
    let mut topology = Topology::new();
    for node in &map.nodes {
        topology.insert(Arc::new(node.node.clone()), node.liveness);
    }
    topology
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_found_with_its_node_and_pod() {
        let map = fixtures::map();
        let peer = of(&map, address("10.244.3.2")).unwrap();
        assert_eq!(
            (peer.name.as_str(), peer.pod),
            ("n3", Some(("default/db-2".to_owned(), "eth0".to_owned())))
        );
        assert_eq!(of(&map, address("10.244.3.9")).unwrap().pod, None);
        assert_eq!(of(&map, address("10.1.0.13")).unwrap().subnet, None);
        assert_eq!(of(&map, address("10.244.1.2")), None, "this node is no peer");
        assert_eq!(of(&map, address("8.8.8.8")), None);
        assert!(is_in_cluster(&map, address("10.244.2.77")) && !is_in_cluster(&map, address("8.8.8.8")));
    }

    #[test]
    fn duplicates_are_told_of_those_who_are_asked_about() {
        let mut map = fixtures::map();
        let pod = |node: usize| Box::new(map.nodes[node].node.pods[0].clone());
        map.conflicts = vec![Conflict::Address {
            address: address("10.244.1.2"),
            first: (fixtures::id(1), pod(0)),
            second: (fixtures::id(2), pod(1)),
        }];
        let told = duplicates(&map, Some(address("10.244.1.2")), address("10.244.3.2"));
        assert_eq!(told, ["10.244.1.2 is two pods': default/web-1 on n1, and default/db-1 on n2"]);
        assert!(duplicates(&map, None, address("10.244.3.2")).is_empty());
    }
}
