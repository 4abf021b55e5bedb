//! The addresses that a caller asks for by name, from the three places where runtimes put them.

use std::net::IpAddr;

use cni_spec::plugin::Request;
use cni_spec::{Error, RequestedIp};

/// `IP` in `CNI_ARGS`, `args.cni.ips`, `runtimeConfig.ips`, in this order.
pub(super) struct Requested {
    /// From `CNI_ARGS`.
    pub(super) arguments: Vec<RequestedIp>,
    /// From `args.cni.ips`.
    pub(super) configured: Vec<RequestedIp>,
    /// From `runtimeConfig.ips`.
    pub(super) runtime: Vec<RequestedIp>,
}

impl Requested {
    pub(super) fn of(call: &Request) -> Result<Self, Error> {
        let texts =
            call.args.get("IP").unwrap_or_default().split(',').map(str::trim).filter(|ip| !ip.is_empty());
        let arguments = texts
            .map(|ip| ip.parse().map_err(|e| Error::environment(format!("CNI_ARGS: IP={ip:?}: {e}"))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            arguments,
            configured: call.config.cni_args()?.get("ips")?.unwrap_or_default(),
            runtime: call.config.runtime_config().ips()?,
        })
    }

    /// All of them, without prefix lengths, each once.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for requested in self.arguments.iter().chain(&self.configured).chain(&self.runtime) {
            if !addresses.contains(&requested.addr) {
                addresses.push(requested.addr);
            }
        }
        addresses
    }
}
