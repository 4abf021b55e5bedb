//! A whole CNI plugin: a container gets a cable to its node and the addresses that `ipam` gives, and no way further.
//!
//! As a plugin: `CNI_COMMAND=VERSION island </dev/null`. By hand, `island explain` prints what its ADD would do.

use cni_spec::{CniArgs, Env, Error, Invocation, NameError, NetworkConfig, plugin};
use netops::{Kernel, Place, Plan, Resource, Script};
use plugin_kit::{
    Addressing, Attach, Attachment, DuplicateDetection, Explain, Kit, PrefixRoutes, Request, plan_addresses,
    plan_readiness,
};
use serde::Deserialize;

/// The plugin: no state, only a description.
#[derive(Clone, Copy)]
pub(crate) struct Island;

/// Its configuration, beside what every plugin has.
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    mtu: Option<u32>,
}

impl Attach for Island {
    type Config = Config;

    const TYPE: &'static str = "island";
    const ABOUT: &'static str = "island: a cable to the node, and no way further";
    const ADDRESSING: Addressing = Addressing::Required;

    fn plan(&self, request: &Request<'_, Config>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let mut result = request.addresses.clone();
        let interface = &request.names.interface;
        let mut plan = Plan::new();
        plan.own(Place::Host, Resource::Link(request.cable(request.config.mtu)));
        plan_addresses(&mut plan, interface, &result, DuplicateDetection::Skipped, PrefixRoutes::Kernel);
        plan_readiness(&mut plan, interface, &result, DuplicateDetection::Skipped);

        result.interfaces = vec![request.host_interface(), request.container_interface(request.config.mtu)];
        request.assign_addresses(&mut result);
        Ok(Attachment { plan, result })
    }
}

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some("explain") {
        return explain();
    }
    cni_spec::plugin::run(&Kit::new(Island))
}

/// Prints what an ADD for a container called blue would do.
fn explain() -> std::process::ExitCode {
    let mut script = Script::new("blue");
    let outcome =
        call().and_then(|call| Kit::new(Island).explain(&call, &mut script)).and_then(|attachment| {
            attachment.plan.apply(&mut script).map_err(|e| Error::internal(e.to_string()))
        });
    match outcome {
        Ok(_) => {
            print!("{script}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn call() -> Result<plugin::Request, Error> {
    let document = br#"{"cniVersion": "1.1.0", "name": "islands", "type": "island", "mtu": 9000,
                        "ipam": {"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}}"#;
    let config = NetworkConfig::from_json(document)?;
    let name = |e: NameError| Error::environment(e.to_string());
    Ok(plugin::Request {
        container_id: "blue".parse().map_err(name)?,
        netns: "/run/netns/blue".into(),
        if_name: "eth0".parse().map_err(name)?,
        args: CniArgs::default(),
        invocation: Invocation::new(Env::default(), document.to_vec(), config.cni_version()),
        config,
    })
}
