//! What a server grants.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cni_spec::{AddResult, Dns, IpConfig, Route};
use ipnet::IpNet;
use netops::MacAddr;
use serde::{Deserialize, Serialize};

use crate::time::Time;

/// An address for a while, and what the server said beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lease {
    /// The address. DHCPv6 gives no prefix length: 128.
    pub address: IpNet,
    /// Who granted it.
    pub server: Server,
    /// What else was said.
    pub facts: Facts,
    /// When to ask the server for more time (T1).
    pub renew_at: Time,
    /// When to ask any server (T2).
    pub rebind_at: Time,
    /// When the address may no longer be used.
    pub expires_at: Time,
}

/// What is configured along with the address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The first router.
    pub gateway: Option<IpAddr>,
    /// Routes, the default route among them.
    pub routes: Vec<Route>,
    /// What the resolver should use.
    pub dns: Dns,
}

/// A server, as the client finds it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Server {
    /// Of DHCPv4.
    V4 {
        /// What it calls itself (option 54).
        address: Ipv4Addr,
        /// Where its last frame came from: itself, or a relay, which is a router. Frames to the server alone go there, so
        /// that they depend on neither routes nor addresses of the container.
        #[serde(with = "mac_as_text")]
        mac: MacAddr,
    },
    /// Of DHCPv6: its DUID.
    V6(Vec<u8>),
}

/// How long a lease lasts, as the server has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// `None`: for ever.
    pub(crate) lasts: Option<Duration>,
    /// T1, if the server chose it.
    pub(crate) renew: Option<Duration>,
    /// T2, if the server chose it.
    pub(crate) rebind: Option<Duration>,
}

impl Terms {
    /// The moments T1, T2 and the end. What makes no sense (T1 after T2, T2 after the end) is chosen anew: half of the
    /// time, seven eighths of it (RFC 2131, 4.4.5). No more than one renewal in a second, whatever a server wants.
    pub(crate) fn from(self, now: Time) -> [Time; 3] {
        let Some(lasts) = self.lasts else { return [Time::NEVER; 3] };
        let rebind = self.rebind.filter(|rebind| *rebind <= lasts).unwrap_or(lasts / 8 * 7);
        let renew = self.renew.filter(|renew| *renew <= rebind).unwrap_or_else(|| (lasts / 2).min(rebind));
        [renew, rebind, lasts].map(|after| now + after.max(Duration::from_secs(1)))
    }
}

impl Lease {
    /// Adds the lease to what a runtime is told.
    pub(crate) fn add_to(&self, result: &mut AddResult) {
        result.ips.push(IpConfig { gateway: self.facts.gateway, ..IpConfig::new(self.address) });
        result.routes.extend(self.facts.routes.iter().cloned());
        result.dns.nameservers.extend(self.facts.dns.nameservers.iter().cloned());
        for domain in &self.facts.dns.search {
            if !result.dns.search.contains(domain) {
                result.dns.search.push(domain.clone());
            }
        }
        if result.dns.domain.is_none() {
            result.dns.domain.clone_from(&self.facts.dns.domain);
        }
    }
}

mod mac_as_text {
    use netops::MacAddr;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(terms: [Option<u64>; 3]) -> [Time; 3] {
        let [lasts, renew, rebind] = terms.map(|seconds| seconds.map(Duration::from_secs));
        Terms { lasts, renew, rebind }.from(at(100))
    }

    fn at(seconds: u64) -> Time {
        Time::since_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn times_that_make_no_sense_are_chosen_anew() {
        assert_eq!(seconds([Some(80), None, None]), [at(140), at(170), at(180)]);
        assert_eq!(seconds([Some(80), Some(10), Some(20)]), [at(110), at(120), at(180)]);
        assert_eq!(seconds([Some(80), Some(30), Some(20)]), [at(120), at(120), at(180)]);
        assert_eq!(seconds([Some(80), Some(79), Some(90)]), [at(140), at(170), at(180)]);
        assert_eq!(seconds([Some(0), Some(0), Some(0)]), [at(101); 3], "no storm of renewals");
        assert_eq!(seconds([None, Some(1), Some(2)]), [Time::NEVER; 3]);
    }
}
