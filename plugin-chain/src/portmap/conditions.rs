//! What a connection must be like, in the words of iptables or of nft.
//!
//! | iptables | nft | |
//! | --- | --- | --- |
//! | `[!] -s 10.0.0.0/8`, `--source`, `--src` | `ip saddr [!=] 10.0.0.0/8`, `ip6 saddr …` | where it comes from |
//! | `[!] -d 192.0.2.1`, `--destination`, `--dst` | `ip daddr [!=] 192.0.2.1`, `ip6 daddr …` | to which of the node's addresses |
//! | `[!] -i eth0`, `--in-interface` | `iifname [!=] eth0`, `iif …`, `meta iifname …` | through which interface |

use std::net::IpAddr;

use ipnet::IpNet;
use netops::{Aspect, Condition, LinkName};

/// Reads the words of a key, which is about one version of IP. One element of the list may hold several.
pub(super) fn parse(key: &str, is_ipv4: bool, list: &[String]) -> Result<Vec<Condition>, String> {
    let mut words = list.iter().flat_map(|element| element.split_whitespace());
    let mut conditions = Vec::new();
    while let Some(word) = words.next() {
        conditions.push(condition(word, &mut words, is_ipv4).map_err(|problem| format!("{key}: {problem}"))?);
    }
    Ok(conditions)
}

/// What is looked at.
#[derive(Clone, Copy)]
enum Subject {
    Source,
    Destination,
    Interface,
}

fn condition<'a>(
    first: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
    is_ipv4: bool,
) -> Result<Condition, String> {
    let mut next =
        |after: &str| words.next().ok_or_else(|| format!("something is missing after \"{after}\""));
    let mut inverted = first == "!";
    let mut word = if inverted { next(first)? } else { first };
    let iptables = match word {
        "-s" | "--source" | "--src" => Some(Subject::Source),
        "-d" | "--destination" | "--dst" => Some(Subject::Destination),
        "-i" | "--in-interface" => Some(Subject::Interface),
        _ => None,
    };
    let (subject, value) = match iptables {
        Some(subject) => (subject, next(word)?),
        None if inverted => return Err(not_understood(word)),
        None => {
            if word == "meta" {
                word = next(word)?;
            }
            let subject = match word {
                "ip" | "ip6" => match next(word)? {
                    "saddr" => Subject::Source,
                    "daddr" => Subject::Destination,
                    other => return Err(not_understood(other)),
                },
                "iif" | "iifname" => Subject::Interface,
                other => return Err(not_understood(other)),
            };
            let mut value = next(word)?;
            if matches!(value, "!=" | "==") {
                inverted = value == "!=";
                value = next(value)?;
            }
            (subject, value)
        }
    };
    Ok(Condition { what: aspect(subject, value, is_ipv4)?, inverted })
}

fn aspect(subject: Subject, value: &str, is_ipv4: bool) -> Result<Aspect, String> {
    let prefix = || {
        let net = value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
        match net {
            Ok(net) if net.addr().is_ipv4() == is_ipv4 => Ok(net),
            Ok(_) => Err(format!("\"{value}\" is of the other version of IP")),
            Err(_) => Err(format!("\"{value}\" is neither an address nor a prefix, such as 10.0.0.0/8")),
        }
    };
    Ok(match subject {
        Subject::Source => Aspect::Source(prefix()?),
        Subject::Destination => Aspect::Destination(prefix()?),
        Subject::Interface => {
            let name = value.trim_matches('"');
            // Both languages know names that begin so, and end anyhow.
            if name.ends_with(['+', '*']) {
                return Err(not_understood(value));
            }
            Aspect::Interface(LinkName::new(name).map_err(|error| error.to_string())?)
        }
    })
}

fn not_understood(word: &str) -> String {
    format!(
        "\"{word}\" is not understood: sources, destinations and interfaces are, as `! -s 10.0.0.0/8` or `ip saddr != 10.0.0.0/8`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<String>, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(parse("conditionsV4", true, &words)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn both_languages_say_the_same() {
        let iptables =
            ["-s", "10.0.0.0/8", "!", "-d", "192.0.2.1", "-i", "eth0", "!", "--in-interface", "lo"];
        let nft =
            ["ip saddr 10.0.0.0/8", "ip daddr != 192.0.2.1/32", "iifname == \"eth0\"", "meta iifname != lo"];
        assert_eq!(read(&iptables), read(&nft));
        assert_eq!(
            read(&iptables).unwrap(),
            ["ip saddr 10.0.0.0/8", "ip daddr != 192.0.2.1/32", "iifname \"eth0\"", "iifname != \"lo\""]
        );
        assert_eq!(read(&[]), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        for (words, wrong) in [
            (["-m", "mark"], "\"-m\""),
            (["!", "ip"], "\"ip\""),
            (["ip", "protocol"], "\"protocol\""),
            (["-s", "10.0.0.0/33"], "\"10.0.0.0/33\""),
            (["-s", "10.0.0.1,10.0.0.2"], "\"10.0.0.1,10.0.0.2\""),
            (["-s", "fd00::/8"], "\"fd00::/8\" is of the other version"),
            (["-i", "eth+"], "\"eth+\""),
            (["-i", "no/name"], "no/name"),
            (["-d", ""], "after \"-d\""),
            (["!", ""], "after \"!\""),
        ] {
            let error = read(&words).unwrap_err();
            assert!(error.starts_with("conditionsV4: ") && error.contains(wrong), "{error}");
        }
    }
}
