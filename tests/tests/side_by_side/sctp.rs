//! Published ports of SCTP, by packets that `socat` sends as they are: the kernel that tests run on need not speak SCTP, only
//! follow its connections.

use cnikit_tests::{Implementation, isolated, ours};
use serde_json::json;

use crate::published::{Circumstances, Scene, scene};

/// Of the peer that begins, and of its association.
const PORT: u16 = 40_000;
const TAG: u32 = 0x0102_0304;

/// A packet with one chunk: `INIT` (1), or the answer to it (2) (RFC 9260, section 3.3).
fn packet(from: u16, to: u16, verification: u32, chunk: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(verification.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk, 0, 0, 20]);
    for number in [TAG, 65_536, 0x000a_000a, 1] {
        packet.extend(u32::to_be_bytes(number));
    }
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

/// What arrives somewhere of a packet that is sent again and again: from whom it seems to be, and from and to which port; with
/// a sum that is right. `None` if nothing does.
fn exchange(
    scene: &Scene,
    from: &str,
    to: &str,
    arrives_at: &str,
    packet: &[u8],
) -> Option<(String, u16, u16)> {
    let family = if to.contains(':') { "IP6" } else { "IP4" };
    let target = if to.contains(':') { format!("[{to}]") } else { to.to_owned() };
    let bytes: String = packet.iter().map(|byte| format!("\\{byte:03o}")).collect();
    scene.shell(
        arrives_at,
        &format!(
            "rm -f /run/peer /run/came; timeout 20 socat -u {family}-RECVFROM:132 SYSTEM:'echo $SOCAT_PEERADDR > /run/peer; cat > /run/came' \
             > /run/listens 2>&1 & echo $! > /run/listener"
        ),
    );
    // A bridge of the reference's looks for duplicates of its own address for two seconds, and asks for nobody meanwhile.
    scene.shell(
        from,
        &format!(
            "for try in $(seq 50); do
                 printf '{bytes}' | socat -u STDIN {family}-SENDTO:{target}:132 2> /run/sends || true
                 sleep 0.1; [ ! -s /run/came ] || break
             done
             kill $(cat /run/listener) 2> /run/sends || true"
        ),
    );
    let came = scene.shell(arrives_at, "[ ! -s /run/came ] || od -An -v -tx1 /run/came | tr -d ' \\n'");
    let came: Vec<u8> =
        (0..came.len() / 2).map(|at| u8::from_str_radix(&came[2 * at..2 * at + 2], 16).unwrap()).collect();
    // IPv4's header comes along.
    let came = if came.first() == Some(&0x45) { &came[20..] } else { &came[..] };
    let [from_high, from_low, to_high, to_low, ..] = *came else { return None };
    let mut unsummed = came.to_vec();
    unsummed[8..12].fill(0);
    assert_eq!(crc32c(&unsummed).to_le_bytes(), came[8..12], "the sum of {came:x?}");
    let peer = scene.shell(arrives_at, "tr -d '[]\\n' < /run/peer");
    Some((peer, u16::from_be_bytes([from_high, from_low]), u16::from_be_bytes([to_high, to_low])))
}

/// How an association begins: what the pod sees of it, and what its answer is to who asked.
fn begun(scene: &Scene, from: &str, to: &str) -> String {
    let Some(seen) = exchange(scene, from, to, "pod", &packet(PORT, 8080, 0, 1)) else {
        return "nothing arrives".to_owned();
    };
    let answer = packet(seen.2, seen.1, TAG, 2);
    let heard = exchange(scene, "pod", &seen.0, from, &answer);
    format!("{seen:?}, and hears {heard:?}")
}

#[test]
fn an_association_through_a_published_port_is_begun_as_with_the_reference() {
    isolated(|| {
        let Some(reference) = Implementation::reference() else { return };
        let published = |keys: serde_json::Value| {
            let mut portmap = keys;
            portmap["runtimeConfig"] =
                json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "sctp"}]});
            portmap
        };
        for portmap in [published(json!({})), published(json!({"snat": false}))] {
            for (from, to) in [
                ("outside", "192.0.2.1"),
                ("outside", "192.0.2.11"),
                ("outside", "2001:db8::1"),
                ("the node", "192.0.2.11"),
                ("friend", "192.0.2.1"),
            ] {
                // Each on a node of its own: what conntrack remembers of one is nothing to the next.
                let [theirs, ours] = [reference.clone(), ours!()].map(|plugins| {
                    let scene = scene(&plugins, &portmap, &Circumstances::default());
                    begun(&scene, from, to)
                });
                assert_eq!(theirs, ours, "{from} to {to}, {portmap}: reference, ours");
                if from == "outside" {
                    assert!(ours.contains(" 80)") && ours.contains("8080, 40000"), "{from} to {to}: {ours}");
                }
            }
        }
    });
}
