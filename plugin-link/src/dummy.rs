//! `dummy`: an interface that holds addresses and drops what is sent to it.

use cni_spec::Error;
use netops::{Kernel, LinkKind};
use plugin_kit::{Addressing, Attach, Attachment, DuplicateDetection, Remains, Request};
use serde::Deserialize;

use crate::inside::{self, Inside};

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
    const REMAINS: Remains = Remains::Interface("dummy");

    fn plan(&self, request: &Request<'_, DummyConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let mac = Some(request.names.container_mac);
        let inside = Inside {
            making: inside::making(request, LinkKind::Dummy, None, mac),
            addresses: request.addresses.clone(),
            detection: DuplicateDetection::Skipped,
            mac,
            mtu: None,
        };
        Ok(inside.attachment(request))
    }
}
