//! The reference's plugins and daemon, and ours: the same server, the same configuration, the same answer.

use cnikit_tests::lan::{Lan, RANGE, with_server};
use cnikit_tests::{Implementation, ours};
use serde_json::{Value, json};

/// What an `ADD` says, without what is random, and what the pod has then.
fn experience(plugins: Implementation, ipam: &Value, options: &[&str]) -> (Value, Vec<String>, String) {
    let mut lan = Lan::new(&plugins);
    // A fixed address, by the client's identifier: so it is the same one, too.
    let mut arguments = vec![RANGE, "--dhcp-host=id:00:63:31:2f:6c:61:6e:2f:65:74:68:30,10.9.0.33"];
    arguments.extend(options);
    lan.start_server(&arguments);
    lan.start_daemon();
    let pod = lan.node.pod("c1");
    let result = lan.add(&pod, &lan.config(ipam));
    let said = json!({"ips": result["ips"], "routes": result["routes"], "dns": result["dns"]});
    (said, lan.addresses(&pod), lan.node.pod_shell(&pod, "ip route"))
}

#[test]
fn the_reference_says_the_same_of_the_same_server() {
    with_server(|| {
        let Some(reference) = Implementation::reference() else { return };
        let cases: [(Value, &[&str]); 3] = [
            (json!({}), &[]),
            (json!({"request": [{"option": "33"}]}), &["--dhcp-option=33,192.0.2.0,10.9.0.2"]),
            (
                json!({"request": [{"option": "121"}], "provide": [{"option": "12", "value": "pod"}]}),
                &["--dhcp-option=121,198.51.100.0/25,10.9.0.4,0.0.0.0/0,10.9.0.5"],
            ),
        ];
        for (ipam, options) in cases {
            let theirs = experience(reference.clone(), &ipam, options);
            assert_eq!(theirs.1, ["10.9.0.33/24"], "the identifier is the reference's");
            assert_eq!(experience(ours!(), &ipam, options), theirs, "{ipam}");
        }
    });
}

#[test]
fn the_references_plugins_get_and_give_back_addresses_through_our_daemon() {
    with_server(|| {
        let Some(reference) = Implementation::reference() else { return };
        let mut lan = Lan::new(&reference);
        lan.start_server(&[RANGE, "--dhcp-option=121,198.51.100.0/25,10.9.0.4,0.0.0.0/0,10.9.0.5"]);
        lan.start_daemon_of(&ours!(), "5");
        let pod = lan.node.pod("c1");
        let config = lan.config(&json!({"request": [{"option": "121"}]}));
        let result = lan.add(&pod, &config);
        let address = result["ips"][0]["address"].as_str().unwrap();
        assert_eq!(lan.addresses(&pod), [address], "{}", lan.daemon_log());
        assert_eq!(result["ips"][0]["gateway"], "10.9.0.1");
        let routes =
            json!([{"dst": "198.51.100.0/25", "gw": "10.9.0.4"}, {"dst": "0.0.0.0/0", "gw": "10.9.0.5"}]);
        assert_eq!(result["routes"], routes);
        let mut checked = config.clone();
        checked["prevResult"] = result.clone();
        lan.call("CHECK", &pod, &checked).run().done();
        assert_eq!(lan.records().len(), 1);
        lan.del(&pod, &config);
        assert_eq!(lan.records().len(), 0);

        // An error is one to it, too.
        lan.stop("server", nix::sys::signal::Signal::SIGKILL);
        let error = lan.call("ADD", &lan.node.pod("c2"), &config).run().error();
        assert!(error["msg"].as_str().unwrap().contains("no DHCP server grants an address"), "{error}");
    });
}
