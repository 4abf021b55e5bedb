//! What the configuration wants of servers: the section `ipam`.

use std::collections::BTreeMap;

use cni_spec::{CniArgs, Error, NetworkConfig};
use dhcproto::v4::OptionCode;
use serde::{Deserialize, Serialize};

/// What the configuration wants of servers. Kept with the lease: a configuration may change meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wishes {
    /// The versions of IP to have an address of.
    families: Vec<Family>,
    /// Option codes, in the order of the request.
    request: Vec<u8>,
    /// What is told to the server, by option code.
    provide: BTreeMap<u8, Vec<u8>>,
    /// The metric of routes.
    priority: Option<u32>,
}

/// A version of IP, and of DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(crate) enum Family {
    V4,
    V6,
}

/// What is requested unless the configuration says that it need not be.
const DEFAULT_REQUEST: [OptionCode; 2] = [OptionCode::SubnetMask, OptionCode::Router];

/// What the protocol itself is made of: not for a configuration to change.
const RESERVED: [OptionCode; 9] = [
    OptionCode::Pad,
    OptionCode::RequestedIpAddress,
    OptionCode::AddressLeaseTime,
    OptionCode::OptionOverload,
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::ParameterRequestList,
    OptionCode::MaxMessageSize,
    OptionCode::End,
];

/// The section `ipam`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    provide: Vec<Provide>,
    #[serde(default)]
    request: Vec<Request>,
    #[serde(default)]
    priority: Option<u32>,
    #[serde(default)]
    ip_versions: Vec<Family>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provide {
    option: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    from_arg: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    option: String,
    #[serde(default)]
    skip_default: bool,
}

impl Wishes {
    /// Reads the section, and the arguments that it refers to.
    ///
    /// # Errors
    /// When it makes no sense.
    pub(crate) fn of(config: &NetworkConfig, args: &CniArgs) -> Result<Self, Error> {
        let config: Config = config.section("ipam").parse()?.unwrap_or_default();
        let mut provide = BTreeMap::new();
        for (number, wish) in config.provide.iter().enumerate() {
            let at = format!("ipam.provide[{number}]");
            let code = option(&at, &wish.option)?;
            if RESERVED.contains(&code.into()) {
                return Err(Error::config(format!("{at}.option: {code} is the protocol's own")));
            }
            let argument = args.get(&wish.from_arg).filter(|_| !wish.from_arg.is_empty());
            let value = argument.or_else(|| Some(wish.value.as_str()).filter(|value| !value.is_empty()));
            let Some(value) = value else { continue };
            if value.len() > 255 {
                return Err(Error::config(format!("{at}: the value has more than 255 bytes")));
            }
            provide.insert(code, value.as_bytes().to_vec());
        }
        let mut request = Vec::new();
        if !config.request.iter().any(|wish| wish.skip_default) {
            request.extend(DEFAULT_REQUEST.map(u8::from));
        }
        for (number, wish) in config.request.iter().enumerate() {
            if wish.option.is_empty() && wish.skip_default {
                continue;
            }
            let code = option(&format!("ipam.request[{number}]"), &wish.option)?;
            if !request.contains(&code) {
                request.push(code);
            }
        }
        let mut families = config.ip_versions;
        families.sort_unstable();
        families.dedup();
        if families.is_empty() {
            families.push(Family::V4);
        }
        Ok(Self { families, request, provide, priority: config.priority.filter(|metric| *metric != 0) })
    }

    pub(crate) fn families(&self) -> &[Family] {
        &self.families
    }

    /// The codes of the options to ask for. Classless routes come before routers, so that a server that is short of room
    /// leaves out the right ones (RFC 3442).
    pub(crate) fn requested(&self) -> Vec<u8> {
        let mut codes = self.request.clone();
        codes.sort_by_key(|code| *code != u8::from(OptionCode::ClasslessStaticRoute));
        codes
    }

    /// What is told to the server, without the client's identifier.
    pub(crate) fn all_provided(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let others = self.provide.iter().filter(|(code, _)| **code != u8::from(OptionCode::ClientIdentifier));
        others.map(|(code, value)| (*code, value.as_slice()))
    }

    /// What is told to the server under one code.
    pub(crate) fn provided(&self, code: u8) -> Option<&[u8]> {
        self.provide.get(&code).map(Vec::as_slice)
    }

    /// The metric of routes.
    pub(crate) fn priority(&self) -> Option<u32> {
        self.priority
    }
}

/// An option by number, or by the name that `dhcp-options(5)` has for it.
fn option(at: &str, text: &str) -> Result<u8, Error> {
    let known = [
        ("dhcp-client-identifier", OptionCode::ClientIdentifier),
        ("subnet-mask", OptionCode::SubnetMask),
        ("routers", OptionCode::Router),
        ("host-name", OptionCode::Hostname),
        ("user-class", OptionCode::UserClass),
        ("vendor-class-identifier", OptionCode::ClassIdentifier),
    ];
    if let Some((_, code)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(u8::from(*code));
    }
    text.parse().map_err(|_| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        Error::config(format!(
            "{at}.option: {text:?} is neither a number up to 255 nor one of {}",
            names.join(", ")
        ))
    })
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IPv{}", u8::from(*self))
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

impl TryFrom<u8> for Family {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err(format!("{number} is no version of IP: 4 or 6")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(ipam: &str, args: &str) -> Result<Wishes, Error> {
        let config = format!(r#"{{"cniVersion": "1.0.0", "name": "lan", "ipam": {ipam}}}"#);
        Wishes::of(&NetworkConfig::from_json(config.as_bytes()).unwrap(), &CniArgs::parse(args))
    }

    #[test]
    fn mask_and_routers_are_requested_unless_they_need_not_be() {
        let requested =
            |request: &str| wishes(&format!(r#"{{"request": {request}}}"#), "").unwrap().requested();
        assert_eq!(requested("[]"), [1, 3]);
        assert_eq!(
            requested(r#"[{"option": "6"}, {"option": "121"}, {"option": "routers"}]"#),
            [121, 1, 3, 6]
        );
        assert_eq!(requested(r#"[{"skipDefault": true, "option": "6"}]"#), [6]);
        assert_eq!(requested(r#"[{"skipDefault": true}]"#), [0_u8; 0]);
    }

    #[test]
    fn an_argument_of_the_runtime_stands_before_the_configured_value() {
        let provide = r#"{"provide": [{"option": "host-name", "value": "a", "fromArg": "NAME"}]}"#;
        assert_eq!(wishes(provide, "").unwrap().provided(12), Some(&b"a"[..]));
        assert_eq!(wishes(provide, "NAME=b").unwrap().provided(12), Some(&b"b"[..]));
        let nothing = r#"{"provide": [{"option": "12", "fromArg": "NAME"}]}"#;
        assert_eq!(wishes(nothing, "").unwrap().provided(12), None);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (ipam, named) in [
            (r#"{"provide": [{"option": "53", "value": "x"}]}"#, "ipam.provide[0].option: 53"),
            (r#"{"provide": [{"option": "256", "value": "x"}]}"#, "\"256\""),
            (r#"{"request": [{"option": "1"}, {"option": "router"}]}"#, "ipam.request[1].option"),
            (r#"{"ipVersions": [5]}"#, "ipam.ipVersions[0]"),
            (r#"{"priority": -1}"#, "ipam.priority"),
        ] {
            let error = wishes(ipam, "").unwrap_err();
            assert!(error.msg().contains(named), "{error}");
        }
        let long = format!(r#"{{"provide": [{{"option": "12", "value": "{}"}}]}}"#, "x".repeat(256));
        assert!(wishes(&long, "").is_err());
    }

    #[test]
    fn wishes_are_written_down_as_they_are() {
        let wishes =
            wishes(r#"{"ipVersions": [6, 4, 6], "priority": 3, "request": [{"option": "6"}]}"#, "").unwrap();
        assert_eq!(wishes.families(), [Family::V4, Family::V6]);
        let text = serde_json::to_string(&wishes).unwrap();
        assert_eq!(serde_json::from_str::<Wishes>(&text).unwrap(), wishes);
    }
}
