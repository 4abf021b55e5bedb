//! The CNI plugin `bridge`: a container is plugged into a Linux bridge by a virtual cable.
//!
//! ```text
//!   container                 host
//!   eth0 10.22.0.5/16  ━━━━━  veth…  ── cni0 10.22.0.1/16 (the pods' gateway) ── routed, masqueraded ── elsewhere
//! ```
//!
//! [`Bridge::plan`] is all of it: the list of what must exist. How that is made, undone, checked and removed is
//! [`plugin_kit`]'s. Configuration: [`Config`], with the reference's keys and defaults.

mod config;

pub use config::{Config, Gateway, Reflection, Vlans};

use cni_spec::{AddResult, Error, Interface};
use ipnet::IpNet;
use netops::{
    Address, Kernel, Link, LinkKind, LinkName, MacAddr, Place, Plan, Port, PortVlan, Resource, SpoofCheck,
    Sysctl, SysctlKey, VethPeer,
};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, PrefixRoutes, Request};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bridge;

impl Attach for Bridge {
    type Config = Config;

    const TYPE: &'static str = "bridge";
    const ABOUT: &'static str =
        concat!("cnikit bridge ", env!("CARGO_PKG_VERSION"), ": containers on a Linux bridge");
    const ADDRESSING: Addressing = Addressing::Optional;

    fn plan(&self, request: &Request<'_, Config>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let config = &request.config;
        let mut result = request.addresses.clone();
        choose_gateways(config.gateway, &mut result);

        // Of its own, so that it does not change as ports come and go.
        let recorded = request.recorded_mac(&config.bridge).or(config.bridge_mac);
        let bridge_mac = recorded.unwrap_or_else(|| request.shared_mac(&config.bridge));
        let mut plan = Plan::new();
        plan_bridge(&mut plan, config, bridge_mac, &result);
        plan_gateway(&mut plan, config, &result)?;
        plan_cable(&mut plan, request);
        let interface = &request.names.interface;
        let detection = detection(config, &result);
        if !result.ips.is_empty() {
            plugin_kit::plan_addresses(&mut plan, interface, &result, detection, PrefixRoutes::Kernel);
            plugin_kit::plan_routes(&mut plan, interface, &result);
        } else if !config.interface_down {
            plan.own(Place::Container, Resource::LinkUp(interface.clone()));
        }
        plan.own(Place::Host, Resource::LinkUp(request.names.host_interface.clone()));
        if !result.ips.is_empty() {
            plugin_kit::plan_readiness(&mut plan, interface, &result, detection);
        }
        plan_filters(&mut plan, request, &result);

        result.interfaces = vec![
            Interface { mac: Some(bridge_mac.to_string()), ..Interface::on_host(config.bridge.to_string()) },
            request.host_interface(),
            request.container_interface(config.mtu),
        ];
        request.assign_addresses(&mut result);
        Ok(Attachment { plan, result })
    }
}

/// Gives each address the gateway that the bridge will be, and the pod its default route.
fn choose_gateways(gateway: Gateway, result: &mut AddResult) {
    if gateway == Gateway::None {
        return;
    }
    for ip in &mut result.ips {
        ip.gateway = ip.gateway.or_else(|| Some(plugin_kit::first_address(ip.address)));
    }
    if gateway != Gateway::DefaultRoute {
        return;
    }
    for ip in &result.ips {
        let default = plugin_kit::default_route(ip.address.addr());
        if !result.routes.iter().any(|route| route.dst == default && route.gw.is_some())
            && let Some(gateway) = ip.gateway
        {
            result.routes.push(cni_spec::Route::via(default, gateway));
        }
    }
}

/// The bridge, shared by all attachments of the network.
fn plan_bridge(plan: &mut Plan, config: &Config, mac: MacAddr, result: &AddResult) {
    let bridge = &config.bridge;
    plan.share(
        Place::Host,
        Resource::Link(Link {
            mtu: config.mtu,
            mac: Some(mac),
            ignore_router_advertisements: true,
            ..Link::new(bridge.clone(), LinkKind::Bridge { vlan_filtering: config.vlans.is_some() })
        }),
    );
    if config.gateway != Gateway::None && result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        // The node asks for a pod's MAC address with the bridge's link-local address, which the kernel makes when the
        // bridge comes up: while it looked for duplicates, packets from elsewhere would wait, for a second or two.
        plan.share(Place::Host, Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(bridge, "accept_dad"), 0)));
    }
    plan.share(Place::Host, Resource::LinkUp(bridge.clone()));
    if config.gateway != Gateway::None {
        // Pods remember the gateway's.
        plan.share(Place::Host, Resource::FixedMac(bridge.clone()));
    }
    if config.reflection == Reflection::Promiscuous {
        plan.share(Place::Host, Resource::Promiscuous(bridge.clone()));
    }
}

/// The gateway's addresses on the node, and forwarding.
fn plan_gateway(plan: &mut Plan, config: &Config, result: &AddResult) -> Result<(), Error> {
    if config.gateway == Gateway::None {
        return Ok(());
    }
    let mut holder = config.bridge.clone();
    if let Some(vlan) = config.vlans.as_ref().and_then(|vlans| vlans.access) {
        holder = plan_vlan_gateway(plan, config, vlan)?;
    }
    let others = config.other_addresses;
    let (mut ipv4, mut ipv6) = (false, false);
    for ip in &result.ips {
        let Some(gateway) = plugin_kit::gateway_of(ip)? else { continue };
        let net = IpNet::new(gateway, ip.address.prefix_len())
            .map_err(|e| Error::config(format!("gateway {gateway} of {}: {e}", ip.address)))?;
        plan.share(Place::Host, Resource::Address(Address { others, ..Address::new(holder.clone(), net) }));
        ipv4 |= net.addr().is_ipv4();
        ipv6 |= net.addr().is_ipv6();
    }
    if ipv4 {
        plan.share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1)));
    }
    if ipv6 {
        plan.share(Place::Host, Resource::Sysctl(Sysctl::new(SysctlKey::ipv6_forwarding(), 1)));
    }
    Ok(())
}

/// On a bridge with VLANs the node is one more host in the pods' VLAN: a cable of its own, `BRIDGE.VLAN`, holds the
/// gateway's address.
fn plan_vlan_gateway(plan: &mut Plan, config: &Config, vlan: u16) -> Result<LinkName, Error> {
    let named = |name: String| {
        LinkName::new(&name).map_err(|e| Error::config(format!("the gateway's interface: {e}")))
    };
    let gateway = named(format!("{}.{vlan}", config.bridge))?;
    let port = plugin_kit::derived_name(&["vlan gateway", config.bridge.as_str(), &vlan.to_string()]);
    let peer = VethPeer { place: Place::Host, name: gateway.clone(), mtu: config.mtu, mac: None };
    plan.share(
        Place::Host,
        Resource::Link(Link {
            mtu: config.mtu,
            up: true,
            master: Some(config.bridge.clone()),
            ignore_router_advertisements: true,
            ..Link::new(port.clone(), LinkKind::Veth { peer })
        }),
    );
    plan.share(
        Place::Host,
        Resource::Port(Port {
            link: port,
            hairpin: false,
            isolated: false,
            vlans: vec![PortVlan { first: vlan, last: vlan, access: true }],
            drop_default_vlan: true,
        }),
    );
    plan.share(Place::Host, Resource::LinkUp(gateway.clone()));
    Ok(gateway)
}

/// Whether the pod's addresses are looked for on other machines.
fn detection(config: &Config, result: &AddResult) -> DuplicateDetection {
    match config.detect_duplicates {
        true => DuplicateDetection::Done,
        // A bridge that sends frames back makes a pod find its own question for a duplicate.
        false if config.reflection != Reflection::None => DuplicateDetection::Skipped,
        false => DuplicateDetection::needed_by(result),
    }
}

/// The cable between pod and bridge. Its host's end is raised when the pod's is: one that is up and has nobody at its other
/// end is put out of service, for which the kernel waits an RCU grace period (`dev_deactivate_many()`).
fn plan_cable(plan: &mut Plan, request: &Request<'_, Config>) {
    let config = &request.config;
    plan.own(
        Place::Host,
        Resource::Link(Link {
            master: Some(config.bridge.clone()),
            up: false,
            // What a bridge's port receives is the bridge's: there is nothing to ignore.
            ignore_router_advertisements: false,
            ..request.cable(config.mtu)
        }),
    );
    // Each port's IPv6 link-local address, which is of no use to anybody, would be three more routes that the kernel goes
    // through whenever any interface of the node comes or goes: a third of what an ADD takes beside a thousand pods.
    let addr_gen_mode = SysctlKey::ipv6(&request.names.host_interface, "addr_gen_mode");
    plan.own(Place::Host, Resource::Sysctl(Sysctl::optional(addr_gen_mode, 1)));
    let hairpin = config.reflection == Reflection::Hairpin;
    if hairpin || config.isolated || config.vlans.is_some() {
        plan.own(
            Place::Host,
            Resource::Port(Port {
                link: request.names.host_interface.clone(),
                hairpin,
                isolated: config.isolated,
                vlans: config.vlans.as_ref().map(|vlans| vlans.port.clone()).unwrap_or_default(),
                drop_default_vlan: config.vlans.as_ref().is_some_and(|vlans| !vlans.keep_default),
            }),
        );
    }
}

/// What nf_tables does with the pod's packets.
fn plan_filters(plan: &mut Plan, request: &Request<'_, Config>, result: &AddResult) {
    if request.config.masquerade {
        plugin_kit::plan_masquerade(plan, &request.owner, result);
    }
    if request.config.check_spoofing {
        let (port, mac) = (request.names.host_interface.clone(), request.names.container_mac);
        plan.own(Place::Host, Resource::from(SpoofCheck { port, mac, mark: request.owner.mark() }));
    }
}
