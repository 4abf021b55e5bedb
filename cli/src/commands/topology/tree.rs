//! The whole network as a tree, for a terminal.

use overlay::report::{Map, MapNode, Path, Way};
use overlay::{Conflict, NodeId, Role, SubnetState};

use crate::commands::peers::tone;
use crate::output::{Charset, Style, Tone, harmless};

/// So many pods of a node are shown where nobody asked for all.
pub(super) const FEW: usize = 8;

/// Something with things below it.
struct Branch {
    text: String,
    below: Vec<Self>,
}

/// Draws it, with at most so many pods of each node.
pub(super) fn draw(map: &Map, most: usize, charset: Charset, style: Style) -> String {
    let pods: usize = map.nodes.iter().map(|node| node.node.pods.len()).sum();
    let mut text = format!(
        "{}: {}, {}\n",
        style.paint(Tone::Heading, &format!("network {}", harmless(&map.network))),
        count(map.nodes.len(), "node"),
        count(pods, "pod"),
    );
    let branches: Vec<Branch> =
        map.nodes.iter().map(|node| branch(map, node, most, charset, style)).collect();
    grow(&branches, "", charset, style, &mut text);
    for conflict in &map.conflicts {
        text.push_str(&format!("{}: {}\n", style.paint(Tone::Bad, "conflict"), told(conflict, map)));
    }
    text
}

fn grow(branches: &[Branch], indent: &str, charset: Charset, style: Style, text: &mut String) {
    for (nth, branch) in branches.iter().enumerate() {
        let is_last = nth + 1 == branches.len();
        let (fork, beside) = match (charset, is_last) {
            (Charset::Boxes, false) => ("├─ ", "│  "),
            (Charset::Boxes, true) => ("└─ ", "   "),
            (Charset::Ascii, false) => ("|- ", "|  "),
            (Charset::Ascii, true) => ("`- ", "   "),
        };
        text.push_str(&style.paint(Tone::Faint, &format!("{indent}{fork}")));
        text.push_str(&branch.text);
        text.push('\n');
        grow(&branch.below, &format!("{indent}{beside}"), charset, style, text);
    }
}

fn branch(map: &Map, node: &MapNode, most: usize, charset: Charset, style: Style) -> Branch {
    let it = &node.node;
    let addresses: Vec<_> = it.addresses.iter().map(ToString::to_string).collect();
    let liveness = match &node.path {
        None => style.paint(Tone::Good, "this node"),
        Some(_) => style.paint(tone(node.liveness), &node.liveness.to_string()),
    };
    let role = if it.role == Role::Router { ", the router" } else { "" };
    let name = style.paint(Tone::Heading, it.name.as_str());
    let text = format!("{name}  {}  {liveness}{role}", addresses.join(" "));
    let way = node.path.as_ref().map(|path| leaf(way(path, map, charset, style)));
    let bridge = (it.role == Role::Worker).then(|| bridge(map, node, most, style));
    Branch { text, below: way.into_iter().chain(bridge).collect() }
}

fn bridge(map: &Map, node: &MapNode, most: usize, style: Style) -> Branch {
    let subnet = |subnet: &overlay::Subnet| match subnet.state {
        SubnetState::Held => subnet.prefix.to_string(),
        SubnetState::Tentative => format!("{} (tentative)", subnet.prefix),
        SubnetState::Lost => format!("{} (lost)", subnet.prefix),
    };
    let subnets: Vec<_> = node.node.subnets.iter().map(subnet).collect();
    let subnets = if subnets.is_empty() { "no subnet".to_owned() } else { subnets.join(" ") };
    let pod = |pod: &overlay::Pod| {
        let addresses: Vec<_> = pod.addresses().iter().map(ToString::to_string).collect();
        leaf(format!(
            "{}  {}  {}",
            harmless(&pod.to_string()),
            harmless(pod.interface()),
            addresses.join(" ")
        ))
    };
    let mut pods: Vec<&overlay::Pod> = node.node.pods.iter().collect();
    pods.sort_by_key(|pod| (pod.to_string(), pod.interface()));
    let hidden = pods.len().saturating_sub(most);
    let more = (hidden > 0).then(|| leaf(style.paint(Tone::Faint, &format!("and {hidden} more pods"))));
    Branch {
        text: format!("{}  {subnets}", harmless(&map.bridge)),
        below: pods.iter().take(most).copied().map(pod).chain(more).collect(),
    }
}

fn way(path: &Path, map: &Map, charset: Charset, style: Style) -> String {
    let arrow = if charset == Charset::Boxes { "→" } else { "->" };
    let mut text = match path.way {
        Way::Vxlan { remote } => format!("tunnel (vxlan) {arrow} {remote}"),
        Way::Route { gateway } => format!("route {arrow} {gateway}"),
        Way::Router { router } => format!("router {arrow} {}", name(router, map)),
        Way::None => style.paint(Tone::Bad, "no way"),
    };
    if path.mtu > 0 {
        let doubt = if path.mtu_confirmed { "" } else { "?" };
        text.push_str(&format!(", MTU {}{doubt}", path.mtu));
    }
    if let Some(time) = path.round_trip {
        text.push_str(&format!(", {}", charset.time(time)));
    }
    text.push_str(&style.paint(Tone::Faint, &format!("  {}", harmless(&path.reason))));
    text
}

fn told(conflict: &Conflict, map: &Map) -> String {
    match conflict {
        Conflict::Subnet { first: (one, a), second: (other, b) } => {
            format!("{} holds {a}, {} holds {b}", name(*one, map), name(*other, map))
        }
        Conflict::Address { address, first: (one, a), second: (other, b) } => format!(
            "{address} is {}'s on {} and {}'s on {}",
            harmless(&a.to_string()),
            name(*one, map),
            harmless(&b.to_string()),
            name(*other, map)
        ),
        Conflict::Identity { what, nodes } => what.told(nodes, |id| name(*id, map)),
    }
}

fn name(id: NodeId, map: &Map) -> String {
    let found = map.nodes.iter().find(|node| node.node.id == id);
    found.map_or_else(|| id.to_string(), |node| node.node.name.to_string())
}

fn leaf(text: String) -> Branch {
    Branch { text, below: Vec::new() }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    #[test]
    fn nodes_bridges_and_pods_are_a_tree() {
        let expected = "\
network podnet: 3 nodes, 4 pods
├─ n1  192.168.1.11  this node
│  └─ cni-podnet  10.244.1.0/24
│     ├─ default/web-1  eth0  10.244.1.2
│     └─ default/web-2  eth0  10.244.1.3
├─ n2  192.168.1.12  alive
│  ├─ route → 192.168.1.12, MTU 1500, 123 µs  same segment, probes come back
│  └─ cni-podnet  10.244.2.0/24
│     └─ default/db-1  eth0  10.244.2.2
└─ n3  10.1.0.13  alive
   ├─ tunnel (vxlan) → 10.1.0.13, MTU 1450, 310 µs  another segment
   └─ cni-podnet  10.244.3.0/24
      └─ default/db-2  eth0  10.244.3.2
";
        assert_eq!(draw(&fixtures::map(), FEW, Charset::Boxes, Style::Plain), expected);
    }

    #[test]
    fn ascii_will_do() {
        let text = draw(&fixtures::map(), FEW, Charset::Ascii, Style::Plain);
        assert!(text.is_ascii() && text.contains("|  |- route -> 192.168.1.12, MTU 1500, 123 us"), "{text}");
    }

    #[test]
    fn many_pods_are_counted() {
        let mut map = fixtures::map();
        map.nodes.truncate(1);
        let pod = map.nodes[0].node.pods[0].clone();
        map.nodes[0].node.pods = vec![pod; 20];
        let text = draw(&map, FEW, Charset::Boxes, Style::Plain);
        assert_eq!(text.lines().count(), 1 + 2 + FEW + 1, "{text}");
        assert!(text.ends_with("└─ and 12 more pods\n"), "{text}");
        assert_eq!(draw(&map, usize::MAX, Charset::Boxes, Style::Plain).lines().count(), 23);
    }

    #[test]
    fn who_is_in_whose_way_is_said() {
        let mut map = fixtures::map();
        let pod = |node: usize| Box::new(map.nodes[node].node.pods[0].clone());
        map.conflicts = vec![
            Conflict::Subnet {
                first: (fixtures::id(1), "10.244.1.0/24".parse().unwrap()),
                second: (fixtures::id(9), "10.244.0.0/16".parse().unwrap()),
            },
            Conflict::Address {
                address: "10.244.1.2".parse().unwrap(),
                first: (fixtures::id(1), pod(0)),
                second: (fixtures::id(2), pod(1)),
            },
            Conflict::Identity {
                what: overlay::Identity::MachineId,
                nodes: vec![fixtures::id(1), fixtures::id(2)],
            },
        ];
        let text = draw(&map, FEW, Charset::Boxes, Style::Plain);
        let subnet = format!("conflict: n1 holds 10.244.1.0/24, {} holds 10.244.0.0/16\n", "09".repeat(16));
        assert!(text.contains(&subnet), "{text}");
        assert!(
            text.ends_with(
                "conflict: 10.244.1.2 is default/web-1's on n1 and default/db-1's on n2\n\
                 conflict: n1, n2 have one machine id\n"
            ),
            "{text}"
        );
    }
}
