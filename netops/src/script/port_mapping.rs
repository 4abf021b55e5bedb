//! Port mappings as `nft` takes them.

use crate::error::Error;
use crate::port_mapping::{Aspect, HostPort, PortMapping, PortMasquerade};
use crate::ruleset::{PORT_MAPS, Ports, TABLE, chain_of_bit, port_chain, port_maps, ports};

use super::Step;
use super::nft::{can_be_typed, comment};

/// The fields that [`PORT_MAPS`] are looked into with, and their types.
const KEYS: [(&str, &str); 8] = [ANY4, ANY6, AT4, AT6, ANY4, ANY6, AT4, AT6];
const ANY4: (&str, &str) = ("meta nfproto ipv4 meta l4proto . th dport", "inet_proto . inet_service");
const ANY6: (&str, &str) = ("meta nfproto ipv6 meta l4proto . th dport", "inet_proto . inet_service");
const AT4: (&str, &str) = ("ip daddr . meta l4proto . th dport", "ipv4_addr . inet_proto . inet_service");
const AT6: (&str, &str) = ("ip6 daddr . meta l4proto . th dport", "ipv6_addr . inet_proto . inet_service");

impl Step<'_> {
    pub(super) fn add_port_mapping(&mut self, mapping: &PortMapping) -> Result<(), Error> {
        for condition in &mapping.conditions {
            if let Aspect::Interface(name) = &condition.what {
                can_be_typed(name)?;
            }
        }
        self.nft_once(format!("add table inet {TABLE}"));
        self.add_lookups(mapping.port.spare);
        self.add_way(mapping);
        let (hostports, backends) = PORT_MAPS[port_maps(&mapping.port)];
        let (key, way, comment) = (key(&mapping.port), port_chain(mapping), comment(mapping.mark.as_str()));
        let (address, port) = (mapping.to.ip(), mapping.to.port());
        self.nft(format!(
            "create element inet {TABLE} {backends} {{ {key} : {address} . {port} }}; \
             create element inet {TABLE} {hostports} {{ {key} {comment} : jump {way} }}"
        ));
        Ok(())
    }

    pub(super) fn remove_port_mapping(&mut self, mapping: &PortMapping) {
        let (hostports, backends) = PORT_MAPS[port_maps(&mapping.port)];
        let key = key(&mapping.port);
        self.nft(format!(
            "delete element inet {TABLE} {hostports} {{ {key} }}; \
             delete element inet {TABLE} {backends} {{ {key} }}"
        ));
    }

    /// The maps, and the rules that look into them.
    fn add_lookups(&mut self, spare: bool) {
        let Ports { prerouting, output, later, lookups } = ports(spare);
        let first = if spare { 4 } else { 0 };
        let mut fill = format!("flush chain inet {TABLE} {lookups}");
        for n in [2, 0, 3, 1].map(|n| n + first) {
            let ((hostports, backends), (fields, key)) = (PORT_MAPS[n], KEYS[n]);
            let address = if n % 2 == 0 { "ipv4_addr" } else { "ipv6_addr" };
            self.nft_once(format!("add map inet {TABLE} {hostports} {{ type {key} : verdict; }}"));
            self.nft_once(format!(
                "add map inet {TABLE} {backends} {{ type {key} : {address} . inet_service; }}"
            ));
            fill += &format!("; add rule inet {TABLE} {lookups} {fields} vmap @{hostports}");
        }
        self.nft_once(format!("add chain inet {TABLE} {lookups}"));
        self.nft_once(fill);
        for (chain, hook) in [(prerouting, "prerouting"), (output, "output")] {
            let priority = later - 100;
            self.nft_once(format!(
                "add chain inet {TABLE} {chain} {{ type nat hook {hook} priority {priority}; policy accept; }}"
            ));
            self.nft_once(format!(
                "flush chain inet {TABLE} {chain}; \
                 add rule inet {TABLE} {chain} fib daddr type local jump {lookups}"
            ));
        }
    }

    /// The chain by which the port's connections go, and what masquerades them.
    fn add_way(&mut self, mapping: &PortMapping) {
        let chain = port_chain(mapping);
        let n = port_maps(&mapping.port);
        let ip = if mapping.to.is_ipv4() { "ip" } else { "ip6" };
        let mut fill = format!("flush chain inet {TABLE} {chain}");
        let mut rule = |rule: String| fill += &format!("; add rule inet {TABLE} {chain} {rule}");
        for condition in &mapping.conditions {
            let mut opposite = condition.kept();
            opposite.inverted = !opposite.inverted;
            rule(format!("{opposite} return"));
        }
        if let Some(PortMasquerade { from, bit }) = mapping.masquerade {
            let mark = format!("meta mark set meta mark | {:#010x}", 1_u32 << bit);
            match from.prefix_len() {
                0 => rule(mark),
                _ => {
                    rule(format!("{ip} saddr {} {mark}", from.trunc()));
                    if from.addr().is_ipv4() {
                        rule(format!("ip saddr 127.0.0.0/8 {mark}"));
                    }
                }
            }
        }
        let fields =
            KEYS[n].0.trim_start_matches("meta nfproto ipv4 ").trim_start_matches("meta nfproto ipv6 ");
        rule(format!("dnat {ip} to {fields} map @{}", PORT_MAPS[n].1));
        self.nft_once(format!("add chain inet {TABLE} {chain}"));
        self.nft_once(fill);
        if let Some(PortMasquerade { bit, .. }) = mapping.masquerade {
            let (chain, mask) = (chain_of_bit(bit), 1_u32 << bit);
            self.nft_once(format!(
                "add chain inet {TABLE} {chain} {{ type nat hook postrouting priority 99; policy accept; }}"
            ));
            self.nft_once(format!(
                "flush chain inet {TABLE} {chain}; \
                 add rule inet {TABLE} {chain} meta mark & {mask:#010x} == {mask:#010x} masquerade"
            ));
        }
    }
}

/// A port as a key of the maps that it is in.
fn key(port: &HostPort) -> String {
    let HostPort { transport, address, .. } = port;
    let at = match port.is_any() {
        true => String::new(),
        false => format!("{} . ", address.ip()),
    };
    format!("{at}{transport} . {}", address.port())
}
