//! A node's cable is pulled and plugged in again: what the others see, and what goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use overlay::Liveness;

use super::act::{Home, Pairs, firsts, talk, until_answered};
use super::agents::{Agents, sees_all};
use super::report::{Cut, Seen};
use super::world::{Plugged, World};
use crate::failure::Failure;

/// How long the others may take to notice.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a pod may take to answer again.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks.
const MOMENT: Duration = Duration::from_millis(50);

/// Cuts off the last node that has pods. The new pod is added to the others.
pub(super) fn cut(
    world: &World,
    agents: &mut Agents,
    homes: &mut Vec<Home>,
    pods: usize,
) -> Result<Option<Cut>, Failure> {
    let Some((place, node)) = world.workers().last() else { return Ok(None) };
    world.plug(node, Plugged::Out)?;
    let seen = until_noticed(agents, &node.name);
    let meanwhile = talk(homes, Pairs::SameSideOf(place))?;
    // It has its subnet: it needs nobody for a pod more.
    let new = Home::new(world, place, pods)?;

    world.plug(node, Plugged::In)?;
    let plugged_in = Instant::now();
    let near = homes.iter().find(|home| home.pod.node == place);
    let far: Vec<&Home> = firsts(homes).filter(|home| home.pod.node != place).collect();
    // Each other node has to look for its hardware address anew, and may have begun to while the cable was out.
    let answers = |far: &&Home| near.is_some_and(|near| until_answered(far, near, AGAIN).is_some());
    let back = far.iter().all(answers).then(|| plugged_in.elapsed());
    let new_pod = far.first().and_then(|far| until_answered(far, &new, AGAIN)).map(|_| plugged_in.elapsed());
    let nodes = world.nodes.len();
    let healed = agents.until_known("for all to see all again", |map| sees_all(map, nodes));
    let healed = healed.ok().map(|_| plugged_in.elapsed());
    let attached = Some(new.attached.clone());
    homes.push(new);
    Ok(Some(Cut { node: node.name.clone(), seen, meanwhile, attached, back, new_pod, healed }))
}

/// Waits until some other agent sees a node otherwise than alive; then what each of the others sees.
fn until_noticed(agents: &Agents, node: &str) -> Vec<Seen> {
    let start = Instant::now();
    loop {
        let others = agents.all().iter().filter(|asked| asked.node != node);
        let seen: Vec<Seen> = others
            .filter_map(|asked| {
                let peers = asked.socket.peers().ok()?;
                let peer = peers.iter().find(|peer| peer.name.as_str() == node)?;
                Some(Seen { by: asked.node.clone(), liveness: peer.liveness, after: start.elapsed() })
            })
            .collect();
        let noticed = seen.iter().all(|seen| seen.liveness != Liveness::Alive);
        if noticed || start.elapsed() > PATIENCE {
            return seen;
        }
        sleep(MOMENT);
    }
}
