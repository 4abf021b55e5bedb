//! What a picture shows: nodes, and the ways between them, whoever told of them.

use std::collections::BTreeMap;

use overlay::report::{Map, MapNode, Way};
use overlay::{Liveness, Mode, NodeId, Role, SubnetState};

/// What a picture shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(super) network: String,
    pub(super) bridge: String,
    pub(super) nodes: Vec<SceneNode>,
    pub(super) links: Vec<Link>,
    /// How many things two nodes say that only one can.
    pub(super) conflicts: usize,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SceneNode {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) subnets: Vec<String>,
    /// Names and addresses.
    pub(super) pods: Vec<(String, String)>,
    pub(super) role: Role,
    pub(super) liveness: Liveness,
    /// It is the one that tells this; the only one that does.
    pub(super) is_here: bool,
}

/// A way between two nodes, by their places in [`Scene::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: Kind,
    /// It is so in the other direction too, as far as is known.
    pub(super) mutual: bool,
}

/// What packets do on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Tunnel,
    Route,
    /// It leads to the node that passes on what others send to one another.
    Router,
    /// They do not get there.
    None,
}

impl Scene {
    /// What one agent tells, or several agents of one network.
    pub(crate) fn of(maps: &[Map]) -> Self {
        let mut nodes: BTreeMap<NodeId, (usize, &MapNode)> = BTreeMap::new();
        for node in maps.iter().flat_map(|map| &map.nodes) {
            let next = nodes.len();
            nodes.entry(node.node.id).or_insert((next, node));
        }
        let mut ordered: Vec<_> = nodes.values().copied().collect();
        ordered.sort_by_key(|(place, _)| *place);
        let teller = if let [only] = maps { Some(only.node) } else { None };
        Self {
            network: maps.first().map(|map| map.network.clone()).unwrap_or_default(),
            bridge: maps.first().map(|map| map.bridge.clone()).unwrap_or_default(),
            nodes: ordered.iter().map(|(_, node)| scene_node(node, teller)).collect(),
            links: links(maps, &nodes),
            conflicts: maps.iter().map(|map| map.conflicts.len()).max().unwrap_or(0),
        }
    }
}

fn scene_node(node: &MapNode, teller: Option<NodeId>) -> SceneNode {
    let it = &node.node;
    let first_address =
        |pod: &overlay::Pod| pod.addresses().first().map(ToString::to_string).unwrap_or_default();
    let subnets = it.subnets.iter().map(|subnet| match subnet.state {
        SubnetState::Held => subnet.prefix.to_string(),
        SubnetState::Tentative => format!("{} ?", subnet.prefix),
        SubnetState::Lost => format!("{} lost", subnet.prefix),
    });
    let mut pods: Vec<_> = it.pods.iter().map(|pod| (pod.to_string(), first_address(pod))).collect();
    pods.sort();
    SceneNode {
        name: it.name.to_string(),
        addresses: it.addresses.iter().map(ToString::to_string).collect(),
        subnets: subnets.collect(),
        pods,
        role: it.role,
        liveness: node.liveness,
        is_here: teller == Some(it.id),
    }
}

/// The ways that agents tell of, and those that follow from how nodes were told to reach others; each pair's both
/// directions as one link, if they are alike or one is not known.
fn links(maps: &[Map], nodes: &BTreeMap<NodeId, (usize, &MapNode)>) -> Vec<Link> {
    let mut directed: BTreeMap<(usize, usize), Kind> = BTreeMap::new();
    let place = |id: &NodeId| nodes.get(id).map(|(place, _)| *place);
    for (from, to, kind) in declared(nodes) {
        directed.insert((from, to), kind);
    }
    for map in maps {
        let Some(from) = place(&map.node) else { continue };
        for node in &map.nodes {
            let (Some(to), Some(path)) = (place(&node.node.id), &node.path) else { continue };
            let (to, kind) = match path.way {
                Way::Vxlan { .. } => (to, Kind::Tunnel),
                Way::Route { .. } => (to, Kind::Route),
                Way::Router { router } => (place(&router).unwrap_or(to), Kind::Router),
                Way::None => (to, Kind::None),
            };
            // The way to the router itself is a route; that everything takes it says more.
            if directed.get(&(from, to)) != Some(&Kind::Router) || kind != Kind::Route {
                directed.insert((from, to), kind);
            }
        }
    }
    let mut links = Vec::new();
    for (&(from, to), &kind) in &directed {
        let back = directed.get(&(to, from)).map(|back| is_alike(*back, kind));
        match back {
            Some(true) if from > to => {}
            other => links.push(Link { from, to, kind, mutual: other != Some(false) }),
        }
    }
    links
}

/// What a router does with packets to the others is a route, seen from there.
fn is_alike(one: Kind, other: Kind) -> bool {
    let plain = |kind| if kind == Kind::Router { Kind::Route } else { kind };
    plain(one) == plain(other)
}

/// Links that follow from modes alone: both nodes of a pair have the same, and it is not left to probes.
fn declared(nodes: &BTreeMap<NodeId, (usize, &MapNode)>) -> Vec<(usize, usize, Kind)> {
    let router = nodes.values().find(|(_, node)| node.node.role == Role::Router).map(|(place, _)| *place);
    let mut links = Vec::new();
    for &(from, node) in nodes.values() {
        let kind = match node.node.mode {
            Mode::Auto => continue,
            Mode::Router => {
                links.extend(router.filter(|router| *router != from).map(|to| (from, to, Kind::Router)));
                continue;
            }
            Mode::Vxlan => Kind::Tunnel,
            Mode::Route => Kind::Route,
        };
        let alike = nodes.values().filter(|(to, other)| *to != from && other.node.mode == node.node.mode);
        links.extend(alike.map(|(to, _)| (from, *to, kind)));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    fn kinds(scene: &Scene) -> Vec<(usize, usize, Kind, bool)> {
        scene.links.iter().map(|link| (link.from, link.to, link.kind, link.mutual)).collect()
    }

    #[test]
    fn one_agent_tells_of_the_ways_from_its_node() {
        let scene = Scene::of(&[fixtures::map()]);
        assert_eq!(kinds(&scene), [(0, 1, Kind::Route, true), (0, 2, Kind::Tunnel, true)]);
        assert!(scene.nodes[0].is_here && !scene.nodes[1].is_here);
    }

    #[test]
    fn several_agents_tell_of_both_directions() {
        let mut second = fixtures::map();
        second.node = fixtures::id(2);
        second.nodes[0].path = Some(fixtures::tunnel("192.168.1.11"));
        second.nodes[1].path = None;
        second.nodes[2].path = Some(fixtures::tunnel("10.1.0.13"));
        let scene = Scene::of(&[fixtures::map(), second]);
        let expected = [
            (0, 1, Kind::Route, false),
            (0, 2, Kind::Tunnel, true),
            (1, 0, Kind::Tunnel, false),
            (1, 2, Kind::Tunnel, true),
        ];
        assert_eq!(kinds(&scene), expected);
        assert!(scene.nodes.iter().all(|node| !node.is_here));
    }

    #[test]
    fn with_a_router_the_lines_are_a_star() {
        let mut map = fixtures::map();
        map.nodes[2].node.role = Role::Router;
        map.nodes[2].path = Some(fixtures::route("192.168.1.13"));
        map.nodes[1].path.as_mut().unwrap().way = Way::Router { router: fixtures::id(3) };
        for node in &mut map.nodes[..2] {
            node.node.mode = Mode::Router;
        }
        let scene = Scene::of(&[map]);
        let expected = [(0, 2, Kind::Router, true), (1, 2, Kind::Router, true)];
        assert_eq!(kinds(&scene), expected);
    }

    #[test]
    fn modes_that_decide_it_need_nobody_to_tell() {
        let mut map = fixtures::map();
        for node in &mut map.nodes {
            node.node.mode = Mode::Vxlan;
        }
        map.nodes[1].path = Some(fixtures::tunnel("192.168.1.12"));
        let scene = Scene::of(&[map]);
        assert_eq!(scene.links.len(), 3);
        assert!(scene.links.iter().all(|link| link.kind == Kind::Tunnel));
    }
}
