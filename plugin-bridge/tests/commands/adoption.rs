//! What the reference left, and what others took: removed, collected, made again.

use cni_spec::plugin::Plugin;
use netops::{Answer, EntryKind, Errno, Family, ForeignChain, Kernel, MemoryKernel, Place, Query, Resource};
use plugin_kit::testing::{Fault, MemoryNode};
use plugin_kit::{Explain, RepairMode};
use serde_json::json;

use crate::{Network, veth};

/// A node with the reference's rules for the container `a`, and for another.
fn adopted() -> Network {
    let chain = |container: &str| {
        let name = masquerade_chain(&format!("net{container}"));
        ForeignChain::new(Family::Ipv4, "nat", &name).called_from(&["POSTROUTING"])
    };
    let kernel = MemoryKernel::new()
        .with_foreign(chain("a"), r#"name: "net" id: "a""#)
        .with_foreign(chain("b"), r#"name: "net" id: "b""#);
    let mut net = Network::new(json!({"ipMasq": true}));
    net.node = MemoryNode::with_kernel(kernel);
    net
}

/// What the reference calls the chain of a network and a container.
fn masquerade_chain(names: &str) -> String {
    let script = format!("printf %s {names} | sha512sum | cut -c1-24");
    let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
    format!("CNI-{}", String::from_utf8(said).unwrap().trim())
}

fn foreign_lines(net: &Network) -> usize {
    net.node.snapshot().lines().iter().filter(|line| line.contains("chain ip nat CNI-")).count()
}

#[test]
fn the_references_rules_go_with_del_and_with_gc_and_only_the_pods_own() {
    let net = adopted();
    assert_eq!(foreign_lines(&net), 2);
    net.plugin().del(&net.call("a").without_netns().del_request()).unwrap();
    assert_eq!(foreign_lines(&net), 1);

    let net = adopted();
    net.plugin().gc(&net.call("x").gc_request(&[("b", "eth0")])).unwrap();
    assert_eq!(foreign_lines(&net), 1);
    net.plugin().gc(&net.call("x").gc_request(&[("b", "eth0"), ("a", "eth0")])).unwrap();
    assert_eq!(foreign_lines(&net), 1);
}

#[test]
fn a_del_that_fails_anywhere_leaves_the_references_rules_to_the_next() {
    for n in 0..12 {
        let net = adopted();
        net.node.fail_at(n, Fault::Refused(Errno::ENOBUFS));
        let _ = net.plugin().del(&net.call("a").without_netns().del_request());
        net.node.heal();
        net.plugin().del(&net.call("a").without_netns().del_request()).unwrap();
        assert_eq!(foreign_lines(&net), 1);
    }
}

#[test]
fn repair_makes_what_is_missing_and_nothing_of_what_is_gone() {
    let net = Network::new(json!({"ipMasq": true, "macspoofchk": true}));
    let result = net.add("a").unwrap();
    let before = net.node.snapshot();
    let call = net.call("a").previous(&result).request();
    let lose = || {
        let queries = EntryKind::ALL.iter().map(|kind| Query::Entries(*kind)).collect::<Vec<_>>();
        let mut process = net.node.process();
        for answer in process.read(Place::Host, &queries).unwrap() {
            let Answer::Entries(entries) = answer else { panic!("{answer:?}") };
            for entry in entries {
                process.remove(Place::Host, &[&Resource::Entry(entry)]).remove(0).unwrap();
            }
        }
    };
    lose();
    let looked = net.plugin().repair(&call, RepairMode::Look).unwrap();
    assert_eq!((looked.made.len(), looked.failed.len()), (2, 0));
    assert_ne!(net.node.snapshot(), before);
    let repaired = net.plugin().repair(&call, RepairMode::Make).unwrap();
    assert_eq!((repaired.made.len(), repaired.failed.len(), repaired.gone), (2, 0, false));
    assert_eq!(net.node.snapshot(), before);
    assert_eq!(net.plugin().repair(&call, RepairMode::Make).unwrap().made, [""; 0]);

    // Whatever fails, no more is made than is missing, and the next makes the rest.
    for n in 0..20 {
        lose();
        net.node.fail_at(n, Fault::Refused(Errno::ENOBUFS));
        let _ = net.plugin().repair(&call, RepairMode::Make);
        net.node.heal();
        assert!(net.plugin().repair(&call, RepairMode::Make).unwrap().failed.is_empty());
        assert_eq!(net.node.snapshot(), before);
    }

    // The interface has gone: its entries go.
    let eth0 = net.node.process().remove(Place::Container, &[&veth("eth0", "x")]).remove(0);
    eth0.unwrap();
    assert!(net.plugin().repair(&call, RepairMode::Make).unwrap().gone);
    assert!(!net.node.snapshot().lines().iter().any(|line| line.contains("# cnikit net a")));
}
