//! Attachments by a program that has the plugins in it: without a process for each.

use std::time::{Duration, Instant};

use cni_spec::runtime::{Attachment, Runtime};
use cni_spec::{Env, NetworkList, ProcessExec};
use cnikit_tests::{Node, Pod};
use plugins::InProcess;
use serde_json::json;

use crate::config::bridge;
use crate::statistics::{interval, median, sorted};

/// Prints what an attachment's ADD and DEL take one thread, and how many that are in a second.
pub(crate) fn measure(rounds: usize) -> String {
    let (plugin, runtime) = (Embedder::new(false), Embedder::new(true));
    let mut page = String::from(
        "\n### In one process, one thread\n\n\
         | `bridge` with `host-local` | ADD, ms | DEL, ms | attachments made and unmade in a second |\n\
         | --- | --- | --- | --- |\n",
    );
    for (name, embedder) in [
        ("`plugin-kit`: the plugin is called", plugin),
        ("the runtime half with `plugins::InProcess`: cache of results, locks", runtime),
    ] {
        let (mut adds, mut dels, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds + 3 {
            let (add, del) = embedder.round();
            // The first ones are for the caches.
            if round >= 3 {
                let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
                adds.push(milliseconds(add));
                dels.push(milliseconds(del));
                both.push(1.0 / (add + del).as_secs_f64());
            }
        }
        let rates = sorted(both);
        let (low, high) = interval(&rates);
        page.push_str(&format!(
            "| {name} | {:.2} | {:.2} | {:.0} ({low:.0}–{high:.0}) |\n",
            median(&sorted(adds)),
            median(&sorted(dels)),
            median(&rates)
        ));
    }
    print!("{page}");
    page
}

struct Embedder {
    node: Node,
    pod: Pod,
    by_runtime: bool,
    list: NetworkList,
}

impl Embedder {
    fn new(by_runtime: bool) -> Self {
        let list = json!({"cniVersion": "1.0.0", "name": "blue", "plugins": [bridge(json!({}))]});
        let list = NetworkList::from_json(list.to_string().as_bytes()).expect("a network list");
        let node = Node::bare();
        let pod = node.pod("pod");
        Self { node, pod, by_runtime, list }
    }

    fn round(&self) -> (Duration, Duration) {
        let attachment = Attachment::new("pod".parse().expect("an ID"), "eth0".parse().expect("a name"))
            .with_netns(self.pod.path().to_string_lossy());
        self.node.inside(|| {
            let runtime = Runtime::new(Env::default()).with_plugin_dirs(["/nowhere"]);
            let runtime = runtime.with_exec(Box::new(InProcess::new(ProcessExec::new())));
            if self.by_runtime {
                let began = Instant::now();
                runtime.add(&self.list, &attachment).expect("ADD");
                let add = began.elapsed();
                let began = Instant::now();
                runtime.del(&self.list, &attachment).expect("DEL");
                return (add, began.elapsed());
            }
            self.plugin(&runtime, &attachment)
        })
    }

    /// The same by the plugin alone, without what a runtime does around it.
    fn plugin(&self, runtime: &Runtime, attachment: &Attachment) -> (Duration, Duration) {
        let bridge = plugins::find("bridge").expect("a plugin of ours").plugin();
        let config = &self.list.plugins[0];
        let began = Instant::now();
        let request = runtime.request(&self.list, config, attachment, None).expect("a configuration");
        let result = bridge.add(&request).expect("ADD");
        let add = began.elapsed();
        let began = Instant::now();
        let request =
            runtime.request(&self.list, config, attachment, Some(&result)).expect("a configuration");
        bridge.del(&request.into()).expect("DEL");
        (add, began.elapsed())
    }
}
