//! What the commands say of real agents, and of what is broken under them: nodes are namespaces on a segment. One lab for
//! each way by which pods reach one another, with all commands in it.

#![cfg(test)]

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use cnikit_tests::lab::{Lab, Machine, PATIENCE, Voice, everybody_to_everybody};
use cnikit_tests::{Implementation, Pod, isolated};
use serde_json::{Value, json};

/// The command line, and what is installed for runtimes.
const CNIKIT: &str = env!("CARGO_BIN_EXE_cnikit");
const PLUGINS: &str = env!("CARGO_BIN_EXE_cnikit-plugins");

/// How a command ended, and what it said.
#[derive(Debug)]
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

fn cnikit(on: &Machine, words: &str) -> Said {
    let output = on.node.inside(|| {
        let mut command = Command::new(CNIKIT);
        command.args(words.split_whitespace()).stdin(Stdio::null()).env_remove("CNIKIT_AGENT");
        command.output().unwrap()
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Said { status: output.status.code().unwrap(), stdout, stderr }
}

impl Said {
    fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// How a mode shows.
struct Expected {
    mode: &'static str,
    /// In `status`.
    ways: &'static str,
    /// In `peers`: the way, and the MTU.
    peer: [&'static str; 2],
    /// In `topology --dot`, of the link between the first two.
    link: &'static str,
    /// What a packet passes, to the pod of the other node.
    hops: &'static [&'static str],
    /// What somebody does to the first node while no agent is there to repair it, for IPv4 and for IPv6, with `{v4}` and `{v6}` for
    /// the other node's subnets.
    breaks: [&'static str; 2],
    /// Where the packet is lost then, and why.
    lost: [&'static str; 2],
}

struct Scene {
    _lab: Lab,
    machines: Vec<Machine>,
    pods: Vec<Pod>,
    voices: Vec<Voice>,
}

impl Scene {
    /// Two nodes with a pod each, and a router for those who need one.
    fn new(mode: &str) -> Self {
        let lab = Lab::new(Implementation::Ours(PLUGINS.into()), CNIKIT);
        let config = json!({
            "cluster": ["10.244.0.0/16", "fd00:244::/48"], "mode": mode, "store": "gossip",
            "gossip": {"seeds": ["192.168.1.11"], "insecure": true},
            "underlay": {"interface": "eth0"}, "health": {"enabled": false},
        });
        let mut machines = lab.machines(2, &config);
        if mode == "router" {
            let mut router = lab.machine(3, &config);
            router.config()["role"] = json!("router");
            machines.push(router);
        }
        machines[0].config()["gossip"]["bootstrap"] = json!(true);
        machines.iter_mut().for_each(Machine::start);
        for machine in &machines {
            machine.wait_known(machines.len());
            machine.wait_peers(machines.len() - 1);
        }
        machines.iter().for_each(Machine::wait_ready);
        let (pods, voices) = machines[..2].iter().map(|m| m.pod(&format!("pod-{}", m.number))).unzip();
        let scene = Self { _lab: lab, machines, pods, voices };
        scene.assert_talking();
        scene
    }

    fn assert_talking(&self) {
        let voices: Vec<_> = self.voices.iter().collect();
        let missing = everybody_to_everybody(&voices, PATIENCE * 2);
        assert!(missing.is_empty(), "{missing:?}\n{}", self.machines[0].log());
    }

    /// The address of the second node's pod.
    fn destination(&self, ipv6: bool) -> IpAddr {
        let map = self.machines[1].ask("/v1/topology").unwrap();
        let node = map["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "n2").unwrap();
        let addresses = node["pods"][0]["addresses"].as_array().unwrap().iter();
        let mut addresses = addresses.map(|address| address.as_str().unwrap().parse::<IpAddr>().unwrap());
        addresses.find(|address| address.is_ipv6() == ipv6).unwrap()
    }
}

/// `veth`, `bridge cnikit-pods` …: names that are hashes are left away.
fn places(trace: &Value) -> Vec<String> {
    let what = |hop: &Value| hop["what"].as_str().unwrap().to_owned();
    let short = |what: String| if what.starts_with("veth") { "veth".to_owned() } else { what };
    trace["hops"].as_array().unwrap().iter().map(what).map(short).collect()
}

fn all_commands(expected: &Expected) {
    let mut scene = Scene::new(expected.mode);
    let one = &scene.machines[0];
    let others = scene.machines.len() - 1;
    // What is measured, and what is told, has come to rest.
    one.wait_long("the way that is looked for, measured", |one| {
        let peers = cnikit(one, "peers").stdout;
        let row = peers.lines().find(|line| line.contains("n2")).unwrap_or_default().to_owned();
        let answered = |peer: &Value| !peer["path"]["answered"].is_null();
        let all = cnikit(one, "peers --json").json();
        all.as_array().unwrap().iter().all(answered)
            && expected.peer.iter().all(|word| row.contains(&format!(" {word} ")))
            && !peers.contains('?')
    });
    one.wait("its pods are told", |one| cnikit(one, "topology").stdout.contains("2 pods"));

    status(one, expected, others);
    peers(one, expected, others);
    topology(&scene, expected);
    let destinations = [false, true].map(|ipv6| scene.destination(ipv6));
    for to in destinations {
        trace(one, expected, to);
    }
    broken(&mut scene, expected, destinations);
    forget(scene, expected, destinations);
}

fn status(one: &Machine, expected: &Expected, others: usize) {
    let text = cnikit(one, "status").ok();
    let subnets = one.subnets().join(", ");
    for line in [
        "node       n1, ready".to_owned(),
        "addresses  192.168.1.11, fd01::b".to_owned(),
        "network    cnikit".to_owned(),
        "bridge     cnikit-pods, with 1 pod".to_owned(),
        format!("subnets    {subnets}"),
        "store      gossip: 192.168.1.11:4793".to_owned(),
        format!("peers      {others} alive"),
        format!("ways       {} (mode {})", expected.ways, expected.mode),
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\nin\n{text}");
    }
    let json = cnikit(one, "status --json").json();
    let agents = one.ask("/v1/status").unwrap();
    for key in ["node", "name", "subnets", "peers", "mode", "pods", "ready", "problems", "store"] {
        assert_eq!(json[key], agents[key], "{key}");
    }
    assert_eq!(json["problems"], json!([]));
    let ways = &json["ways"];
    let sum: u64 =
        ["tunnels", "routes", "router", "none"].iter().map(|way| ways[way].as_u64().unwrap()).sum();
    assert_eq!(usize::try_from(sum).unwrap(), others, "{ways}");
}

fn peers(one: &Machine, expected: &Expected, others: usize) {
    let text = cnikit(one, "peers").ok();
    let row = text.lines().find(|line| line.starts_with("n2 ")).unwrap();
    for word in ["alive", "192.168.1.12"].into_iter().chain(expected.peer) {
        assert!(row.contains(&format!(" {word} ")), "{word} in {row}");
    }
    assert!(text.contains("µs") || text.contains("ms"), "{text}");
    let json = cnikit(one, "peers --json").json();
    let agents = one.ask("/v1/peers").unwrap();
    assert_eq!(json.as_array().unwrap().len(), others);
    for (told, known) in json.as_array().unwrap().iter().zip(agents.as_array().unwrap()) {
        for key in ["id", "name", "liveness", "addresses", "subnets", "pods"] {
            assert_eq!(told[key], known[key], "{key}");
        }
        assert_eq!(told["path"]["way"], known["path"]["way"]);
    }
}

fn topology(scene: &Scene, expected: &Expected) {
    let one = &scene.machines[0];
    let text = cnikit(one, "topology").ok();
    assert!(text.starts_with(&format!("network cnikit: {} nodes, 2 pods\n", scene.machines.len())), "{text}");
    assert!(text.contains("├─ n1  192.168.1.11 fd01::b  this node\n"), "{text}");
    assert!(text.contains("n2  192.168.1.12 fd01::c  alive\n"), "{text}");
    let subnets = [0, 1].map(|n| scene.machines[n].subnets());
    for subnets in &subnets {
        assert!(text.contains(&format!("cnikit-pods  {}\n", subnets.join(" "))), "{text}");
    }
    let addresses = [false, true].map(|ipv6| scene.destination(ipv6).to_string());
    assert!(text.contains(&addresses.join(" ")), "{text}");
    assert_eq!(text.contains(", the router\n"), expected.mode == "router", "{text}");

    let json = cnikit(one, "topology --json").json();
    let names: Vec<_> = json["nodes"].as_array().unwrap().iter().map(|node| node["name"].clone()).collect();
    let wanted: Vec<_> = scene.machines.iter().map(|machine| json!(format!("n{}", machine.number))).collect();
    assert_eq!(names, wanted);
    assert_eq!(json["nodes"][1]["pods"][0]["addresses"], json!(addresses));

    let dot = cnikit(one, "topology --dot").ok();
    assert!(dot.starts_with("graph ") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains(expected.link), "{}\nin\n{dot}", expected.link);
    assert!(dot.contains(&addresses[0]), "{dot}");
    assert_eq!(cnikit(one, "topology --svg /run/picture.svg").ok(), "");
    let svg = one.node.inside(|| fs::read_to_string("/run/picture.svg").unwrap());
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    for word in ["n1", "n2", &addresses[0], &subnets[1][0]] {
        assert!(svg.contains(word), "{word}");
    }
}

fn trace(one: &Machine, expected: &Expected, to: IpAddr) {
    let said = cnikit(one, &format!("trace pod-1 {to} --json"));
    let trace = said.json();
    assert_eq!(said.status, 0, "{trace}");
    assert_eq!(places(&trace), expected.hops, "{trace}");
    assert_eq!(trace["findings"], json!([]), "{trace}");
    let (first, last) = (&trace["hops"][0], trace["hops"].as_array().unwrap().last().unwrap());
    assert!(first["on"].as_str().unwrap().starts_with("pod-1"), "{trace}");
    assert!(last["on"].as_str().unwrap().starts_with("pod-2"), "{trace}");
    // Unless it is certain that there is no tunnel, pods' packets fit one.
    let wanted = if expected.mode == "route" { 1500 } else { 1450 };
    assert_eq!(trace["mtu"], wanted, "{trace}");
    let text = cnikit(one, &format!("trace pod-1 {to}")).ok();
    assert!(text.contains("it gets there, as far as this node can tell"), "{text}");
    let large = cnikit(one, &format!("trace pod-1 {to} --size 1501"));
    assert_eq!(large.status, 5, "{large:?}");
    assert!(large.stdout.contains("too large"), "{large:?}");
}

/// Somebody breaks it while the agent is dead; it is found; the agent comes back, and repairs it.
fn broken(scene: &mut Scene, expected: &Expected, destinations: [IpAddr; 2]) {
    let subnets = scene.machines[1].subnets();
    let of = |ipv6: bool| subnets.iter().find(|subnet| subnet.contains(':') == ipv6).unwrap().clone();
    let [place, why] = expected.lost;
    let one = &mut scene.machines[0];
    for (breaks, to) in expected.breaks.iter().zip(destinations) {
        one.kill();
        // Without an agent there is a doubt about what is beyond, and nothing is lost.
        let said = cnikit(one, &format!("trace pod-1 {to} --json"));
        assert_eq!((said.status, &said.json()["lostAt"]), (0, &Value::Null), "{said:?}");
        one.node.shell(&breaks.replace("{v4}", &of(false)).replace("{v6}", &of(true)));
        let said = cnikit(one, &format!("trace pod-1 {to} --json"));
        let trace = said.json();
        assert_eq!(said.status, 5, "{breaks}: {trace}");
        let lost = usize::try_from(trace["lostAt"].as_u64().unwrap()).unwrap();
        assert_eq!(places(&trace)[lost], place, "{breaks}: {trace}");
        let found =
            |finding: &Value| finding["lost"] == true && finding["what"].as_str().unwrap().contains(why);
        assert!(trace["findings"].as_array().unwrap().iter().any(found), "{why}: {trace}");
        assert!(trace["verdict"].as_str().unwrap().starts_with("it is lost on "), "{trace}");
        one.start();
        one.wait_ready();
        one.wait_long("it is repaired, and seen to be", |one| {
            let said = cnikit(one, &format!("trace pod-1 {to} --json"));
            said.status == 0 && places(&said.json()) == expected.hops
        });
    }
    scene.assert_talking();
}

/// The second node goes for good.
fn forget(mut scene: Scene, expected: &Expected, destinations: [IpAddr; 2]) {
    let subnets = scene.machines[1].subnets();
    let id = scene.machines[1].ask("/v1/status").unwrap()["node"].as_str().unwrap().to_owned();
    drop(scene.machines.remove(1));
    let one = &scene.machines[0];
    one.wait_long("it is missed", |one| {
        cnikit(one, "status --json").json()["peers"]["down"] == 1
            && cnikit(one, "topology").stdout.contains("n2  192.168.1.12 fd01::c  down\n")
    });
    // Its routes stay, and so does the doubt; once the kernel, too, has asked for its neighbour in vain, it is certain.
    let said = cnikit(one, &format!("trace pod-1 {}", destinations[0]));
    let [doubt, certain] = ["n2 has not answered for long", "192.168.1.12 does not answer on eth0"];
    assert!(said.stdout.contains(if said.status == 0 { doubt } else { certain }), "{said:?}");
    let asked = cnikit(one, "node forget n2");
    assert_eq!(asked.status, 10, "{asked:?}");
    assert!(asked.stderr.contains("--yes"), "{asked:?}");
    let done = cnikit(one, "node forget n2 --yes").ok();
    assert_eq!(done, format!("forgotten: n2 ({id}), with subnet {}\n", subnets.join(", ")));
    one.wait("nobody knows it", |one| {
        let peers = cnikit(one, "peers --json").json();
        !peers.to_string().contains("n2") && !cnikit(one, "topology").stdout.contains("n2")
    });
    // By IPv6: what the agent found when it was started last, as IPv4's route, it keeps for a minute.
    let [_, to] = destinations;
    one.wait("its pods are nowhere", |one| {
        let said = cnikit(one, &format!("trace pod-1 {to}"));
        match expected.mode {
            // Whoever sends everything to the router knows at least that nobody has it.
            "router" => said.stdout.contains(&format!("no node that the agent knows has {to}")),
            _ => said.status == 5,
        }
    });
    let again = cnikit(one, "node forget n2 --yes");
    assert_eq!(again.status, 11, "{again:?}");
    let left = one.pod("pod-1-again");
    drop((left, scene.pods));
}

#[test]
fn with_tunnels() {
    isolated(|| {
        all_commands(&Expected {
            mode: "vxlan",
            ways: "1 by tunnel",
            peer: ["vxlan", "1450"],
            link: "n0 -- n1 [style=dashed",
            hops: &[
                "pod eth0",
                "veth",
                "bridge cnikit-pods",
                "routes",
                "vxlan cnikit-vxlan",
                "veth",
                "node",
                "bridge cnikit-pods",
                "pod eth0",
            ],
            breaks: ["bridge fdb del $(bridge fdb show dev cnikit-vxlan | awk '/dst 192.168.1.12/ {print $1}') \
                      dev cnikit-vxlan dst 192.168.1.12"; 2],
            lost: ["vxlan cnikit-vxlan", "no FDB entry"],
        });
    });
}

#[test]
fn with_plain_routes() {
    isolated(|| {
        all_commands(&Expected {
            mode: "route",
            ways: "1 by route",
            peer: ["route", "1500"],
            link: "n0 -- n1 [style=solid, color=\"#2e7d4f\"",
            hops: &[
                "pod eth0",
                "veth",
                "bridge cnikit-pods",
                "routes",
                "veth",
                "node",
                "bridge cnikit-pods",
                "pod eth0",
            ],
            breaks: ["ip route del {v4} proto 87", "ip -6 route del {v6} proto 87"],
            lost: ["routes", "blackhole"],
        });
    });
}

#[test]
fn around_a_router() {
    isolated(|| {
        all_commands(&Expected {
            mode: "router",
            ways: "1 by route, 1 by the router",
            peer: ["router n3", "1500"],
            link: "n0 -- n2 [style=solid, color=\"#8a5a00\"",
            hops: &[
                "pod eth0",
                "veth",
                "bridge cnikit-pods",
                "routes",
                "veth",
                "router",
                "node",
                "bridge cnikit-pods",
                "pod eth0",
            ],
            breaks: [
                "ip route del 10.244.0.0/16 proto 87 metric 87",
                "ip -6 route del fd00:244::/48 proto 87 metric 87",
            ],
            lost: ["routes", "blackhole"],
        });
    });
}
