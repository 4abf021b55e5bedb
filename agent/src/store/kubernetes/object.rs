//! A Node of the API, and the node that it is.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as Object;
use overlay::{Liveness, Local, Machine, Node, NodeName, Subnet, SubnetState};

use crate::identity;

/// The annotation in which an agent says what the API does not know: the node's id, its end of tunnels, MTU, mode and role.
pub(super) const ANNOTATION: &str = "cnikit.io/node";
/// More pods than this outside of a node's subnets are not told: annotations are for what is small.
const MOST_STRAYS: usize = 100;

/// Nor is a longer annotation read, in bytes: a hundred pods take a quarter of that. The API lets a Node have four times as much,
/// and every agent holds those of all.
const LONGEST: usize = 64 << 10;

/// What is taken from a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// What the node says in its annotation, if it says something; or why that makes no sense.
    pub(super) said: Option<Result<Node, String>>,
    /// What of that was not believed.
    pub(super) nonsense: Option<String>,
    /// The annotation's text, if it is one that is read.
    pub(super) annotation: Option<String>,
    /// `spec.podCIDRs`: from the controller manager, never changed.
    pub(super) pod_cidrs: Vec<IpNet>,
    pub(super) liveness: Liveness,
}

impl Seen {
    /// Reads a Node: its name, and what is of use.
    pub(super) fn of(object: &Object) -> Option<(NodeName, Self)> {
        let name = object.metadata.name.as_deref()?;
        let name = NodeName::new(name).ok()?;
        let annotation = object.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
        let pod_cidrs = pod_cidrs(object);
        let mut said = annotation.map(|text| {
            if text.len() > LONGEST {
                return Err(format!("it is {} bytes long", text.len()));
            }
            let mut node: Node = serde_json::from_str(text).map_err(|error| error.to_string())?;
            // These are the API's to say.
            node.name = name.clone();
            node.subnets = pod_cidrs.iter().map(|prefix| held(*prefix)).collect();
            node.pods.truncate(MOST_STRAYS);
            node.machine = node.machine.or(machine(object));
            if node.addresses.is_empty() {
                node.addresses = internal_addresses(object);
            }
            Ok(node)
        });
        let nonsense = said.as_mut().and_then(|said| said.as_mut().ok()?.take_out_nonsense());
        let liveness = liveness(object);
        let annotation = annotation.filter(|text| text.len() <= LONGEST).cloned();
        Some((name, Self { said, nonsense, annotation, pod_cidrs, liveness }))
    }

    /// The node, if its agent has said that it is one.
    pub(super) fn node(&self) -> Option<&Node> {
        self.said.as_ref()?.as_ref().ok()
    }
}

/// The text of this node's annotation. Of its pods only those outside of its subnets: nobody finds them otherwise.
pub(super) fn annotation(local: &Local, subnets: &[Subnet]) -> Result<String, String> {
    let mut node = local.with_subnets(subnets.to_vec());
    let strays: Vec<IpAddr> = node.stray_addresses().collect();
    node.pods.retain(|pod| pod.addresses().iter().any(|address| strays.contains(address)));
    node.pods.truncate(MOST_STRAYS);
    node.subnets.clear();
    serde_json::to_string(&node).map_err(|error| error.to_string())
}

fn held(prefix: IpNet) -> Subnet {
    Subnet { prefix, state: SubnetState::Held }
}

fn pod_cidrs(object: &Object) -> Vec<IpNet> {
    let Some(spec) = &object.spec else { return Vec::new() };
    // Clusters of one family may have the older field alone.
    let texts = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    let mut found: Vec<IpNet> = Vec::new();
    for prefix in texts.filter_map(|text| text.parse::<IpNet>().ok()).map(|prefix| prefix.trunc()) {
        if !found.contains(&prefix) {
            found.push(prefix);
        }
    }
    found
}

fn internal_addresses(object: &Object) -> Vec<IpAddr> {
    let addresses = object.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

/// As the kubelet has it: an agent in a container sees no machine id.
fn machine(object: &Object) -> Machine {
    let info = object.status.as_ref().and_then(|status| status.node_info.as_ref());
    identity::machine_of(info.map(|info| info.machine_id.as_str()), info.map(|info| info.boot_id.as_str()))
}

/// A kubelet that says that it is not ready is there; one that says nothing is not.
fn liveness(object: &Object) -> Liveness {
    let mut conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.find(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str()) {
        Some("True") => Liveness::Alive,
        Some("False") => Liveness::Suspect,
        Some(_) => Liveness::Down,
        None => Liveness::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use overlay::{Mode, NodeId, Pod, Role};

    use super::*;

    fn object(value: serde_json::Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    fn local() -> Local {
        let pod = |container: &str, address: &str| Pod::new(container, "eth0", [address.parse().unwrap()]);
        Local {
            id: NodeId::from_bytes([1; 16]),
            name: NodeName::new("n1").unwrap(),
            addresses: vec![],
            role: Role::Worker,
            mode: Mode::Vxlan,
            tunnel: None,
            mtu: 1400,
            machine: Machine::default(),
            pods: vec![pod("inside", "10.244.1.5"), pod("stray", "10.244.9.5")],
        }
    }

    #[test]
    fn a_node_is_what_the_api_and_its_agent_say() {
        let subnets = [held("10.244.1.0/24".parse().unwrap())];
        let text = annotation(&local(), &subnets).unwrap();
        assert!(text.contains("stray") && !text.contains("inside"), "{text}");
        let (name, seen) = Seen::of(&object(serde_json::json!({
            "metadata": { "name": "n1", "annotations": { ANNOTATION: text } },
            "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"] },
            "status": {
                "nodeInfo": { "machineID": "0123456789abcdef0123456789abcdef", "bootID": "b" },
                "addresses": [
                    { "type": "Hostname", "address": "n1" },
                    { "type": "ExternalIP", "address": "203.0.113.1" },
                    { "type": "InternalIP", "address": "192.168.1.11" },
                    { "type": "InternalIP", "address": "fd00::11" },
                ],
                "conditions": [{ "type": "MemoryPressure", "status": "False" }, { "type": "Ready", "status": "True" }],
            },
        })))
        .unwrap();
        let node = seen.node().unwrap();
        assert_eq!((name.as_str(), node.id, node.mtu, node.mode), ("n1", local().id, 1400, Mode::Vxlan));
        assert_eq!(
            node.held().map(|net| net.to_string()).collect::<Vec<_>>(),
            ["10.244.1.0/24", "fd00:1::/64"]
        );
        assert_eq!(
            node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.168.1.11", "fd00::11"]
        );
        let machine = identity::machine_of(Some("0123456789abcdef0123456789abcdef"), Some("b"));
        assert_eq!(node.machine, machine);
        assert_eq!((seen.liveness, node.stray_addresses().count()), (Liveness::Alive, 1));
    }

    #[test]
    fn what_an_agent_says_of_itself_does_not_make_subnets_its_own() {
        let mut other = local();
        other.addresses = vec!["192.168.1.77".parse().unwrap()];
        let mut claimed = other.with_subnets(vec![held("10.0.0.0/8".parse().unwrap())]);
        claimed.name = NodeName::new("n9").unwrap();
        let (_, seen) = Seen::of(&object(serde_json::json!({
            "metadata": { "name": "n1", "annotations": { ANNOTATION: serde_json::to_string(&claimed).unwrap() } },
        })))
        .unwrap();
        let node = seen.node().unwrap();
        assert_eq!((node.held().count(), node.name.as_str(), seen.liveness), (0, "n1", Liveness::Unknown));
        assert_eq!(node.addresses, other.addresses);
    }

    #[test]
    fn without_an_annotation_it_is_no_node_of_ours() {
        let seen = |text: serde_json::Value| Seen::of(&object(text)).map(|(_, seen)| seen);
        let bare =
            seen(serde_json::json!({ "metadata": { "name": "n1" }, "spec": { "podCIDR": "10.244.1.0/24" } }))
                .unwrap();
        assert_eq!((bare.node(), bare.said.is_none(), bare.pod_cidrs.len()), (None, true, 1));
        let strange =
            seen(serde_json::json!({ "metadata": { "name": "n1", "annotations": { ANNOTATION: "{}" } } }))
                .unwrap();
        assert!(matches!(strange.said, Some(Err(_))));
        // Nor is one without end kept.
        let long = serde_json::to_string(&local().with_subnets(vec![])).unwrap() + &" ".repeat(LONGEST);
        let long =
            seen(serde_json::json!({ "metadata": { "name": "n1", "annotations": { ANNOTATION: long } } }))
                .unwrap();
        assert!(long.said.is_some_and(|said| said.is_err_and(|why| why.contains("bytes long"))));
        assert_eq!(long.annotation, None);
        assert_eq!(seen(serde_json::json!({ "metadata": {} })), None);
    }
}
