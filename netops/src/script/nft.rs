//! `nft`: the ruleset that `linux/nft` draws, typed.

use std::net::IpAddr;

use crate::entry::{Entry, Masquerade, SpoofCheck};
use crate::error::Error;
use crate::name::{Invalid, LinkName};
use crate::ruleset::{ALLOWED, CHECKED, MASQUERADE4, MASQUERADE6, POSTROUTING, PREROUTING, TABLE, chain_of};

use super::Step;

impl Step<'_> {
    pub(super) fn add_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        match entry {
            Entry::Masquerade(masquerade) => self.add_masquerade(masquerade),
            Entry::PortMapping(mapping) => self.add_port_mapping(mapping)?,
            Entry::SpoofCheck(check) => self.add_spoof_check(check)?,
            Entry::Forwarded(forwarded) => self.add_forwarded(forwarded),
        }
        Ok(())
    }

    pub(super) fn remove_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        match entry {
            Entry::Masquerade(masquerade) => self.remove_masquerade(masquerade),
            Entry::PortMapping(mapping) => self.remove_port_mapping(mapping),
            Entry::SpoofCheck(check) => self.remove_spoof_check(check)?,
            Entry::Forwarded(forwarded) => self.remove_forwarded(forwarded),
        }
        Ok(())
    }

    fn add_masquerade(&mut self, masquerade: &Masquerade) {
        let Masquerade { source, within, mark } = masquerade;
        let (subnet, chain, comment) = (within.trunc(), chain_of(*within), comment(mark.as_str()));
        let (map, ip, multicast) = match source {
            IpAddr::V4(_) => (MASQUERADE4, "ip", "224.0.0.0/4"),
            IpAddr::V6(_) => (MASQUERADE6, "ip6", "ff00::/8"),
        };
        // Commands that may be repeated: `add` keeps what is there, and a chain is flushed and filled at one stroke.
        self.nft_once(format!("add table inet {TABLE}"));
        self.nft_once(format!("add map inet {TABLE} {MASQUERADE4} {{ type ipv4_addr : verdict; }}"));
        self.nft_once(format!("add map inet {TABLE} {MASQUERADE6} {{ type ipv6_addr : verdict; }}"));
        self.nft_once(format!(
            "add chain inet {TABLE} {POSTROUTING} {{ type nat hook postrouting priority srcnat; policy accept; }}"
        ));
        self.nft_once(format!(
            "flush chain inet {TABLE} {POSTROUTING}; \
             add rule inet {TABLE} {POSTROUTING} ip saddr vmap @{MASQUERADE4}; \
             add rule inet {TABLE} {POSTROUTING} ip6 saddr vmap @{MASQUERADE6}"
        ));
        self.nft_once(format!("add chain inet {TABLE} {chain}"));
        self.nft_once(format!(
            "flush chain inet {TABLE} {chain}; \
             add rule inet {TABLE} {chain} {ip} daddr {subnet} return; \
             add rule inet {TABLE} {chain} {ip} daddr != {multicast} masquerade"
        ));
        self.nft(format!("create element inet {TABLE} {map} {{ {source} {comment} : jump {chain} }}"));
    }

    fn remove_masquerade(&mut self, masquerade: &Masquerade) {
        let map = match masquerade.source {
            IpAddr::V4(_) => MASQUERADE4,
            IpAddr::V6(_) => MASQUERADE6,
        };
        self.nft(format!("delete element inet {TABLE} {map} {{ {} }}", masquerade.source));
    }

    fn add_spoof_check(&mut self, check: &SpoofCheck) -> Result<(), Error> {
        let SpoofCheck { port, mac, mark } = check;
        can_be_typed(port)?;
        let comment = comment(mark.as_str());
        self.nft_once(format!("add table bridge {TABLE}"));
        self.nft_once(format!("add set bridge {TABLE} {CHECKED} {{ type ifname; }}"));
        self.nft_once(format!("add set bridge {TABLE} {ALLOWED} {{ type ifname . ether_addr; }}"));
        self.nft_once(format!(
            "add chain bridge {TABLE} {PREROUTING} \
             {{ type filter hook prerouting priority dstnat; policy accept; }}"
        ));
        self.nft_once(format!(
            "flush chain bridge {TABLE} {PREROUTING}; \
             add rule bridge {TABLE} {PREROUTING} iifname @{CHECKED} iifname . ether saddr != @{ALLOWED} drop"
        ));
        self.nft(format!(
            "create element bridge {TABLE} {CHECKED} {{ \"{port}\" comment \"{mac}\" }}; \
             create element bridge {TABLE} {ALLOWED} {{ \"{port}\" . {mac} {comment} }}"
        ));
        Ok(())
    }

    fn remove_spoof_check(&mut self, check: &SpoofCheck) -> Result<(), Error> {
        let SpoofCheck { port, mac, .. } = check;
        can_be_typed(port)?;
        self.nft(format!(
            "delete element bridge {TABLE} {CHECKED} {{ \"{port}\" }}; \
             delete element bridge {TABLE} {ALLOWED} {{ \"{port}\" . {mac} }}"
        ));
        Ok(())
    }

    /// A command to `nft`, as one word: its braces and semicolons are not the shell's.
    pub(super) fn nft(&mut self, command: String) {
        self.run("nft", [command]);
    }

    /// The same, unless the script has it already.
    pub(super) fn nft_once(&mut self, command: String) {
        self.once("nft", [command]);
    }

    /// A command of a program that must be brought into the namespace, unless the script has it already.
    pub(super) fn once<S: Into<String>>(&mut self, program: &str, args: impl IntoIterator<Item = S>) {
        let before = self.script.commands.len();
        self.run(program, args);
        let (earlier, new) = self.script.commands.split_at(before);
        let same = |new: &super::Command| {
            earlier.iter().any(|old| (&old.program, &old.args) == (&new.program, &new.args))
        };
        if new.iter().all(same) {
            self.script.commands.truncate(before);
        }
    }
}

/// Refuses an interface name that would mean something else in nft's language, which knows no way to quote it.
pub(super) fn can_be_typed(name: &LinkName) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.as_str().bytes().all(plain) {
        return Ok(());
    }
    Err(Invalid::new("interface name", name.as_str(), "cannot be written in nft's language").into())
}

/// A mark as nft takes it, which knows no way to write a quotation mark.
pub(super) fn comment(mark: &str) -> String {
    format!("comment \"{}\"", mark.replace('"', "'"))
}
