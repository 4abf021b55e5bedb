//! What packets look like between nodes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use cnikit_tests::isolated;
use cnikit_tests::lab::Packet;

use crate::common::{Families, config, lab, talking};

/// The tunnels' UDP port, and how much comes before an inner frame's packet: VXLAN's header (RFC 7348).
const PORT: u16 = 4789;
const HEADER: usize = 8;

#[test]
fn checksums_are_right_in_tunnels_whoever_translates_addresses() {
    isolated(|| {
        let lab = lab();
        let (machines, pods, _voices) = talking(&lab, 2, &config("vxlan", Families::V4));
        // No card computes checksums here: what the kernel leaves to one, it does itself, and the other end looks.
        for machine in &machines {
            let off = "tx off tso off gso off gro off tx-udp-segmentation off";
            machine.node.shell(&format!("ethtool -K eth0 {off} >/dev/null"));
        }
        let pod =
            machines[1].node.pod_shell(&pods[1], "ip -4 -o addr show eth0 | grep -o '10[0-9.]*' | head -1");
        // As kube-proxy does: a service's address, and a mark by which its packets are masqueraded. The mark stays on the
        // tunnel's packet, which so meets the same rule.
        machines[0].node.shell(&format!(
            "nft -f - <<'END'
             table ip services {{
               chain in {{ type nat hook prerouting priority dstnat;
                 ip daddr 10.96.0.10 tcp dport 80 meta mark set 0x4000 dnat to {pod}:7001 ; }}
               chain own {{ type nat hook output priority -100;
                 ip daddr 10.96.0.10 tcp dport 80 meta mark set 0x4000 dnat to {pod}:7001 ; }}
               chain out {{ type nat hook postrouting priority srcnat - 1;
                 meta mark & 0x4000 == 0x4000 masquerade fully-random ; }}
             }}
END",
            pod = pod.trim()
        ));
        machines[0].node.shell("ip route add default via 192.168.1.1");
        let tap = lab.tap();
        let listener = machines[1].node.inside_pod(&pods[1], || TcpListener::bind("0.0.0.0:7001").unwrap());
        let echo = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut heard = [0; 4000];
                stream.read_exact(&mut heard).unwrap();
                stream.write_all(&heard).unwrap();
            }
        });
        let ask = || {
            let service = (Ipv4Addr::new(10, 96, 0, 10), 80);
            let mut stream = TcpStream::connect_timeout(&service.into(), Duration::from_secs(30)).unwrap();
            stream.write_all(&[7; 4000]).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, [7; 4000]);
        };
        machines[0].node.inside_pod(&pods[0], ask);
        machines[0].node.inside(ask);
        echo.join().unwrap();

        let outer = tap.packets();
        let tunnelled = outer.iter().filter_map(|packet| {
            let (_, to, what) = packet.datagram()?;
            let inner = Packet::of_frame(what.get(HEADER..)?)?;
            (to.port() == PORT).then_some((packet, inner))
        });
        let mut conversation = 0;
        for (outer, inner) in tunnelled {
            assert_eq!(outer.datagram_checksum(), 0, "none over IPv4: there is nothing to get wrong");
            assert!(
                [[11, 12], [12, 11]].contains(&[outer.source(), outer.destination()].map(|a| a.octets()[3]))
            );
            assert!(inner.is_intact(), "{inner:?}");
            let is_asked = inner.datagram().is_none() && inner.destination().to_string() == pod.trim();
            conversation += usize::from(is_asked);
        }
        assert!(conversation > 10, "{conversation} packets to the service's pod");
        // Nobody has dropped one for its checksum, whereupon it would have been sent again after a second.
        let counted = |node: &dyn Fn(&str) -> String| {
            node("nstat -asz TcpInCsumErrors UdpInCsumErrors | awk '/Csum/ {print $2}'")
        };
        for (machine, pod) in machines.iter().zip(&pods) {
            assert_eq!(counted(&|script| machine.node.shell(script)), "0\n0\n", "n{}", machine.number);
            assert_eq!(counted(&|script| machine.node.pod_shell(pod, script)), "0\n0\n", "{}", pod.name());
        }
    });
}
