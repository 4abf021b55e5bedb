//! The configuration of `sbr`: the reference's keys and defaults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

/// What a configuration asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct SbrConfig {
    /// The routing table of all of the interface's addresses (`table`); its routes are then not touched. If absent,
    /// each address gets the first that is free from 100 on.
    pub table: Option<u32>,
    /// The gateway of IPv4 addresses, whatever their own is (`gateways`).
    pub gateway4: Option<Ipv4Addr>,
    /// The gateway of IPv6 addresses, whatever their own is (`gateways`).
    pub gateway6: Option<Ipv6Addr>,
    /// What is sent from no address in particular finds the interface's subnets (`addSourceHints`).
    pub source_hints: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    table: Option<i64>,
    gateways: Vec<IpAddr>,
    add_source_hints: bool,
}

impl TryFrom<Raw> for SbrConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let table = raw.table.map(|table| match u32::try_from(table) {
            // 0 is none of the kernel's.
            Ok(table @ 1..) => Ok(table),
            _ => Err(format!("table is {table}: it must be 1 to {}", u32::MAX)),
        });
        let mut config = Self {
            table: table.transpose()?,
            gateway4: None,
            gateway6: None,
            source_hints: raw.add_source_hints,
        };
        for gateway in raw.gateways {
            let second = match gateway {
                IpAddr::V4(gateway) => config.gateway4.replace(gateway).is_some(),
                IpAddr::V6(gateway) => config.gateway6.replace(gateway).is_some(),
            };
            if second {
                return Err(format!(
                    "gateways: {gateway} is the second of its family: there can be one of each"
                ));
            }
        }
        Ok(config)
    }
}

impl SbrConfig {
    /// The gateway that is configured for a family.
    pub(super) fn gateway(&self, family_of: IpAddr) -> Option<IpAddr> {
        match family_of {
            IpAddr::V4(_) => self.gateway4.map(IpAddr::V4),
            IpAddr::V6(_) => self.gateway6.map(IpAddr::V6),
        }
    }
}
