use std::fs;
use std::time::Duration;

use overlay::{Range, report::Forgotten};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;

const THREE: &str = include_str!("../../../examples/three-nodes.json");

/// The example's.
fn of_v4() -> Pool {
    Pool::new(vec![pool().ranges()[0]]).unwrap()
}

fn pool() -> Pool {
    Pool::new(vec![
        Range { cluster: "10.244.0.0/16".parse().unwrap(), subnet_length: 24 },
        Range { cluster: "fd00:10::/48".parse().unwrap(), subnet_length: 64 },
    ])
    .unwrap()
}

fn local(name: &str) -> Local {
    Local {
        id: identity::of_name(name),
        name: NodeName::new(name).unwrap(),
        addresses: vec!["192.168.1.11".parse().unwrap()],
        role: Role::Worker,
        mode: Mode::Auto,
        tunnel: None,
        mtu: 1500,
        machine: overlay::Machine::default(),
        pods: Vec::new(),
    }
}

fn nodes(text: &str) -> Result<Vec<ListedNode>, String> {
    file::parse(text, &pool())
}

#[test]
fn the_example_is_three_nodes_with_a_subnet_each() {
    let store = Listed { source: Source::Addresses, pool: of_v4(), nodes: nodes(THREE).unwrap() };
    let view = store.view(&local("n2"), None);
    assert_eq!(view.topology.members().len(), 3);
    assert_eq!(view.subnets, [Subnet { prefix: "10.244.2.0/24".parse().unwrap(), state: SubnetState::Held }]);
    assert_eq!((view.waiting, view.cut_off), (None, None));
    let peer = view.topology.named("n3").next().unwrap();
    assert_eq!(peer.liveness, Liveness::Unknown);
    assert_eq!(peer.node.addresses, ["192.168.1.13".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn that_a_list_does_not_tell_of_pods_is_said() {
    let store = Listed { source: Source::Addresses, pool: of_v4(), nodes: nodes(THREE).unwrap() };
    let listed = store.pods().unwrap().list(Duration::from_secs(8)).await;
    assert!(listed.pods.is_empty() && listed.lacking.is_some(), "{listed:?}");
}

#[test]
fn a_node_that_lacks_a_family_says_which() {
    let store = Listed { source: Source::Addresses, pool: pool(), nodes: nodes(THREE).unwrap() };
    assert!(store.view(&local("n2"), None).waiting.unwrap().ends_with("gives node \"n2\" no subnet of IPv6"));
}

#[test]
fn a_node_that_is_not_listed_waits_and_says_so() {
    let store = Listed { source: Source::Addresses, pool: pool(), nodes: nodes(THREE).unwrap() };
    let view = store.view(&local("n9"), None);
    assert!(view.waiting.unwrap().contains("no node \"n9\""));
    assert_eq!(view.topology.members().len(), 4);
}

#[test]
fn contradictions_are_refused_with_the_names() {
    let node = |name: &str, address: &str, subnet: &str| {
        format!(r#"{{"name": "{name}", "addresses": ["{address}"], "subnets": ["{subnet}"]}}"#)
    };
    let both = |one: String, other: String| nodes(&format!(r#"{{"nodes": [{one}, {other}]}}"#)).unwrap_err();
    let first = || node("n1", "10.0.0.1", "10.244.1.0/24");
    for (other, complaint) in [
        (node("n1", "10.0.0.2", "10.244.2.0/24"), "node \"n1\" is there twice"),
        (node("n2", "10.0.0.1", "10.244.2.0/24"), "nodes \"n1\" and \"n2\" both have address 10.0.0.1"),
        (
            node("n2", "10.0.0.2", "10.244.1.128/25"),
            "10.244.1.0/24 of node \"n1\" and 10.244.1.128/25 of node \"n2\"",
        ),
        (node("n2", "10.0.0.2", "10.244.2.7/24"), "did you mean 10.244.2.0/24?"),
        (node("n2", "10.0.0.2", "10.1.0.0/24"), "node \"n2\": 10.1.0.0/24 is not in the cluster's range"),
        (node("n2", "127.0.0.1", "10.244.2.0/24"), "node \"n2\": no node is at 127.0.0.1"),
        (r#"{"name": "n2", "addresses": []}"#.to_owned(), "node \"n2\" has no address"),
        (r#"{"name": "n2", "addresses": ["x"]}"#.to_owned(), "nodes[1].addresses[0]: invalid IP address"),
        (r#"{"name": "n2", "address": ["x"]}"#.to_owned(), "unknown field `address`"),
    ] {
        let refused = both(first(), other);
        assert!(refused.contains(complaint), "{refused}");
    }
}

#[test]
fn a_subnet_follows_from_an_address() {
    let addresses = ["192.168.1.11", "192.168.1.12"].map(|text| text.parse().unwrap());
    let store = Listed::derived(&addresses, &pool()).unwrap();
    let name = NodeName::new("n1").unwrap();
    let mut local = local("n1");
    local.id = store.own_id(&name, &local.addresses).unwrap();
    let view = store.view(&local, None);
    let prefixes: Vec<_> = view.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.244.11.0/24", "fd00:10:0:10b::/64"]);
    assert_eq!(view.topology.members().len(), 2);
    assert!(
        store.own_id(&name, &["10.0.0.1".parse().unwrap()]).unwrap_err().contains("no address of this node")
    );
}

#[test]
fn two_addresses_that_give_one_subnet_are_refused() {
    let addresses = ["192.168.1.11", "192.168.2.11"].map(|text| text.parse().unwrap());
    let refused = Listed::derived(&addresses, &pool()).unwrap_err();
    assert!(refused.contains("10.244.11.0/24 follows from 192.168.1.11 and from 192.168.2.11"), "{refused}");
}

struct AtWork {
    local: watch::Sender<Arc<Local>>,
    view: watch::Receiver<Arc<View>>,
    requests: mpsc::Sender<Request>,
}

impl AtWork {
    fn start(store: Listed) -> Self {
        let (local, local_receiver) = watch::channel(Arc::new(local("n1")));
        let (view_sender, view) = watch::channel(Arc::default());
        let (requests, requests_receiver) = mpsc::channel(1);
        let links = Links { local: local_receiver, view: view_sender, requests: requests_receiver };
        tokio::spawn(Box::new(store).run(links));
        Self { local, view, requests }
    }

    async fn wait(&mut self, is_so: impl Fn(&View) -> bool) -> Arc<View> {
        let waiting = self.view.wait_for(|view| is_so(view));
        timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap().clone()
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_read_and_one_that_makes_no_sense_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodes.json");
    fs::write(&path, r#"{"nodes": [{"name": "n1", "addresses": ["10.0.0.1"]}]}"#).unwrap();
    let (_told, reload) = watch::channel(());
    let mut store = AtWork::start(Listed::from_file(path.clone(), pool(), reload).unwrap());
    store.wait(|view| view.topology.members().len() == 1).await;

    let replacement = directory.path().join("new");
    fs::write(&replacement, THREE).unwrap();
    fs::rename(&replacement, &path).unwrap();
    store.wait(|view| view.topology.members().len() == 3).await;

    fs::write(&path, "{").unwrap();
    let view = store.wait(|view| !view.problems.is_empty()).await;
    assert_eq!(view.topology.members().len(), 3);
    assert!(view.problems[0].what.contains("nodes.json"), "{view:?}");

    fs::write(&path, THREE).unwrap();
    store.wait(|view| view.problems.is_empty()).await;
}

#[tokio::test]
async fn what_the_node_says_of_itself_is_in_the_view() {
    let (_told, reload) = watch::channel(());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), THREE).unwrap();
    let mut store = AtWork::start(Listed::from_file(file.path().to_owned(), pool(), reload).unwrap());
    store.local.send_modify(|local| Arc::make_mut(local).mtu = 9000);
    let view = store.wait(|view| view.topology.named("n1").any(|own| own.node.mtu == 9000)).await;
    // A peer of which the list does not say it is taken to be like this node.
    assert!(view.topology.named("n2").all(|peer| peer.node.mtu == 9000));
    let (reply, answer) = oneshot::channel::<Result<Forgotten, String>>();
    store.requests.send(Request::Forget { node: "n2".to_owned(), reply }).await.unwrap();
    assert!(answer.await.unwrap().unwrap_err().contains("by hand"));
}
