//! Who is there, and how soon everybody knows.

use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Machine, Stream};
use serde_json::json;

use crate::common::{Families, assert_nothing_lost, cluster, config, lab, logs, start, talking, usual};

#[test]
fn a_node_that_was_forgotten_while_an_agent_was_down_leaves_no_route() {
    isolated(|| {
        let lab = lab();
        let (mut machines, _pods, voices) = talking(&lab, 3, &config("vxlan", Families::V4));
        let bystanders = Stream::among(&[&voices[0], &voices[1]]);
        let gone = machines[2].subnets();
        let routes = |machine: &Machine| machine.node.shell("ip route show proto 87");
        machines[0]
            .wait("routes to all", |machine| routes(machine).contains(gone[0].trim_end_matches("/24")));
        machines[0].kill();
        drop(machines.pop());
        machines[1].wait("both are missed", |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["peers"]["down"] == 2)
        });
        let forgotten = machines[1].post("/v1/forget", &json!({"node": "n3"})).unwrap();
        assert_eq!(forgotten["name"], "n3", "{forgotten}");
        machines[0].start();
        machines[0].wait_long("the route goes", |machine| !routes(machine).contains(&gone[0]));
        machines[0].wait("nothing else is left of it", |machine| {
            !machine.node.shell("bridge fdb show dev cnikit-vxlan").contains("192.168.1.13")
        });
        let left = machines[0].node.shell("ip neigh show dev cnikit-vxlan; ip nexthop show proto 87");
        assert_eq!(left.lines().count(), 2, "one peer is left: {left}");
        assert_nothing_lost("a node forgotten while an agent is down, bystanders", bystanders, &machines);
    });
}

#[test]
fn others_are_told_the_address_that_leads_to_them_and_none_of_bridges_and_tunnels() {
    isolated(|| {
        let lab = lab();
        let mut config = usual();
        config.as_object_mut().unwrap().remove("underlay");
        let mut machine = lab.machine(1, &config);
        // What a node may have before eth0 in the kernel's order of things, and after.
        machine.node.shell(
            "ip addr add 169.254.7.7/16 dev eth0
             ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up
             ip link add aaa type veth peer name bbb; ip addr add 10.99.0.1/24 dev aaa
             ip link set aaa up; ip link set bbb up
             ip route add default via 192.168.1.1",
        );
        machine.config()["gossip"]["bootstrap"] = json!(true);
        let told = |machine: &Machine| machine.ask("/v1/status").unwrap()["addresses"].clone();
        for name in ["first", "second"] {
            machine.start();
            machine.wait_ready();
            assert_eq!(told(&machine), json!(["192.168.1.11", "fd01::b"]), "{}", machine.log());
            // The second time, its own bridge and tunnel are there, with addresses of pods.
            let (_pod, _voice) = machine.pod(name);
            assert!(machine.node.shell("ip -o addr show cnikit-pods").contains("10.244."));
            machine.stop();
        }
        // Somebody says so: then it is that, and nothing else.
        machine.config()["underlay"] = json!({"addresses": ["10.99.0.1"]});
        machine.start();
        machine.wait_ready();
        assert_eq!(told(&machine), json!(["10.99.0.1"]), "{}", machine.log());
    });
}

#[test]
fn a_machine_that_is_a_copy_of_another_is_noticed_by_all_and_not_once_it_has_an_id_of_its_own() {
    isolated(|| {
        let lab = lab();
        let mut machines = lab.machines(3, &usual());
        for machine in &machines {
            // Each has booted by itself: they are no namespaces of one machine.
            machine.node.shell(
                "cat /proc/sys/kernel/random/uuid > /run/boot-id
                 mount --bind /run/boot-id /proc/sys/kernel/random/boot_id",
            );
        }
        let be = |machine: &Machine, id: u8| {
            machine.node.shell(&format!(
                "printf '%032x\\n' {id} > /run/machine-id; cmp /run/machine-id /etc/machine-id"
            ))
        };
        be(&machines[2], 2);
        start(&mut machines, 0);
        let problems = |machine: &Machine| machine.ask("/v1/status").unwrap()["problems"].clone();
        for machine in &machines {
            machine.wait("it says so", |machine| {
                let said = problems(machine).to_string();
                said.contains("n2, n3 have one machine id") && said.contains("systemd-machine-id-setup")
            });
        }
        machines[2].stop();
        be(&machines[2], 3);
        machines[2].start();
        for machine in &machines {
            machine.wait("it is well", |machine| {
                let said = problems(machine).to_string();
                !said.contains("machine id") && machine.ask("/v1/status").unwrap()["peers"]["alive"] == 2
            });
        }
    });
}

#[test]
fn a_new_pod_and_a_new_node_are_known_everywhere_within_a_second() {
    isolated(|| {
        let lab = lab();
        let machines = cluster(&lab, 10, &usual());
        let pod = machines[0].node.pod("new");
        let address = machines[0].add(&pod)[0].to_string();
        let since = Instant::now();
        for machine in &machines {
            machine.wait("the pod is known", |machine| {
                machine.ask("/v1/topology").is_some_and(|map| map.to_string().contains(&address))
            });
        }
        // A second is what is promised on an idle machine.
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}\n{}", since.elapsed(), logs(&machines));
        machines[0].del(&pod);
        for machine in &machines {
            machine.wait("the pod is gone", |machine| {
                machine.ask("/v1/topology").is_some_and(|map| !map.to_string().contains(&address))
            });
        }
    });
}
