//! The configuration of `portmap`, with the reference's keys and defaults.

use netops::Condition;
use plugin_kit::MasqueradeBackend;
use serde::Deserialize;

use super::conditions;

/// The bit of the packet mark that the reference uses unless it is told another one.
const MARK_BIT: u8 = 13;

/// The bit by which `firewall` knows what may pass. It is taken off on the way, so that nobody else can use it.
const FIREWALLS_BIT: i64 = 12;

/// What can be configured. What is published is the runtime's to say (`runtimeConfig.portMappings`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Config {
    /// Whose connections take the node's address (`snat`, `masqAll`).
    pub masquerading: Masquerading,
    /// The bit of the packet mark that such connections carry within the node (`markMasqBit`).
    pub mark_bit: u8,
    /// What connections over IPv4 must be like (`conditionsV4`).
    pub conditions_v4: Vec<Condition>,
    /// What connections over IPv6 must be like (`conditionsV6`).
    pub conditions_v6: Vec<Condition>,
}

/// Whose connections to a published port take the node's address, so that the answers come back by way of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masquerading {
    /// Nobody's (`snat: false`).
    None,
    /// Those from within the pod's subnet, the pod's own among them, and from the node's loopback addresses: nobody else
    /// would get answers otherwise.
    Hairpin,
    /// Everybody's (`masqAll`).
    All,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    backend: MasqueradeBackend,
    snat: Option<bool>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
}

impl TryFrom<Raw> for Config {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let _any = raw.backend;
        let mark_bit = match (raw.mark_masq_bit, &raw.external_set_mark_chain) {
            (Some(_), Some(_)) => {
                return Err("markMasqBit and externalSetMarkChain: one of them, not both".to_owned());
            }
            // The chain is one of iptables, and what it would mark is masqueraded here.
            (None, _) => MARK_BIT,
            (Some(FIREWALLS_BIT), None) => {
                return Err(
                    "markMasqBit is 12: that bit is the one by which cnikit's firewall knows pods".to_owned()
                );
            }
            (Some(bit), None) => match u8::try_from(bit) {
                Ok(bit @ 0..=31) => bit,
                _ => return Err(format!("markMasqBit is {bit}: it must be 0 to 31")),
            },
        };
        Ok(Self {
            masquerading: match raw.snat {
                Some(false) => Masquerading::None,
                _ if raw.masq_all => Masquerading::All,
                _ => Masquerading::Hairpin,
            },
            mark_bit,
            conditions_v4: conditions::parse("conditionsV4", true, &raw.conditions_v4.unwrap_or_default())?,
            conditions_v6: conditions::parse("conditionsV6", false, &raw.conditions_v6.unwrap_or_default())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(json: Value) -> Result<Config, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_references() {
        let config = config(json!({"type": "portmap"})).unwrap();
        assert_eq!((config.masquerading, config.mark_bit), (Masquerading::Hairpin, 13));
        assert_eq!((config.conditions_v4, config.conditions_v6), (vec![], vec![]));
    }

    #[test]
    fn who_is_masqueraded_is_said_by_two_keys() {
        let masquerading = |json| config(json).unwrap().masquerading;
        assert_eq!(masquerading(json!({"snat": true})), Masquerading::Hairpin);
        assert_eq!(masquerading(json!({"snat": true, "masqAll": true})), Masquerading::All);
        assert_eq!(masquerading(json!({"snat": false, "masqAll": true})), Masquerading::None);
    }

    #[test]
    fn a_mark_has_32_bits_and_one_master() {
        assert_eq!(config(json!({"markMasqBit": 0})).unwrap().mark_bit, 0);
        assert_eq!(config(json!({"externalSetMarkChain": "KUBE-MARK-MASQ"})).unwrap().mark_bit, 13);
        for bit in [-1, 32, i64::MAX] {
            let error = config(json!({"markMasqBit": bit})).unwrap_err();
            assert_eq!(error, format!("markMasqBit is {bit}: it must be 0 to 31"));
        }
        assert!(config(json!({"markMasqBit": 12})).unwrap_err().contains("firewall"));
        config(json!({"markMasqBit": 1, "externalSetMarkChain": "X"})).unwrap_err();
        config(json!({"backend": "ebtables"})).unwrap_err();
        config(json!({"backend": "iptables"})).unwrap();
    }

    #[test]
    fn a_condition_that_is_not_understood_is_named() {
        let error = config(json!({"conditionsV4": ["-s", "10.0.0.0/8", "-m", "mark"]})).unwrap_err();
        assert!(error.starts_with("conditionsV4: \"-m\""), "{error}");
    }
}
