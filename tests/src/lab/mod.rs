//! Several nodes on one segment, an agent on each, pods that talk.

mod routed;
mod stream;
mod traffic;
mod wire;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub use self::routed::Router;
pub use self::stream::{Lost, Stream};
pub use self::traffic::{Voice, everybody_to_everybody, one_and_everybody};
pub use self::wire::{Packet, Tap};
use crate::call::{Implementation, Outcome};
use crate::node::{Node, Pod};

/// What takes longer does not happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A segment: a bridge in a namespace of its own, a cable from it to each machine.
#[derive(Debug)]
pub struct Lab {
    /// The switch: `port1`, `port2` … are the cables, `segment` the bridge.
    pub switch: Node,
    plugins: Implementation,
    agent: PathBuf,
}

/// A machine on the segment.
#[derive(Debug)]
pub struct Machine {
    /// Its namespaces.
    pub node: Node,
    /// Its number: `192.168.1.10 + n` and `fd01::10 + n` are its addresses.
    pub number: u8,
    plugins: Implementation,
    agent: PathBuf,
    running: Option<Child>,
    config: Value,
    environment: Vec<(String, String)>,
}

impl Lab {
    /// An empty segment, on which machines have some plugins and a program that is the agent.
    pub fn new(plugins: Implementation, agent: impl Into<PathBuf>) -> Self {
        let switch = Node::bare();
        switch.shell("ip link add segment type bridge; ip link set segment up");
        Self { switch, plugins, agent: agent.into() }
    }

    /// Machines 1 to `n`, each with an agent that is not running yet.
    pub fn machines(&self, n: u8, config: &Value) -> Vec<Machine> {
        (1..=n).map(|number| self.machine(number, config)).collect()
    }

    /// A machine, whose agent has a configuration.
    pub fn machine(&self, number: u8, config: &Value) -> Machine {
        let machine = self.unplugged(number, config);
        self.plug_in(&machine);
        machine
    }

    fn unplugged(&self, number: u8, config: &Value) -> Machine {
        let node = Node::new(&self.plugins);
        node.shell(&format!(
            "echo {number:032x} > /run/machine-id
             if [ -e /etc/machine-id ]; then mount --bind /run/machine-id /etc/machine-id; fi"
        ));
        let mut config = config.clone();
        config["nodeName"] = json!(format!("n{number}"));
        Machine {
            node,
            number,
            plugins: self.plugins.clone(),
            agent: self.agent.clone(),
            running: None,
            config,
            environment: Vec::new(),
        }
    }

    /// Lays the cable to a machine.
    pub fn plug_in(&self, machine: &Machine) {
        let number = machine.number;
        let there = Self::path_of(&machine.node);
        self.switch.shell(&format!(
            "ip link del port{number} 2>/dev/null || true
             ip link add port{number} type veth peer name eth0 netns {there}
             ip link set port{number} master segment up"
        ));
        let host = 10 + u16::from(number);
        // A node's own interface has been there for long: while its link-local address is tentative, it asks for no neighbour.
        machine.node.shell(&format!(
            "ip link set lo up; sysctl -qw net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 address {} up
             ip addr add 192.168.1.{host}/24 dev eth0; ip addr add fd01::{host:x}/64 dev eth0 nodad",
            mac(number)
        ));
    }

    /// What names a node's network namespace, as long as the node is there.
    fn path_of(node: &Node) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), node.network().as_raw_fd())
    }

    /// Tells many machines one another's MAC addresses. All namespaces of a kernel share its limit of neighbours that it
    /// has found by asking, some thousand (`gc_thresh3`); those that it was told do not count.
    pub fn introduce(&self, machines: &[Machine]) {
        let told = |machine: &Machine| {
            let (host, mac) = (10 + u16::from(machine.number), mac(machine.number));
            format!(
                "neigh replace 192.168.1.{host} lladdr {mac} dev eth0 nud permanent
                 neigh replace fd01::{host:x} lladdr {mac} dev eth0 nud permanent\n"
            )
        };
        for machine in machines {
            let others = machines.iter().filter(|other| other.number != machine.number);
            let batch: String = others.map(told).collect();
            machine.node.shell(&format!("ip -batch - <<'END'\n{batch}END"));
        }
    }

    /// Nothing passes between two machines any more, in the direction from one to the other.
    pub fn cut(&self, from: &Machine, to: &Machine) {
        self.switch.shell(&format!(
            "nft 'add table bridge cuts; add chain bridge cuts forward {{ type filter hook forward priority 0; }}
                  add rule bridge cuts forward iifname \"port{}\" oifname \"port{}\" drop'",
            from.number, to.number
        ));
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.switch.shell("nft 'add table bridge cuts; delete table bridge cuts'");
    }
}

impl Machine {
    /// The machine crashes and comes up again: its disk is what it was, everything else is new. Its pods are gone.
    #[must_use]
    pub fn rebooted(mut self, lab: &Lab) -> Self {
        self.kill();
        let disk = self.node.inside(|| read_files(Path::new("/var/lib")));
        let mut again = lab.unplugged(self.number, &self.config);
        again.environment.clone_from(&self.environment);
        lab.switch.shell(&format!("ip link del port{}", self.number));
        drop(self);
        again.node.inside(|| write_files(&disk));
        lab.plug_in(&again);
        again.start();
        again
    }

    /// Puts what another machine has on its disk on this one's.
    pub fn clone_disk(&self, other: &Self) {
        let disk = other.node.inside(|| read_files(Path::new("/var/lib")));
        self.node.inside(|| write_files(&disk));
    }

    /// Puts a file on its disk that only its owner may read.
    pub fn put(&self, path: &str, content: &str) {
        self.node.inside(|| write_files(&[(path.into(), 0o600, content.into())]));
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the agent of n{} is running", self.number);
        let (agent, config) = (self.agent.clone(), self.config.to_string());
        let environment = self.environment.clone();
        self.running = Some(self.node.inside(|| {
            fs::create_dir_all("/run/agent").unwrap();
            fs::write("/run/agent/config.json", config).unwrap();
            let log = File::options().create(true).append(true).open("/run/agent/log").unwrap();
            let mut command = Command::new(&agent);
            command.args(["agent", "--config", "/run/agent/config.json"]).stdin(Stdio::null()).stderr(log);
            command.envs(environment);
            command.spawn().expect("the agent")
        }));
    }

    /// Ends the agent as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends the agent in good order.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM);
            let _ = child.wait();
        }
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.running {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        }
    }

    /// The agent's configuration, to be changed before it is started.
    pub fn config(&mut self) -> &mut Value {
        &mut self.config
    }

    /// The agent's process, if it is running.
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// Gives the agent a variable of its environment, before it is started.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// What the agent has said.
    pub fn log(&self) -> String {
        self.node.inside(|| fs::read_to_string("/run/agent/log").unwrap_or_default())
    }

    /// What the agent answers to `GET PATH`; `None` if it does not answer.
    pub fn ask(&self, path: &str) -> Option<Value> {
        self.request(&format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// What the agent answers to `POST PATH` with a body; `None` if it does not answer.
    pub fn post(&self, path: &str, body: &Value) -> Option<Value> {
        let body = body.to_string();
        self.request(&format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// What the agent has counted of something that it tells without labels.
    ///
    /// # Panics
    /// If it does not tell of it.
    pub fn counted(&self, what: &str) -> u64 {
        let page = self.text("GET /metrics HTTP/1.0\r\n\r\n").expect("the agent answers");
        let value = page.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
        value.expect("it is counted").parse().unwrap()
    }

    fn request(&self, request: &str) -> Option<Value> {
        serde_json::from_str(&self.text(request)?).ok()
    }

    fn text(&self, request: &str) -> Option<String> {
        self.node.inside(|| {
            let mut stream = UnixStream::connect("/run/cnikit/agent.sock").ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer.split_once("\r\n\r\n")?.1.to_owned())
        })
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// If it does not become so, with what the agent said.
    pub fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.wait_for(PATIENCE, what, is_so);
    }

    /// The same, for what an agent does not hurry with.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    pub fn wait_long(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.wait_for(PATIENCE * 4, what, is_so);
    }

    fn wait_for(&self, patience: Duration, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "n{}: {what} did not happen\n{}", self.number, self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until pods can be attached.
    pub fn wait_ready(&self) {
        self.wait("a subnet of its own", |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["ready"] == true)
        });
    }

    /// Waits until so many other nodes answer.
    pub fn wait_peers(&self, n: usize) {
        self.wait(&format!("{n} peers"), |machine| {
            machine.ask("/v1/status").is_some_and(|status| status["peers"]["alive"] == n)
        });
    }

    /// Waits until it knows so many nodes, itself included, and a subnet of each.
    pub fn wait_known(&self, n: usize) {
        self.wait_long(&format!("{n} nodes with subnets"), |machine| {
            let Some(map) = machine.ask("/v1/topology") else { return false };
            let nodes = map["nodes"].as_array().unwrap().iter();
            let held = |node: &&Value| {
                let subnets = node["subnets"].as_array().unwrap().iter();
                node["role"] == "router" || subnets.clone().any(|subnet| subnet["state"] == "held")
            };
            nodes.filter(held).count() == n
        });
    }

    /// Its subnets, of both families.
    pub fn subnets(&self) -> Vec<String> {
        let status = self.ask("/v1/status").expect("the agent answers");
        let subnets = status["subnets"].as_array().unwrap().iter();
        let held = subnets.filter(|subnet| subnet["state"] == "held");
        held.map(|subnet| subnet["prefix"].as_str().unwrap().to_owned()).collect()
    }

    /// The network's configuration, as a runtime has it.
    pub fn network(&self) -> Value {
        json!({"cniVersion": "1.1.0", "name": "cnikit", "type": "overlay"})
    }

    /// Attaches a pod, which begins to listen.
    pub fn pod(&self, name: &str) -> (Pod, Voice) {
        let pod = self.node.pod(name);
        let addresses = self.add(&pod);
        let voice = self.voice(&pod, &addresses);
        (pod, voice)
    }

    /// Something that speaks and listens in a pod.
    pub fn voice(&self, pod: &Pod, addresses: &[IpAddr]) -> Voice {
        self.node.inside_pod(pod, || Voice::new(pod.name(), addresses))
    }

    /// Attaches a container; its addresses.
    pub fn add(&self, pod: &Pod) -> Vec<IpAddr> {
        addresses(&self.attach(pod, &[]))
    }

    /// Attaches a container, with addresses that it is to have, if there are any; the result.
    pub fn attach(&self, pod: &Pod, ips: &[IpAddr]) -> Value {
        let mut network = self.network();
        if !ips.is_empty() {
            network["runtimeConfig"] = json!({ "ips": ips });
        }
        let call = self.node.call(&self.plugins, "ADD", "overlay", &network);
        call.on(pod).container(pod.name()).within(PATIENCE).run().result()
    }

    /// Looks whether a container is attached as a result says.
    pub fn check(&self, pod: &Pod, result: &Value) -> Outcome {
        let mut network = self.network();
        network["prevResult"] = result.clone();
        self.node.call(&self.plugins, "CHECK", "overlay", &network).on(pod).container(pod.name()).run()
    }

    /// Attaches a container of its own, which must fail; the error.
    pub fn try_add(&self, name: &str) -> Value {
        let pod = self.node.pod(name);
        self.node
            .call(&self.plugins, "ADD", "overlay", &self.network())
            .on(&pod)
            .container(name)
            .run()
            .error()
    }

    /// The error that the network's STATUS is; `None` if containers can be attached.
    pub fn status(&self) -> Option<Value> {
        let outcome = self.node.call(&self.plugins, "STATUS", "overlay", &self.network()).run();
        (!outcome.status.success()).then(|| outcome.error())
    }

    /// Detaches a container.
    pub fn del(&self, pod: &Pod) {
        let outcome = self
            .node
            .call(&self.plugins, "DEL", "overlay", &self.network())
            .on(pod)
            .container(pod.name())
            .run();
        assert!(outcome.status.success(), "{outcome}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The addresses in a result.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap()).collect()
}

/// The MAC address of a machine's interface on the segment.
fn mac(number: u8) -> String {
    format!("02:00:5e:00:53:{number:02x}")
}

/// All files below a directory, with their modes.
fn read_files(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(read_files(&path));
        } else if kind.is_file() {
            let mode = entry.metadata().unwrap().permissions().mode();
            found.push((path.clone(), mode, fs::read(&path).unwrap()));
        }
    }
    found
}

fn write_files(files: &[(PathBuf, u32, Vec<u8>)]) {
    for (path, mode, content) in files {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
    }
}
