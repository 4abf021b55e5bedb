//! `dummy`: an interface that holds addresses and drops what is sent to it.

use cni_spec::plugin::DelRequest;
use cni_spec::{Error, Interface};
use netops::{Kernel, Link, LinkKind, Place, Plan, Resource};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Owner, PrefixRoutes, Remains, Request};
use serde::Deserialize;

/// The plugin `dummy`. The kernel's module of that name must be there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dummy;

/// The configuration of [`Dummy`]: nothing but `ipam`, which is required.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DummyConfig {}

impl Attach for Dummy {
    type Config = DummyConfig;

    const TYPE: &'static str = "dummy";
    const ABOUT: &'static str =
        concat!("cnikit dummy ", env!("CARGO_PKG_VERSION"), ": an interface that holds addresses");
    const ADDRESSING: Addressing = Addressing::Required;
    const REMAINS: Remains = Remains::Inside;

    fn plan(&self, request: &Request<'_, DummyConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let mut result = request.addresses.clone();
        let interface = &request.names.interface;
        let mut plan = Plan::new();
        plan.own(
            Place::Container,
            Resource::Link(Link {
                mac: Some(request.names.container_mac),
                mark: Some(request.owner.mark()),
                ..Link::new(interface.clone(), LinkKind::Dummy)
            }),
        );
        plugin_kit::plan_addresses(
            &mut plan,
            interface,
            &result,
            DuplicateDetection::Skipped,
            PrefixRoutes::Kernel,
        );
        plugin_kit::plan_routes(&mut plan, interface, &result);
        result.interfaces = vec![Interface { mtu: None, ..request.container_interface(None) }];
        request.assign_addresses(&mut result);
        Ok(Attachment { plan, result })
    }

    fn remnants(&self, _: &DelRequest, owner: &Owner, _: &mut dyn Kernel) -> Result<Plan, Error> {
        let mut plan = Plan::new();
        plan.own(Place::Container, Resource::Link(Link::new(owner.link()?, LinkKind::Dummy)));
        Ok(plan)
    }
}
