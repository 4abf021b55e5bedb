//! Executions of a plugin: environment and stdin in, one answer out.
//!
//! Input: a line `NAME=VALUE` for each variable, an empty line, stdin.

use std::net::Ipv4Addr;

use cni_spec::plugin::{DelRequest, Outcome, Plugin, Request, Stdio, dispatch};
use cni_spec::{AddResult, Env, Error, ErrorCode, SpecVersion};
use netops::{Kernel, Link, LinkKind, LinkName, MemoryKernel, Place, Plan, Resource, Route, Script};
use plugin_bridge::Bridge;
use plugin_kit::{Explain, Kit};
use plugin_link::{Dummy, HostDevice, Ipvlan, Loopback, Macvlan, Ptp, Tap, Vlan};
use serde_json::Value;

use super::text;

/// A plugin that does nothing but read what it is given.
pub(crate) fn call(data: &[u8]) {
    let (env, stdin) = split(data, Env::default());
    one_answer(&Reader, env, stdin);
}

/// The plugins' plans, made in a kernel in memory: what was applied is found in place, and undone without a trace.
pub(crate) fn plugins(data: &[u8]) {
    let env = Env::from_iter([
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/of-nobody"),
        ("CNI_PATH", "/nowhere"),
    ]);
    let (env, stdin) = split(data, env);
    let Ok(mut document) = serde_json::from_slice::<Value>(stdin) else { return };
    // Files of this machine are none of a fuzzer's business.
    if let Some(document) = document.as_object_mut() {
        for (_, ipam) in document.iter_mut().filter(|(key, _)| key.eq_ignore_ascii_case("ipam")) {
            if let Some(ipam) = ipam.as_object_mut() {
                ipam.retain(|key, _| !["dataDir", "resolvConf"].iter().any(|k| key.eq_ignore_ascii_case(k)));
                ipam.insert("dataDir".to_owned(), "/nowhere".into());
            }
        }
    }
    let stdin = document.to_string();
    let kits: [&dyn Explain; 9] = [
        &Kit::new(Bridge),
        &Kit::new(Ptp),
        &Kit::new(Dummy),
        &Kit::new(Loopback),
        &Kit::new(Macvlan),
        &Kit::new(Ipvlan),
        &Kit::new(Vlan),
        &Kit::new(Tap),
        &Kit::new(HostDevice::with_sysfs("/nowhere")),
    ];
    for kit in kits {
        one_answer(&Planner(kit), env.clone(), stdin.as_bytes());
    }
}

/// Reads the lines before the first empty one into an environment; the rest is stdin.
pub(super) fn split(data: &[u8], mut env: Env) -> (Env, &[u8]) {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (lines, stdin) = match end {
        Some(end) => (&data[..end], &data[end + 2..]),
        None => (&[][..], data),
    };
    for line in text(lines).lines() {
        if let Some((name, value)) = line.split_once('=') {
            env.set(name, value);
        }
    }
    (env, stdin)
}

pub(super) fn one_answer(plugin: &dyn Plugin, env: Env, stdin: &[u8]) {
    let command = env.get("CNI_COMMAND").map(ToOwned::to_owned);
    let (mut stdin, mut stdout, mut stderr) = (stdin, Vec::new(), Vec::new());
    let stdio = Stdio { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    match dispatch(plugin, env, stdio) {
        Outcome::About => assert!(stdout.is_empty() && !stderr.is_empty()),
        Outcome::Done if stdout.is_empty() => assert!(command.is_some_and(|c| c != "ADD" && c != "VERSION")),
        Outcome::Done => assert!(serde_json::from_slice::<Value>(&stdout).is_ok_and(|v| v.is_object())),
        Outcome::Failed(error) => {
            assert!(error.code() != ErrorCode::INTERNAL, "{error}");
            assert_eq!(Error::from_json(&stdout), Some(error));
        }
    }
}

struct Reader;

impl Plugin for Reader {
    fn about(&self) -> &str {
        "reader"
    }

    fn versions(&self) -> &[SpecVersion] {
        SpecVersion::ALL
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        Ok(request.config.prev_result()?.unwrap_or_default())
    }

    fn del(&self, request: &DelRequest) -> Result<(), Error> {
        request.config.prev_result().map(drop)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        request.config.prev_result().map(drop)
    }
}

pub(super) struct Planner<'a>(pub(super) &'a dyn Explain);

impl Plugin for Planner<'_> {
    fn about(&self) -> &str {
        self.0.about()
    }

    fn versions(&self) -> &[SpecVersion] {
        self.0.versions()
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let mut kernel = uplinked();
        let attachment = self.0.explain(request, &mut kernel)?;
        made_and_unmade(&attachment.plan, &mut kernel);
        written_down(&attachment.plan);
        Ok(attachment.result)
    }

    fn del(&self, _: &DelRequest) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }
}

/// A kernel in memory with an interface for others to be on, which the default route leads through, and one to be given
/// away.
fn uplinked() -> MemoryKernel {
    let mut kernel = MemoryKernel::new();
    if let Ok(name) = LinkName::new("eno1") {
        let card = Link { up: true, ..Link::new(name, LinkKind::Dummy) };
        kernel.create(Place::Host, &[&Resource::Link(card)]);
    }
    if let Ok(name) = LinkName::new("up0") {
        let uplink = Link { up: true, ..Link::new(name.clone(), LinkKind::Bridge { vlan_filtering: false }) };
        let default = Route::new(plugin_kit::default_route(Ipv4Addr::UNSPECIFIED.into()), None, name);
        kernel.create(Place::Host, &[&Resource::Link(uplink), &Resource::Route(default)]);
    }
    kernel
}

fn made_and_unmade(plan: &Plan, kernel: &mut MemoryKernel) {
    let before = kernel.snapshot();
    match plan.apply(kernel) {
        Ok(applied) => {
            match plan.check(kernel) {
                Ok(differences) => assert!(differences.is_empty(), "{differences:?}"),
                Err(error) => unreachable!("what was applied cannot be checked: {error}"),
            }
            assert!(applied.undo(kernel).is_empty());
        }
        Err(error) => assert!(error.left.is_empty(), "{error}"),
    }
    before.assert_same(&kernel.snapshot());
}

/// As commands for a person, one a line.
fn written_down(plan: &Plan) {
    let mut script = Script::new("pod");
    if plan.apply(&mut script).is_ok() {
        assert!(script.to_string().lines().count() >= script.commands().len());
    }
}
