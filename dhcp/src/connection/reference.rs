//! The reference's plugin: Go's `net/rpc`, which begins as HTTP. One call, `DHCP.Allocate` or `DHCP.Release`, with the
//! plugin's environment and configuration in it.

use std::net::IpAddr;

use cni_spec::{AddResult, SpecVersion};
use ipnet::IpNet;
use plugin_kit::ipam::dhcp::protocol::{Answer, Call, Subject};

use super::gob::{self, Fields, Scalar, Unread, Value, Writer};

/// What the plugin says first (`net/rpc`, `DialHTTP`).
pub(super) const GREETING: &[u8] = b"CONNECT /_goRPC_ HTTP/1.0\n\n";
/// What it wants to hear.
pub(super) const WELCOME: &[u8] = b"HTTP/1.0 200 Connected to Go RPC\n\n";

/// Which call is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    method: String,
    sequence: u64,
}

/// Reads a call: a header, and the arguments (`skel.CmdArgs`). `None` if there is more to come.
///
/// # Errors
/// If it is none.
pub(super) fn read(stream: &[u8]) -> Result<Option<(Request, Call)>, &'static str> {
    let (header, args) = match gob::read_structs(stream, 2).map(<[Fields; 2]>::try_from) {
        Ok(Ok([header, args])) => (header, args),
        Err(Unread::Incomplete) => return Ok(None),
        Err(Unread::Wrong(what)) => return Err(what),
        Ok(Err(_)) => return Err("not a call"),
    };
    let sequence = match header.get("Seq") {
        Some(Scalar::Number(number)) => *number,
        _ => 0,
    };
    let request = Request { method: text(&header, "ServiceMethod"), sequence };
    let netns = Some(text(&args, "Netns")).filter(|path| !path.is_empty());
    let subject = Subject {
        container_id: text(&args, "ContainerID").parse().map_err(|_| "a container's ID")?,
        if_name: text(&args, "IfName").parse().map_err(|_| "an interface's name")?,
        netns: netns.map(Into::into),
        args: text(&args, "Args"),
        config: serde_json::from_slice(bytes(&args, "StdinData")).map_err(|_| "a configuration")?,
    };
    let call = match request.method.as_str() {
        // Its CHECK is the same call: who has a lease is told which.
        "DHCP.Allocate" => Call::Add(subject),
        "DHCP.Release" => Call::Del(subject),
        _ => return Err("an unknown method"),
    };
    Ok(Some((request, call)))
}

/// Writes an answer: a header, and a `types100.Result`, or an empty struct.
pub(super) fn write(request: &Request, answer: &Answer) -> Vec<u8> {
    let nothing = Value::Struct(Vec::new());
    let (error, body) = match answer {
        Answer::Error(error) => (error.to_string(), nothing),
        Answer::Result(value) => match AddResult::from_value(value, SpecVersion::LATEST) {
            Ok(result) => (String::new(), body(&result)),
            Err(_) => (String::new(), nothing),
        },
    };
    let mut writer = Writer::new();
    writer.add(&Value::Struct(vec![
        ("ServiceMethod", Value::Text(request.method.clone())),
        ("Seq", Value::Uint(request.sequence)),
        ("Error", Value::Text(error)),
    ]));
    writer.add(&body);
    writer.into_stream()
}

/// A result, by the names that Go has for its parts.
fn body(result: &AddResult) -> Value {
    let ip = |address: IpNet, gateway: Option<IpAddr>| {
        Value::Struct(vec![("Address", net(address)), ("Gateway", optional(gateway))])
    };
    let route = |destination: IpNet, gateway: Option<IpAddr>, priority: Option<u32>| {
        Value::Struct(vec![
            ("Dst", net(destination)),
            ("GW", optional(gateway)),
            ("Priority", Value::Int(priority.unwrap_or(0).into())),
        ])
    };
    let texts = |texts: &[String]| {
        Value::List(Box::new(Value::Text(String::new())), texts.iter().cloned().map(Value::Text).collect())
    };
    let list = |example: Value, elements: Vec<Value>| Value::List(Box::new(example), elements);
    let ips = result.ips.iter().map(|each| ip(each.address, each.gateway)).collect();
    let routes = result.routes.iter().map(|each| route(each.dst, each.gw, each.priority)).collect();
    let any = IpNet::default();
    Value::Struct(vec![
        ("IPs", list(ip(any, None), ips)),
        ("Routes", list(route(any, None, None), routes)),
        (
            "DNS",
            Value::Struct(vec![
                ("Nameservers", texts(&result.dns.nameservers)),
                ("Domain", Value::Text(result.dns.domain.clone().unwrap_or_default())),
                ("Search", texts(&result.dns.search)),
            ]),
        ),
    ])
}

/// `net.IPNet`
fn net(net: IpNet) -> Value {
    Value::Struct(vec![("IP", address(net.addr())), ("Mask", address(net.netmask()))])
}

fn optional(ip: Option<IpAddr>) -> Value {
    ip.map_or(Value::Bytes(Vec::new()), address)
}

/// `net.IP`
fn address(ip: IpAddr) -> Value {
    Value::Bytes(match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    })
}

fn bytes<'a>(fields: &'a Fields, name: &str) -> &'a [u8] {
    match fields.get(name) {
        Some(Scalar::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

fn text(fields: &Fields, name: &str) -> String {
    String::from_utf8_lossy(bytes(fields, name)).into_owned()
}
