//! Token buckets and redirections as `tc` shows them.

use netops::*;
use serde_json::Value;

use crate::in_lab;
use crate::support::{Lab, name};

fn qdisc(link: &str, discipline: Discipline) -> Resource {
    Resource::Qdisc(Qdisc { link: name(link), discipline })
}

fn bucket(rate: u64, burst: u32, limit: u32) -> Discipline {
    Discipline::TokenBucket(TokenBucket { rate, burst, limit })
}

fn redirect(from: &str, to: &str) -> Resource {
    Resource::Redirect(Redirect { from: name(from), to: name(to) })
}

/// Two ends of a cable, and an ifb, on the host.
fn links(lab: &mut Lab) {
    let peer = VethPeer { place: Place::Host, name: name("b"), mtu: None, mac: None };
    let cable = Link { up: true, ..Link::new(name("a"), LinkKind::Veth { peer }) };
    let ifb = Link { up: true, mtu: Some(1400), ..Link::new(name("ifb"), LinkKind::Ifb) };
    for link in [cable, ifb] {
        assert_eq!(lab.create(Place::Host, &Resource::Link(link)), Ok(Created::New));
    }
}

fn tc(lab: &Lab, arguments: &str) -> Vec<Value> {
    let said = lab.run(Place::Host, &format!("tc -j -d {arguments}"));
    serde_json::from_str(&said).unwrap()
}

fn read(lab: &Lab, query: Query) -> Answer {
    lab.fresh_kernel().read(Place::Host, &[query]).unwrap().remove(0)
}

#[test]
fn a_token_bucket_is_what_tc_shows_and_what_is_read_back() {
    in_lab!(|mut lab| {
        links(&mut lab);
        for (rate, burst, limit, shown) in [
            (1_250_000, 10_000, 41_250, "10000b/1"),
            (5_000_000_000, 10_000_000, 135_000_000, "10000000b/1"),
            (1, 1, 1, "1b/1"),
            (u64::MAX / 8, u32::MAX - 1, u32::MAX, ""),
            (u64::MAX, 1, 1, ""),
        ] {
            let wanted = qdisc("a", bucket(rate, burst, limit));
            assert_eq!(lab.create(Place::Host, &wanted), Ok(Created::New), "{rate}");
            let seen = tc(&lab, "qdisc show dev a").remove(0);
            assert_eq!((&seen["kind"], &seen["handle"]), (&"tbf".into(), &"1:".into()));
            assert_eq!(seen["options"]["rate"], rate, "{seen}");
            if !shown.is_empty() {
                assert_eq!(seen["options"]["burst"], shown);
            }
            let mut plan = Plan::new();
            plan.own(Place::Host, wanted.clone());
            assert_eq!(plan.check(&mut lab.fresh_kernel()).unwrap(), []);
            assert_eq!(lab.create(Place::Host, &wanted).unwrap_err().errno(), Some(Errno::EEXIST));
            assert_eq!(lab.remove(Place::Host, &wanted), Ok(Removed::Now));
            assert_eq!(lab.remove(Place::Host, &wanted), Ok(Removed::Before));
            assert_eq!(plan.check(&mut lab.fresh_kernel()).unwrap().len(), 1);
        }
    });
}

#[test]
fn a_burst_that_takes_longer_than_the_kernel_shows_is_whole_and_is_known_again() {
    in_lab!(|mut lab| {
        links(&mut lab);
        // What containerd asks for with a pod's annotation of 1 Mbit/s.
        let wanted = qdisc("a", bucket(125_000, 536_870_911, 536_874_036));
        lab.create(Place::Host, &wanted).unwrap();
        let check = |burst: u32| {
            let mut plan = Plan::new();
            plan.own(Place::Host, qdisc("a", bucket(125_000, burst, 536_874_036)));
            plan.check(&mut lab.fresh_kernel()).unwrap()
        };
        assert_eq!(check(536_870_911), []);
        assert_eq!(check(536_000_000).len(), 1);
    });
}

#[test]
fn a_redirection_is_what_tc_shows_and_goes_with_what_it_hangs_from() {
    in_lab!(|mut lab| {
        links(&mut lab);
        let ingress = qdisc("a", Discipline::Ingress);
        let to_ifb = redirect("a", "ifb");
        let hanging = lab.create(Place::Host, &to_ifb).unwrap_err();
        assert_eq!(hanging.errno(), Some(Errno::EINVAL), "{hanging}");
        lab.create(Place::Host, &ingress).unwrap();
        lab.create(Place::Host, &to_ifb).unwrap();

        let shown = tc(&lab, "filter show dev a parent ffff:");
        let actions = shown.iter().filter_map(|filter| filter["options"]["actions"].as_array());
        let actions: Vec<_> = actions.flatten().collect();
        assert_eq!(actions.len(), 1, "one action for each packet");
        assert_eq!(
            (&actions[0]["mirred_action"], &actions[0]["to_dev"]),
            (&"redirect".into(), &"ifb".into())
        );

        let expected = vec![Redirect { from: name("a"), to: name("ifb") }];
        assert_eq!(read(&lab, Query::Redirects(name("a"))), Answer::Redirects(expected));
        assert_eq!(lab.remove(Place::Host, &to_ifb), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Host, &to_ifb), Ok(Removed::Before));
        assert_eq!(read(&lab, Query::Redirects(name("a"))), Answer::Redirects(Vec::new()));

        lab.create(Place::Host, &to_ifb).unwrap();
        assert_eq!(lab.remove(Place::Host, &ingress), Ok(Removed::Now));
        assert_eq!(lab.remove(Place::Host, &to_ifb), Ok(Removed::Before));
        assert_eq!(read(&lab, Query::Qdiscs(name("a"))), Answer::Qdiscs(Vec::new()));
    });
}

#[test]
fn a_redirection_whose_target_is_gone_leads_nowhere() {
    in_lab!(|mut lab| {
        links(&mut lab);
        lab.create(Place::Host, &qdisc("a", Discipline::Ingress)).unwrap();
        lab.create(Place::Host, &redirect("a", "ifb")).unwrap();
        lab.remove(Place::Host, &Resource::Link(Link::new(name("ifb"), LinkKind::Ifb))).unwrap();
        assert_eq!(read(&lab, Query::Redirects(name("a"))), Answer::Redirects(Vec::new()));
    });
}

#[test]
fn what_others_have_on_an_interface_is_neither_taken_for_ours_nor_removed() {
    in_lab!(|mut lab| {
        links(&mut lab);
        lab.run(Place::Host, "tc qdisc add dev a root handle 1: pfifo limit 3");
        lab.run(Place::Host, "tc qdisc add dev b clsact");
        assert_eq!(read(&lab, Query::Qdiscs(name("a"))), Answer::Qdiscs(Vec::new()));
        assert_eq!(read(&lab, Query::Qdiscs(name("b"))), Answer::Qdiscs(Vec::new()));
        let mine = qdisc("a", bucket(1, 1, 1));
        assert_eq!(lab.remove(Place::Host, &mine), Ok(Removed::Before));
        assert_eq!(lab.create(Place::Host, &mine).unwrap_err().errno(), Some(Errno::EEXIST));
        assert_eq!(lab.remove(Place::Host, &qdisc("b", Discipline::Ingress)), Ok(Removed::Before));
        assert_eq!(tc(&lab, "qdisc show dev a")[0]["kind"], "pfifo");
    });
}

#[test]
fn what_is_on_an_interface_that_is_gone_is_gone() {
    in_lab!(|mut lab| {
        for resource in [qdisc("gone", Discipline::Ingress), redirect("gone", "lo")] {
            assert_eq!(lab.remove(Place::Host, &resource), Ok(Removed::Before));
            assert_eq!(lab.create(Place::Host, &resource).unwrap_err().errno(), Some(Errno::ENODEV));
        }
        assert_eq!(read(&lab, Query::Qdiscs(name("gone"))), Answer::Qdiscs(Vec::new()));
        assert_eq!(read(&lab, Query::Redirects(name("lo"))), Answer::Redirects(Vec::new()));
    });
}
