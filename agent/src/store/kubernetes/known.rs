//! What is known of the API's Nodes, kept up to date by a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as Object;
use kube::runtime::watcher::Event;
use overlay::report::{Problem, Severity};
use overlay::{NodeId, NodeName, Topology};

use super::object::{ANNOTATION, Seen};

/// What is known of the API's Nodes.
#[derive(Debug, Default)]
pub(super) struct Known {
    nodes: BTreeMap<NodeName, Seen>,
    /// What a list that has not ended yet has brought: it takes the place of all others at once.
    listed: BTreeMap<NodeName, Seen>,
    /// A list has ended once.
    complete: bool,
    topology: Arc<Topology>,
}

impl Known {
    /// Takes what a watch tells; whether that makes a difference.
    pub(super) fn take(&mut self, event: Event<Object>) -> bool {
        match event {
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(object) => {
                self.listed.extend(Seen::of(&object));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let differs = !self.complete || listed != self.nodes;
                (self.nodes, self.complete) = (listed, true);
                self.changed(differs)
            }
            Event::Apply(object) => self.put(&object),
            Event::Delete(object) => {
                let name = object.metadata.name.as_deref().and_then(|name| NodeName::new(name).ok());
                let gone = name.and_then(|name| self.nodes.remove(&name)).is_some();
                self.changed(gone)
            }
        }
    }

    /// A Node as it is now.
    pub(super) fn put(&mut self, object: &Object) -> bool {
        let Some((name, seen)) = Seen::of(object) else { return false };
        // Most of what a kubelet writes into its Node is of no use here.
        let differs = self.nodes.get(&name) != Some(&seen);
        self.nodes.insert(name, seen);
        self.changed(differs)
    }

    fn changed(&mut self, differs: bool) -> bool {
        if differs {
            let mut topology = Topology::new();
            // Of two with one id, the first by name: the problems say so.
            for seen in self.nodes.values().rev() {
                if let Some(node) = seen.node() {
                    topology.insert(Arc::new(node.clone()), seen.liveness);
                }
            }
            self.topology = Arc::new(topology);
        }
        differs
    }

    /// Whether all Nodes have been seen once.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn get(&self, name: &NodeName) -> Option<&Seen> {
        self.nodes.get(name)
    }

    /// Every node whose agent has said something.
    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Nodes that make no sense.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut ids: BTreeMap<NodeId, &NodeName> = BTreeMap::new();
        let mut reported = BTreeSet::new();
        for (name, seen) in &self.nodes {
            let wrong = seen.said.as_ref().and_then(|said| said.as_ref().err());
            if let Some(why) = wrong.or(seen.nonsense.as_ref()) {
                problems.push(Problem {
                    severity: Severity::Warning,
                    what: format!("the annotation {ANNOTATION} of Node {name} makes no sense: {why}"),
                    advice: format!(
                        "if its agent does not repair it: kubectl annotate node {name} {ANNOTATION}-"
                    ),
                });
            }
            let Some(node) = seen.node() else { continue };
            let first = ids.entry(node.id).or_insert(name);
            if *first != name && reported.insert(node.id) {
                problems.push(Problem {
                    severity: Severity::Error,
                    what: format!("the Nodes {first} and {name} have one id, {}", node.id),
                    advice: format!(
                        "{name} is a copy of the other's disk, or the other way round: stop the copy's agent, remove its \
                         state directory, start it again"
                    ),
                });
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, id: u8) -> Object {
        let text = format!(r#"{{"id":"{}","name":"x","mtu":1500}}"#, NodeId::from_bytes([id; 16]));
        let value = serde_json::json!({ "metadata": { "name": name, "annotations": { ANNOTATION: text } } });
        serde_json::from_value(value).unwrap()
    }

    fn names(known: &Known) -> Vec<String> {
        known.topology().members().map(|member| member.node.name.to_string()).collect()
    }

    #[test]
    fn a_list_takes_the_place_of_what_was_known_at_its_end() {
        let mut known = Known::default();
        for event in [Event::Init, Event::InitApply(object("a", 1)), Event::InitApply(object("b", 2))] {
            assert!(!known.take(event));
        }
        assert!(!known.is_complete() && names(&known).is_empty());
        assert!(known.take(Event::InitDone) && known.is_complete());
        assert_eq!(names(&known), ["a", "b"]);
        assert!(!known.take(Event::Init));
        assert!(!known.take(Event::InitApply(object("b", 2))));
        assert_eq!(names(&known), ["a", "b"]);
        assert!(known.take(Event::InitDone));
        assert_eq!(names(&known), ["b"]);
        assert!(!known.take(Event::Apply(object("b", 2))), "nothing has changed");
        assert!(known.take(Event::Delete(object("b", 2))) && names(&known).is_empty());
        assert!(!known.take(Event::Delete(object("b", 2))));
    }

    #[test]
    fn two_nodes_with_one_id_are_reported_by_name() {
        let mut known = Known::default();
        known.put(&object("b", 1));
        known.put(&object("a", 1));
        assert_eq!(names(&known), ["a"]);
        let problems = known.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].what.contains("a and b"), "{problems:?}");
    }
}
