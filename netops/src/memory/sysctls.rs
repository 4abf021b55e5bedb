//! The settings that there are, their values at birth, and those that have effects here.

use std::collections::BTreeMap;

use crate::error::Errno;
use crate::kernel::Created;
use crate::name::LinkName;
use crate::resource::{Resource, Sysctl};

use super::addresses;
use super::machine::Problem;
use super::namespace::{Interface, Namespace};

/// Settings by path below `/proc/sys`.
type Settings = BTreeMap<String, String>;

/// Those of a namespace, with Linux's values (6.18, a machine with 4 GiB).
const NAMESPACE: &[(&str, &str)] = &[
    ("net/core/somaxconn", "4096"),
    ("net/core/xfrm_acq_expires", "30"),
    ("net/ipv4/fib_multipath_hash_policy", "0"),
    ("net/ipv4/icmp_echo_ignore_all", "0"),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("net/ipv4/ip_default_ttl", "64"),
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/ip_forward_use_pmtu", "0"),
    ("net/ipv4/ip_local_port_range", "32768\t60999"),
    ("net/ipv4/ip_local_reserved_ports", ""),
    ("net/ipv4/ip_no_pmtu_disc", "0"),
    ("net/ipv4/ip_nonlocal_bind", "0"),
    ("net/ipv4/ip_unprivileged_port_start", "1024"),
    ("net/ipv4/ping_group_range", "1\t0"),
    ("net/ipv4/tcp_congestion_control", "cubic"),
    ("net/ipv4/tcp_fin_timeout", "60"),
    ("net/ipv4/tcp_keepalive_intvl", "75"),
    ("net/ipv4/tcp_keepalive_probes", "9"),
    ("net/ipv4/tcp_keepalive_time", "7200"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/tcp_tw_reuse", "2"),
    ("net/ipv6/bindv6only", "0"),
    ("net/ipv6/fib_multipath_hash_policy", "0"),
    ("net/ipv6/ip_nonlocal_bind", "0"),
];

/// A link's, and those of `all` and `default`, in `net/ipv4/conf/`.
const IPV4: &[(&str, &str)] = &[
    ("accept_local", "0"),
    ("accept_redirects", "1"),
    ("accept_source_route", "1"),
    ("arp_accept", "0"),
    ("arp_announce", "0"),
    ("arp_evict_nocarrier", "1"),
    ("arp_filter", "0"),
    ("arp_ignore", "0"),
    ("arp_notify", "0"),
    ("disable_policy", "0"),
    ("disable_xfrm", "0"),
    ("drop_gratuitous_arp", "0"),
    ("forwarding", "0"),
    ("ignore_routes_with_linkdown", "0"),
    ("log_martians", "0"),
    ("promote_secondaries", "0"),
    ("proxy_arp", "0"),
    ("proxy_arp_pvlan", "0"),
    ("route_localnet", "0"),
    ("rp_filter", "0"),
    ("secure_redirects", "1"),
    ("send_redirects", "1"),
    ("shared_media", "1"),
    ("src_valid_mark", "0"),
];

/// The same in `net/ipv6/conf/`.
const IPV6: &[(&str, &str)] = &[
    ("accept_dad", "1"),
    ("accept_ra", "1"),
    ("accept_ra_defrtr", "1"),
    ("accept_ra_pinfo", "1"),
    ("accept_ra_rtr_pref", "1"),
    ("accept_redirects", "1"),
    ("accept_source_route", "0"),
    ("addr_gen_mode", "0"),
    ("autoconf", "1"),
    ("dad_transmits", "1"),
    ("disable_ipv6", "0"),
    ("disable_policy", "0"),
    ("enhanced_dad", "1"),
    ("forwarding", "0"),
    ("hop_limit", "64"),
    ("keep_addr_on_down", "0"),
    ("max_addresses", "16"),
    ("ndisc_notify", "0"),
    ("optimistic_dad", "0"),
    ("proxy_ndp", "0"),
    ("router_solicitations", "-1"),
    ("use_tempaddr", "0"),
];

/// Where loopback differs.
const LOOPBACK: &[(&str, &str)] = &[
    ("net/ipv4/conf/lo/disable_policy", "1"),
    ("net/ipv4/conf/lo/disable_xfrm", "1"),
    ("net/ipv6/conf/lo/accept_dad", "-1"),
    ("net/ipv6/conf/lo/use_tempaddr", "-1"),
];

/// The smallest MTU that IPv6 works with (RFC 8200, section 5); below it a link has none.
pub(super) const IPV6_MIN_MTU: u32 = 1280;

/// The settings of a namespace that has no link yet.
pub(super) fn at_birth(ipv6: bool) -> Settings {
    let mut settings: Settings = NAMESPACE.iter().map(|(key, value)| pair(key, value)).collect();
    for who in ["all", "default"] {
        settings.extend(IPV4.iter().map(|(name, value)| pair(&path(4, who, name), value)));
        settings.extend(IPV6.iter().map(|(name, value)| pair(&path(6, who, name), value)));
    }
    settings.retain(|key, _| ipv6 || !key.starts_with("net/ipv6/"));
    settings
}

/// A link comes: it has what `default` says.
pub(super) fn link_born(settings: &mut Settings, link: &Interface) {
    ipv4_born(settings, &link.name);
    if link.mtu >= IPV6_MIN_MTU {
        ipv6_born(settings, &link.name);
    }
    if link.kind.is_loopback() {
        for (key, value) in LOOPBACK {
            settings.entry((*key).to_owned()).and_modify(|old| *old = (*value).to_owned());
        }
    }
}

/// IPv4 comes to a link.
pub(super) fn ipv4_born(settings: &mut Settings, name: &LinkName) {
    as_default(settings, 4, IPV4, name);
}

/// IPv6 comes to a link.
pub(super) fn ipv6_born(settings: &mut Settings, name: &LinkName) {
    as_default(settings, 6, IPV6, name);
}

/// There is no `default` where there is no IPv6.
fn as_default(settings: &mut Settings, family: u8, names: &[(&str, &str)], link: &LinkName) {
    for (name, _) in names {
        if let Some(value) = settings.get(&path(family, "default", name)).cloned() {
            settings.insert(path(family, link.as_str(), name), value);
        }
    }
}

/// A link goes.
pub(super) fn link_gone(settings: &mut Settings, name: &LinkName) {
    ipv4_gone(settings, name);
    ipv6_gone(settings, name);
}

/// IPv4 goes from a link.
pub(super) fn ipv4_gone(settings: &mut Settings, name: &LinkName) {
    gone(settings, 4, name);
}

/// IPv6 goes from a link.
pub(super) fn ipv6_gone(settings: &mut Settings, name: &LinkName) {
    gone(settings, 6, name);
}

fn gone(settings: &mut Settings, family: u8, name: &LinkName) {
    let prefix = path(family, name.as_str(), "");
    settings.retain(|key, _| !key.starts_with(&prefix));
}

/// The settings that are not as they are at birth.
pub(super) fn unusual(settings: &Settings) -> impl Iterator<Item = (&str, &str)> {
    settings
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, value)| usual(key) != Some(value))
}

/// A setting's value at birth, if it is one of the usual ones.
fn usual(key: &str) -> Option<&'static str> {
    let find = |list: &[(&str, &'static str)], wanted: &str| {
        list.iter().find(|(known, _)| *known == wanted).map(|(_, value)| *value)
    };
    let mut parts = key.splitn(5, '/').skip(1);
    let (family, conf, link, name) = (parts.next()?, parts.next()?, parts.next(), parts.next());
    let list = match (family, conf) {
        ("ipv4", "conf") => IPV4,
        ("ipv6", "conf") => IPV6,
        _ => return find(NAMESPACE, key),
    };
    let of_loopback = || (link == Some("lo")).then(|| find(LOOPBACK, key)).flatten();
    of_loopback().or_else(|| find(list, name?))
}

/// Writes a setting.
pub(super) fn set(namespace: &mut Namespace, wanted: &Sysctl) -> Result<Created, Problem> {
    let key = wanted.key.as_str();
    let Some(before) = namespace.sysctls.get(key).cloned() else {
        return match wanted.optional {
            true => Ok(Created::Kept),
            false => Err(Problem::Refused(Errno::ENOENT, None)),
        };
    };
    let value = if before.parse::<i32>().is_ok() { number(&wanted.value)? } else { wanted.value.clone() };
    if value == before {
        return Ok(Created::Kept);
    }
    namespace.sysctls.insert(key.to_owned(), value.clone());
    take_effect(namespace, key, &value);
    let before = Sysctl { value: before, ..wanted.clone() };
    Ok(Created::Changed(Resource::Sysctl(before)))
}

/// `accept_ra = 0`, where there is IPv6.
pub(super) fn ignore_router_advertisements(namespace: &mut Namespace, name: &LinkName) {
    let key = path(6, name.as_str(), "accept_ra");
    namespace.sysctls.entry(key).and_modify(|value| *value = "0".to_owned());
}

/// Whether there is IPv4 on a link at all.
pub(super) fn has_ipv4(settings: &Settings, name: &LinkName) -> bool {
    settings.contains_key(&path(4, name.as_str(), "forwarding"))
}

/// Whether there is IPv6 on a link at all.
pub(super) fn has_ipv6(settings: &Settings, name: &LinkName) -> bool {
    settings.contains_key(&path(6, name.as_str(), "disable_ipv6"))
}

/// Whether there is IPv6 on a link, and it is not switched off.
pub(super) fn is_ipv6_enabled(settings: &Settings, name: &LinkName) -> bool {
    settings.get(&path(6, name.as_str(), "disable_ipv6")).is_some_and(|value| value == "0")
}

/// Whether a link makes its link-local address from its MAC address (`IN6_ADDR_GEN_MODE_EUI64`).
pub(super) fn has_link_local_from_mac(namespace: &Namespace, name: &LinkName) -> bool {
    is(namespace, &path(6, name.as_str(), "addr_gen_mode"), "0")
}

/// Whether a link keeps its IPv6 addresses when it goes down.
pub(super) fn keeps_ipv6_addresses(namespace: &Namespace, name: &LinkName) -> bool {
    ["all", name.as_str()].iter().any(|who| is(namespace, &path(6, who, "keep_addr_on_down"), "1"))
}

/// Whether the next IPv4 address of a subnet takes the place of its first.
pub(super) fn promotes(namespace: &Namespace, name: &LinkName) -> bool {
    ["all", name.as_str()].iter().any(|who| is(namespace, &path(4, who, "promote_secondaries"), "1"))
}

/// The effects of those settings that have any beyond themselves.
fn take_effect(namespace: &mut Namespace, key: &str, value: &str) {
    match key {
        "net/ipv4/ip_forward" | "net/ipv4/conf/all/forwarding" => {
            set_everywhere(namespace, 4, "forwarding", value);
            namespace.sysctls.insert("net/ipv4/ip_forward".to_owned(), value.to_owned());
        }
        "net/ipv6/conf/all/forwarding" => set_everywhere(namespace, 6, "forwarding", value),
        "net/ipv6/conf/all/disable_ipv6" => {
            set_everywhere(namespace, 6, "disable_ipv6", value);
            let all: Vec<_> = namespace.links.keys().copied().collect();
            for index in all {
                addresses::ipv6_switched(namespace, index);
            }
        }
        _ => {
            let switched =
                namespace.links.values().find(|link| key == path(6, link.name.as_str(), "disable_ipv6"));
            if let Some(index) = switched.map(|link| link.index) {
                addresses::ipv6_switched(namespace, index);
            }
        }
    }
}

/// Sets something of every link's, of `all` and of `default`.
fn set_everywhere(namespace: &mut Namespace, family: u8, name: &str, value: &str) {
    let prefix = format!("net/ipv{family}/conf/");
    for (key, old) in &mut namespace.sysctls {
        let of = key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'));
        if of.is_some_and(|(_, setting)| setting == name) {
            value.clone_into(old);
        }
    }
}

/// A number as `proc_dointvec()` reads it: decimal, octal or hexadecimal, up to white space.
fn number(text: &str) -> Result<String, Problem> {
    let invalid = || Problem::Refused(Errno::EINVAL, None);
    let text = text.split_whitespace().next().ok_or_else(invalid)?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let magnitude = if let Some(hexadecimal) = digits.strip_prefix("0x") {
        i64::from_str_radix(hexadecimal, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    let value = i32::try_from(sign * magnitude.map_err(|_| invalid())?).map_err(|_| invalid())?;
    Ok(value.to_string())
}

fn is(namespace: &Namespace, key: &str, value: &str) -> bool {
    namespace.sysctls.get(key).is_some_and(|actual| actual == value)
}

fn path(family: u8, who: &str, name: &str) -> String {
    format!("net/ipv{family}/conf/{who}/{name}")
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
