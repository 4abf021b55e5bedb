//! Directories of leases in which things are not what they seem.

use cnikit_tests::isolated;
use serde_json::json;

use crate::attack::{IO, Victim, at_once, ipam};

const NETWORK: &str = "/var/lib/cni/networks/blue";

#[test]
fn a_data_directory_that_cannot_be_one_is_an_input_or_output_error() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell(
            "cd /run; touch file; ln -s loop1 loop2; ln -s loop2 loop1; ln -s /nowhere/at/all dangling; mkfifo fifo
             mkdir read-only; mount -t tmpfs -o ro none read-only",
        );
        let long = "a/".repeat(3000);
        for dir in [
            "/run/file",
            "/run/loop1",
            "/run/dangling",
            "/run/fifo",
            "/run/read-only",
            "/proc/nothing",
            "/dev/null/x",
            "/run/file/below",
            &long,
        ] {
            victim.refuses(dir, IO, &victim.with("ADD", ipam(json!({"dataDir": dir}))));
        }
    });
}

#[test]
fn what_has_the_name_of_a_lease_or_a_lock_and_is_none_is_no_trap() {
    isolated(|| {
        // Each makes something in the network's directory.
        for (make, refused) in [
            ("mkdir lock", true),
            ("mkfifo lock", false),
            ("ln -s /etc/passwd lock", true),
            ("ln -s nowhere lock", true),
            ("mkdir last_reserved_ip.0", false),
            ("mkfifo last_reserved_ip.0", false),
            ("ln -s /etc/passwd last_reserved_ip.0", false),
            ("echo garbage > last_reserved_ip.0", false),
            ("head -c 1000000 /dev/zero > last_reserved_ip.0", false),
            ("echo 192.168.255.255 > last_reserved_ip.0", false),
            ("mkdir 10.1.0.2", false),
            ("mkfifo 10.1.0.2", false),
            ("ln -s /dev/zero 10.1.0.2", false),
            ("ln -s nowhere 10.1.0.2", false),
            ("head -c 10000000 /dev/zero > 10.1.0.2", false),
            ("for i in $(seq 300); do touch garbage-$i; done", false),
        ] {
            let victim = Victim::new();
            victim.node.shell(&format!("mkdir -p {NETWORK}; cd {NETWORK}; {make}"));
            let passwd = std::fs::metadata("/etc/passwd").unwrap().modified().unwrap();
            let outcome = at_once(make, &victim.call("ADD"));
            if refused {
                assert_eq!(outcome.error()["code"], IO, "{make}: {outcome}");
            } else if outcome.status.success() {
                let address = outcome.result()["ips"][0]["address"].clone();
                assert!(!make.contains("10.1.0.2") || address != "10.1.0.2/29", "{make}: {outcome}");
            } else {
                assert_eq!(outcome.error()["code"], IO, "{make}: {outcome}");
            }
            at_once(make, &victim.call("STATUS"));
            let del = at_once(make, &victim.call("DEL"));
            assert!(del.status.success() || refused, "{make}: {del}");
            assert_eq!(std::fs::metadata("/etc/passwd").unwrap().modified().unwrap(), passwd, "{make}");
        }
    });
}

#[test]
fn a_file_of_resolvers_that_is_none_is_refused_and_does_not_hang() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell("mkfifo /run/fifo; mkdir /run/dir");
        for path in ["/run/fifo", "/run/dir", "/dev/zero", "/nowhere"] {
            victim.refuses(path, IO, &victim.with("ADD", ipam(json!({"resolvConf": path}))));
        }
    });
}
