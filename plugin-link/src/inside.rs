//! What the plugins have in common whose interface is in the container only.

use cni_spec::{AddResult, Interface};
use netops::{LinkKind, MacAddr, Place, Plan, Resource};
use plugin_kit::{Attachment, DuplicateDetection, PrefixRoutes, Request};

/// An interface that is to be in the container.
#[derive(Debug)]
pub(crate) struct Inside {
    /// How it gets there: what must exist before anything else about it.
    pub(crate) making: Plan,
    /// Addresses and routes that it gets; without interfaces.
    pub(crate) addresses: AddResult,
    /// Whether its addresses are tried out.
    pub(crate) detection: DuplicateDetection,
    /// Its MAC address, as far as it is known.
    pub(crate) mac: Option<MacAddr>,
    /// Its MTU, as far as it is known.
    pub(crate) mtu: Option<u32>,
}

impl Inside {
    /// All of the attachment: the interface, its addresses, its routes, and the result that says so.
    pub(crate) fn attachment<C>(self, request: &Request<'_, C>) -> Attachment {
        let Self { making: mut plan, addresses: mut result, detection, mac, mtu } = self;
        let link = &request.names.interface;
        plugin_kit::plan_addresses(&mut plan, link, &result, detection, PrefixRoutes::Kernel);
        plugin_kit::plan_readiness(&mut plan, link, &result, detection);
        plugin_kit::plan_routes(&mut plan, link, &result);
        let mut interface = Interface::in_sandbox(link.to_string(), request.sandbox());
        (interface.mac, interface.mtu) = (mac.map(|mac| mac.to_string()), mtu);
        result.interfaces = vec![interface];
        request.assign_addresses(&mut result);
        Attachment { plan, result }
    }
}

/// A plan that makes an attachment's interface, marked.
pub(crate) fn making<C>(
    request: &Request<'_, C>,
    kind: LinkKind,
    mtu: Option<u32>,
    mac: Option<MacAddr>,
) -> Plan {
    let mut plan = Plan::new();
    let mark = Some(request.owner.mark());
    let link = netops::Link { mtu, mac, mark, ..netops::Link::new(request.names.interface.clone(), kind) };
    plan.own(Place::Container, Resource::Link(link));
    plan
}
