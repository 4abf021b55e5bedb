//! Other nodes, as what they say of themselves has them.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

use gossip::Gossip;

use super::codec::{self, About};
use super::shelf::{Shared, Shelf};
use super::telling::state_of;
use super::{ABOUT, POD, STAKES};
use crate::claim::{Stake, Taken};
use crate::id::NodeId;
use crate::node::{Node, Subnet, take_out_nonsense};
use crate::pod::Pod;
use crate::pool::Range;
use crate::report::{Problem, Severity};
use crate::topology::{Liveness, Topology};

/// Marks of more than so many, which a stream brings at once, are not left room for.
const FEW: usize = 64;
/// Problems that are told; more of them would tell nothing new.
const MAX_PROBLEMS: usize = 20;

/// Other nodes. What has changed is looked at once, when all that came together is there, and only that.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    topology: Arc<Topology>,
    /// What has changed and was not looked at yet: as it came, some of it several times.
    marked: Vec<(NodeId, Marks)>,
    /// Somebody says something else of prefixes.
    prefixes: bool,
    /// What could not be understood, by node.
    garbled: BTreeMap<NodeId, String>,
    /// How many others are alive.
    alive: usize,
    shelf: Option<Arc<Shelf>>,
}

/// What has changed of a node.
pub(super) enum What {
    All,
    /// What it has written above a version.
    Above(u64),
    Liveness,
}

/// Whether anything has changed, and whether somebody says something else of prefixes.
pub(super) struct Refreshed {
    pub(super) any: bool,
    pub(super) prefixes: bool,
}

/// What is to be looked at of a node.
#[derive(Debug, Clone, Copy)]
struct Marks {
    /// All of it.
    all: bool,
    /// What it has written above a version.
    above: u64,
}

/// What has changed of a node.
#[derive(Debug, Default)]
struct Changes<'a> {
    about: bool,
    stakes: bool,
    /// Any of its pods.
    all_pods: bool,
    /// These, by their keys.
    pods: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Changes<'a> {
    fn of(id: &NodeId, marks: Marks, gossip: &'a Gossip) -> Self {
        if marks.all {
            return Self { about: true, stakes: true, all_pods: true, pods: Vec::new() };
        }
        let mut changes = Self::default();
        for (key, value) in gossip.changed(id.as_bytes(), marks.above) {
            match key {
                ABOUT => changes.about = true,
                STAKES => changes.stakes = true,
                _ if key.starts_with(POD) => changes.pods.push((key, value)),
                // A later version's key.
                _ => {}
            }
        }
        changes
    }

    fn is_empty(&self) -> bool {
        !self.about && !self.stakes && !self.all_pods && self.pods.is_empty()
    }
}

/// As a topology has it: nobody starts so often that it would not fit.
fn life(incarnation: u64) -> Option<NonZero<u32>> {
    NonZero::new(u32::try_from(incarnation).unwrap_or(u32::MAX))
}

impl Nodes {
    pub(super) fn mark(&mut self, id: NodeId, what: What) {
        let marks = match what {
            What::All => Marks { all: true, above: u64::MAX },
            What::Above(version) => Marks { all: false, above: version },
            What::Liveness => Marks { all: false, above: u64::MAX },
        };
        self.marked.push((id, marks));
    }

    /// Looks at what has changed.
    pub(super) fn refresh(&mut self, gossip: &Gossip, taken: &mut Taken) -> Refreshed {
        let mut marked = std::mem::take(&mut self.marked);
        let any = !marked.is_empty();
        marked.sort_unstable_by_key(|(id, _)| *id);
        marked.dedup_by(|(id, more), (last, marks)| {
            let is_it = id == last;
            if is_it {
                marks.all |= more.all;
                marks.above = marks.above.min(more.above);
            }
            is_it
        });
        for (id, marks) in marked.drain(..) {
            self.refresh_node(id, marks, gossip, taken);
        }
        if marked.capacity() <= FEW {
            self.marked = marked;
        }
        Refreshed { any, prefixes: std::mem::take(&mut self.prefixes) }
    }

    fn refresh_node(&mut self, id: NodeId, marks: Marks, gossip: &Gossip, taken: &mut Taken) {
        let Some(member) = gossip.member(id.as_bytes()) else { return };
        let liveness = match member.liveness {
            gossip::Liveness::Alive => Liveness::Alive,
            gossip::Liveness::Suspect => Liveness::Suspect,
            gossip::Liveness::Down => Liveness::Down,
        };
        if let Some(shared) = self.shelf.as_ref().and_then(|shelf| shelf.get(&id, gossip)) {
            self.garbled.remove(&id);
            self.prefixes |= taken.set(id, Arc::clone(&shared.stakes));
            return self.take_over(id, shared, liveness, life(member.incarnation));
        }
        let changes = Changes::of(&id, marks, gossip);
        let mut problem = None;
        if changes.stakes {
            match gossip.get(id.as_bytes(), STAKES).map(codec::decode_stakes).transpose() {
                Ok(stakes) => {
                    self.prefixes |= taken.set(id, stakes.unwrap_or_default());
                }
                // What it holds stays its own.
                Err(what) => problem = Some(what),
            }
        }
        let before = self.topology.get(&id).map(|member| member.liveness);
        let is_new = before.is_none();
        let about = match changes.about || is_new {
            false => None,
            true => match gossip.get(id.as_bytes(), ABOUT).map(About::decode) {
                Some(Ok(mut about)) => {
                    let nonsense = take_out_nonsense(&mut about.addresses, about.mtu);
                    problem = problem.or(nonsense);
                    Some(about)
                }
                // Without it nobody knows where it is.
                Some(Err(what)) => return self.tell(id, Some(what)),
                None => return,
            },
        };
        self.count_alive(before, liveness);
        let topology = Arc::make_mut(&mut self.topology);
        match (topology.get_mut(&id), about) {
            (None, Some(about)) => {
                topology.insert(Arc::new(about.into_node(id, Vec::new(), Vec::new())), liveness);
            }
            (Some(member), Some(about)) => {
                let node = Arc::make_mut(&mut member.node);
                let (subnets, pods) = (std::mem::take(&mut node.subnets), std::mem::take(&mut node.pods));
                *node = about.into_node(id, subnets, pods);
            }
            (_, None) => {}
        }
        let incarnation = life(member.incarnation);
        let Some(member) = topology.get_mut(&id) else { return };
        member.liveness = liveness;
        member.incarnation = incarnation;
        if changes.stakes || is_new {
            Arc::make_mut(&mut member.node).subnets = taken.of(&id).iter().filter_map(subnet).collect();
        }
        if changes.all_pods || is_new {
            let node = Arc::make_mut(&mut member.node);
            node.pods = pods(gossip, id, &mut problem);
        } else if !changes.pods.is_empty() {
            let node = Arc::make_mut(&mut member.node);
            for (key, value) in &changes.pods {
                let pod = value.map(|value| read_pod(key, value)).transpose();
                let pod = pod.unwrap_or_else(|what| {
                    problem = Some(what);
                    None
                });
                put(&mut node.pods, key, pod);
            }
        }
        let node = Arc::clone(&member.node);
        if !changes.is_empty() {
            self.tell(id, problem);
        }
        if let Some(shelf) = self.shelf.as_ref().filter(|_| !self.garbled.contains_key(&id)) {
            shelf.put(&id, gossip, Shared { node, stakes: taken.shared(&id) });
        }
    }

    /// Another node of this process has read the very same.
    fn take_over(
        &mut self,
        id: NodeId,
        shared: Shared,
        liveness: Liveness,
        incarnation: Option<NonZero<u32>>,
    ) {
        let node = shared.node;
        let topology = Arc::make_mut(&mut self.topology);
        let before = topology.get_mut(&id).map(|member| {
            member.node = Arc::clone(&node);
            member.incarnation = incarnation;
            std::mem::replace(&mut member.liveness, liveness)
        });
        if before.is_none() {
            topology.insert(node, liveness);
            topology.get_mut(&id).into_iter().for_each(|member| member.incarnation = incarnation);
        }
        self.count_alive(before, liveness);
    }

    fn count_alive(&mut self, before: Option<Liveness>, now: Liveness) {
        self.alive += usize::from(now == Liveness::Alive);
        self.alive -= usize::from(before == Some(Liveness::Alive));
    }

    /// What it reads is read once for all that were given the same shelf.
    pub(super) fn share(&mut self, shelf: Arc<Shelf>) {
        self.shelf = Some(shelf);
    }

    fn tell(&mut self, id: NodeId, problem: Option<String>) {
        match problem {
            Some(what) => self.garbled.insert(id, what),
            None => self.garbled.remove(&id),
        };
    }

    pub(super) fn remove(&mut self, id: &NodeId) {
        self.marked.retain(|(marked, _)| marked != id);
        self.garbled.remove(id);
        if self.topology.get(id).is_some()
            && let Some(member) = Arc::make_mut(&mut self.topology).remove(id)
        {
            self.alive -= usize::from(member.liveness == Liveness::Alive);
        }
    }

    /// This node, which knows itself best.
    pub(super) fn insert_own(&mut self, node: Node, incarnation: u64) {
        let (id, incarnation) = (node.id, life(incarnation));
        let is_known = |known: &crate::topology::Member| {
            *known.node == node && known.liveness == Liveness::Alive && known.incarnation == incarnation
        };
        if !self.topology.get(&id).is_some_and(is_known) {
            let topology = Arc::make_mut(&mut self.topology);
            topology.insert(Arc::new(node), Liveness::Alive);
            topology.get_mut(&id).into_iter().for_each(|member| member.incarnation = incarnation);
        }
    }

    pub(super) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    pub(super) fn topology_ref(&self) -> &Topology {
        &self.topology
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Node> {
        self.topology.get(id).map(|member| &*member.node)
    }

    /// How many others are known.
    pub(super) fn count(&self, own: &NodeId) -> usize {
        self.topology.members().len() - usize::from(self.topology.get(own).is_some())
    }

    /// How many others are alive.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    /// One of those that are alive and of which something is so: another one each time that `turn` is another.
    pub(super) fn some_alive(
        &self,
        own: &NodeId,
        turn: u64,
        is_so: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let some: Vec<NodeId> = self.ids_alive(own).filter(is_so).collect();
        let count = u64::try_from(some.len()).ok().filter(|count| *count > 0)?;
        some.get(usize::try_from(turn % count).ok()?).copied()
    }

    pub(super) fn lowest_alive(&self, own: &NodeId) -> Option<NodeId> {
        self.ids_alive(own).next()
    }

    fn ids_alive<'a>(&'a self, own: &'a NodeId) -> impl Iterator<Item = NodeId> + 'a {
        let alive = self.topology.peers(own).filter(|member| member.liveness == Liveness::Alive);
        alive.map(|member| member.node.id)
    }

    /// Who holds a subnet of a range.
    pub(super) fn holders(&self, range: &Range) -> impl Iterator<Item = NodeId> {
        let cluster = range.cluster;
        let holds = move |node: &Node| node.held().any(|prefix| cluster.contains(&prefix));
        self.topology.members().filter(move |member| holds(&member.node)).map(|member| member.node.id)
    }

    /// The one node, other than this one, that is meant by an id or a name.
    pub(super) fn find(&self, text: &str, own: NodeId) -> Result<NodeId, String> {
        let known = self.topology.members();
        let meant: Vec<_> = match text.parse::<NodeId>() {
            Ok(id) => (id == own || self.topology.get(&id).is_some()).then_some(id).into_iter().collect(),
            Err(_) => {
                let named = known.filter(|member| member.node.name.as_str() == text);
                let (down, others): (Vec<_>, Vec<_>) =
                    named.partition(|member| member.liveness == Liveness::Down);
                // A node that was replaced: the one that is gone is meant.
                let meant = if down.is_empty() { others } else { down };
                meant.into_iter().map(|member| member.node.id).collect()
            }
        };
        match meant[..] {
            [] => Err(format!("no node is called \"{}\", nor is it a known node's id", text.escape_debug())),
            [id] if id == own => Err("this node cannot forget itself: ask another one's agent".to_owned()),
            [id] => Ok(id),
            _ => {
                let ids: Vec<_> = meant.iter().map(ToString::to_string).collect();
                Err(format!(
                    "{} nodes are called \"{text}\": say which by its id: {}",
                    ids.len(),
                    ids.join(", ")
                ))
            }
        }
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let problem = |(id, what): (&NodeId, &String)| {
            let name = self.get(id).map_or_else(|| id.to_string(), |node| node.name.to_string());
            Problem {
                severity: Severity::Warning,
                what: format!("what node {name} says of itself is not understood: {what}"),
                advice: "see that its agent's version is no older or newer than this one's".to_owned(),
            }
        };
        self.garbled.iter().take(MAX_PROBLEMS).map(problem).collect()
    }
}

fn subnet(stake: &Stake) -> Option<Subnet> {
    Some(Subnet { prefix: stake.prefix, state: state_of(stake.kind)? })
}

/// All pods of a node, in the order of their keys.
fn pods(gossip: &Gossip, id: NodeId, problem: &mut Option<String>) -> Vec<Pod> {
    let mut pods = Vec::new();
    for (key, value) in gossip.entries(id.as_bytes()).filter(|(key, _)| key.starts_with(POD)) {
        match read_pod(key, value) {
            Ok(pod) => pods.push(pod),
            Err(what) => *problem = Some(what),
        }
    }
    // There are as many of these as nodes, and most stay as they are.
    pods.shrink_to_fit();
    pods
}

/// What a key says. It is the key of the pod that it tells of, so that pods are found by theirs.
fn read_pod(key: &str, value: &[u8]) -> Result<Pod, String> {
    let pod = codec::decode_pod(value)?;
    match codec::pod_key(&pod) == key {
        true => Ok(pod),
        false => Err(format!("a pod under the key \"{}\", which is not its own", key.escape_debug())),
    }
}

/// Puts what a key says now in its place.
fn put(pods: &mut Vec<Pod>, key: &str, pod: Option<Pod>) {
    match (pods.binary_search_by(|known| codec::pod_key(known).as_str().cmp(key)), pod) {
        (Ok(at), Some(pod)) => {
            if let Some(known) = pods.get_mut(at) {
                *known = pod;
            }
        }
        (Ok(at), None) => {
            pods.remove(at);
        }
        (Err(at), Some(pod)) => pods.insert(at, pod),
        (Err(_), None) => {}
    }
}
