//! `ptp`: a container is wired to its node by a cable of its own, and everything goes by way of the node.

use cni_spec::{AddResult, Error, IpConfig};
use ipnet::IpNet;
use netops::{Address, Kernel, LinkName, Place, Plan, Resource, Route, Sysctl, SysctlKey};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, PrefixRoutes, Request};
use serde::Deserialize;

/// `RT_SCOPE_HOST`, which the reference gives the node's IPv4 routes to its pods.
const SCOPE_HOST: u8 = 254;

/// The plugin `ptp`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ptp;

/// The configuration of [`Ptp`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct PtpConfig {
    /// What leaves the pod's subnet takes the node's address (`ipMasq`).
    pub masquerade: bool,
    /// MTU of the cable in bytes (`mtu`); the kernel's if absent.
    pub mtu: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    ip_masq: bool,
    ip_masq_backend: plugin_kit::MasqueradeBackend,
    mtu: i64,
}

impl TryFrom<Raw> for PtpConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let _any = raw.ip_masq_backend;
        Ok(Self { masquerade: raw.ip_masq, mtu: plugin_kit::mtu(raw.mtu)? })
    }
}

impl Attach for Ptp {
    type Config = PtpConfig;

    const TYPE: &'static str = "ptp";
    const ABOUT: &'static str =
        concat!("cnikit ptp ", env!("CARGO_PKG_VERSION"), ": containers wired to their node");
    const ADDRESSING: Addressing = Addressing::Required;

    fn plan(&self, request: &Request<'_, PtpConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let mut result = request.addresses.clone();
        let mut plan = Plan::new();
        plan_forwarding(&mut plan, &result);
        plan.own(Place::Host, Resource::Link(request.cable(request.config.mtu)));

        let pod = &request.names.interface;
        let detection = DuplicateDetection::needed_by(&result);
        plugin_kit::plan_addresses(&mut plan, pod, &result, detection, PrefixRoutes::Plugin);
        plugin_kit::plan_readiness(&mut plan, pod, &result, detection);
        for ip in &result.ips {
            plan_routes_by_the_node(&mut plan, pod, ip)?;
        }
        plugin_kit::plan_routes(&mut plan, pod, &result);

        for ip in &result.ips {
            plan_route_to_the_pod(&mut plan, &request.names.host_interface, ip)?;
        }
        if request.config.masquerade {
            plugin_kit::plan_masquerade(&mut plan, &request.owner, &result);
        }

        result.interfaces = vec![request.host_interface(), request.container_interface(request.config.mtu)];
        request.assign_addresses(&mut result);
        Ok(Attachment { plan, result })
    }
}

/// The node forwards for its pods.
fn plan_forwarding(plan: &mut Plan, result: &AddResult) {
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv4()) {
        plan.share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)));
    }
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        plan.share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv6_forwarding(), 1)));
    }
}

/// In the pod: the gateway is on the link, and so is nothing else; the rest of the subnet is behind the gateway.
fn plan_routes_by_the_node(plan: &mut Plan, pod: &LinkName, ip: &IpConfig) -> Result<(), Error> {
    let gateway = gateway(ip)?;
    let source = Some(ip.address.addr());
    for route in [
        Route { source, ..Route::new(gateway, None, pod.clone()) },
        Route { source, ..Route::new(ip.address, Some(gateway.addr()), pod.clone()) },
    ] {
        plan.own(Place::Container, Resource::Route(route));
    }
    Ok(())
}

/// On the node: the gateway's address, and a route to the pod's.
fn plan_route_to_the_pod(plan: &mut Plan, host: &LinkName, ip: &IpConfig) -> Result<(), Error> {
    let pod = ip.address.addr();
    plan.own(Place::Host, Resource::Address(Address::new(host.clone(), gateway(ip)?)));
    let scope = pod.is_ipv4().then_some(SCOPE_HOST);
    plan.own(
        Place::Host,
        Resource::Route(Route { scope, ..Route::new(IpNet::from(pod), None, host.clone()) }),
    );
    Ok(())
}

/// The gateway of an address, as a prefix of one address.
fn gateway(ip: &IpConfig) -> Result<IpNet, Error> {
    match plugin_kit::gateway_of(ip)? {
        Some(gateway) => Ok(IpNet::from(gateway)),
        None => Err(Error::config(format!("ipam gave {} without a gateway: ptp needs one", ip.address))),
    }
}
