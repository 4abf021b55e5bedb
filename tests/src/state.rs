//! What a node and its pods hold, in the words of other programs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Map, Value, json};

use crate::lan;
use crate::node::Node;

/// Everything that the kernel holds for a node and its pods, and the leases on its disk.
///
/// An object: `host` and each pod by its name have `links` (with addresses), `routes`, `rules`, `sysctls` and `shaping`;
/// `nftables`, `files` (leases) and `tuning` (what interfaces were like before) are the node's, and of [`lan`](crate::lan)'s
/// `served` (the server's leases) and `notes` (for the daemon).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State(pub(crate) Value);

/// How long a state may take to become what is expected: the kernel finishes some things after it has answered.
const PATIENCE: Duration = Duration::from_secs(4);

impl State {
    /// Reads it.
    pub fn of(node: &Node) -> Self {
        let mut state = Map::new();
        let pods = node.pods();
        thread::scope(|scope| {
            let host = scope.spawn(|| node.inside(namespace));
            let pods: Vec<_> = pods
                .iter()
                .map(|pod| (pod.name(), scope.spawn(|| node.inside_pod(pod, namespace))))
                .collect();
            state.insert("nftables".to_owned(), node.inside(nftables));
            state.insert("files".to_owned(), node.inside(|| files(Path::new("/var/lib/cni"))));
            state.insert("tuning".to_owned(), node.inside(|| files(Path::new("/run/cni/tuning"))));
            state.insert("notes".to_owned(), node.inside(|| files(Path::new(lan::NOTES))));
            state.insert("served".to_owned(), node.inside(served));
            state.insert("host".to_owned(), host.join().unwrap());
            for (name, pod) in pods {
                state.insert(name.to_owned(), pod.join().unwrap());
            }
        });
        Self(Value::Object(state))
    }

    /// Reads it until it satisfies somebody, or for a few seconds.
    pub fn when(node: &Node, satisfied: impl Fn(&Self) -> bool) -> Self {
        Self::within(PATIENCE, node, satisfied)
    }

    /// The same, for another time.
    pub fn within(patience: Duration, node: &Node, satisfied: impl Fn(&Self) -> bool) -> Self {
        let started = Instant::now();
        loop {
            let state = Self::of(node);
            if satisfied(&state) || started.elapsed() > patience {
                return state;
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Reads what is on the disk only.
    pub fn of_disk(node: &Node) -> Self {
        Self(json!({"files": node.inside(|| files(Path::new("/var/lib/cni")))}))
    }

    /// The state as JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// The interfaces of a place, each with its addresses.
    pub fn links(&self, place: &str) -> Vec<&Value> {
        self.0[place]["links"].as_object().map(|links| links.values().collect()).unwrap_or_default()
    }
}

/// What a network namespace holds: that of the calling thread.
fn namespace() -> Value {
    bring_up_to_date();
    let [addresses] = ip("-d", ["addr show"]);
    let [routes4, rules4] = ip("-d -4", ["route show table all", "rule show"]);
    let [routes6, rules6] = ip("-d -6", ["route show table all", "rule show"]);
    let links = by_name(addresses);
    let names: Vec<_> = links.keys().cloned().collect();
    json!({
        "links": links,
        "routes": [routes4, routes6],
        "rules": [rules4, rules6],
        "sysctls": sysctls(&names),
        "shaping": shaping(),
    })
}

/// A dump tells of interfaces' carrier what the kernel has got round to, which may take seconds where many interfaces
/// come and go; whoever asks for one interface is told how it is now. A bridge's follows from its ports'.
fn bring_up_to_date() {
    let links = nix::net::if_::if_nameindex().unwrap();
    let names = || links.iter().map(|link| link.name().to_string_lossy());
    let questions: String = names().chain(names()).map(|name| format!("link show dev {name}\n")).collect();
    // One that is gone by now has no carrier to be told of.
    let _ = try_output("ip", "-force -batch -", &questions);
}

/// Queueing disciplines, and filters for what comes in.
fn shaping() -> Value {
    let tc = |question: &str| -> Value {
        serde_json::from_str(&output("tc", &format!("-j -d {question}"), "")).unwrap()
    };
    let mut qdiscs = tc("qdisc show");
    let mut filters = Map::new();
    for qdisc in qdiscs.as_array_mut().unwrap() {
        // How many queues there are: a cable's queues are compared as the link's.
        qdisc.as_object_mut().unwrap().remove("refcnt");
        if qdisc["kind"] == "ingress" {
            let device = qdisc["dev"].as_str().unwrap();
            filters.insert(device.to_owned(), tc(&format!("filter show dev {device} parent ffff:")));
        }
    }
    json!({"qdiscs": qdiscs, "filters": filters})
}

fn by_name(links: Value) -> Map<String, Value> {
    let Value::Array(links) = links else { panic!("not a list: {links}") };
    links.into_iter().map(|link| (link["ifname"].as_str().unwrap().to_owned(), link)).collect()
}

/// Every setting of every interface, and forwarding.
fn sysctls(links: &[String]) -> Value {
    let mut settings = BTreeMap::new();
    settings.insert("ipv4/ip_forward".to_owned(), read("/proc/sys/net/ipv4/ip_forward"));
    for link in links.iter().map(String::as_str).chain(["all", "default"]) {
        for family in ["ipv4", "ipv6"] {
            let directory = format!("/proc/sys/net/{family}/conf/{link}");
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                let key = path.strip_prefix("/proc/sys/net").unwrap().display().to_string();
                settings.insert(key, read(path));
            }
        }
    }
    json!(settings)
}

fn read(path: impl AsRef<Path>) -> String {
    // Secrets cannot be read before they are set.
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn nftables() -> Value {
    let ruleset = output("nft", "-s list ruleset", "");
    // What iptables has put there, nft tells but in part.
    let chains = |program| {
        output(program, "", "").lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let iptables: Vec<String> = if ruleset.contains("table ip filter ") || ruleset.contains("table ip nat ") {
        chains("iptables-save")
    } else {
        Vec::new()
    };
    let ip6tables: Vec<String> =
        if ruleset.contains("table ip6 filter ") || ruleset.contains("table ip6 nat ") {
            chains("ip6tables-save")
        } else {
            Vec::new()
        };
    json!({"ruleset": ruleset, "iptables": iptables, "ip6tables": ip6tables})
}

/// The addresses that a DHCP server has given out, and to whom; for how long is another matter.
fn served() -> Value {
    let leases = fs::read_to_string(lan::SERVED).unwrap_or_default();
    // Until when, MAC address, address, name, identifier of the client.
    let lease = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        words.get(4).map(|client| (words[2].to_owned(), json!(client)))
    };
    Value::Object(leases.lines().filter_map(lease).collect())
}

/// Each file below a directory with its content, and each directory.
fn files(directory: &Path) -> Value {
    let mut found = Map::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().unwrap();
        let content = match () {
            () if kind.is_dir() => files(&entry.path()),
            () if kind.is_file() => String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into(),
            () => json!("neither a file nor a directory"),
        };
        found.insert(name, content);
    }
    Value::Object(found)
}

/// What one `ip` says to some questions. To a question whose answer is an empty list it may say nothing at all.
fn ip<const N: usize>(options: &str, questions: [&str; N]) -> [Value; N] {
    // An answer of its own between any two, to tell them apart.
    const MARK: &str = "link show dev lo";
    let batch: String = questions.iter().map(|question| format!("{question}\n{MARK}\n")).collect();
    let said = output("ip", &format!("-j {options} -batch -"), &batch);
    let mut documents =
        serde_json::Deserializer::from_str(&said).into_iter::<Value>().map(Result::unwrap).peekable();
    let is_mark = |document: &Value| document[0]["ifname"] == "lo" && document[0].get("addr_info").is_none();
    questions.map(|_| {
        let answer = documents.next_if(|document| !is_mark(document)).unwrap_or(json!([]));
        assert!(documents.next().is_some_and(|document| is_mark(&document)), "{options}: {said}");
        answer
    })
}

fn output(program: &str, arguments: &str, input: &str) -> String {
    let output = try_output(program, arguments, input);
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn try_output(program: &str, arguments: &str, input: &str) -> Output {
    let mut command = Command::new(program);
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
