//! Forgetting a node that will not come back.

use overlay::report::Forgotten;
use overlay::{Node, NodeId};

use super::api::{Compare, Operation, Txn};
use super::client::Client;
use super::known::Known;
use super::layout::Layout;

/// Deletes what etcd has of a node, in one transaction, unless it is alive or its subnets have changed meanwhile.
pub(super) async fn forget(
    client: &mut Client,
    known: &mut Known,
    layout: &Layout,
    this: &NodeId,
    wanted: &str,
) -> Result<Forgotten, String> {
    let node = find(known, wanted)?;
    if node.id == *this {
        return Err(format!("{wanted} is this node: forget it from another one, when its agent has stopped"));
    }
    let alive = layout.alive(&node.id);
    let mut compare = vec![Compare::absent(&alive)];
    let mut success =
        vec![Operation::delete(&layout.node(&node.id)), Operation::delete_prefix(&layout.pods(&node.id))];
    for (prefix, claim) in known.claims().iter().filter(|(_, claim)| claim.owner == node.id) {
        compare.push(Compare::unchanged(&layout.subnet(prefix), claim.modified));
        success.push(Operation::delete(&layout.subnet(prefix)));
    }
    let txn = Txn { compare, success, failure: vec![Operation::get(&alive)] };
    let answer = client.txn(&txn).await.map_err(super::client::Failure::text)?;
    if answer.succeeded {
        return Ok(Forgotten { node: node.id, name: node.name, subnets: node.subnets });
    }
    Err(match answer.found() {
        Some(_) => format!(
            "{} ({}) is alive: stop its agent first; if it has just stopped, wait {} s",
            node.name,
            node.id,
            super::own::LEASE.as_secs()
        ),
        None => format!("{} ({}) has just changed: try again", node.name, node.id),
    })
}

/// The node of an id or a name.
fn find(known: &mut Known, wanted: &str) -> Result<Node, String> {
    let topology = known.topology();
    if let Ok(id) = wanted.parse::<NodeId>() {
        let found = topology.get(&id).map(|member| (*member.node).clone());
        return found.ok_or_else(|| format!("there is no node {id} in etcd"));
    }
    let named: Vec<_> = topology.named(wanted).collect();
    match named.as_slice() {
        [] => Err(format!("there is no node \"{}\" in etcd", wanted.escape_debug())),
        [one] => Ok((*one.node).clone()),
        several => Err(format!(
            "there are {} nodes called {wanted}: say which by its id: {}",
            several.len(),
            several.iter().map(|member| member.node.id.to_string()).collect::<Vec<_>>().join(", ")
        )),
    }
}
