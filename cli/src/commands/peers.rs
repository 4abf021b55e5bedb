//! `cnikit peers`

use overlay::report::{Peer, Way};
use overlay::{Liveness, NodeId, SubnetState};

use crate::agent_socket::AgentSocket;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Cell, Charset, Column, Output, Table, Tone, note};

const DETAILS: &str = "\
WAY is what packets to a node's pods do: a tunnel (vxlan) to the node's address, a plain route to it, or the router. \
MTU is the largest packet to a pod; one with a question mark is what interfaces promise, and no probe of that size has \
come back yet. RTT is how long the last probe took.

Routes to a node that is down stay: nothing would be gained without them, and much lost after a false alarm. `cnikit \
node forget` is for a node that will not come back.";

/// Show every other node, how it is, and the way to it
#[derive(Debug, clap::Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    agent: AgentSocket,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let peers = args.agent.peers()?;
    if args.json {
        output.json(&peers)?;
    } else if peers.is_empty() {
        note("this node's agent knows no other node");
    } else {
        output.table(&table(&peers, Charset::of_process(false)))?;
    }
    Ok(Exit::Done)
}

fn table(peers: &[Peer], charset: Charset) -> Table {
    let mut table = Table::new([
        Column::folded("NODE"),
        Column::whole("LIVENESS"),
        Column::whole("ADDRESS"),
        Column::whole("SUBNETS"),
        Column::whole("WAY"),
        Column::number("MTU"),
        Column::number("RTT"),
        Column::number("PODS"),
        Column::wrapped("REASON"),
    ]);
    for peer in peers {
        table.row([
            Cell::new(Tone::Heading, peer.name.as_str()),
            Cell::new(tone(peer.liveness), peer.liveness.to_string()),
            Cell::lines(Tone::Plain, peer.addresses.iter().map(ToString::to_string)),
            subnets(peer),
            way(peer, peers),
            mtu(peer),
            Cell::or_dash(peer.path.round_trip.map(|time| charset.time(time)).as_deref()),
            Cell::from(peer.pods.to_string()),
            Cell::from(&*peer.path.reason),
        ]);
    }
    table
}

/// The tone of a node that is so.
pub(super) fn tone(liveness: Liveness) -> Tone {
    match liveness {
        Liveness::Alive => Tone::Good,
        Liveness::Suspect => Tone::Odd,
        Liveness::Down => Tone::Bad,
        Liveness::Unknown => Tone::Plain,
    }
}

fn subnets(peer: &Peer) -> Cell {
    let text = |subnet: &overlay::Subnet| match subnet.state {
        SubnetState::Held => subnet.prefix.to_string(),
        SubnetState::Tentative => format!("{} (tentative)", subnet.prefix),
        SubnetState::Lost => format!("{} (lost)", subnet.prefix),
    };
    Cell::lines(Tone::Plain, peer.subnets.iter().map(text))
}

fn way(peer: &Peer, peers: &[Peer]) -> Cell {
    let name = |router: NodeId| {
        let found = peers.iter().find(|other| other.id == router);
        found.map_or_else(|| router.to_string(), |found| found.name.to_string())
    };
    match peer.path.way {
        Way::Vxlan { .. } => Cell::from("vxlan"),
        Way::Route { .. } => Cell::from("route"),
        Way::Router { router } => Cell::from(format!("router {}", name(router))),
        Way::None => Cell::new(Tone::Bad, "none"),
    }
}

fn mtu(peer: &Peer) -> Cell {
    match (peer.path.mtu, peer.path.mtu_confirmed) {
        (0, _) => Cell::or_dash(None),
        (mtu, true) => Cell::from(mtu.to_string()),
        (mtu, false) => Cell::new(Tone::Faint, format!("{mtu}?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;
    use crate::output::Style;

    #[test]
    fn a_peer_is_a_row_with_the_way_to_it() {
        let expected = "\
NODE  LIVENESS  ADDRESS       SUBNETS        WAY     MTU     RTT  PODS  REASON
n2    alive     192.168.1.12  10.244.2.0/24  route  1500  123 us     1  same segment, probes come back
n3    alive     10.1.0.13     10.244.3.0/24  vxlan  1450       -     1  another segment
";
        let mut peers = fixtures::peers();
        peers[1].path.mtu_confirmed = true;
        peers[1].path.round_trip = None;
        assert_eq!(table(&peers, Charset::Ascii).render(120, Style::Plain), expected);
    }

    #[test]
    fn what_is_not_certain_is_shown_so() {
        let mut peers = fixtures::peers();
        peers[0].path.mtu_confirmed = false;
        peers[0].path.round_trip = Some(12_345);
        peers[0].subnets[0].state = SubnetState::Tentative;
        peers[0].path.way = Way::Router { router: peers[1].id };
        peers[1].path.way = Way::None;
        let text = table(&peers, Charset::Ascii).render(200, Style::Plain);
        for told in ["1500?", "12.3 ms", "10.244.2.0/24 (tentative)", "router n3", "none"] {
            assert!(text.contains(told), "{told} in\n{text}");
        }
    }
}
