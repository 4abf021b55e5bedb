//! `loopback`: raises `lo`, which every network namespace is born with, and born down.

use cni_spec::plugin::DelRequest;
use cni_spec::{AddResult, Error, Interface, IpConfig};
use netops::{Answer, Kernel, LinkName, Place, Plan, Query, Resource};
use plugin_kit::{Addressing, Attach, Attachment, Owner, Remains, Request};
use serde::Deserialize;

/// The plugin `loopback`. Runtimes call it beside the network's own plugins, often with nothing but a name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loopback;

/// The configuration of [`Loopback`]: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LoopbackConfig {}

impl Attach for Loopback {
    type Config = LoopbackConfig;

    const TYPE: &'static str = "loopback";
    const ABOUT: &'static str = concat!("cnikit loopback ", env!("CARGO_PKG_VERSION"), ": raises lo");
    const ADDRESSING: Addressing = Addressing::Never;
    const REMAINS: Remains = Remains::Inside;

    fn plan(&self, request: &Request<'_, LoopbackConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        // What a chain had before is passed on.
        let result = request.previous.clone().unwrap_or_default();
        Ok(Attachment { plan: plan(), result })
    }

    fn complete(
        &self,
        request: &Request<'_, LoopbackConfig>,
        kernel: &mut dyn Kernel,
        result: &mut AddResult,
    ) -> Result<(), Error> {
        if request.previous.is_some() {
            return Ok(());
        }
        // The kernel gives `lo` its addresses when it comes up, the IPv6 one only where IPv6 is on.
        let query = Query::Addresses(LinkName::loopback());
        let answers = kernel.read(Place::Container, &[query]).map_err(|e| plugin_kit::kernel_error(&e))?;
        let addresses = match answers.into_iter().next() {
            Some(Answer::Addresses(addresses)) => addresses,
            _ => Vec::new(),
        };
        result.interfaces = vec![Interface {
            mac: Some("00:00:00:00:00:00".to_owned()),
            ..Interface::in_sandbox("lo", request.sandbox())
        }];
        result.ips = addresses
            .into_iter()
            .map(|address| IpConfig { interface: Some(0), ..IpConfig::new(address.net) })
            .collect();
        Ok(())
    }

    fn remnants(&self, _: &DelRequest, _: &Owner, _: &mut dyn Kernel) -> Result<Plan, Error> {
        Ok(plan())
    }
}

fn plan() -> Plan {
    let mut plan = Plan::new();
    plan.own(Place::Container, Resource::LinkUp(LinkName::loopback()));
    plan
}
