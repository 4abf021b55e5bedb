//! `bandwidth` behind `bridge`, on a node in memory.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

mod support;

use cni_spec::plugin::Plugin;
use cni_spec::{AddResult, ErrorCode};
use netops::{
    Answer, Discipline, Feature, Kernel, Link, LinkKind, LinkName, MemoryKernel, Place, Qdisc, Query,
    Redirect, Resource, TokenBucket, read_link, read_links,
};
use plugin_chain::Bandwidth;
use plugin_kit::testing::MemoryNode;
use plugin_kit::{Explain, Kit, error};
use serde_json::{Value, json};
use support::Chain;

const IFB: &str = "bwp623e1c388032";

fn limits() -> Value {
    json!({"ingressRate": 10_000_000, "ingressBurst": 80_000, "egressRate": 1_000_000, "egressBurst": 160_000})
}

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn chain(keys: Value) -> Chain {
    Chain::new("bandwidth", keys)
}

/// The host's end of the cable in a result.
fn host_end(result: &AddResult) -> LinkName {
    result.interfaces.iter().find(|i| i.name.starts_with("veth")).unwrap().name.parse().unwrap()
}

fn disciplines(node: &MemoryNode, link: &LinkName) -> Vec<Discipline> {
    match node.process().read(Place::Host, &[Query::Qdiscs(link.clone())]).unwrap().remove(0) {
        Answer::Qdiscs(qdiscs) => qdiscs.into_iter().map(|qdisc| qdisc.discipline).collect(),
        other => panic!("{other:?}"),
    }
}

fn redirects(node: &MemoryNode, link: &LinkName) -> Vec<Redirect> {
    match node.process().read(Place::Host, &[Query::Redirects(link.clone())]).unwrap().remove(0) {
        Answer::Redirects(redirects) => redirects,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_directions_have_a_token_bucket_and_the_result_has_the_ifb() {
    let chain = chain(limits());
    let before = chain.add_bridge("c1");
    let result = chain.add(Bandwidth, "c1", &before).unwrap();
    let host = host_end(&before);
    let into = TokenBucket { rate: 1_250_000, burst: 10_000, limit: 41_250 };
    let out = TokenBucket { rate: 125_000, burst: 20_000, limit: 23_125 };
    assert_eq!(disciplines(&chain.node, &host), [Discipline::TokenBucket(into), Discipline::Ingress]);
    assert_eq!(disciplines(&chain.node, &name(IFB)), [Discipline::TokenBucket(out)]);
    assert_eq!(redirects(&chain.node, &host), [Redirect { from: host, to: name(IFB) }]);

    let ifb = read_link(&mut chain.node.process(), Place::Host, &name(IFB)).unwrap().unwrap();
    assert!(ifb.up);
    assert_eq!(ifb.alias.as_deref(), Some("cnikit net c1 eth0"));
    let told = result.interfaces.last().unwrap();
    assert_eq!((told.name.as_str(), told.mac.clone()), (IFB, ifb.mac.map(|mac| mac.to_string())));
    assert_eq!(&result.interfaces[..3], &before.interfaces[..]);
    assert_eq!(result.ips, before.ips);
    chain.check(Bandwidth, "c1", &result).unwrap();
}

#[test]
fn one_direction_needs_no_more_than_one_queue() {
    let into = chain(json!({"ingressRate": 8_000_000, "ingressBurst": 80_000}));
    let before = into.add_bridge("c1");
    assert_eq!(into.add(Bandwidth, "c1", &before).unwrap(), before);
    assert_eq!(disciplines(&into.node, &host_end(&before)).len(), 1);
    assert_eq!(read_link(&mut into.node.process(), Place::Host, &name(IFB)).unwrap(), None);

    let out = chain(json!({"egressRate": 8_000_000, "egressBurst": 80_000}));
    let before = out.add_bridge("c1");
    out.add(Bandwidth, "c1", &before).unwrap();
    assert_eq!(disciplines(&out.node, &host_end(&before)), [Discipline::Ingress]);
}

#[test]
fn the_ifb_has_the_mtu_of_the_cable() {
    let mut chain = chain(limits());
    chain.bridge["mtu"] = json!(9000);
    let before = chain.add_bridge("c1");
    chain.add(Bandwidth, "c1", &before).unwrap();
    assert_eq!(read_link(&mut chain.node.process(), Place::Host, &name(IFB)).unwrap().unwrap().mtu, 9000);
}

#[test]
fn without_limits_nothing_is_done_and_the_result_passes_through() {
    for keys in [json!({}), json!({"ingressRate": 0, "ingressBurst": 0}), json!({"runtimeConfig": {}})] {
        let chain = chain(keys);
        let before = chain.add_bridge("c1");
        let snapshot = chain.node.snapshot();
        assert_eq!(chain.add(Bandwidth, "c1", &before).unwrap(), before);
        chain.node.snapshot().assert_same(&snapshot);
    }
}

#[test]
fn a_runtimes_limits_are_used_where_the_configuration_has_none_whatever_their_keys_case() {
    // As containerd sends them.
    let asked = json!({"IngressRate": 10_000_000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 0, "EgressBurst": 0});
    let runtime = chain(json!({"runtimeConfig": {"bandwidth": asked}}));
    let before = runtime.add_bridge("c1");
    let result = runtime.add(Bandwidth, "c1", &before).unwrap();
    let [Discipline::TokenBucket(bucket)] = disciplines(&runtime.node, &host_end(&before))[..] else {
        panic!()
    };
    assert_eq!((bucket.rate, bucket.limit), (1_250_000, 536_870_911 + 31_250));
    runtime.check(Bandwidth, "c1", &result).unwrap();

    let both = chain(json!({"ingressRate": 8, "ingressBurst": 8, "runtimeConfig": {"bandwidth": asked}}));
    let before = both.add_bridge("c1");
    both.add(Bandwidth, "c1", &before).unwrap();
    let [Discipline::TokenBucket(bucket)] = disciplines(&both.node, &host_end(&before))[..] else { panic!() };
    assert_eq!(bucket.rate, 1);
}

#[test]
fn what_makes_no_sense_is_refused_by_name_and_changes_nothing() {
    for (keys, word) in [
        (json!({"ingressRate": 1000}), "ingressBurst"),
        (json!({"egressBurst": 1000}), "egressRate"),
        (json!({"ingressRate": u64::MAX, "ingressBurst": u64::MAX}), "4 GiB"),
        (json!({"ingressRate": -1, "ingressBurst": 8}), "ingressRate"),
        (json!({"ingressRate": 1.5, "ingressBurst": 8}), "ingressRate"),
        (json!({"runtimeConfig": {"bandwidth": {"egressRate": 1000}}}), "egressBurst"),
        (json!({"runtimeConfig": {"bandwidth": {"egressRate": "fast"}}}), "egressRate"),
    ] {
        let chain = chain(keys);
        let before = chain.add_bridge("c1");
        let snapshot = chain.node.snapshot();
        let error = chain.add(Bandwidth, "c1", &before).unwrap_err();
        assert_eq!(error.code(), ErrorCode::INVALID_CONFIG);
        assert!(error.to_string().contains(word), "{error}");
        chain.node.snapshot().assert_same(&snapshot);
        // The reference's DEL refuses such a configuration too, and everything stays for ever.
        chain.del(Bandwidth, "c1").unwrap();
    }
}

#[test]
fn an_interface_that_is_no_cable_is_refused() {
    let chain = chain(limits());
    let mut before = chain.add_bridge("c1");
    before.interfaces.retain(|interface| !interface.name.starts_with("veth"));
    let error = chain.add(Bandwidth, "c1", &before).unwrap_err();
    assert!(error.msg().contains("host's end of \"eth0\""), "{error}");
    // One without a container's interface: an earlier ADD's result for a namespace that is another's by now.
    let before = chain.add_bridge("c2");
    let error = chain.add(Bandwidth, "c3", &before).unwrap_err();
    assert!(error.msg().contains("no interface \"eth0\""), "{error}");
}

#[test]
fn whatever_fails_nothing_is_left() {
    let [into, out] = [
        json!({"ingressRate": 10_000_000, "ingressBurst": 80_000}),
        json!({"egressRate": 1_000_000, "egressBurst": 160_000}),
    ];
    for (limits, least) in [(limits(), [20, 10, 3]), (into, [10, 5, 0]), (out, [20, 10, 3])] {
        let config = support::configuration("bandwidth", limits);
        // What is on the cable goes with it.
        let trial = support::behind_bridge(Bandwidth, &config).until_others_del(support::del_bridge);
        support::fails_well(&trial, least);
    }
}

#[test]
fn del_needs_no_more_than_the_names_and_can_be_repeated() {
    let chain = chain(limits());
    let before = chain.add_bridge("c1");
    chain.add(Bandwidth, "c1", &before).unwrap();
    chain.node.end_container("c1");
    let nameless = chain.call("c1").without_netns();
    for _ in 0..2 {
        Kit::with_kernels(Bandwidth, &chain.node).del(&nameless.del_request()).unwrap();
        assert_eq!(read_link(&mut chain.node.process(), Place::Host, &name(IFB)).unwrap(), None);
    }
    // One that was never added.
    chain.del(Bandwidth, "c9").unwrap();
}

#[test]
fn del_removes_the_references_ifb_but_nothing_that_is_someone_elses() {
    let make = |link: Link| {
        let chain = chain(limits());
        let made = chain.node.process().create(Place::Host, &[&Resource::Link(link)]).remove(0);
        made.unwrap();
        chain.del(Bandwidth, "c1").unwrap();
        read_link(&mut chain.node.process(), Place::Host, &name(IFB)).unwrap().is_some()
    };
    let ifb = || Link::new(name(IFB), LinkKind::Ifb);
    let alias = |text| Some(netops::Mark::new(text).unwrap());
    assert!(!make(ifb()), "the reference's");
    assert!(
        make(Link { mark: alias("cnikit net c1 eth1"), ..ifb() }),
        "another interface's of the container"
    );
    assert!(make(Link::new(name(IFB), LinkKind::Dummy)), "something else");
}

#[test]
fn gc_removes_what_is_not_valid_any_more() {
    let chain = chain(limits());
    for container in ["c1", "c2"] {
        let before = chain.add_bridge(container);
        chain.add(Bandwidth, container, &before).unwrap();
    }
    let ifbs = || {
        let links = read_links(&mut chain.node.process(), Place::Host).unwrap();
        links.into_iter().filter(|link| link.kind == "ifb").filter_map(|link| link.alias).collect::<Vec<_>>()
    };
    assert_eq!(ifbs().len(), 2);
    let plugin = Kit::with_kernels(Bandwidth, &chain.node);
    plugin.gc(&chain.call("c1").gc_request(&[("c2", "eth0")])).unwrap();
    assert_eq!(ifbs(), ["cnikit net c2 eth0"]);
    plugin.status(&chain.call("c1").status_request()).unwrap();
}

#[test]
fn check_names_what_is_not_as_it_was_left() {
    let host = |result: &AddResult| host_end(result);
    let bucket = |link: LinkName, rate| {
        let discipline = Discipline::TokenBucket(TokenBucket { rate, burst: 10_000, limit: 41_250 });
        Resource::Qdisc(Qdisc { link, discipline })
    };
    type Damage<'a> = &'a dyn Fn(&mut MemoryKernel, &AddResult);
    let remove = |kernel: &mut MemoryKernel, resource: Resource| {
        kernel.remove(Place::Host, &[&resource]).remove(0).unwrap();
    };
    let damages: &[(Damage<'_>, &str)] = &[
        (&|kernel, result| remove(kernel, bucket(host(result), 0)), "token bucket on"),
        (
            &|kernel, result| {
                remove(kernel, bucket(host(result), 0));
                kernel.create(Place::Host, &[&bucket(host(result), 7)]).remove(0).unwrap();
            },
            "rate is 7 bytes/s, not 1250000 bytes/s",
        ),
        (&|kernel, _| remove(kernel, Resource::Link(Link::new(name(IFB), LinkKind::Ifb))), "ifb \"bwp"),
        (
            &|kernel, result| {
                remove(kernel, Resource::Redirect(Redirect { from: host(result), to: name(IFB) }));
            },
            "redirection of",
        ),
    ];
    for (damage, word) in damages {
        let chain = chain(limits());
        let before = chain.add_bridge("c1");
        let result = chain.add(Bandwidth, "c1", &before).unwrap();
        damage(&mut chain.node.process(), &result);
        let error = chain.check(Bandwidth, "c1", &result).unwrap_err();
        assert_eq!(error.code(), error::DIFFERS);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn what_a_kernel_lacks_is_named() {
    for (feature, option) in [
        (Feature::Ifb, "CONFIG_IFB"),
        (Feature::TokenBucket, "CONFIG_NET_SCH_TBF"),
        (Feature::Ingress, "CONFIG_NET_SCH_INGRESS"),
        (Feature::Redirect, "CONFIG_NET_CLS_U32"),
    ] {
        let mut chain = chain(limits());
        chain.node = MemoryNode::with_kernel(MemoryKernel::new().lacking(feature));
        let before = chain.add_bridge("c1");
        let snapshot = chain.node.snapshot();
        let error = chain.add(Bandwidth, "c1", &before).unwrap_err();
        assert!(error.to_string().contains(option), "{error}");
        chain.node.snapshot().assert_same(&snapshot);
    }
}

#[test]
fn it_can_be_explained_before_anything_is_there() {
    let chain = chain(limits());
    let before = chain.add_bridge("c1");
    let mut script = netops::Script::new("blue");
    let call = chain.call("c1").previous(&before).request();
    let explained = Kit::new(Bandwidth).explain(&call, &mut script).unwrap();
    explained.plan.apply(&mut script).unwrap();
    let text = script.to_string();
    let host = host_end(&before);
    for line in [
        format!("tc qdisc add dev {host} root handle 1: tbf rate 1250000bps burst 10000 limit 41250"),
        format!("tc qdisc add dev {IFB} root handle 1: tbf rate 125000bps burst 20000 limit 23125"),
        format!("tc qdisc add dev {host} handle ffff: ingress"),
        format!(
            "tc filter add dev {host} parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev {IFB}"
        ),
    ] {
        assert!(text.lines().any(|typed| typed == line), "{line}\n{text}");
    }
}
