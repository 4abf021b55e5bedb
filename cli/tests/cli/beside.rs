//! A program that embeds the runtime half, and the command line, on one cache at the same time.

use std::fs::File;
use std::path::Path;
use std::thread;

use cni_spec::runtime::{Attachment, Runtime, RuntimeError};
use cni_spec::{Env, NetworkList, ProcessExec};
use nix::sched::{CloneFlags, setns, unshare};
use plugins::InProcess;
use serde_json::Value;

use crate::node::Node;
use crate::on_a_node;

const PLUGINS: &str = r#"[{"type":"bridge","bridge":"br0","isGateway":true,"ipMasq":true,
    "ipam":{"type":"host-local","subnet":"10.5.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}]"#;
const ROUNDS: usize = 8;

/// Runs on a thread of its own, on the node where its maker is.
fn on_this_node<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}")).unwrap();
    let (mounts, network) = (open("mnt"), open("net"));
    move || {
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(&mounts, CloneFlags::CLONE_NEWNS).unwrap();
        setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    }
}

/// What another program has: the runtime half, with the plugins in its own process.
struct Program {
    runtime: Runtime,
    list: NetworkList,
}

impl Program {
    fn new(node: &Node) -> Self {
        let list = std::fs::read(node.path("conf").join("net.conflist")).unwrap();
        Self {
            runtime: Runtime::new(Env::default()).with_exec(Box::new(InProcess::new(ProcessExec::new()))),
            list: NetworkList::from_json(&list).unwrap(),
        }
    }

    fn attachment(&self, container: &str, namespace: &str) -> Attachment {
        let path = Path::new("/run/netns").join(namespace);
        Attachment::new(container.parse().unwrap(), "eth0".parse().unwrap())
            .with_netns(path.to_str().unwrap())
    }
}

#[test]
fn the_runtime_half_and_the_command_line_share_a_cache() {
    on_a_node!(|node| {
        node.configure("net", PLUGINS);
        node.sh("for n in lib0 lib1 cli0 cli1 both; do ip netns add $n; done");
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for name in ["lib0", "lib1"] {
                workers.push(scope.spawn(on_this_node(move || {
                    let program = Program::new(node);
                    let pod = program.attachment(name, name);
                    for _ in 0..ROUNDS {
                        let said = program.runtime.add(&program.list, &pod).unwrap();
                        assert_eq!(said.ips.len(), 1);
                        program.runtime.check(&program.list, &pod).unwrap();
                        let all = program.runtime.attachments().unwrap();
                        assert!(
                            all.attachments.iter().any(|one| one.attachment.id() == pod.id()),
                            "{name} is forgotten"
                        );
                        program.runtime.del(&program.list, &pod).unwrap();
                    }
                })));
            }
            for name in ["cli0", "cli1"] {
                workers.push(scope.spawn(on_this_node(move || {
                    for _ in 0..ROUNDS {
                        node.cnikit(&format!("add net {name} --container-id {name}")).ok();
                        node.cnikit(&format!("check net {name} --container-id {name}")).ok();
                        node.cnikit(&format!("del net {name} --container-id {name}")).ok();
                    }
                })));
            }
            // Both want the same attachment: one has it, the other is told so, and either may end it.
            workers.push(scope.spawn(on_this_node(move || {
                let program = Program::new(node);
                let pod = program.attachment("both", "both");
                for _ in 0..ROUNDS {
                    match program.runtime.add(&program.list, &pod) {
                        Ok(_) | Err(RuntimeError::AlreadyAttached(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                    program.runtime.del(&program.list, &pod).unwrap();
                }
            })));
            workers.push(scope.spawn(on_this_node(move || {
                for _ in 0..ROUNDS {
                    let added = node.cnikit("add net both --container-id both");
                    assert!(added.status == 0 || added.stderr.contains("attached already"), "{added:?}");
                    node.cnikit("del net both --container-id both").ok();
                }
            })));
            // Whoever collects and whoever looks disturbs nobody, and always understands what is there.
            while workers.iter().any(|worker| !worker.is_finished()) {
                node.cnikit("gc net").ok();
                let listed: Value = node.cnikit("list --json").json();
                assert!(listed.is_object() || listed.is_array());
            }
        });
        assert_eq!(node.remains(), [""; 0]);
    });
}
