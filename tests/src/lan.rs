//! A node whose pods' bridge reaches a machine on which a DHCP server runs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::call::{Call, Implementation};
use crate::isolation::isolated;
use crate::node::{Node, Pod};

/// What takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where our daemon listens, and the reference's.
const SOCKET: &str = "/run/cni/dhcp.sock";
/// Where the server has its leases.
pub(crate) const SERVED: &str = "/run/server/leases";
/// What was written down for the daemon while it did not run.
pub(crate) const NOTES: &str = "/run/cni/dhcp.sock.ended";

/// Leases of two minutes, the shortest that dnsmasq gives.
pub const RANGE: &str = "--dhcp-range=10.9.0.10,10.9.0.50,2m";

/// Leases that nobody renews while a test runs.
pub const LONG_RANGE: &str = "--dhcp-range=10.9.0.10,10.9.0.50,12h";

/// Whether there is a DHCP server. If not, it was said that one does without other programs, and this says so.
///
/// # Panics
/// If there is none, and nothing was said.
pub fn has_server() -> bool {
    let there = Command::new("dnsmasq").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there && std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some() {
        eprintln!("DID NOT RUN: CNIKIT_WITHOUT_REFERENCE is set, and there is no dnsmasq");
        return false;
    }
    assert!(
        there,
        "no dnsmasq: install dnsmasq-base, or set CNIKIT_WITHOUT_REFERENCE=1 to do without these tests"
    );
    true
}

/// Runs a test that needs namespaces, and a [server](has_server).
pub fn with_server<T: FnOnce()>(test: T) {
    if has_server() {
        isolated(test);
    }
}

/// A node, its network, a server's machine on it, and what runs there.
#[derive(Debug)]
pub struct Lan {
    /// The node.
    pub node: Arc<Node>,
    /// Whose plugins it has.
    pub plugins: Implementation,
    /// Where our daemon keeps its leases.
    pub state: PathBuf,
    server: Pod,
    programs: Vec<(&'static str, Child)>,
}

impl Lan {
    /// A node with somebody's plugins, and no server and daemon yet.
    pub fn new(plugins: &Implementation) -> Self {
        Self::on(Arc::new(Node::new(plugins)), plugins)
    }

    /// The same on a node that is there.
    pub fn on(node: Arc<Node>, plugins: &Implementation) -> Self {
        let server = node.pod("server");
        // Its addresses are there at once.
        node.pod_shell(
            &server,
            "for all in all default; do echo 0 > /proc/sys/net/ipv6/conf/$all/accept_dad; done",
        );
        node.shell(
            "ip link set lo up; ip link add cni0 type bridge; ip link set cni0 up
             ip link add port type veth peer name lan0 netns server; ip link set port master cni0 up",
        );
        node.pod_shell(
            &server,
            "ip link set lo up; ip link set lan0 up
             ip addr add 10.9.0.1/24 dev lan0; ip addr add fd09::1/64 dev lan0 nodad
             mkdir -p /run/server",
        );
        let state = "/var/lib/cni/dhcp".into();
        Self { node, plugins: plugins.clone(), state, server, programs: Vec::new() }
    }

    /// The network's configuration, with some more in its `ipam`.
    pub fn config(&self, ipam: &Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "lan", "type": "bridge", "bridge": "cni0", "ipam": {"type": "dhcp"},
        });
        for (key, value) in ipam.as_object().unwrap() {
            config["ipam"][key] = value.clone();
        }
        config
    }

    /// A call of `bridge` about a pod.
    pub fn call(&self, command: &str, pod: &Pod, config: &Value) -> Call<'_> {
        self.node.call(&self.plugins, command, "bridge", config).on(pod).container(pod.name())
    }

    /// An `ADD` that must succeed; its result.
    pub fn add(&self, pod: &Pod, config: &Value) -> Value {
        self.call("ADD", pod, config).run().result()
    }

    /// A `DEL`, which must succeed.
    pub fn del(&self, pod: &Pod, config: &Value) {
        let outcome = self.call("DEL", pod, config).run();
        assert!(outcome.status.success(), "{outcome}");
    }

    /// Starts dnsmasq, with some more arguments.
    pub fn start_server(&mut self, arguments: &[&str]) {
        let mut program = Command::new("dnsmasq");
        program.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=lan0", "--user=root"]);
        program.args([&format!("--dhcp-leasefile={SERVED}"), "--log-dhcp", "--pid-file=", "--no-ping"]);
        program.args(arguments);
        let child = self.node.inside_pod(&self.server, || {
            let log = File::options().create(true).append(true).open("/run/server/log").unwrap();
            program.stderr(log).stdin(Stdio::null()).spawn().expect("dnsmasq, of Debian's dnsmasq-base")
        });
        self.programs.push(("server", child));
        self.await_on("the server", |lan| lan.server_log().contains("DHCP, "));
    }

    /// What the server has said.
    pub fn server_log(&self) -> String {
        self.read("/run/server/log")
    }

    /// Starts the daemon, and waits until it serves.
    pub fn start_daemon(&mut self) {
        self.start_daemon_with("8");
    }

    /// The same; an `ADD` fails after so many seconds without a server.
    pub fn start_daemon_with(&mut self, seconds: &str) {
        let plugins = self.plugins.clone();
        self.start_daemon_of(&plugins, seconds);
    }

    /// The same, of somebody else.
    pub fn start_daemon_of(&mut self, whose: &Implementation, seconds: &str) {
        self.start_daemon_as(whose, &self.daemon(whose, seconds));
    }

    /// Starts our daemon as the last arguments of another program, as `strace`.
    pub fn start_daemon_through(&mut self, wrapper: &[&str]) {
        let plugins = self.plugins.clone();
        let mut command: Vec<_> = wrapper.iter().map(Into::into).collect();
        command.extend(self.daemon(&plugins, "8"));
        self.start_daemon_as(&plugins, &command);
    }

    /// What is to be executed for somebody's daemon. Ours was built beside the plugins, for the tests.
    pub fn daemon(&self, whose: &Implementation, seconds: &str) -> Vec<OsString> {
        match whose {
            Implementation::Ours(plugins) => {
                let program = plugins.with_file_name("dhcp-under-test");
                assert!(
                    program.exists(),
                    "{} is missing: cargo build -p cnikit-tests --bin dhcp-under-test, as the plugins were built",
                    program.display()
                );
                vec![program.into(), seconds.into(), self.state.clone().into()]
            }
            Implementation::Reference(directory) => vec![directory.join("dhcp").into(), "daemon".into()],
        }
    }

    fn start_daemon_as(&mut self, whose: &Implementation, command: &[OsString]) {
        let child = self.node.inside(|| {
            let log = File::options().create(true).append(true).open("/run/daemon.log").unwrap();
            let mut program = Command::new(&command[0]);
            program.args(&command[1..]).stdin(Stdio::null()).stderr(log).spawn().unwrap()
        });
        self.programs.push(("daemon", child));
        let asks = matches!(whose, Implementation::Ours(_));
        self.await_on("the daemon", |lan| lan.serves(asks));
    }

    /// Whether a daemon listens, and if it is asked, answers: it has done then what it does first.
    pub fn serves(&self, asks: bool) -> bool {
        self.node.inside(|| serves(asks))
    }

    /// Who listens to plugins, if anybody does.
    pub fn who_serves(&self) -> Option<Pid> {
        self.node.inside(|| {
            let stream = UnixStream::connect(SOCKET).ok()?;
            getsockopt(&stream, sockopt::PeerCredentials).ok().map(|peer| Pid::from_raw(peer.pid()))
        })
    }

    /// What the daemon has said.
    pub fn daemon_log(&self) -> String {
        self.read("/run/daemon.log")
    }

    /// Ends `server` or `daemon`.
    pub fn stop(&mut self, name: &str, signal: Signal) {
        let at = self.programs.iter().position(|(known, _)| *known == name).unwrap();
        // It may be another program's child.
        let serving = if name == "daemon" { self.who_serves() } else { None };
        let (_, mut child) = self.programs.remove(at);
        kill(serving.unwrap_or_else(|| Pid::from_raw(child.id().try_into().unwrap())), signal).unwrap();
        child.wait().unwrap();
    }

    /// Ends it, and then does something.
    pub fn stop_and(&mut self, name: &str, signal: Signal, then: impl FnOnce(&Self)) {
        self.stop(name, signal);
        then(self);
    }

    /// Gives the server's machine another address of IPv4.
    pub fn renumber(&self, address: &str) {
        self.node
            .pod_shell(&self.server, &format!("ip -4 addr flush dev lan0; ip addr add {address} dev lan0"));
    }

    /// The names of a pod's interfaces.
    pub fn links(&self, pod: &Pod) -> Vec<String> {
        let printed = self.node.pod_shell(pod, "ip -json link show");
        let links: Value = serde_json::from_str(&printed).unwrap();
        links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
    }

    /// Changes the only record that the daemon has on disk.
    pub fn edit_record(&self, edit: impl FnOnce(&mut Value) + Send) {
        let records = self.records();
        let [path] = &records[..] else { panic!("{records:?}") };
        self.node.inside(|| {
            let mut record = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            edit(&mut record);
            fs::write(path, record.to_string()).unwrap();
        });
    }

    /// What was written down for the daemon while it did not run.
    pub fn notes(&self) -> Vec<PathBuf> {
        self.node.inside(|| {
            let entries = fs::read_dir(NOTES).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        })
    }

    /// The addresses of a pod's `eth0`, without those that it gave itself.
    pub fn addresses(&self, pod: &Pod) -> Vec<String> {
        let printed = self.node.pod_shell(pod, "ip -json address show dev eth0 scope global");
        let links: Value = serde_json::from_str(&printed).unwrap();
        let addresses = links.as_array().unwrap().iter().flat_map(|link| link["addr_info"].as_array());
        // Links without such addresses come as empty objects.
        let text = |address: &Value| Some(format!("{}/{}", address["local"].as_str()?, address["prefixlen"]));
        addresses.flatten().filter_map(text).collect()
    }

    /// Waits for something to be so.
    pub fn await_on(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not after {PATIENCE:?}\n--- daemon:\n{}\n--- server:\n{}",
                self.daemon_log(),
                self.server_log()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// The records that the daemon has on disk.
    pub fn records(&self) -> Vec<PathBuf> {
        self.node.inside(|| {
            let Ok(entries) = fs::read_dir(&self.state) else { return Vec::new() };
            let paths = entries.map(|entry| entry.unwrap().path());
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
        })
    }

    fn read(&self, path: &str) -> String {
        self.node.inside(|| fs::read_to_string(Path::new(path)).unwrap_or_default())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // It may be another program's child, and outlive that.
        if self.programs.iter().any(|(name, _)| *name == "daemon")
            && let Some(daemon) = self.who_serves()
        {
            let _ = kill(daemon, Signal::SIGKILL);
        }
        for (_, child) in &mut self.programs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn serves(asks: bool) -> bool {
    let Ok(mut stream) = UnixStream::connect(SOCKET) else { return false };
    let mut answer = String::new();
    !asks
        || stream.write_all(b"{\"command\":\"STATUS\"}\n").is_ok()
            && stream.read_to_string(&mut answer).is_ok_and(|length| length > 0)
}
