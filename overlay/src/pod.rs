//! An interface of a pod.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An interface of a pod.
///
/// An agent holds all pods of all nodes: what one says is in one piece of memory, not in one for each of its names.
///
/// ```
/// let address = "10.244.1.5".parse().unwrap();
/// let pod = overlay::Pod::new("8d5f0c", "eth0", [address]).named(Some("default"), Some("web-1"));
/// assert_eq!((pod.container(), pod.interface()), ("8d5f0c", "eth0"));
/// assert_eq!(pod.to_string(), "default/web-1");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pod {
    /// Container, interface, namespace and name, one after the other. Of the last two, an empty one is none.
    texts: Box<str>,
    /// Where the second and all that follow begin.
    begins: [u32; 3],
    addresses: Addresses,
}

/// Mostly there is one, which takes no memory of its own.
#[derive(Clone, PartialEq, Eq)]
enum Addresses {
    One(IpAddr),
    /// None, or several.
    More(Box<[IpAddr]>),
}

impl Pod {
    /// An interface of a container, with its addresses; Kubernetes knows nothing of it.
    pub fn new(container: &str, interface: &str, addresses: impl Into<Vec<IpAddr>>) -> Self {
        let addresses = addresses.into();
        let addresses = match addresses[..] {
            [one] => Addresses::One(one),
            _ => Addresses::More(addresses.into()),
        };
        Self::of([container, interface, "", ""], addresses)
    }

    /// The same, with the pod's namespace and name in Kubernetes. An empty one is none.
    #[must_use]
    pub fn named(self, namespace: Option<&str>, name: Option<&str>) -> Self {
        let texts = [self.container(), self.interface(), namespace.unwrap_or(""), name.unwrap_or("")];
        Self::of(texts, self.addresses.clone())
    }

    fn of(texts: [&str; 4], addresses: Addresses) -> Self {
        let [container, interface, namespace, _] = texts.map(|text| text.len() as u32);
        let begins = [container, container + interface, container + interface + namespace];
        Self { texts: texts.concat().into(), begins, addresses }
    }

    /// The runtime's name for the sandbox.
    pub fn container(&self) -> &str {
        self.text(0, self.begins[0])
    }

    /// The interface in it.
    pub fn interface(&self) -> &str {
        self.text(self.begins[0], self.begins[1])
    }

    /// The addresses on that.
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.addresses {
            Addresses::One(address) => std::slice::from_ref(address),
            Addresses::More(addresses) => addresses,
        }
    }

    /// The pod's namespace in Kubernetes (`K8S_POD_NAMESPACE` of `CNI_ARGS`).
    pub fn namespace(&self) -> Option<&str> {
        Some(self.text(self.begins[1], self.begins[2])).filter(|text| !text.is_empty())
    }

    /// The pod's name in Kubernetes (`K8S_POD_NAME` of `CNI_ARGS`).
    pub fn name(&self) -> Option<&str> {
        Some(self.text(self.begins[2], self.texts.len() as u32)).filter(|text| !text.is_empty())
    }

    fn text(&self, from: u32, to: u32) -> &str {
        self.texts.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// `default/web-1`; where Kubernetes has no name for it, the container's, cut to what people compare.
impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let container = self.container();
        match (self.namespace(), self.name()) {
            (Some(namespace), Some(name)) => write!(f, "{namespace}/{name}"),
            (None, Some(name)) => f.write_str(name),
            _ => match container.char_indices().nth(12) {
                // A long one is a hash.
                Some((end, _)) if container.len() >= 32 => f.write_str(&container[..end]),
                _ => f.write_str(container),
            },
        }
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fields::from(self).fmt(f)
    }
}

/// A pod as documents have it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Pod", rename_all = "camelCase")]
struct Fields<'a> {
    container: Cow<'a, str>,
    interface: Cow<'a, str>,
    #[serde(default)]
    addresses: Cow<'a, [IpAddr]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Pod> for Fields<'a> {
    fn from(pod: &'a Pod) -> Self {
        Self {
            container: pod.container().into(),
            interface: pod.interface().into(),
            addresses: pod.addresses().into(),
            namespace: pod.namespace().map(Cow::from),
            name: pod.name().map(Cow::from),
        }
    }
}

impl Serialize for Pod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fields::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { container, interface, addresses, namespace, name } = Fields::deserialize(deserializer)?;
        let pod = Self::new(&container, &interface, addresses.into_owned());
        Ok(pod.named(namespace.as_deref(), name.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_says_what_there_is_and_nothing_else() {
        let pod = Pod::new("c1", "eth0", ["10.244.1.5".parse().unwrap()]);
        let mut document = json!({"container": "c1", "interface": "eth0", "addresses": ["10.244.1.5"]});
        assert_eq!(serde_json::to_value(&pod).unwrap(), document);
        document["name"] = "web-1".into();
        let named = pod.named(None, Some("web-1"));
        assert_eq!(serde_json::to_value(&named).unwrap(), document);
        assert_eq!(serde_json::from_value::<Pod>(document).unwrap(), named);
        let least: Pod = serde_json::from_value(json!({"container": "c1", "interface": "eth0"})).unwrap();
        assert_eq!(least, Pod::new("c1", "eth0", []));
        assert!(serde_json::from_value::<Pod>(json!({"container": "c1"})).is_err());
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(
            texts in proptest::array::uniform4(".{0,9}"), addresses in proptest::collection::vec(any::<IpAddr>(), 0..4),
        ) {
            let [container, interface, namespace, name] = texts.each_ref().map(String::as_str);
            let pod = Pod::new(container, interface, addresses.clone()).named(Some(namespace), Some(name));
            prop_assert_eq!((pod.container(), pod.interface()), (container, interface));
            prop_assert_eq!(pod.namespace().unwrap_or_default(), namespace);
            prop_assert_eq!(pod.name().unwrap_or_default(), name);
            prop_assert_eq!(pod.addresses(), addresses);
            let document = serde_json::to_string(&pod).unwrap();
            prop_assert_eq!(serde_json::from_str::<Pod>(&document).unwrap(), pod);
        }
    }
}
