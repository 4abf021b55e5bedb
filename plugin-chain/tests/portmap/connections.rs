//! What connections remember.

use serde_json::json;

use crate::support::*;

fn udp() -> serde_json::Value {
    publish(&[json!({"hostPort": 5353, "containerPort": 53, "protocol": "udp"})])
}

#[test]
fn a_client_goes_on_with_a_new_pod_when_the_old_one_is_gone() {
    let lab = Lab::new();
    for to in ["192.0.2.1:5353", "[2001:db8::1]:5353"] {
        let first = lab.add(1, "first", &udp()).unwrap();
        serve_datagrams(&lab, "first", 53);
        let clients = [WORLD, ""].map(|from| client(&lab, from, to));
        for client in &clients {
            assert!(answer(client, SOON).unwrap().starts_with("first"));
        }
        lab.del(1, "first", &udp(), Some(&first));
        lab.node.end_container("first");
        let second = lab.add(1, "second", &udp()).unwrap();
        serve_datagrams(&lab, "second", 53);
        for client in &clients {
            assert!(answer(client, SOON).unwrap().starts_with("second"), "{to}");
        }
        lab.del(1, "second", &udp(), Some(&second));
        lab.node.end_container("second");
    }
}

#[test]
fn a_client_that_was_there_before_the_pod_gets_to_it() {
    let lab = Lab::new();
    for to in ["192.0.2.1:5353", "[2001:db8::1]:5353"] {
        let clients = [WORLD, ""].map(|from| client(&lab, from, to));
        for client in &clients {
            assert!(answer(client, NEVER).is_err());
        }
        let result = lab.add(1, "pod", &udp()).unwrap();
        serve_datagrams(&lab, "pod", 53);
        for client in &clients {
            assert!(answer(client, SOON).unwrap().starts_with("pod"), "{to}");
        }
        lab.del(1, "pod", &udp(), Some(&result));
        lab.node.end_container("pod");
    }
}

#[test]
fn connections_through_a_port_are_forgotten_with_it() {
    let lab = Lab::new();
    let other = publish(&[json!({"hostPort": 5354, "containerPort": 53, "protocol": "udp"})]);
    let pods = [("pod", udp()), ("other", other)].map(|(name, ports)| {
        let result = lab.add(1, name, &ports).unwrap();
        serve_datagrams(&lab, name, 53);
        (name, ports, result)
    });
    for port in [5353, 5354] {
        for to in [format!("192.0.2.1:{port}"), format!("[2001:db8::1]:{port}")] {
            answer(&client(&lab, WORLD, &to), SOON).unwrap();
        }
    }
    let remembered = || {
        let table = lab.at("", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap();
        ["dport=5353", "dport=5354"].map(|port| table.lines().filter(|line| line.contains(port)).count())
    };
    assert_eq!(remembered(), [2, 2]);
    let (name, ports, result) = &pods[0];
    lab.del(1, name, ports, Some(result));
    assert_eq!(remembered(), [0, 2]);
}

#[test]
fn nobody_elses_connections_are_forgotten() {
    let lab = Lab::new();
    // Another published port, and the same port of another machine.
    let other = publish(&[json!({"hostPort": 5354, "containerPort": 53, "protocol": "udp"})]);
    lab.add(1, "other", &other).unwrap();
    serve_datagrams(&lab, "other", 53);
    serve_datagrams(&lab, WORLD, 5353);
    let published = client(&lab, WORLD, "192.0.2.1:5354");
    let outward = client(&lab, "other", "192.0.2.2:5353");
    answer(&published, SOON).unwrap();
    answer(&outward, SOON).unwrap();
    let remembered = |lab: &Lab| {
        let table = lab.at("", || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack")).unwrap();
        let about = |port: &str| table.lines().filter(|line| line.contains(port)).count();
        (about("dport=5354"), about("dport=5353"))
    };
    assert_eq!(remembered(&lab), (1, 1));
    let result = lab.add(1, "pod", &udp()).unwrap();
    lab.del(1, "pod", &udp(), Some(&result));
    assert_eq!(remembered(&lab), (1, 1));
}
