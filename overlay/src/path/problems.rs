//! What there is to say of paths, for people.

use std::borrow::Cow;

use super::options::Obstacle;
use super::peer::Peer;
use super::size;
use crate::node::Mode;
use crate::report::{Problem, Severity, Way};
use crate::topology::Liveness;

/// Of more peers with the same trouble, only their number is told.
const NAMED: usize = 5;

/// Why the way to a peer is what it is.
pub(super) fn reason(peer: &Peer) -> Cow<'static, str> {
    let auto = peer.options.mode == Mode::Auto;
    let said = match peer.way {
        Way::None => return obstacle(peer).into(),
        Way::Router { .. } => "all goes by the router",
        Way::Vxlan { .. } if !auto => "told to use tunnels",
        Way::Vxlan { .. } if peer.direct().is_none() => "not on one segment",
        Way::Vxlan { .. } if peer.options.target.is_none() => {
            "same segment; there is nothing to probe: it has no subnet yet, or one that both have pods of"
        }
        Way::Vxlan { .. } if peer.has_trial_failed() => {
            "same segment, but probes do not come back without a tunnel"
        }
        Way::Vxlan { .. } => "same segment; a plain route is being tried",
        Way::Route { .. } if !auto => "told to use plain routes",
        Way::Route { .. } if peer.options.remotes.is_empty() => "same segment, and no tunnel",
        Way::Route { .. } => "same segment, probes come back",
    };
    if peer.silent > 0 { format!("{said}; nothing comes back").into() } else { said.into() }
}

/// Why there is no way.
fn obstacle(peer: &Peer) -> String {
    match &peer.options.obstacle {
        Some(Obstacle::NoAddress) if peer.node.addresses.is_empty() => "it has no address".to_owned(),
        Some(Obstacle::NoAddress) | None => {
            let addresses: Vec<_> = peer.node.addresses.iter().map(ToString::to_string).collect();
            format!("there is no route to {}", addresses.join(", "))
        }
        Some(Obstacle::NoTunnel) => "it has no tunnel, or this node has none".to_owned(),
        Some(Obstacle::OtherTunnel(vni, port)) => {
            format!("its tunnel is VNI {vni} at port {port}, and not this node's")
        }
        Some(Obstacle::NotOnSegment) => {
            "a router is between, and this node was told to use plain routes".to_owned()
        }
        Some(Obstacle::NoRouter) => "there is no router".to_owned(),
    }
}

/// What a person should know.
pub(super) fn of<'a>(peers: impl Iterator<Item = &'a Peer>) -> Vec<Problem> {
    let (mut unreachable, mut silent, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
    for peer in peers {
        let name = &peer.node.name;
        if peer.liveness == Liveness::Down {
            // That it is, is told elsewhere.
        } else if peer.way == Way::None {
            unreachable.push((name.to_string(), obstacle(peer)));
        } else if peer.silent > 1 {
            silent.push((name.to_string(), by(peer)));
        } else if let Some(hole) = peer.size.hole() {
            let passes = peer.size.current();
            narrow.push((name.to_string(), format!("{passes} bytes pass and {hole} do not, {}", by(peer))));
        }
    }
    let problem =
        |severity, advice: String| move |what: String| Problem { severity, what, advice: advice.clone() };
    let addresses = "give the nodes addresses that reach one another, and one mode and tunnel".to_owned();
    let blocked = "let the tunnel's UDP port through between the nodes; if only large or only some packets are lost, try \
                   `ethtool -K INTERFACE tx-checksum-ip-generic off` on the tunnel's interface"
        .to_owned();
    let mtu = format!(
        "nothing stops: its routes have that MTU. Set the MTU of the nodes' interfaces to what the network between them \
         carries{}",
        if narrow.is_empty() { String::new() } else { format!(" (IPv6 needs {})", size::BASE) }
    );
    [
        told("no way to", unreachable, problem(Severity::Error, addresses)),
        told("nothing comes back from", silent, problem(Severity::Error, blocked)),
        told("large packets are lost on the way to", narrow, problem(Severity::Warning, mtu)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// By which way, for people.
fn by(peer: &Peer) -> String {
    match peer.way {
        Way::Vxlan { remote } => format!("through the tunnel to {remote}"),
        Way::Route { gateway } => format!("by the plain route to {gateway}"),
        Way::Router { .. } => "by the router".to_owned(),
        Way::None => "by no way".to_owned(),
    }
}

/// Each by name, or of many the number and the first.
fn told(what: &str, whom: Vec<(String, String)>, problem: impl Fn(String) -> Problem) -> Vec<Problem> {
    let one = |(name, how): &(String, String)| format!("{what} node {name}: {how}");
    match whom.as_slice() {
        [first, ..] if whom.len() > NAMED => {
            vec![problem(format!("{what} {} nodes; {}", whom.len(), one(first)))]
        }
        few => few.iter().map(one).map(problem).collect(),
    }
}
