//! What `add`, `del`, `check` and `explain` are told about an attachment.

use cni_spec::runtime::{Attachment, CachedAttachment, Runtime};
use cni_spec::{CniArgs, ContainerId, IfName, NetworkList, NetworkName};
use serde_json::{Map, Value};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::netns::Netns;
use crate::places::{Places, variable};

/// The container's interface, if nobody says otherwise.
const USUAL_INTERFACE: &str = "eth0";

/// The container and its parameters.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Identity {
    /// The container [default: cnitool- and a hash of the namespace's path, as cnitool has it]
    #[arg(long, value_name = "ID")]
    container_id: Option<ContainerId>,

    /// The interface in the container [env: CNI_IFNAME] [default: eth0]
    #[arg(short, long, value_name = "NAME")]
    ifname: Option<IfName>,

    /// Arguments for plugins: K=V;K=V, may be repeated [env: CNI_ARGS]
    #[arg(long = "args", value_name = "K=V")]
    args: Vec<String>,

    /// A capability's value: NAME=JSON, or an object of several; may be repeated [env: CAP_ARGS]
    #[arg(long = "cap", value_name = "NAME=JSON")]
    capabilities: Vec<String>,
}

impl Identity {
    /// The attachment, with all of its parameters.
    ///
    /// Without a namespace the container ID must have been given.
    pub(crate) fn attachment(&self, netns: Option<&Netns>) -> Result<Attachment, Failure> {
        let container_id = match (&self.container_id, netns) {
            (Some(id), _) => id.clone(),
            (None, Some(netns)) => netns.container_id()?,
            (None, None) => {
                return Err(Failure::new(Exit::Usage, "neither a namespace nor a container ID is given"));
            }
        };
        let mut attachment = Attachment::new(container_id, self.interface()?);
        if let Some(netns) = netns {
            attachment = attachment.with_netns(netns.path());
        }
        for (key, value) in self.arguments()? {
            attachment = attachment.with_arg(key, value);
        }
        for (name, value) in self.capabilities()? {
            attachment = attachment.with_capability(name, value);
        }
        Ok(attachment)
    }

    fn interface(&self) -> Result<IfName, Failure> {
        if let Some(name) = &self.ifname {
            return Ok(name.clone());
        }
        let told = text("CNI_IFNAME")?;
        told.as_deref()
            .unwrap_or(USUAL_INTERFACE)
            .parse()
            .map_err(|error| usage(format!("CNI_IFNAME: {error}")))
    }

    fn arguments(&self) -> Result<Vec<(String, String)>, Failure> {
        if self.args.is_empty() {
            return pairs("CNI_ARGS", &text("CNI_ARGS")?.unwrap_or_default());
        }
        pairs("--args", &self.args.join(";"))
    }

    fn capabilities(&self) -> Result<Map<String, Value>, Failure> {
        if self.capabilities.is_empty() {
            return object("CAP_ARGS", text("CAP_ARGS")?.as_deref().unwrap_or("{}"));
        }
        let mut all = Map::new();
        for text in &self.capabilities {
            all.extend(capability(text)?);
        }
        Ok(all)
    }
}

/// An attachment as it was made: with the configuration and the parameters of its `ADD`, as far as they are remembered,
/// but for what is asked for now.
pub(super) fn recall(
    runtime: &Runtime,
    places: &Places,
    network: &NetworkName,
    asked: Attachment,
) -> Result<(NetworkList, Attachment), Failure> {
    // A cache that cannot be read must not keep anything attached.
    let known = runtime.cached(network, &asked).ok().flatten();
    let list = match known.as_ref().and_then(|known| known.network_list().ok()) {
        Some(list) => list,
        None => places.network(network)?,
    };
    Ok((list, with_known_parameters(asked, known)))
}

fn with_known_parameters(asked: Attachment, known: Option<CachedAttachment>) -> Attachment {
    let Some(CachedAttachment { attachment: known, .. }) = known else { return asked };
    let mut attachment = Attachment::new(asked.container_id().clone(), asked.if_name().clone());
    if let Some(netns) = asked.netns().or_else(|| known.netns()) {
        attachment = attachment.with_netns(netns);
    }
    let args = if asked.args().is_empty() { known.args() } else { asked.args() };
    for (key, value) in args {
        attachment = attachment.with_arg(key, value);
    }
    let capabilities =
        if asked.capability_args().is_empty() { known.capability_args() } else { asked.capability_args() };
    for (name, value) in capabilities {
        attachment = attachment.with_capability(name, value.clone());
    }
    attachment
}

fn pairs(source: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
    let args = CniArgs::parse(text);
    let pairs: Vec<_> = args.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if pairs.len() < text.split(';').filter(|piece| !piece.is_empty()).count() {
        return Err(usage(format!("{source}: {text:?} is not K=V;K=V")));
    }
    Ok(pairs)
}

fn capability(text: &str) -> Result<Map<String, Value>, Failure> {
    if text.trim_start().starts_with('{') {
        return object("--cap", text);
    }
    let Some((name, json)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
        return Err(usage(format!("--cap: {text:?} is not NAME=JSON")).advise(
            r#"for example: --cap 'portMappings=[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]'"#,
        ));
    };
    // `mac=02:00:00:00:00:01` needs no quotes: what is no JSON is a text.
    let value = serde_json::from_str(json).unwrap_or_else(|_| Value::from(json));
    Ok(Map::from_iter([(name.to_owned(), value)]))
}

fn object(source: &str, text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text).map_err(|error| usage(format!("{source}: not a JSON object: {error}")))
}

fn text(name: &str) -> Result<Option<String>, Failure> {
    let text =
        variable(name).map(|value| value.into_string().map_err(|_| usage(format!("{name}: not UTF-8"))));
    text.transpose()
}

fn usage(message: String) -> Failure {
    Failure::new(Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_pairs() {
        let parsed = pairs("--args", "A=1;;B=x=y;C=").unwrap();
        let expected = [("A", "1"), ("B", "x=y"), ("C", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(parsed, expected);
        assert_eq!(pairs("--args", "A=1;B").unwrap_err().exit(), Exit::Usage);
        assert_eq!(pairs("--args", "=1").unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_capability_is_json_or_a_text() {
        let value = |text| Value::Object(capability(text).unwrap());
        assert_eq!(value("mac=02:00:00:00:00:01"), json!({"mac": "02:00:00:00:00:01"}));
        assert_eq!(value(r#"ips=["10.0.0.2"]"#), json!({"ips": ["10.0.0.2"]}));
        assert_eq!(value(r#" {"a": 1, "b": {}}"#), json!({"a": 1, "b": {}}));
        for wrong in ["mac", "=1", "{", "{}{}"] {
            assert_eq!(capability(wrong).unwrap_err().exit(), Exit::Usage, "{wrong}");
        }
    }
}
