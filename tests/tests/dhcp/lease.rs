//! An address from ADD to DEL.

use cnikit_tests::lan::{Lan, RANGE, with_server};
use cnikit_tests::{Pod, ours};
use serde_json::json;

#[test]
fn a_pod_gets_an_address_and_the_server_is_told_of_its_end() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_server(&[RANGE]);
        lan.start_daemon();
        let pod = lan.node.pod("c1");
        let config = lan.config(&json!({}));
        let result = lan.add(&pod, &config);
        let address = result["ips"][0]["address"].as_str().unwrap();
        assert_eq!(lan.addresses(&pod), [address], "{}", lan.daemon_log());
        assert_eq!(result["ips"][0]["gateway"], "10.9.0.1");
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]));
        let mut checked = config.clone();
        checked["prevResult"] = result.clone();
        lan.call("CHECK", &pod, &checked).run().done();
        assert_eq!(lan.records().len(), 1);

        lan.del(&pod, &config);
        assert_eq!(lan.records().len(), 0);
        lan.await_on("a release", |lan| lan.server_log().contains("DHCPRELEASE(lan0) 10.9.0."));
        lan.del(&pod, &config);
        lan.call("CHECK", &pod, &checked).run().error();
    });
}

#[test]
fn two_versions_give_two_addresses_and_both_are_released() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_server(&[RANGE, "--dhcp-range=fd09::10,fd09::50,64,2m"]);
        lan.start_daemon();
        let pod = lan.node.pod("c1");
        let config = lan.config(&json!({"ipVersions": [4, 6]}));
        let result = lan.add(&pod, &config);
        let addresses = lan.addresses(&pod);
        assert_eq!(addresses.len(), 2, "{result}");
        for (number, prefix) in ["10.9.0.", "fd09::"].iter().enumerate() {
            let address = result["ips"][number]["address"].as_str().unwrap();
            assert!(
                address.starts_with(prefix) && addresses.iter().any(|other| other == address),
                "{result}"
            );
        }
        lan.del(&pod, &config);
        lan.await_on("a release of each", |lan| {
            let log = lan.server_log();
            log.contains("DHCPRELEASE(lan0) 10.9.0.") && log.contains("DHCPRELEASE(lan0) 00:04:")
        });
    });
}

#[test]
fn what_is_provided_requested_and_said_besides_is_heeded() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_server(&[
            RANGE,
            "--dhcp-option=33,192.0.2.0,10.9.0.2,172.16.0.0,10.9.0.3",
            "--dhcp-option=6,10.9.0.53",
            "--dhcp-option=15,example.com",
            "--dhcp-option=119,a.example.com,b.example.com",
            "--dhcp-option=tag:routed,121,198.51.100.0/25,10.9.0.4,10.8.0.0/16,0.0.0.0",
            "--dhcp-vendorclass=set:routed,routed",
        ]);
        lan.start_daemon();
        let request = |options: &[&str]| {
            json!(options.iter().map(|option| json!({"option": option})).collect::<Vec<_>>())
        };
        let plain = lan.node.pod("plain");
        let config = lan.config(&json!({
            "request": request(&["33", "6", "15", "119", "121"]), "priority": 77,
            "provide": [{"option": "host-name", "value": "configured", "fromArg": "NAME"}],
        }));
        let result = lan.call("ADD", &plain, &config).args("NAME=told").run().result();
        assert_eq!(
            result["routes"],
            json!([
                {"dst": "192.0.2.0/24", "gw": "10.9.0.2", "priority": 77},
                {"dst": "172.16.0.0/16", "gw": "10.9.0.3", "priority": 77},
                {"dst": "0.0.0.0/0", "gw": "10.9.0.1", "priority": 77},
            ])
        );
        assert_eq!(
            result["dns"],
            json!({
                "nameservers": ["10.9.0.53"], "domain": "example.com", "search": ["a.example.com", "b.example.com"],
            })
        );
        let routes = lan.node.pod_shell(&plain, "ip route");
        assert!(routes.contains("192.0.2.0/24 via 10.9.0.2 dev eth0 metric 77"), "{routes}");
        assert!(lan.server_log().contains("client provides name: told"), "{}", lan.server_log());

        let routed = lan.node.pod("routed");
        let config = lan.config(&json!({
            "request": request(&["121"]),
            "provide": [{"option": "vendor-class-identifier", "value": "routed"}],
        }));
        let result = lan.add(&routed, &config);
        let routes = json!([{"dst": "198.51.100.0/25", "gw": "10.9.0.4"}, {"dst": "10.8.0.0/16"}]);
        assert_eq!(result["routes"], routes, "121 stands for 33 and 3");

        let refused = lan.config(&json!({"provide": [{"option": "53", "value": "x"}]}));
        let error = lan.call("ADD", &lan.node.pod("c3"), &refused).run().error();
        assert_eq!(error["code"], 7);
    });
}

#[test]
fn without_a_daemon_an_add_says_what_to_start_and_a_del_succeeds() {
    with_server(|| {
        let lan = Lan::new(&ours!());
        let pod = lan.node.pod("c1");
        let mut config = lan.config(&json!({}));
        let error = lan.call("ADD", &pod, &config).run().error();
        assert_eq!(error["code"], 11);
        assert!(error["details"].as_str().unwrap().contains("cnikit dhcp"), "{error}");
        assert_eq!(lan.links(&pod), ["lo"]);
        lan.del(&pod, &config);
        config["cniVersion"] = json!("1.1.0");
        assert_eq!(lan.call("STATUS", &pod, &config).run().error()["code"], 50);
    });
}

#[test]
fn without_a_server_an_add_fails_in_time_and_leaves_nothing() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_daemon_with("3");
        let pod = lan.node.pod("c1");
        let config = lan.config(&json!({}));
        let error = lan.call("ADD", &pod, &config).run().error();
        assert_eq!(error["code"], 11);
        assert!(error["msg"].as_str().unwrap().contains("none answered in 3 s"), "{error}");
        assert_eq!((lan.links(&pod), lan.records().len()), (vec!["lo".to_owned()], 0));
    });
}

#[test]
fn what_belongs_to_no_valid_attachment_is_collected() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_server(&[RANGE]);
        lan.start_daemon();
        let (kept, lost) = (lan.node.pod("kept"), lan.node.pod("lost"));
        let mut config = lan.config(&json!({}));
        config["cniVersion"] = json!("1.1.0");
        lan.add(&kept, &config);
        lan.add(&lost, &config);
        lan.node.call(&lan.plugins, "STATUS", "bridge", &config).run().done();
        config["cni.dev/valid-attachments"] = json!([{"containerID": "kept", "ifname": "eth0"}]);
        lan.node.call(&lan.plugins, "GC", "bridge", &config).run().done();
        assert_eq!((lan.links(&lost), lan.records().len()), (vec!["lo".to_owned()], 1));
        assert_eq!(lan.addresses(&kept).len(), 1);
        lan.await_on("a release", |lan| lan.server_log().contains("DHCPRELEASE"));
    });
}

#[test]
fn an_interface_on_the_nodes_own_network_gets_its_address_from_that_networks_server() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        // The node's network card is a cable to the same network.
        lan.node.shell(
            "ip link add card type veth peer name wall; ip link set card up; ip link set wall up
             ip link set wall master cni0",
        );
        lan.start_server(&[RANGE]);
        lan.start_daemon();
        let (one, two) = (lan.node.pod("c1"), lan.node.pod("c2"));
        let mut config = lan.config(&json!({}));
        config["type"] = json!("macvlan");
        config["master"] = json!("card");
        let call = |command, pod: &Pod| {
            lan.node.call(&lan.plugins, command, "macvlan", &config).on(pod).container(pod.name()).run()
        };
        for pod in [&one, &two] {
            let result = call("ADD", pod).result();
            assert_eq!(lan.addresses(pod), [result["ips"][0]["address"].as_str().unwrap()]);
        }
        assert_ne!(lan.addresses(&one), lan.addresses(&two));
        for pod in [&one, &two] {
            call("DEL", pod).done();
        }
        lan.await_on("two releases", |lan| lan.server_log().matches("DHCPRELEASE").count() == 2);
    });
}

#[test]
fn an_add_that_fails_with_an_address_in_its_hands_gives_it_back_to_the_server() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        // A gateway that cannot be reached from the address.
        lan.start_server(&[RANGE, "--dhcp-option=3,10.77.0.1"]);
        lan.start_daemon();
        let pod = lan.node.pod("c1");
        let error = lan.call("ADD", &pod, &lan.config(&json!({}))).run().error();
        assert!(error["msg"].as_str().unwrap().contains("10.77.0.1"), "{error}");
        lan.await_on("a release", |lan| lan.server_log().contains("DHCPRELEASE(lan0) 10.9.0."));
        assert_eq!(lan.links(&pod), ["lo"]);
        assert_eq!(lan.records().len(), 0);
    });
}
