//! The CNI address management plugins `dhcp`, `host-local` and `static`, as executables that other plugins delegate to.
//!
//! cnikit's own plugins do not execute these: they ask the same [`Manager`]s in process ([`plugin_kit::ipam`]). They
//! are for everybody else's: the reference's `bridge`, multus, a script.

use std::fmt;
use std::marker::PhantomData;

use cni_spec::plugin::{DelRequest, GcRequest, Plugin, Request, StatusRequest};
use cni_spec::{AddResult, Error, SpecVersion};
use plugin_kit::ipam::{Dhcp, HostLocal, Manager, Static};

/// `dhcp`: addresses from a DHCP server, asked for and kept by the daemon `cnikit dhcp`.
pub const DHCP: AddressPlugin<Dhcp> =
    AddressPlugin::new(concat!("cnikit dhcp ", env!("CARGO_PKG_VERSION"), ": addresses from a DHCP server"));
/// `host-local`: addresses from ranges, leases in files.
pub const HOST_LOCAL: AddressPlugin<HostLocal> =
    AddressPlugin::new(concat!("cnikit host-local ", env!("CARGO_PKG_VERSION"), ": addresses from ranges"));
/// `static`: the addresses that the configuration names.
pub const STATIC: AddressPlugin<Static> = AddressPlugin::new(concat!(
    "cnikit static ",
    env!("CARGO_PKG_VERSION"),
    ": addresses from the configuration"
));

/// An address manager as a plugin of its own.
pub struct AddressPlugin<M> {
    about: &'static str,
    manager: PhantomData<fn() -> M>,
}

impl<M> AddressPlugin<M> {
    const fn new(about: &'static str) -> Self {
        Self { about, manager: PhantomData }
    }
}

impl<M> fmt::Debug for AddressPlugin<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressPlugin").field(&self.about).finish()
    }
}

impl<M: Manager + Default> Plugin for AddressPlugin<M> {
    fn about(&self) -> &str {
        self.about
    }

    fn versions(&self) -> &[SpecVersion] {
        SpecVersion::ALL
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        Ok(M::default().add(request)?.keep())
    }

    fn del(&self, request: &DelRequest) -> Result<(), Error> {
        M::default().del(request)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        M::default().check(request)
    }

    fn gc(&self, request: &GcRequest) -> Result<(), Error> {
        M::default().gc(request)
    }

    fn status(&self, request: &StatusRequest) -> Result<(), Error> {
        M::default().status(request)
    }
}
