//! What happens to a lease while nobody calls: renewals, refusals, servers and daemons that go and come.

use std::fs;

use cnikit_tests::lan::{Lan, RANGE, with_server};
use cnikit_tests::{Pod, ours};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Renewals after two seconds (T1), to all servers after four (T2).
const SOON: [&str; 3] = [RANGE, "--dhcp-option=58,2", "--dhcp-option=59,4"];

/// A pod with an address that is renewed every two seconds.
fn renewing(lan: &mut Lan) -> (Pod, Value, Vec<String>) {
    lan.start_server(&SOON);
    lan.start_daemon();
    let pod = lan.node.pod("c1");
    let config = lan.config(&json!({}));
    lan.add(&pod, &config);
    let addresses = lan.addresses(&pod);
    (pod, config, addresses)
}

fn acknowledged(lan: &Lan) -> usize {
    lan.server_log().matches("DHCPACK(").count()
}

#[test]
fn a_lease_is_renewed_with_the_server_that_gave_it() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, _, addresses) = renewing(&mut lan);
        lan.await_on("two renewals", |lan| acknowledged(lan) >= 3);
        assert_eq!(lan.addresses(&pod), addresses);
        assert_eq!(lan.server_log().matches("DHCPDISCOVER(").count(), 1);
    });
}

#[test]
fn a_server_that_was_gone_renews_the_lease_when_it_is_back() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, _, addresses) = renewing(&mut lan);
        lan.stop("server", Signal::SIGKILL);
        // Past T1 and T2.
        std::thread::sleep(std::time::Duration::from_secs(5));
        assert_eq!(lan.addresses(&pod), addresses);
        let before = acknowledged(&lan);
        lan.start_server(&SOON);
        lan.await_on("a renewal", |lan| acknowledged(lan) > before);
        assert_eq!(lan.addresses(&pod), addresses);
    });
}

#[test]
fn a_lease_that_expires_is_taken_from_the_pod_and_given_back_by_the_next_server() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, _, addresses) = renewing(&mut lan);
        lan.stop("server", Signal::SIGKILL);
        lan.stop("daemon", Signal::SIGTERM);
        lan.edit_record(|record| {
            // dnsmasq gives no lease shorter than two minutes: this one has three seconds left.
            let lease = &mut record["record"]["leases"][0]["held"];
            lease["expiresAt"] = json!(lan_time() + 3000);
        });
        lan.start_daemon();
        assert_eq!(lan.addresses(&pod), addresses);
        lan.await_on("the expiry", |lan| lan.addresses(&pod).is_empty());
        assert_eq!(lan.node.pod_shell(&pod, "ip route").trim(), "");
        assert!(lan.daemon_log().contains("it has expired"), "{}", lan.daemon_log());
        lan.start_server(&SOON);
        lan.await_on("the address", |lan| lan.addresses(&pod) == addresses);
        assert!(lan.node.pod_shell(&pod, "ip route").contains("default via 10.9.0.1 dev eth0"));
    });
}

#[test]
fn a_refused_renewal_changes_the_pods_address() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, config, addresses) = renewing(&mut lan);
        lan.stop("server", Signal::SIGKILL);
        // The network has other addresses from now on, and this server may say so.
        lan.renumber("10.9.7.1/24");
        lan.start_server(&["--dhcp-range=10.9.7.10,10.9.7.50,2m", "--dhcp-authoritative"]);
        lan.await_on("the refusal", |lan| lan.server_log().contains("DHCPNAK("));
        lan.await_on("another address", |lan| {
            let now = lan.addresses(&pod);
            now.len() == 1 && now != addresses && now[0].starts_with("10.9.7.")
        });
        let routes = lan.node.pod_shell(&pod, "ip route");
        assert!(routes.contains("default via 10.9.7.1 dev eth0"), "{routes}\n{}", lan.daemon_log());
        lan.del(&pod, &config);
        lan.await_on("a release", |lan| lan.server_log().contains("DHCPRELEASE(lan0) 10.9.7."));
    });
}

#[test]
fn a_daemon_that_was_killed_goes_on_where_it_was() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, config, addresses) = renewing(&mut lan);
        lan.stop("daemon", Signal::SIGKILL);
        let before = acknowledged(&lan);
        lan.start_daemon();
        lan.await_on("a renewal", |lan| acknowledged(lan) > before);
        assert_eq!(lan.addresses(&pod), addresses);
        assert_eq!(lan.server_log().matches("DHCPDISCOVER(").count(), 1);
        lan.del(&pod, &config);
        lan.await_on("a release", |lan| lan.server_log().contains("DHCPRELEASE"));
    });
}

#[test]
fn an_attachment_that_ended_while_no_daemon_ran_is_forgotten() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, config, _) = renewing(&mut lan);
        let gone = lan.node.pod("gone");
        lan.add(&gone, &config);
        lan.stop("daemon", Signal::SIGTERM);
        lan.del(&pod, &config);
        lan.node.end(&gone);
        assert_eq!((lan.records().len(), lan.notes().len()), (2, 1));
        lan.start_daemon();
        assert_eq!((lan.records().len(), lan.notes().len()), (0, 0), "{}", lan.daemon_log());
    });
}

#[test]
fn a_pod_that_vanishes_is_not_kept_alive_and_is_forgotten_at_its_next_renewal() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, _, _) = renewing(&mut lan);
        let ports = |lan: &Lan| lan.node.shell("ip -brief link | grep -c ^veth || true");
        assert_eq!(ports(&lan).trim(), "1");
        lan.node.end(&pod);
        lan.await_on("the record's end", |lan| lan.records().is_empty());
        // The kernel takes the interface away when nobody holds the namespace any more.
        lan.await_on("the interface's end", |lan| ports(lan).trim() == "0");
        assert!(lan.daemon_log().contains("the interface is gone"), "{}", lan.daemon_log());
    });
}

#[test]
fn a_pod_whose_mac_address_changes_keeps_its_lease() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, _, addresses) = renewing(&mut lan);
        lan.node.pod_shell(&pod, "ip link set eth0 address 02:00:00:00:aa:bb");
        lan.await_on("a renewal with the new address", |lan| {
            let log = lan.server_log();
            log.lines().any(|line| line.contains("DHCPACK(") && line.contains("02:00:00:00:aa:bb"))
        });
        assert_eq!(lan.addresses(&pod), addresses);
    });
}

#[test]
fn a_note_of_an_end_releases_the_lease_of_an_interface_that_is_still_there() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_server(&SOON);
        lan.start_daemon();
        let pod = lan.node.pod("c1");
        lan.node.shell(
            "ip link add host0 type veth peer name eth0 netns c1; ip link set host0 up; ip link set host0 master cni0",
        );
        // The plugin alone, as somebody else's would execute it; it raises the interface that was left down.
        let config = lan.config(&json!({}));
        let call = |command| lan.node.call(&lan.plugins, command, "dhcp", &config).on(&pod);
        let result = call("ADD").run().result();
        assert!(result["ips"][0]["address"].as_str().unwrap().starts_with("10.9.0."));
        lan.stop_and("daemon", Signal::SIGKILL, |lan| {
            let call = lan.node.call(&lan.plugins, "DEL", "dhcp", &config).on(&pod);
            call.run().done();
            call.run().done();
        });
        assert_eq!(lan.notes().len(), 1);
        lan.start_daemon();
        lan.await_on("a release", |lan| lan.server_log().contains("DHCPRELEASE"));
        assert_eq!((lan.records().len(), lan.notes().len()), (0, 0));
    });
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_the_others_live() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        let (pod, config, addresses) = renewing(&mut lan);
        lan.add(&lan.node.pod("c2"), &config);
        lan.stop("daemon", Signal::SIGKILL);
        let broken = lan.records().into_iter().find(|path| {
            lan.node.inside(|| fs::read_to_string(path).unwrap().contains(r#""container":"c2""#))
        });
        lan.node.inside(|| {
            fs::write(broken.as_ref().unwrap(), "{\"boot\":").unwrap();
            fs::write("/var/lib/cni/dhcp/.half.json", "").unwrap();
        });
        lan.start_daemon();
        assert_eq!(lan.records().len(), 1);
        assert!(lan.daemon_log().contains(".corrupt"), "{}", lan.daemon_log());
        assert_eq!(lan.addresses(&pod), addresses);
    });
}

/// The time that records are written in: milliseconds since the machine came up.
fn lan_time() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    (seconds * 1000.0) as u64
}
