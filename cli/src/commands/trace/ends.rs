//! Who is meant: a pod of this node or the node itself at one end, anything with an address at the other.

use std::net::IpAddr;

use overlay::report::{Map, MapNode};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::harmless;

/// The word for the node itself.
pub(super) const THIS_NODE: &str = "node";

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HerePod {
    /// The runtime's name for it.
    pub(super) container: String,
    /// What Kubernetes calls it.
    pub(super) name: Option<String>,
    pub(super) interface: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_interface: Option<String>,
    /// Its namespace's path, where somebody remembers it.
    pub(super) netns: Option<String>,
}

impl HerePod {
    /// What people call it.
    pub(super) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.container.clone())
    }

    /// Its address of the family of another.
    pub(super) fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == other.is_ipv4())
    }
}

/// Where a packet begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    Node,
    Pod(Vec<HerePod>),
}

impl Begin {
    /// What people call the pod. Not each of its interfaces is known by name: containerd's `loopback` is no pod's to Kubernetes.
    pub(super) fn pod(&self) -> Option<String> {
        match self {
            Self::Node => None,
            Self::Pod(interfaces) => {
                let named = interfaces.iter().find(|interface| interface.name.is_some());
                named.or_else(|| interfaces.first()).map(HerePod::label)
            }
        }
    }
}

/// The pod of this node that is meant, with all of its interfaces; or the node.
pub(super) fn source(word: &str, pods: &[HerePod], here: Option<&MapNode>) -> Result<Begin, Failure> {
    let is_node = |node: &MapNode| {
        let node = &node.node;
        node.name.as_str() == word || node.addresses.iter().any(|address| address.to_string() == word)
    };
    if word == THIS_NODE || here.is_some_and(is_node) {
        return Ok(Begin::Node);
    }
    let address: Option<IpAddr> = word.parse().ok();
    let is_meant = |pod: &&HerePod| match address {
        Some(address) => pod.addresses.contains(&address),
        None => pod.name.as_deref() == Some(word) || pod.container.starts_with(word),
    };
    let mut found: Vec<HerePod> = pods.iter().filter(is_meant).cloned().collect();
    let mut containers: Vec<_> = found.iter().map(|pod| pod.container.clone()).collect();
    containers.dedup();
    match containers.as_slice() {
        [] => Err(unknown_source(word, pods)),
        [container] => {
            if address.is_none() {
                found = pods.iter().filter(|pod| pod.container == *container).cloned().collect();
            }
            Ok(Begin::Pod(found))
        }
        several => Err(Failure::new(Exit::Usage, format!("several pods may be meant by {word:?}"))
            .advise(format!("say which: {}", several.join(", ")))),
    }
}

fn unknown_source(word: &str, pods: &[HerePod]) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("{word:?} is no pod of this node, nor the node"));
    let mut known: Vec<_> = pods.iter().map(HerePod::label).collect();
    known.dedup();
    known.truncate(8);
    if known.is_empty() {
        return failure.advise(format!("there are no pods here; {THIS_NODE:?} is the node itself"));
    }
    failure.advise(format!("for example {}; {THIS_NODE:?} is the node itself", known.join(", ")))
}

/// The address that is meant: itself, or a pod's or a node's anywhere, of the family that the source has, if it may be
/// chosen.
pub(super) fn destination(
    word: &str,
    pods: &[HerePod],
    map: Option<&Map>,
    speaks: impl Fn(IpAddr) -> bool,
) -> Result<IpAddr, Failure> {
    if let Ok(address) = word.parse() {
        return Ok(address);
    }
    let nodes = || map.into_iter().flat_map(|map| &map.nodes);
    let named = |pod: &overlay::Pod| pod.to_string() == word || pod.container() == word;
    let of_pods =
        nodes().flat_map(|node| &node.node.pods).filter(|pod| named(pod)).flat_map(overlay::Pod::addresses);
    let of_nodes =
        nodes().filter(|node| node.node.name.as_str() == word).flat_map(|node| &node.node.addresses);
    let here = pods.iter().filter(|pod| pod.name.as_deref() == Some(word) || pod.container == word);
    let here = here.flat_map(|pod| &pod.addresses);
    let found: Vec<IpAddr> = here.chain(of_pods).chain(of_nodes).copied().collect();
    match found.iter().copied().find(|address| speaks(*address)) {
        Some(address) => Ok(address),
        None if found.is_empty() => {
            let failure = Failure::new(
                Exit::Usage,
                format!("{word:?} is no address, and no pod or node that is known has that name"),
            );
            Err(match map.and_then(|map| map.lacking_pods.as_deref()) {
                Some(why) => failure.advise(format!(
                    "pods of other nodes may be missing ({}): give an address",
                    harmless(why)
                )),
                None => failure.advise("give an address, or a name that `cnikit topology --all` shows"),
            })
        }
        None => {
            Err(Failure::new(Exit::Usage, format!("{word:?} has no address of a family that the source has")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    fn pod(container: &str, name: Option<&str>, interface: &str, address: &str) -> HerePod {
        HerePod {
            container: container.to_owned(),
            name: name.map(str::to_owned),
            interface: interface.to_owned(),
            addresses: vec![address.parse().unwrap()],
            host_interface: None,
            netns: None,
        }
    }

    fn pods() -> Vec<HerePod> {
        vec![
            pod("abc123", Some("default/web-1"), "eth0", "10.244.1.2"),
            pod("abc123", Some("default/web-1"), "net1", "10.203.0.2"),
            pod("abd456", None, "eth0", "10.244.1.3"),
        ]
    }

    #[test]
    fn a_source_is_a_name_a_beginning_an_address_or_the_node() {
        let pods = pods();
        let map = fixtures::map();
        let interfaces = |word: &str| match source(word, &pods, map.nodes.first()) {
            Ok(Begin::Pod(found)) => found.into_iter().map(|pod| pod.interface).collect::<Vec<_>>().join(" "),
            Ok(Begin::Node) => "node".to_owned(),
            Err(failure) => failure.message().unwrap().to_owned(),
        };
        assert_eq!(interfaces("default/web-1"), "eth0 net1");
        assert_eq!(interfaces("abc"), "eth0 net1");
        assert_eq!(interfaces("10.203.0.2"), "net1", "an address says which interface");
        for word in ["node", "n1", "192.168.1.11"] {
            assert_eq!(interfaces(word), "node");
        }
        assert!(interfaces("ab").starts_with("several pods"));
        assert!(interfaces("web").contains("no pod of this node"));
    }

    #[test]
    fn a_pod_is_called_by_its_name_also_if_one_interface_has_none() {
        let loopback = pod("abc123", None, "lo", "127.0.0.1");
        let all: Vec<HerePod> = std::iter::once(loopback).chain(pods()).collect();
        let begin = source("default/web-1", &all, None).unwrap();
        assert!(matches!(&begin, Begin::Pod(found) if found.len() == 3), "{begin:?}");
        assert_eq!(begin.pod().as_deref(), Some("default/web-1"));
        assert_eq!(source("abd", &all, None).unwrap().pod().as_deref(), Some("abd456"));
        assert_eq!(Begin::Node.pod(), None);
    }

    #[test]
    fn a_destination_is_an_address_or_whoever_is_known_by_a_name() {
        let map = fixtures::map();
        let find = |word: &str| destination(word, &pods(), Some(&map), |address| address.is_ipv4());
        assert_eq!(find("8.8.8.8").unwrap().to_string(), "8.8.8.8");
        assert_eq!(find("default/db-1").unwrap().to_string(), "10.244.2.2");
        assert_eq!(find("n3").unwrap().to_string(), "10.1.0.13");
        assert_eq!(find("abd456").unwrap().to_string(), "10.244.1.3");
        assert_eq!(find("nobody").unwrap_err().exit(), Exit::Usage);
        let map = Map { lacking_pods: Some("pods is forbidden".to_owned()), ..map.clone() };
        let unknown = destination("nobody", &pods(), Some(&map), |_| true).unwrap_err();
        assert!(unknown.advice()[0].contains("may be missing (pods is forbidden)"), "{unknown:?}");
        let ipv6_only = destination("n3", &[], Some(&map), |address| address.is_ipv6());
        assert!(ipv6_only.unwrap_err().message().unwrap().contains("family"));
    }
}
