//! DELs that know nothing, or worse: they remove what there is all the same.

use cnikit_tests::{State, isolated};
use serde_json::json;

use crate::attack::{Victim, at_once, ipam};

#[test]
fn a_del_removes_an_attachment_whatever_else_is_wrong() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell("mkdir /run/odd; cd /run/odd; touch file; mkdir dir; mkfifo fifo; touch uts; mount --bind /proc/self/ns/uts uts");
        // The bridge and its address, and the tables, are there to stay.
        victim.call("ADD").run().result();
        victim.call("DEL").run().done();
        let before = State::when(&victim.node, |state| state.links("host").len() == 2);
        let calls = [
            ("a previous result that is none", victim.with("DEL", json!({"prevResult": "x"}))),
            ("one of another version", victim.with("DEL", json!({"prevResult": {"cniVersion": "7.7.7"}}))),
            (
                "one with other addresses",
                victim.with(
                    "DEL",
                    json!({"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.9.9/24"}]}}),
                ),
            ),
            ("an MTU that is none", victim.with("DEL", json!({"mtu": "x"}))),
            ("a bridge that is none", victim.with("DEL", json!({"bridge": "../.."}))),
            ("ranges that are none", victim.with("DEL", ipam(json!({"subnet": "garbage", "ranges": 7})))),
            ("arguments that are none", victim.call("DEL").args("MAC=zz;IP=zz;;=")),
            ("no namespace", victim.call("DEL").env("CNI_NETNS", "")),
            ("no namespace at all", victim.call("DEL").without("CNI_NETNS")),
            ("a file for a namespace", victim.call("DEL").env("CNI_NETNS", "/run/odd/file")),
            ("a directory for one", victim.call("DEL").env("CNI_NETNS", "/run/odd/dir")),
            ("a FIFO for one", victim.call("DEL").env("CNI_NETNS", "/run/odd/fifo")),
            ("another kind of one", victim.call("DEL").env("CNI_NETNS", "/run/odd/uts")),
            ("one that is gone", victim.call("DEL").env("CNI_NETNS", "/run/odd/none")),
            ("a device for one", victim.call("DEL").env("CNI_NETNS", "/dev/zero")),
        ];
        for (name, del) in calls {
            victim.call("ADD").run().result();
            let outcome = at_once(name, &del);
            assert!(outcome.status.success(), "{name}: {outcome}");
            victim.is_as(name, &before);
            // And once more, as runtimes do.
            at_once(name, &del);
        }
    });
}

#[test]
fn a_del_of_the_nodes_own_namespace_is_refused_and_touches_nothing() {
    isolated(|| {
        let victim = Victim::new();
        victim.call("ADD").run().result();
        victim.refuses(
            "own",
            crate::attack::NETNS,
            &victim.call("DEL").env("CNI_NETNS", "/proc/self/ns/net"),
        );
    });
}
