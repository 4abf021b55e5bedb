//! `cnikit agent` as it is deployed: with the rights that it is given, watched by a service manager, and taken out again.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{CNIKIT, Node, there_is};
use crate::on_a_node;

/// What takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent at work on a node, with what it says.
struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// `wrapper` is what starts it: a program with arguments, or nothing.
    fn start(node: &Node, wrapper: &[&str], env: &[(&str, &str)]) -> Self {
        let log = node.path("log");
        let words: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
        let all: Vec<String> = words.into_iter().chain([CNIKIT.to_owned(), "agent".to_owned()]).collect();
        let process = Command::new(&all[0])
            .args(&all[1..])
            .args(options(node).split_whitespace())
            .env_remove("JOURNAL_STREAM")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// What it has said.
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the runtime has been told that there is a network, and the kernel has the ways to others.
    #[track_caller]
    fn wait_ready(&self, node: &Node) {
        self.wait_for("the runtime is told", || conf_list(node).exists());
        self.wait_for("routes to others", || ours(node).matches("nhid").count() == 2);
    }

    fn end(mut self) -> ExitStatus {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.process.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node with an interface, and a list of three nodes of which it is the first.
fn prepare(node: &Node) {
    node.sh("ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up
         ip address add 192.168.1.11/24 dev eth0");
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/examples/three-nodes.json");
    fs::copy(list, node.path("nodes.json")).unwrap();
    fs::create_dir(node.path("plugins")).unwrap();
    fs::write(node.path("plugins/overlay"), "").unwrap();
}

fn options(node: &Node) -> String {
    format!(
        "--store static --static-file {} --mode vxlan --node-name n1 --cni-write --cni-conf-dir {} --cni-bin-dir {}",
        node.path("nodes.json").display(),
        node.path("conf").display(),
        node.path("plugins").display()
    )
}

fn conf_list(node: &Node) -> PathBuf {
    node.path("conf/10-cnikit.conflist")
}

/// What an agent keeps in the kernel.
fn ours(node: &Node) -> String {
    node.sh("ip route show proto 87; ip nexthop; ip rule | grep 8788 || true
         ip -br link show cnikit-vxlan 2>/dev/null || true; nft list ruleset")
}

#[test]
fn a_network_is_taken_off_a_node_when_its_agent_has_ended() {
    on_a_node!(|node| {
        prepare(node);
        let agent = Agent::start(node, &[], &[]);
        agent.wait_ready(node);
        node.cnikit("add cnikit blue --container-id web").ok();

        let uninstall = format!("agent --uninstall {}", options(node));
        let before = ours(node);
        let refused = node.cnikit(&uninstall).fails(10);
        assert!(refused.contains("an agent is running: it has /var/lib/cnikit/lock"), "{refused}");
        assert!(refused.contains("systemctl disable --now cnikit-agent"), "{refused}");
        assert!(refused.contains("delete daemonset cnikit"), "{refused}");
        assert_eq!(ours(node), before);
        assert!(conf_list(node).exists());

        assert!(agent.end().success());
        assert_eq!(ours(node), before, "a mere end takes nothing away");
        let done = node.cnikit(&uninstall);
        assert_eq!((done.status, done.stdout.as_str()), (0, ""), "{}", done.stderr);
        assert!(done.stderr.contains("10-cnikit.conflist is removed\n"), "{}", done.stderr);
        assert_eq!(ours(node), "");
        assert!(!conf_list(node).exists());
        // So no pod comes any more, and those that are there can go.
        node.configure("late", r#"[{"type": "overlay"}]"#);
        fs::rename(node.path("conf/late.conflist"), conf_list(node)).unwrap();
        let list = fs::read_to_string(conf_list(node)).unwrap().replace("late", "cnikit");
        fs::write(conf_list(node), list).unwrap();
        assert!(node.cnikit("add cnikit red").fails(7).contains("waiting"));
        assert!(node.sh("ip link show master cnikit-pods").contains("state UP"));
        node.cnikit("del cnikit blue --container-id web").ok();
        fs::remove_file(conf_list(node)).unwrap();

        let again = node.cnikit(&uninstall);
        assert_eq!(again.status, 0, "{}", again.stderr);
        assert!(
            again.stderr.contains("the runtime had no configuration of cnikit\n0 things"),
            "{}",
            again.stderr
        );
    });
}

/// What containerd and CRI-O make of `kubernetes.io/ingress-bandwidth: 8M`, and pass on to a plugin that says it can have it.
const LIMITS: &str = r#"{"bandwidth": {"ingressRate": 8000000, "ingressBurst": 80000}}"#;

#[test]
fn a_pods_limits_reach_the_plugin_that_sets_them() {
    on_a_node!(|node| {
        prepare(node);
        for plugin in ["portmap", "bandwidth"] {
            fs::write(node.path("plugins").join(plugin), "").unwrap();
        }
        let agent = Agent::start(node, &[], &[]);
        agent.wait_ready(node);
        node.cnikit_with("add cnikit blue --container-id slow", &[("CAP_ARGS", LIMITS)]).ok();
        node.cnikit("add cnikit red --container-id fast").ok();
        let queues = node.sh("tc qdisc show");
        assert_eq!(queues.matches("tbf").count(), 1, "{queues}");
        assert!(queues.contains("rate 8Mbit"), "{queues}");
        node.cnikit("check cnikit blue --container-id slow").ok();
        node.cnikit("del cnikit blue --container-id slow").ok();
        node.cnikit("del cnikit red --container-id fast").ok();
        assert!(!node.sh("tc qdisc show").contains("tbf"));
        agent.end();
    });
}

#[test]
fn what_stays_after_taking_a_network_off_keeps_agents_away() {
    on_a_node!(|node| {
        prepare(node);
        let first = Agent::start(node, &[], &[]);
        first.wait_ready(node);
        first.end();
        let said = node.path("said");
        let mut stays = Command::new(CNIKIT)
            .args(["agent", "--uninstall", "--stay"])
            .args(options(node).split_whitespace())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&said).unwrap().contains("no agent starts until this ends") {
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(20));
        }
        let mut late = Agent::start(node, &[], &[]);
        let refused = late.process.wait().unwrap();
        assert!(!refused.success() && late.log().contains("another agent has it"), "{}", late.log());
        assert_eq!(ours(node), "");
        assert_eq!(stays.try_wait().unwrap(), None);
        kill(Pid::from_raw(stays.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(stays.wait().unwrap().success());
    });
}

/// A value of a unit's section, as `deploy/cnikit-agent.service` has it.
fn unit(key: &str) -> String {
    let value =
        unit_file().lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned));
    value.unwrap_or_else(|| panic!("the unit has no {key}"))
}

fn unit_file() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cnikit-agent.service");
    fs::read_to_string(file).unwrap()
}

/// As `setpriv` starts it: root, without any other capability, and with no way to get one.
#[test]
fn the_rights_that_the_unit_gives_are_enough_and_as_few_as_documented() {
    on_a_node!(|node| {
        prepare(node);
        assert_eq!(unit("CapabilityBoundingSet"), "CAP_NET_ADMIN CAP_NET_RAW");
        assert_eq!((unit("NoNewPrivileges").as_str(), unit("RestrictNamespaces").as_str()), ("yes", "yes"));
        let bounding = unit("CapabilityBoundingSet").to_lowercase().replace("cap_", "+").replace(' ', ",");
        let bounding = format!("--bounding-set=-all,{bounding}");
        let agent = Agent::start(node, &["setpriv", "--no-new-privs", "--inh-caps=-all", &bounding], &[]);
        agent.wait_ready(node);
        let status = fs::read_to_string(format!("/proc/{}/status", agent.process.id())).unwrap();
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            // CAP_NET_ADMIN is 12, CAP_NET_RAW 13.
            assert!(status.contains(&format!("{set}:\t0000000000003000\n")), "{status}");
        }
        agent.wait_for("the bridge is there", || node.sh("ip -br link").contains("cnikit-pods"));
        let tunnel = node.sh("ip -d link show cnikit-vxlan");
        assert!(tunnel.contains("vxlan id 4096") && tunnel.contains("dstport 4789"), "{tunnel}");
        assert!(node.sh("nft list ruleset").contains("masquerade"));
        assert_eq!(node.sh("sysctl -n net.ipv4.ip_forward net.ipv4.ip_forward_use_pmtu"), "1\n1\n");
        node.cnikit("add cnikit blue --container-id web").ok();
        let pod = || {
            node.sh("curl -s --unix-socket /run/cnikit/agent.sock http://agent/v1/topology").contains("web")
        };
        agent.wait_for("the pod is known", pod);
        for bad in ["error", "warning: ", "refused", "permitted"] {
            assert!(!agent.log().contains(bad), "{}", agent.log());
        }
        agent.end();
        let few = [
            "--no-new-privs",
            "--inh-caps=-all",
            "--bounding-set=-all,+net_admin",
            CNIKIT,
            "agent",
            "--uninstall",
        ];
        let options = options(node);
        let output = Command::new("setpriv").args(few).args(options.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(ours(node), "");
    });
}

#[test]
fn systemd_has_nothing_to_say_against_the_unit() {
    if !there_is("systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let verify = |text: &str| {
        let file = directory.path().join("cnikit-agent.service");
        fs::write(&file, text).unwrap();
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    // Where it will be, it is not yet.
    let unit = unit_file().replace("/usr/local/bin/cnikit", CNIKIT);
    assert_eq!(verify(&unit), (true, String::new()));
    let (_, said) = verify(&unit.replace("WatchdogSec", "WatchdogSecs"));
    assert!(said.contains("WatchdogSecs"), "it would be silent about anything: {said}");
}

/// Someone in the place of systemd, at $NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Listens until something has been said, and returns that.
    #[track_caller]
    fn hear(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut buffer = [0; 1024];
            let length = self.socket.recv(&mut buffer);
            assert!(length.is_ok() && Instant::now() < deadline, "heard only {:#?}", self.heard);
            let message = String::from_utf8(buffer[..length.unwrap()].to_vec()).unwrap();
            self.heard.push(message.clone());
            if is_it(&message) {
                return message;
            }
        }
    }
}

#[test]
fn a_service_manager_hears_how_the_agent_is() {
    on_a_node!(|node| {
        prepare(node);
        let path = node.path("notify");
        let mut manager = Manager::new(&path);
        let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
        let agent = Agent::start(node, &[], &env);
        let ready = manager.hear(|message| message.contains("READY=1"));
        assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
        manager.hear(|message| message.starts_with("STATUS=10.244.1.0/24; 2 peers, "));
        node.cnikit("add cnikit blue --container-id web").ok();
        manager.hear(|message| message.starts_with("STATUS=") && message.ends_with("; 1 pods\n"));

        // Half as long as it would wait.
        manager.hear(|message| message == "WATCHDOG=1\n");
        let began = Instant::now();
        (0..5).for_each(|_| drop(manager.hear(|message| message == "WATCHDOG=1\n")));
        let five = began.elapsed();
        assert!(five > Duration::from_millis(700) && five < Duration::from_secs(3), "{five:?}");

        let process = Pid::from_raw(agent.process.id().cast_signed());
        kill(process, Signal::SIGHUP).unwrap();
        let reloading = manager.hear(|message| message.starts_with("RELOADING=1\n"));
        let since = reloading.trim_end().rsplit('=').next().unwrap().parse::<u128>();
        assert!(reloading.contains("\nMONOTONIC_USEC=") && since.is_ok(), "{reloading}");
        manager.hear(|message| message.starts_with("READY=1\n"));

        assert!(agent.end().success());
        manager.hear(|message| message == "STOPPING=1\n");
        manager.socket.set_nonblocking(true).unwrap();
        let after = manager.socket.recv(&mut [0; 1024]);
        assert!(after.is_err(), "it says more after its end");
    });
}
