//! A node changes hands while its pods run: what the reference attached is ours to check, detach and collect, in every
//! form in which the reference keeps it; and the way back.

use std::net::{TcpListener, TcpStream};

use cnikit_tests::{Call, Implementation, Node, Pod, State, isolated, ours};
use serde_json::{Value, json};

use crate::pair::left;

/// Which programs the reference finds under the name of `iptables`.
const VARIANTS: [&str; 2] = ["nft", "legacy"];

/// A node on which pods were attached by one implementation, and another comes.
struct Scene {
    node: Node,
    reference: Implementation,
    ours: Implementation,
    variant: &'static str,
}

impl Scene {
    fn new(variant: &'static str) -> Option<Self> {
        let (reference, ours) = (Implementation::reference()?, ours!());
        let node = Node::new(&reference);
        node.install(&ours);
        node.shell(&format!(
            "mkdir -p /run/cni/iptables; cd /run/cni/iptables
             for program in iptables ip6tables; do
                 ln -s /usr/sbin/xtables-{variant}-multi $program
             done"
        ));
        Some(Self { node, reference, ours, variant })
    }

    fn call(&self, plugins: &Implementation, command: &str, pod: &Pod, config: &Value) -> Call<'_> {
        let plugin = config["type"].as_str().unwrap();
        let call = self.node.call(plugins, command, plugin, config).on(pod).container(pod.name());
        call.env("PATH", "/run/cni/iptables:/usr/sbin:/usr/bin:/sbin:/bin")
    }

    fn add(&self, plugins: &Implementation, pod: &Pod, config: &Value) -> Value {
        self.call(plugins, "ADD", pod, config).run().result()
    }

    /// Every rule that there is, in words.
    fn rules(&self) -> String {
        let mut rules = self.node.shell("nft list ruleset");
        for family in ["ip", "ip6"] {
            // The program alone makes tables that nobody has asked for.
            let used = format!("/proc/net/{family}_tables_names");
            rules += &self.node.shell(&format!("test ! -s {used} || {family}tables-legacy-save"));
            rules += &self.node.shell(&format!("{family}tables-nft-save"));
        }
        rules
    }
}

fn bridge(ipam: bool) -> Value {
    let ranges = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]);
    let ipam = if ipam { json!({"type": "host-local", "ranges": ranges}) } else { json!({}) };
    json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipMasq": true, "macspoofchk": true, "ipam": ipam,
    })
}

fn with_previous(config: &Value, said: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = said.clone();
    config
}

/// What is left of a pod, rules included.
fn left_of(scene: &Scene, before: &State, said: &Value, pod: &str) -> Vec<String> {
    let of_result = |list: &str, key: &str| {
        let list = said[list].as_array().unwrap().iter();
        let text = list.map(|item| item[key].as_str().unwrap().split('/').next().unwrap().to_owned());
        text.collect::<Vec<_>>()
    };
    let (addresses, ends) = (of_result("ips", "address"), of_result("interfaces", "name"));
    let own = addresses.iter().chain(ends.iter().filter(|name| name.starts_with("veth")));
    let own: Vec<_> = own.map(|name| format!("\"{name}\"")).collect();
    let of_pod = |state: &State| {
        let mut left = left(state, before, said, true);
        left.retain(|line| !line.starts_with("in ") || own.iter().any(|name| line.contains(name)));
        left
    };
    let mut left = of_pod(&State::when(&scene.node, |state| of_pod(state).is_empty()));
    let is_pods = |line: &&str| {
        let words: Vec<_> = line.split(|c: char| !(c.is_ascii_alphanumeric() || "-.:".contains(c))).collect();
        line.contains(pod) || addresses.iter().any(|address| words.contains(&address.as_str()))
    };
    left.extend(scene.rules().lines().filter(is_pods).map(str::to_owned));
    left
}

#[test]
fn what_the_reference_masquerades_and_guards_is_checked_and_removed_by_us_and_its_other_pods_stay() {
    for variant in VARIANTS {
        isolated(|| {
            let Some(scene) = Scene::new(variant) else { return };
            let (first, second) = (scene.node.pod("pod-first"), scene.node.pod("pod-second"));
            let before = State::of(&scene.node);
            let config = bridge(true);
            let said = scene.add(&scene.reference, &first, &config);
            let other = scene.add(&scene.reference, &second, &config);
            let mine = scene.node.pod("pod-mine");
            let third = scene.add(&scene.ours, &mine, &config);

            for (pod, said) in [(&first, &said), (&second, &other), (&mine, &third)] {
                scene.call(&scene.ours, "CHECK", pod, &with_previous(&config, said)).run().done();
            }
            let rules = scene.rules();
            scene.call(&scene.ours, "DEL", &first, &with_previous(&config, &said)).run().done();
            assert_eq!(left_of(&scene, &before, &said, "pod-first"), [""; 0], "{}", scene.variant);
            // What there was of the others is there.
            let of_others = |rules: &str| {
                let others =
                    rules.lines().filter(|line| line.contains("pod-second") || line.contains("pod-mine"));
                others.filter(|line| !line.contains("elements")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(of_others(&scene.rules()), of_others(&rules));
            for (pod, said) in [(&second, &other), (&mine, &third)] {
                scene.call(&scene.ours, "CHECK", pod, &with_previous(&config, said)).run().done();
            }
            for (pod, said) in [(&second, &other), (&mine, &third)] {
                scene.call(&scene.ours, "DEL", pod, &with_previous(&config, said)).run().done();
                assert_eq!(left_of(&scene, &before, said, pod.name()), [""; 0], "{}", scene.variant);
            }
        });
    }
}

#[test]
fn rules_that_the_reference_would_leak_are_found_without_namespace_and_previous_result() {
    for variant in VARIANTS {
        isolated(|| {
            let Some(scene) = Scene::new(variant) else { return };
            let pod = scene.node.pod("pod-first");
            let before = State::of(&scene.node);
            let said = scene.add(&scene.reference, &pod, &bridge(true));
            scene.node.end(&pod);
            scene.call(&scene.ours, "DEL", &pod, &bridge(true)).env("CNI_NETNS", "").run().done();
            assert_eq!(left_of(&scene, &before, &said, "pod-first"), [""; 0], "{}", scene.variant);
            // As often as anybody likes.
            scene.call(&scene.ours, "DEL", &pod, &bridge(true)).env("CNI_NETNS", "").run().done();
        });
    }
}

#[test]
fn check_names_what_the_reference_has_lost() {
    isolated(|| {
        let Some(scene) = Scene::new("nft") else { return };
        let pod = scene.node.pod("pod-first");
        let config = bridge(true);
        let said = scene.add(&scene.reference, &pod, &config);
        scene.node.shell("nft flush ruleset");
        let error =
            scene.call(&scene.ours, "CHECK", &pod, &with_previous(&config, &said)).run().error().to_string();
        for lost in ["masquerade of 10.1.0.2", "masquerade of fd00:1::2", "spoof check"] {
            assert!(error.contains(lost), "{error}");
        }
    });
}

#[test]
fn gc_removes_what_the_reference_left_of_a_network_and_nothing_of_another() {
    for variant in VARIANTS {
        isolated(|| {
            let Some(scene) = Scene::new(variant) else { return };
            let pods = ["pod-gone", "pod-kept", "pod-other"].map(|name| scene.node.pod(name));
            let mut config = bridge(true);
            let before = State::of(&scene.node);
            let said: Vec<_> =
                pods[..2].iter().map(|pod| scene.add(&scene.reference, pod, &config)).collect();
            let mut other = json!({
                "cniVersion": "1.0.0", "name": "green", "type": "ptp", "ipMasq": true,
                "ipam": {"type": "host-local", "subnet": "10.2.0.0/24"},
            });
            let others = scene.add(&scene.reference, &pods[2], &other);

            config["cniVersion"] = json!("1.1.0");
            config["cni.dev/valid-attachments"] = json!([{"containerID": "pod-kept", "ifname": "eth0"}]);
            let gc = scene.node.call(&scene.ours, "GC", "bridge", &config);
            gc.env("PATH", "/run/cni/iptables:/usr/sbin:/usr/bin:/sbin:/bin").run().done();

            assert_eq!(left_of(&scene, &before, &said[0], "pod-gone"), [""; 0], "{}", scene.variant);
            config["cniVersion"] = json!("1.0.0");
            config.as_object_mut().unwrap().remove("cni.dev/valid-attachments");
            scene.call(&scene.ours, "CHECK", &pods[1], &with_previous(&config, &said[1])).run().done();
            other = with_previous(&other, &others);
            scene.call(&scene.ours, "CHECK", &pods[2], &other).run().done();
        });
    }
}

/// As the nftables backends of references after 1.4 write it; Debian's has none.
const NEWER: &str = r#"
table inet cni_plugins_masquerade {
    chain masq_checks {
        ip saddr == 10.1.0.2 ip daddr != 10.1.0.0/24 masquerade comment "INSTANCE, net: blue, if: eth0, id: pod-first"
        ip saddr == 10.1.0.9 ip daddr != 10.1.0.0/24 masquerade comment "OTHER, net: blue, if: eth0, id: pod-second"
    }
    chain postrouting {
        type nat hook postrouting priority srcnat
        ip daddr == 224.0.0.0/4 return
        ip6 daddr == ff00::/8 return
        goto masq_checks
    }
}
"#;

fn digits(text: &str, node: &Node) -> String {
    node.shell(&format!("printf %s '{text}' | sha512sum | cut -c1-16")).trim().to_owned()
}

#[test]
fn masquerades_of_newer_references_count_and_go() {
    isolated(|| {
        let Some(scene) = Scene::new("nft") else { return };
        let pod = scene.node.pod("pod-first");
        let mut config = bridge(true);
        config["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
        config["macspoofchk"] = json!(false);
        let said = scene.add(&scene.reference, &pod, &config);
        scene.node.shell("nft flush ruleset");
        let instance = |pod: &str| {
            format!("{}-{}", digits("blue", &scene.node), digits(&format!("eth0:{pod}"), &scene.node))
        };
        let rules =
            NEWER.replace("INSTANCE", &instance("pod-first")).replace("OTHER", &instance("pod-second"));
        scene.node.shell(&format!("nft -f - <<'END'\n{rules}END\n"));

        config = with_previous(&config, &said);
        scene.call(&scene.ours, "CHECK", &pod, &config).run().done();
        scene.call(&scene.ours, "DEL", &pod, &config).run().done();
        let rules = scene.rules();
        assert!(!rules.contains("pod-first") && rules.contains("pod-second"), "{rules}");
    });
}

#[test]
fn the_references_del_takes_what_we_attached_and_our_next_gc_what_it_does_not_know() {
    isolated(|| {
        let Some(scene) = Scene::new("nft") else { return };
        let pod = scene.node.pod("pod-first");
        let before = State::of(&scene.node);
        let mut config = bridge(true);
        let said = scene.add(&scene.ours, &pod, &config);
        let asked = with_previous(&config, &said);
        scene.call(&scene.reference, "CHECK", &pod, &asked).run().done();
        // Its first DEL wants its own chains, last of all.
        let first = scene.call(&scene.reference, "DEL", &pod, &asked).run();
        if !first.status.success() {
            assert!(first.stdout.contains("CNI-") || first.stdout.contains("spoof"), "{first}");
            let _second = scene.call(&scene.reference, "DEL", &pod, &asked).run();
        }
        let state = State::when(&scene.node, |state| left(state, &before, &said, true).is_empty());
        assert_eq!(left(&state, &before, &said, true), [""; 0], "no link, no lease, no route");

        config["cniVersion"] = json!("1.1.0");
        config["cni.dev/valid-attachments"] = json!([]);
        scene.node.call(&scene.ours, "GC", "bridge", &config).run().done();
        assert_eq!(left_of(&scene, &before, &said, "pod-first"), [""; 0]);
    });
}

#[test]
fn a_pod_of_ours_takes_an_address_whose_entries_the_references_del_left() {
    isolated(|| {
        let Some(scene) = Scene::new("nft") else { return };
        let (first, second) = (scene.node.pod("pod-first"), scene.node.pod("pod-second"));
        let mut config = bridge(true);
        config["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.2"});
        config["macspoofchk"] = json!(false);
        let said = scene.add(&scene.ours, &first, &config);
        let asked = with_previous(&config, &said);
        for _ in 0..2 {
            let _ = scene.call(&scene.reference, "DEL", &first, &asked).run();
        }
        let said = scene.add(&scene.ours, &second, &config);
        assert_eq!(said["ips"][0]["address"], "10.1.0.2/24");
        let server = scene.node.inside_pod(&second, || TcpListener::bind("10.1.0.2:80").unwrap());
        scene.node.inside(|| TcpStream::connect("10.1.0.2:80").unwrap());
        server.accept().unwrap();
    });
}

/// The chain that real runtimes have behind `bridge`, for a pod with a published port.
fn chain(port: u16) -> [Value; 3] {
    let common = |mut config: Value| {
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("blue");
        config
    };
    let mut bridge = bridge(true);
    bridge["macspoofchk"] = json!(false);
    bridge["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
    let ports = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
    [
        bridge,
        common(json!({"type": "portmap", "runtimeConfig": {"portMappings": ports}})),
        common(json!({"type": "firewall", "backend": "iptables"})),
    ]
}

#[test]
fn the_references_chain_is_checked_and_removed_by_ours_and_another_pods_ports_go_on() {
    for variant in VARIANTS {
        isolated(|| {
            let Some(scene) = Scene::new(variant) else { return };
            let before = State::of(&scene.node);
            let pods = ["pod-first", "pod-second"].map(|name| scene.node.pod(name));
            let said = [(&pods[0], 8081), (&pods[1], 8082)].map(|(pod, port)| {
                chain(port).iter().fold(Value::Null, |previous, config| {
                    scene.add(&scene.reference, pod, &with_previous_or_none(config, &previous))
                })
            });
            let call = |command: &str, pod: usize, port: u16| {
                for config in chain(port).iter().rev() {
                    let config = with_previous(config, &said[pod]);
                    scene.call(&scene.ours, command, &pods[pod], &config).run().done();
                }
            };
            call("CHECK", 0, 8081);
            call("DEL", 0, 8081);
            assert_eq!(left_of(&scene, &before, &said[0], "pod-first"), [""; 0], "{}", scene.variant);
            call("CHECK", 1, 8082);
            let server = scene.node.inside_pod(&pods[1], || TcpListener::bind("10.1.0.3:80").unwrap());
            scene.node.shell("ip link set lo up");
            scene.node.inside(|| TcpStream::connect("10.1.0.1:8082").unwrap());
            server.accept().unwrap();
            call("DEL", 1, 8082);
            assert_eq!(left_of(&scene, &before, &said[1], "pod-second"), [""; 0], "{}", scene.variant);
        });
    }
}

fn with_previous_or_none(config: &Value, previous: &Value) -> Value {
    if previous.is_null() { config.clone() } else { with_previous(config, previous) }
}
