//! Who listens at which port: `/proc/net/{tcp,tcp6,udp,udp6}`, and whose descriptors those sockets are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Root;
use crate::commands::doctor::facts::{Holder, Socket, Transport};

/// `TCP_LISTEN` (include/net/tcp_states.h); the state of a UDP socket that is connected to nobody is `TCP_CLOSE`.
const LISTENS: (&str, &str) = ("0A", "07");

/// A line of such a file.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    address: IpAddr,
    port: u16,
    inode: u64,
}

pub(super) fn sockets(root: &Root) -> Option<Vec<Socket>> {
    let mut found = Vec::new();
    let mut any = false;
    for (file, transport, state) in [
        ("tcp", Transport::Tcp, LISTENS.0),
        ("tcp6", Transport::Tcp, LISTENS.0),
        ("udp", Transport::Udp, LISTENS.1),
        ("udp6", Transport::Udp, LISTENS.1),
    ] {
        let Some(text) = root.text(format!("/proc/net/{file}")) else { continue };
        any = true;
        found.extend(text.lines().skip(1).filter_map(|line| Some((transport, parse(line, state)?))));
    }
    let holders = holders(root);
    let socket = |(transport, line): (Transport, Line)| Socket {
        transport,
        address: line.address,
        port: line.port,
        holder: match holders.get(&line.inode) {
            Some((pid, name)) => Holder::Process(*pid, name.clone()),
            // Sockets of the kernel's own have no file, and so no inode.
            None if line.inode == 0 => Holder::Kernel,
            None => Holder::Unseen,
        },
    };
    any.then(|| found.into_iter().map(socket).collect())
}

/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 12345 …`
fn parse(line: &str, state: &str) -> Option<Line> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    (words.nth(1)? == state).then_some(())?;
    let inode = words.nth(5)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    Some(Line { address: parse_address(address)?, port: u16::from_str_radix(port, 16).ok()?, inode })
}

/// Words of 32 bits, each of which is in network order in memory and printed as a number.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes: Vec<u8> = (0..4).map(word).collect::<Option<Vec<_>>>()?.concat();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            Some(address.to_canonical())
        }
        _ => None,
    }
}

/// The processes that hold sockets, by inode: number and name.
fn holders(root: &Root) -> HashMap<u64, (u32, String)> {
    let mut holders = HashMap::new();
    for process in root.names("/proc") {
        let Ok(pid) = process.parse::<u32>() else { continue };
        let sockets: Vec<u64> = root
            .names(format!("/proc/{pid}/fd"))
            .into_iter()
            .filter_map(|fd| {
                let target = std::fs::read_link(root.path(format!("/proc/{pid}/fd/{fd}"))).ok()?;
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            })
            .collect();
        if sockets.is_empty() {
            continue;
        }
        let name = root.line(format!("/proc/{pid}/comm")).unwrap_or_default();
        for inode in sockets {
            holders.entry(inode).or_insert_with(|| (pid, name.clone()));
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::super::tests::Tree;
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let line = Line { address: "127.0.0.1".parse().unwrap(), port: 8080, inode: 4711 };
        assert_eq!(parse(tcp, "0A"), Some(line));
        // A connection is none.
        assert_eq!(parse(&tcp.replace(" 0A ", " 01 "), "0A"), None);
        let udp6 = "  42: 00000000000000000000000000000000:12B9 00000000000000000000000000000000:0000 07 00000000:00000000 \
                    00:00000000 00000000     0        0 0 2 0 0";
        let line = Line { address: "::".parse().unwrap(), port: 4793, inode: 0 };
        assert_eq!(parse(udp6, "07"), Some(line));
        for garbage in ["", "x", "0: ZZ:1 0:0 0A", &tcp[..40]] {
            assert_eq!(parse(garbage, "0A"), None, "{garbage}");
        }
    }

    #[test]
    fn a_socket_of_ones_own_is_found_and_is_ones_own() {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap());
        let found = sockets(&Root::new("/")).unwrap();
        let holder = |transport, port| {
            let is_it = |socket: &&Socket| socket.transport == transport && socket.port == port;
            found.iter().find(is_it).map(|socket| socket.holder.clone())
        };
        for (transport, port) in [
            (Transport::Tcp, tcp.local_addr().unwrap().port()),
            (Transport::Udp, udp.local_addr().unwrap().port()),
        ] {
            let holder = holder(transport, port);
            assert!(
                matches!(holder, Some(Holder::Process(pid, _)) if pid == std::process::id()),
                "{holder:?}"
            );
        }
    }

    #[test]
    fn who_holds_a_socket_is_said_by_name() {
        let listens = "header\n0: 00000000:1A2B 00000000:0000 0A 0:0 00:0 0 0 0 99 1\n";
        let tree = Tree::new(&[("proc/net/tcp", listens), ("proc/812/comm", "nginx\n")]);
        std::fs::create_dir_all(tree.path("proc/812/fd")).unwrap();
        std::os::unix::fs::symlink("socket:[99]", tree.path("proc/812/fd/3")).unwrap();
        let found = sockets(&tree.root()).unwrap();
        assert_eq!(found[0].holder, Holder::Process(812, "nginx".to_owned()));
        assert_eq!(sockets(&Tree::new(&[]).root()), None);
    }
}
