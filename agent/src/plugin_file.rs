//! What the plugin is told, and the runtime: two small files.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netops::LinkName;
use overlay::{NodeId, Pod, Pool, SubnetState, View};
use plugin_overlay::{Assigned, Duplicate, NodeFile};

/// What follows for new pods from what is known.
pub(crate) fn node_file(
    id: NodeId,
    bridge: &LinkName,
    pool: &Pool,
    mtu: u32,
    view: &View,
    cut_off: Option<String>,
) -> NodeFile {
    let subnets = assigned(id, view);
    // A pod needs an address of each family.
    let lacks = pool.lacking(&view.subnets).next().is_some();
    let why = || view.waiting.clone().unwrap_or_else(|| "the agent has just been started".to_owned());
    let waiting = lacks.then(why);
    NodeFile {
        node: id.to_string(),
        bridge: bridge.to_string(),
        mtu,
        subnets,
        cluster: pool.ranges().iter().map(|range| range.cluster).collect(),
        waiting,
        cut_off,
        duplicates: duplicates(id, view),
    }
}

/// The subnets for new pods: those that the node got first of each family come first, so that they are filled first.
fn assigned(id: NodeId, view: &View) -> Vec<Assigned> {
    let held = view.subnets.iter().filter(|subnet| subnet.state == SubnetState::Held);
    let held: Vec<IpNet> = held.map(|subnet| subnet.prefix).collect();
    let mut seen = [false; 2];
    let (first, more): (Vec<IpNet>, Vec<IpNet>) = held.into_iter().partition(|prefix| {
        let family = usize::from(prefix.addr().is_ipv6());
        seen.get_mut(family).is_some_and(|seen| !std::mem::replace(seen, true))
    });
    let assign = |subnet: IpNet| {
        let gateway = address(subnet, 1);
        Assigned { subnet, gateway, first: address(subnet, begin(id, subnet)) }
    };
    first.into_iter().chain(more).map(assign).collect()
}

/// Where in a subnet allocation begins: elsewhere than on the other nodes, so that if two of them ever held it, their pods
/// would still have different addresses. Neither the network's own address (0), nor the gateway's (1), nor the last.
fn begin(id: NodeId, subnet: IpNet) -> u64 {
    let host_bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let usable = (1_u64 << host_bits.min(62)).saturating_sub(3).max(1);
    2 + id.spread() % usable
}

fn address(subnet: IpNet, offset: u64) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(first) => IpAddr::from(std::net::Ipv4Addr::from_bits(
            first.to_bits().wrapping_add(u32::try_from(offset).unwrap_or(1)),
        )),
        IpAddr::V6(first) => {
            IpAddr::from(std::net::Ipv6Addr::from_bits(first.to_bits().wrapping_add(u128::from(offset))))
        }
    }
}

/// Addresses of pods here that pods elsewhere have too. All pods of all nodes are gone through, at each change of any: what
/// is looked up is the few of this node.
fn duplicates(id: NodeId, view: &View) -> Vec<Duplicate> {
    let own = view.topology.get(&id).map(|member| &member.node.pods).into_iter().flatten();
    let own: BTreeSet<IpAddr> = own.flat_map(Pod::addresses).copied().collect();
    if own.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for peer in view.topology.peers(&id) {
        for pod in &peer.node.pods {
            for address in pod.addresses().iter().filter(|address| own.contains(address)) {
                let other = format!("pod {pod} on node {}", peer.node.name);
                found.push(Duplicate { address: *address, other });
            }
        }
    }
    found.sort_by(|one, other| (one.address, &one.other).cmp(&(other.address, &other.other)));
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use overlay::{Liveness, Machine, Mode, Node, NodeName, Range, Role, Subnet, Topology};

    use super::*;

    fn pool() -> Pool {
        Pool::new(vec![Range { cluster: "10.244.0.0/16".parse().unwrap(), subnet_length: 24 }]).unwrap()
    }

    fn held(prefix: &str) -> Subnet {
        Subnet { prefix: prefix.parse().unwrap(), state: SubnetState::Held }
    }

    fn node(n: u8, pods: &[&str]) -> Arc<Node> {
        let pod = |address: &&str| {
            Pod::new("c", "eth0", [address.parse().unwrap()])
                .named(Some("default"), Some(&format!("web-{n}")))
        };
        Arc::new(Node {
            id: NodeId::from_bytes([n; 16]),
            name: NodeName::new(&format!("n{n}")).unwrap(),
            addresses: vec![],
            subnets: vec![],
            role: Role::Worker,
            mode: Mode::Auto,
            tunnel: None,
            mtu: 1500,
            machine: Machine::default(),
            pods: pods.iter().map(pod).collect(),
        })
    }

    fn file(view: &View) -> NodeFile {
        let bridge = LinkName::new("cnikit-pods").unwrap();
        node_file(NodeId::from_bytes([1; 16]), &bridge, &pool(), 1450, view, None)
    }

    #[test]
    fn the_gateway_is_the_first_address_and_pods_begin_where_others_do_not() {
        let subnets =
            vec![held("10.244.7.0/24"), held("10.244.9.0/24"), held("fd00::/64"), held("10.244.8.0/30")];
        let view = View { subnets, ..View::default() };
        let found = file(&view).subnets;
        let order: Vec<_> = found.iter().map(|assigned| assigned.subnet.to_string()).collect();
        assert_eq!(order, ["10.244.7.0/24", "fd00::/64", "10.244.9.0/24", "10.244.8.0/30"]);
        assert_eq!(found[0].gateway.to_string(), "10.244.7.1");
        assert_eq!(found[1].gateway.to_string(), "fd00::1");
        assert_eq!(found[3].first.to_string(), "10.244.8.2");
        for assigned in &found {
            assert!(assigned.subnet.contains(&assigned.first) && assigned.first != assigned.gateway);
        }
        let starts: std::collections::BTreeSet<u64> = (0..50_u8)
            .map(|n| {
                begin(
                    NodeId::from_bytes([
                        n.wrapping_mul(37),
                        1,
                        2,
                        3,
                        n,
                        5,
                        6,
                        7,
                        8,
                        9,
                        n,
                        11,
                        12,
                        13,
                        14,
                        15,
                    ]),
                    "10.0.0.0/24".parse().unwrap(),
                )
            })
            .collect();
        assert!(starts.len() > 30 && starts.iter().all(|start| (2..=254).contains(start)), "{starts:?}");
    }

    #[test]
    fn a_subnet_that_is_not_held_is_not_for_pods() {
        let subnet = |state| Subnet { prefix: "10.244.7.0/24".parse().unwrap(), state };
        let view = View {
            subnets: vec![subnet(SubnetState::Tentative), subnet(SubnetState::Lost)],
            waiting: Some("seeds do not answer".to_owned()),
            ..View::default()
        };
        let file = file(&view);
        assert_eq!(file.subnets, []);
        assert_eq!(file.waiting.as_deref(), Some("seeds do not answer"));
        assert!(super::tests::file(&View::default()).waiting.is_some());
    }

    #[test]
    fn why_one_family_is_missing_is_told() {
        let range = |cluster: &str, subnet_length| Range { cluster: cluster.parse().unwrap(), subnet_length };
        let pool = Pool::new(vec![range("10.244.0.0/16", 24), range("fd00::/48", 64)]).unwrap();
        let bridge = LinkName::new("cnikit-pods").unwrap();
        let told = |subnets: Vec<Subnet>| {
            let waiting = Some("fd00::/48 has no free prefix".to_owned());
            let view = View { subnets, waiting, ..View::default() };
            node_file(NodeId::from_bytes([1; 16]), &bridge, &pool, 1450, &view, None).waiting
        };
        assert!(told(vec![held("10.244.7.0/24")]).unwrap().contains("no free prefix"));
        assert_eq!(told(vec![held("10.244.7.0/24"), held("fd00:0:0:7::/64")]), None);
    }

    #[test]
    fn what_another_pod_has_too_is_told_by_name() {
        let mut topology = Topology::new();
        topology.insert(node(1, &["10.244.7.5", "10.244.7.6"]), Liveness::Alive);
        topology.insert(node(2, &["10.244.7.5"]), Liveness::Alive);
        topology.insert(node(3, &["10.244.7.9"]), Liveness::Alive);
        topology.insert(node(4, &["10.244.7.9"]), Liveness::Alive);
        let view = View { topology: Arc::new(topology), ..View::default() };
        let other = "pod default/web-2 on node n2".to_owned();
        assert_eq!(file(&view).duplicates, [Duplicate { address: "10.244.7.5".parse().unwrap(), other }]);
    }
}
