//! Keys and kinds: whether an object has the keys that it may have, and each the kind of value that belongs there.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netops::{LinkName, MacAddr};

use super::finding::{At, Findings};
use super::keys::{Key, Kind};
use super::spelling::closest;
use crate::commands::conf::document::Data;

/// Checks an object against the keys that it may have, from however many tables.
pub(super) fn check_keys(findings: &mut Findings<'_>, at: &At<'_>, tables: &[&'static [Key]]) {
    check_keys_or_elsewhere(findings, at, tables, |_| None);
}

/// The same, with somebody who may know where else a key belongs.
pub(super) fn check_keys_or_elsewhere(
    findings: &mut Findings<'_>,
    at: &At<'_>,
    tables: &[&'static [Key]],
    elsewhere: impl Fn(&str) -> Option<String>,
) {
    if !matches!(at.node.data, Data::Object(_)) {
        wrong_kind(findings, at, "an object");
        return;
    }
    duplicates(findings, at);
    let known = || tables.iter().flat_map(|table| table.iter());
    for (name, key_at, value) in at.entries() {
        if findings.is_full() {
            return;
        }
        // Comments, as many write them, for JSON has none.
        if name.starts_with(['_', '#', '/']) || name == "comment" {
            continue;
        }
        if name.starts_with("cni.dev/") {
            findings
                .error(
                    &key_at,
                    "a key that begins with cni.dev/ is the specification's, for runtimes to fill in",
                )
                .suggest("remove it");
            continue;
        }
        match known().find(|key| key.name.eq_ignore_ascii_case(name)) {
            Some(key) => {
                if key.name != name {
                    findings
                        .hint(&key_at, "another spelling of a key: Go's plugins take it, others may not")
                        .suggest(format!("write \"{}\"", key.name));
                }
                check(findings, &value, key.kind);
            }
            None => {
                let finding =
                    findings.warning(&key_at, format!("unknown key \"{}\": nobody reads it", shown(name)));
                if let Some(place) = elsewhere(name) {
                    finding.suggest(place);
                } else if let Some(name) = closest(name, known().map(|key| key.name)) {
                    finding.suggest(format!("did you mean \"{name}\"?"));
                }
            }
        }
    }
}

/// Keys that are there twice, in any case.
pub(super) fn duplicates(findings: &mut Findings<'_>, at: &At<'_>) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (name, key_at, _) in at.entries() {
        if let Some(earlier) = seen.insert(name.to_ascii_lowercase(), name) {
            let (what, counts) = if earlier == name {
                ("the same key twice", "the last one counts")
            } else {
                ("the same key twice, spelled differently", "which one counts depends on who reads it")
            };
            findings.error(&key_at, format!("{what} in one object: {counts}")).suggest("remove one of them");
        }
    }
}

fn check(findings: &mut Findings<'_>, at: &At<'_>, kind: Kind) {
    if at.node.data == Data::Null {
        // To Go, and to us, the same as absent.
        return;
    }
    match kind {
        Kind::Any => {}
        Kind::Refused(why) => {
            findings.error(at, format!("this plugin refuses the key: {why}")).suggest("remove it");
        }
        Kind::Bool => check_bool(findings, at),
        Kind::LooseBool => check_loose_bool(findings, at),
        Kind::Integer(low, high) => check_integer(findings, at, low, high),
        Kind::Mtu => {
            check_integer(findings, at, 0, 65535);
            if let Some(mtu @ 1..=67) = at.node.as_integer() {
                findings
                    .error(at, format!("an MTU of {mtu}: 68 is the least"))
                    .suggest("0 leaves it to the kernel");
            }
        }
        Kind::Object(keys) => check_keys(findings, at, &[keys]),
        Kind::Map(of) => {
            if !matches!(at.node.data, Data::Object(_)) {
                return wrong_kind(findings, at, "an object");
            }
            duplicates(findings, at);
            at.entries().for_each(|(_, _, value)| check(findings, &value, *of));
        }
        Kind::List(of) => {
            if !matches!(at.node.data, Data::List(_)) {
                return wrong_kind(findings, at, "a list");
            }
            at.items().for_each(|item| check(findings, &item, *of));
        }
        Kind::Text
        | Kind::Choice(_)
        | Kind::Address
        | Kind::Prefix
        | Kind::Subnet
        | Kind::Interface
        | Kind::Mac => match at.node.as_text() {
            Some(text) => check_text(findings, at, text, kind),
            None => wrong_kind(findings, at, "a text"),
        },
    }
}

fn check_bool(findings: &mut Findings<'_>, at: &At<'_>) {
    if matches!(at.node.data, Data::Bool(_)) {
        return;
    }
    let finding = findings.error(at, format!("{} where true or false belongs", at.node.kind()));
    if let Some(meant) = at.node.as_text().and_then(meant_bool) {
        finding.suggest(format!("write {meant}, without quotes"));
    }
}

fn check_loose_bool(findings: &mut Findings<'_>, at: &At<'_>) {
    match at.node.as_text().and_then(meant_bool) {
        // libcni and we take it, others may not.
        Some(meant) => {
            findings
                .hint(at, "a text where true or false belongs; libcni takes it all the same")
                .suggest(format!("write {meant}, without quotes"));
        }
        None => check_bool(findings, at),
    }
}

fn meant_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn check_integer(findings: &mut Findings<'_>, at: &At<'_>, low: i64, high: i64) {
    let Data::Number(number) = &at.node.data else {
        let finding = findings.error(at, format!("{} where a whole number belongs", at.node.kind()));
        if let Some(meant) = at.node.as_text().and_then(|text| text.trim().parse::<i64>().ok()) {
            finding.suggest(format!("write {meant}, without quotes"));
        }
        return;
    };
    match number.as_i64() {
        Some(value) if (low..=high).contains(&value) => {}
        Some(value) if high == i64::MAX => {
            findings.error(at, format!("{value} is below {low}"));
        }
        Some(value) => {
            findings.error(at, format!("{value} is out of range: from {low} to {high}"));
        }
        None if number.is_u64() => {
            findings.error(at, format!("{number} is out of range: up to {high}"));
        }
        None => {
            findings.error(at, format!("{number} is no whole number"));
        }
    }
}

fn check_text(findings: &mut Findings<'_>, at: &At<'_>, text: &str, kind: Kind) {
    let text_shown = shown(text);
    match kind {
        Kind::Choice(choices) if !text.is_empty() && !choices.contains(&text) => {
            let finding = findings.error(at, format!("\"{text_shown}\" is none of {}", choices.join(", ")));
            if let Some(choice) = closest(text, choices.iter().copied()) {
                finding.suggest(format!("did you mean \"{choice}\"?"));
            }
        }
        Kind::Address if !text.is_empty() && text.parse::<IpAddr>().is_err() => {
            let finding = findings.error(at, format!("\"{text_shown}\" is no IP address"));
            if let Some((address, _)) =
                text.split_once('/').filter(|(address, _)| address.parse::<IpAddr>().is_ok())
            {
                finding.suggest(format!("write \"{address}\": a prefix length does not belong here"));
            }
        }
        Kind::Prefix | Kind::Subnet => check_prefix(findings, at, text, kind),
        Kind::Interface => {
            if let Err(error) = LinkName::new(text) {
                findings.error(at, error.to_string());
            }
        }
        Kind::Mac if !text.is_empty() => match text.parse::<MacAddr>() {
            Err(_) => {
                findings
                    .error(at, format!("\"{text_shown}\" is no hardware address"))
                    .suggest("six bytes, as in 02:00:5e:10:00:01");
            }
            Ok(mac) if !mac.is_unicast() => {
                findings
                    .error(at, format!("{mac} is a group address, or none"))
                    .suggest("an even first byte, such as 02, makes it one of an interface");
            }
            Ok(_) => {}
        },
        _ => {}
    }
}

fn check_prefix(findings: &mut Findings<'_>, at: &At<'_>, text: &str, kind: Kind) {
    let text_shown = shown(text);
    match text.parse::<IpNet>() {
        Ok(net) if matches!(kind, Kind::Subnet) && net != net.trunc() => {
            findings
                .error(at, format!("{net} is an address in its subnet, not the subnet"))
                .suggest(format!("write \"{}\"", net.trunc()));
        }
        Ok(_) => {}
        Err(_) => {
            let finding = findings.error(at, format!("\"{text_shown}\" is no address with a prefix length"));
            match text.parse::<IpAddr>() {
                Ok(address) if address.is_ipv4() => finding.suggest(format!("as in \"{address}/24\"")),
                Ok(address) => finding.suggest(format!("as in \"{address}/64\"")),
                Err(_) => finding.suggest("as in \"10.1.0.0/16\" or \"fd00:1::/64\""),
            };
        }
    }
}

pub(super) fn wrong_kind(findings: &mut Findings<'_>, at: &At<'_>, expected: &str) {
    findings.error(at, format!("{} where {expected} belongs", at.node.kind()));
}

/// A text for people's eyes: short, and without what would move a cursor.
pub(super) fn shown(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    let mut short: String = text.chars().take(48).flat_map(harmless).collect();
    if text.chars().nth(48).is_some() {
        short.push('…');
    }
    short
}
