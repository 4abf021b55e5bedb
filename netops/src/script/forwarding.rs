//! What is forwarded: `nft` for addresses and bridges, `iptables` and `ip6tables` for the way through the host's own packet
//! filter.

use std::net::IpAddr;

use crate::entry::Forwarded;
use crate::error::Error;
use crate::resource::{ForwardJump, IpVersion, Isolation, Neighbours};
use crate::ruleset::{
    ADMIN_COMMENT, CLOSED, CNI_FORWARD, CNI_FORWARD_COMMENT, FORWARD, FORWARDED, HOST_FORWARD, ISOLATED,
    ISOLATION, PASS, PODS4, PODS6, TABLE, WITHIN_BRIDGE,
};

use super::Step;
use super::nft::{can_be_typed, comment};

impl Step<'_> {
    pub(super) fn add_forwarded(&mut self, forwarded: &Forwarded) {
        let Forwarded { address, mark } = forwarded;
        let mark_off = format!("meta mark set meta mark & {:#010x}", !PASS);
        let mark_on = format!("meta mark set meta mark | {PASS:#x}");
        self.nft_once(format!("add table inet {TABLE}"));
        self.nft_once(format!("add set inet {TABLE} {PODS4} {{ type ipv4_addr; }}"));
        self.nft_once(format!("add set inet {TABLE} {PODS6} {{ type ipv6_addr; }}"));
        for (chain, priority) in [(FORWARD, "filter - 1"), (FORWARDED, "filter + 1")] {
            self.nft_once(format!(
                "add chain inet {TABLE} {chain} {{ type filter hook forward priority {priority}; policy accept; }}"
            ));
        }
        let mut rules =
            format!("flush chain inet {TABLE} {FORWARD}; add rule inet {TABLE} {FORWARD} {mark_off}");
        for (ip, set) in [("ip", PODS4), ("ip6", PODS6)] {
            for condition in
                [format!("{ip} saddr @{set}"), format!("{ip} daddr @{set} ct state established,related")]
            {
                rules.push_str(&format!("; add rule inet {TABLE} {FORWARD} {condition} {mark_on}"));
            }
        }
        self.nft_once(rules);
        self.nft_once(format!(
            "flush chain inet {TABLE} {FORWARDED}; add rule inet {TABLE} {FORWARDED} {mark_off}"
        ));
        let (set, comment) = (pods(*address), comment(mark.as_str()));
        self.nft(format!("create element inet {TABLE} {set} {{ {address} {comment} }}"));
    }

    pub(super) fn remove_forwarded(&mut self, forwarded: &Forwarded) {
        let (address, set) = (forwarded.address, pods(forwarded.address));
        self.nft(format!("delete element inet {TABLE} {set} {{ {address} }}"));
    }

    pub(super) fn isolate(&mut self, isolation: &Isolation) -> Result<(), Error> {
        can_be_typed(&isolation.bridge)?;
        self.nft_once(format!("add table inet {TABLE}"));
        self.nft_once(format!("add set inet {TABLE} {CLOSED} {{ type ifname; }}"));
        for pairs in [WITHIN_BRIDGE, ISOLATED] {
            self.nft_once(format!("add set inet {TABLE} {pairs} {{ type ifname . ifname; }}"));
        }
        self.nft_once(format!(
            "add chain inet {TABLE} {ISOLATION} {{ type filter hook forward priority filter - 1; policy accept; }}"
        ));
        self.nft_once(format!(
            "flush chain inet {TABLE} {ISOLATION}; \
             add rule inet {TABLE} {ISOLATION} iifname . oifname @{ISOLATED} drop; \
             add rule inet {TABLE} {ISOLATION} iifname @{CLOSED} oifname @{CLOSED} \
             iifname . oifname != @{WITHIN_BRIDGE} drop"
        ));
        self.nft(elements("add", isolation));
        Ok(())
    }

    pub(super) fn end_isolation(&mut self, isolation: &Isolation) -> Result<(), Error> {
        can_be_typed(&isolation.bridge)?;
        self.nft(elements("delete", isolation));
        Ok(())
    }

    /// The rules that `linux/nft/iptables.rs` makes.
    pub(super) fn make_way(&mut self, jump: &ForwardJump) {
        let program = match jump.version {
            IpVersion::V4 => "iptables",
            IpVersion::V6 => "ip6tables",
        };
        let admin = jump.admin_chain.as_str();
        let pass = format!("{PASS:#x}/{PASS:#x}");
        let commented = |comment, target| ["-m", "comment", "--comment", comment, "-j", target];
        // Two networks may have the same administrator's chain, or each its own.
        self.once(program, ["-N", CNI_FORWARD]);
        self.once(program, ["-N", admin]);
        let way = commented(CNI_FORWARD_COMMENT, CNI_FORWARD);
        self.once(program, ["-I", HOST_FORWARD].into_iter().chain(way));
        self.once(program, ["-I", CNI_FORWARD].into_iter().chain(commented(ADMIN_COMMENT, admin)));
        self.once(program, ["-A", CNI_FORWARD, "-m", "mark", "--mark", &pass, "-j", "ACCEPT"]);
    }
}

/// What there is of an isolation, to be added or deleted.
fn elements(verb: &str, isolation: &Isolation) -> String {
    let bridge = &isolation.bridge;
    let pairs = match isolation.neighbours {
        Neighbours::Reachable => WITHIN_BRIDGE,
        Neighbours::Unreachable => ISOLATED,
    };
    format!(
        "{verb} element inet {TABLE} {CLOSED} {{ \"{bridge}\" }}; \
         {verb} element inet {TABLE} {pairs} {{ \"{bridge}\" . \"{bridge}\" }}"
    )
}

/// The set of forwarded addresses that one belongs in.
fn pods(address: IpAddr) -> &'static str {
    if address.is_ipv4() { PODS4 } else { PODS6 }
}
