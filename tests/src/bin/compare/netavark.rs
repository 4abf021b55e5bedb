//! netavark, which is what podman has instead of CNI.
//!
//! Its `setup` makes a bridge's port with an address that podman has chosen, masquerades, and accepts what is forwarded: what
//! `bridge` with `ipMasq`, `host-local` and `firewall` do.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cnikit_tests::{Implementation, Node, Pod};
use serde_json::{Value, json};

use crate::REST;
use crate::chain::Chained;
use crate::config::bridge;
use crate::statistics::in_turns;
use crate::table::Table;

/// Where distributions have it.
const PLACES: [&str; 2] = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"];

/// Compares `setup` with ADD and `teardown` with DEL, on nodes with one other pod; says so if netavark is not there.
pub(crate) fn compare(ours: &Implementation, pairs: usize, table: &mut Table) {
    let Some(program) = PLACES.iter().map(Path::new).find(|place| place.exists()) else {
        println!("\nnetavark is not installed: not compared");
        return;
    };
    let ours = Chained::of(ours, json!([bridge(json!({"ipMasq": true})), {"type": "firewall"}]));
    let theirs = Netavark { node: Node::bare(), program };
    ours.add(&ours.attachment(&ours.node.pod("stays"), 0, 0));
    theirs.call("setup", &theirs.node.pod("stays"), 3);
    let (our_pod, their_pod) = (ours.node.pod("comes-and-goes"), theirs.node.pod("comes-and-goes"));
    let attachment = ours.attachment(&our_pod, 0, 0);

    let heading =
        format!("netavark, beside `bridge` with `ipMasq` and `firewall` by a runtime ({})", theirs.version());
    table.section(&heading, "netavark", "cnikit");
    let [adds, dels] = in_turns(pairs, |who| {
        let add = if who == 0 { theirs.call("setup", &their_pod, 4) } else { ours.add(&attachment) };
        std::thread::sleep(REST);
        let del = if who == 0 { theirs.call("teardown", &their_pod, 4) } else { ours.del(&attachment) };
        std::thread::sleep(REST);
        [add, del]
    });
    table.row("`setup`, ADD", &adds);
    table.row("`teardown`, DEL", &dels);
}

struct Netavark {
    node: Node,
    program: &'static Path,
}

impl Netavark {
    fn version(&self) -> String {
        let output = Command::new(self.program).arg("--version").output().expect("netavark");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn call(&self, command: &str, pod: &Pod, host: u8) -> Duration {
        let input = options(pod.name(), host).to_string();
        self.node.inside(|| {
            let mut program = Command::new(self.program);
            program.args(["--config", "/run/netavark", command]).arg(pod.path());
            program.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            program.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let began = Instant::now();
            let mut child = program.spawn().expect("netavark");
            child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("a reader");
            let status = child.wait().expect("netavark");
            let took = began.elapsed();
            assert!(status.success(), "netavark {command} {input}");
            took
        })
    }
}

/// What podman would write.
fn options(name: &str, host: u8) -> Value {
    json!({
        "container_id": name,
        "container_name": name,
        "networks": {"blue": {"static_ips": [format!("10.2.0.{host}")], "interface_name": "eth0"}},
        "network_info": {"blue": {
            "name": "blue",
            "id": "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e",
            "driver": "bridge",
            "network_interface": "nv0",
            "subnets": [{"subnet": "10.2.0.0/16", "gateway": "10.2.0.1"}],
            "ipv6_enabled": false,
            "internal": false,
            "dns_enabled": false,
            "ipam_options": {"driver": "host-local"},
        }},
    })
}
