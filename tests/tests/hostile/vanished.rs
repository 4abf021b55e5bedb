//! Namespaces that are gone, and what was in them is not yet.

use std::fs::File;
use std::thread;
use std::time::Duration;

use cnikit_tests::{Node, Pod, isolated, ours};
use serde_json::json;

/// The kernel takes a namespace apart some time after its end, and until then a macvlan in it has its MAC address, which follows
/// from the IP address that the next pod gets.
#[test]
fn an_address_that_is_given_again_at_once_is_waited_for() {
    isolated(|| {
        let plugins = ours!();
        let node = Node::new(&plugins);
        node.shell("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up");
        let config = json!({
            "cniVersion": "1.0.0", "name": "blue", "type": "macvlan", "master": "up0",
            "ipam": {"type": "static", "addresses": [{"address": "10.9.0.2/24"}]},
        });
        let call = |command, pod: &Pod| {
            node.call(&plugins, command, "macvlan", &config).on(pod).container(pod.name()).run()
        };
        let (first, second) = (node.pod("first"), node.pod("second"));
        call("ADD", &first).result();
        let as_the_kernel_does = node.inside(|| File::open(first.path()).unwrap());
        node.end(&first);
        call("DEL", &first).done();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(300));
                drop(as_the_kernel_does);
            });
            call("ADD", &second).result();
        });
    });
}
