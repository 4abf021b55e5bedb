//! A store that is somewhere else, and is not always there.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cnikit_tests::isolated;
use cnikit_tests::lab::{Lab, Machine, PATIENCE, Stream};
use serde_json::json;

use crate::common::{Families, assert_everybody_talks, cluster, config, lab, logs, pods};

/// Where it is: on the segment.
const URL: &str = "http://192.168.1.1:2379";

/// etcd, on the machine that is the segment. Killed at the end.
struct Server<'a> {
    lab: &'a Lab,
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl<'a> Server<'a> {
    /// `None` if there is none on this machine, and that was said before.
    fn start(lab: &'a Lab) -> Option<Self> {
        let is_there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            let known = std::env::var_os("CNIKIT_WITHOUT_REFERENCE").is_some();
            assert!(known, "etcd is not installed: ./test does that, or set CNIKIT_WITHOUT_REFERENCE=1");
            eprintln!("DID NOT RUN: CNIKIT_WITHOUT_REFERENCE is set, and there is no etcd");
            return None;
        }
        lab.switch.shell("ip link set lo up; ip addr add 192.168.1.1/24 dev segment");
        let mut server = Self { lab, directory: tempfile::tempdir().unwrap(), process: None };
        server.resume();
        Some(server)
    }

    fn resume(&mut self) {
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.directory.path().join("data"));
        command.args(["--listen-client-urls", URL, "--advertise-client-urls", URL, "--log-level", "error"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(self.lab.switch.inside(|| command.spawn().unwrap()));
        let deadline = Instant::now() + PATIENCE;
        while self.lab.switch.inside(|| TcpStream::connect("192.168.1.1:2379").is_err()) {
            assert!(Instant::now() < deadline, "etcd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_store_that_is_down_for_a_while_costs_no_packet_and_no_pod() {
    isolated(|| {
        let lab = lab();
        let Some(mut server) = Server::start(&lab) else { return };
        let mut config = config("vxlan", Families::Both);
        config["store"] = json!("etcd");
        config["etcd"] = json!({"endpoints": [URL]});
        let machines = cluster(&lab, 3, &config);
        let (_pods, voices) = pods(&machines);
        assert_everybody_talks(&machines, &voices);
        let stream = Stream::start(&voices[0], &voices[1], false);

        server.kill();
        let is_cut_off = |machine: &Machine| {
            machine.ask("/v1/status").is_some_and(|status| status["store"]["cutOff"].is_string())
        };
        for machine in &machines {
            machine.wait("it says that its store is away", is_cut_off);
        }
        // Pods come all the same, and are reached: their nodes' subnets are known.
        let (_early, early): (Vec<_>, Vec<_>) =
            machines.iter().map(|machine| machine.pod(&format!("early-{}", machine.number))).unzip();
        assert_everybody_talks(&machines, &early);

        server.resume();
        for machine in &machines {
            machine.wait_long("it has its store again", |machine| !is_cut_off(machine));
        }
        let late = machines[2].node.pod("late");
        machines[2].add(&late);
        for machine in &machines {
            machine.wait("what came while the store was away is known, and what comes now", |machine| {
                let map = machine.ask("/v1/topology").unwrap().to_string();
                ["early-1", "early-2", "early-3", "late"].iter().all(|pod| map.contains(pod))
            });
        }
        let lost = stream.stop();
        assert_eq!(lost.lost, 0, "{lost:?}\n{}", logs(&machines));
        assert!(lost.sent > 500, "{lost:?}");
    });
}
