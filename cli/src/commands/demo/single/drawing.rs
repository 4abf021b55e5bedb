//! The topology, as a picture.

use super::super::canvas::{Canvas, Room};
use super::report::{Attached, OUTSIDE, Setting};
use crate::output::{Charset, Style, Tone};

/// Columns between two rooms.
const GAP: usize = 2;
/// A wall and a space on either side.
const WALLS: usize = 4;

/// Draws the outside, the node and as many pods as fit into `width` columns, at least one.
pub(super) fn draw(
    world: &Setting,
    pods: &[Attached],
    width: usize,
    charset: Charset,
    style: Style,
) -> String {
    let texts = Texts::of(world, pods);
    // Odd, so that it has a middle.
    let room = (texts.widest() + WALLS) | 1;
    let shown = ((width + GAP) / (room + GAP)).clamp(1, pods.len().max(1));
    // The node has the bridge's room inside of it.
    let total = (shown * (room + GAP) - GAP).max(room + 2 * WALLS);
    let centre = total / 2;
    let mut canvas = Canvas::new(charset);

    let outside = Room { x: centre - room / 2, y: 0, width: room, height: texts.outside.len() + 2 };
    canvas.room(outside, OUTSIDE);
    lines(&mut canvas, centre, 1, &texts.outside);
    canvas.door(centre, outside.bottom(), "eth0");
    canvas.cable(centre, outside.bottom() + 1..=outside.bottom() + 1);

    let top = outside.bottom() + 2;
    let bridge_top = top + texts.uplink.len() + 2;
    let bridge =
        Room { x: 2, y: bridge_top, width: total.saturating_sub(WALLS), height: texts.gateways.len() + 2 };
    let node = Room { x: 0, y: top, width: total, height: bridge.bottom() - top + 3 };
    canvas.room(node, "node");
    canvas.door(centre, top, &world.uplink);
    lines(&mut canvas, centre, top + 1, &texts.uplink);
    canvas.cable(centre, bridge_top - 1..=bridge_top - 1);
    canvas.text(centre + 2, bridge_top - 1, "masqueraded", Tone::Faint);
    canvas.room(bridge, &texts.bridge);
    canvas.text(centre, bridge_top, "┴", Tone::Plain);
    lines(&mut canvas, centre, bridge_top + 1, &texts.gateways);

    let pods_top = node.bottom() + 2;
    let first = centre - (shown * (room + GAP) - GAP) / 2;
    for (number, pod) in pods.iter().take(shown).enumerate() {
        let height = pod.addresses.len() + 2;
        let home = Room { x: first + number * (room + GAP), y: pods_top, width: room, height };
        canvas.text(home.centre(), bridge.bottom(), "┬", Tone::Plain);
        canvas.cable(home.centre(), bridge.bottom() + 1..=pods_top - 1);
        canvas.door(home.centre(), node.bottom(), &pod.host_interface);
        canvas.room(home, &pod.pod);
        canvas.door(home.centre(), pods_top, &pod.interface);
        let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
        lines(&mut canvas, home.centre(), pods_top + 1, &addresses);
    }
    let mut picture = canvas.render(style);
    if let hidden @ 1.. = pods.len().saturating_sub(shown) {
        picture.push_str(&format!("\nand {hidden} more, wired alike"));
    }
    picture
}

/// What is written into the rooms.
struct Texts {
    outside: Vec<String>,
    uplink: Vec<String>,
    gateways: Vec<String>,
    bridge: String,
    pods: Vec<usize>,
}

impl Texts {
    fn of(world: &Setting, pods: &[Attached]) -> Self {
        let text = |list: &[ipnet::IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let of_pod = |pod: &Attached| {
            let addresses = pod.addresses.iter().map(|address| address.to_string().len());
            // The doors, with their frames, and the pod's name beside its door.
            let doors = [pod.host_interface.len() + 2, pod.interface.len() + 2 * pod.pod.len() + WALLS];
            addresses.chain(doors).max().unwrap_or(0)
        };
        Self {
            outside: text(&world.outside_addresses),
            uplink: text(&world.uplink_addresses),
            gateways: pods
                .first()
                .map(|pod| pod.gateways.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            bridge: pods.first().map(|pod| pod.bridge.clone()).unwrap_or_default(),
            pods: pods.iter().map(of_pod).collect(),
        }
    }

    /// Columns that every text fits into.
    fn widest(&self) -> usize {
        let texts = [&self.outside, &self.uplink, &self.gateways].into_iter().flatten().map(String::len);
        texts.chain(self.pods.iter().copied()).max().unwrap_or(0)
    }
}

fn lines(canvas: &mut Canvas, centre: usize, top: usize, texts: &[String]) {
    for (number, text) in texts.iter().enumerate() {
        canvas.centred(centre, top + number, text, Tone::Plain);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::samples::{pod, world};
    use super::*;

    fn picture(pods: u8, width: usize, charset: Charset) -> String {
        let pods: Vec<_> = (1..=pods).map(pod).collect();
        draw(&world(), &pods, width, charset, Style::Plain)
    }

    #[test]
    fn three_pods_fit_a_terminal_of_80_columns() {
        let expected = [
            "                           ┌─ outside ─────────────┐",
            "                           │     192.0.2.1/24      │",
            "                           │    2001:db8::1/64     │",
            "                           └────────┤eth0├─────────┘",
            "                                       │",
            "┌─ node ───────────────────────────┤uplink├───────────────────────────────────┐",
            "│                                192.0.2.2/24                                 │",
            "│                               2001:db8::2/64                                │",
            "│                                      │ masqueraded                          │",
            "│ ┌─ cnikit0 ──────────────────────────┴────────────────────────────────────┐ │",
            "│ │                               10.203.0.1                                │ │",
            "│ │                            fd63:6e69:6b69::1                            │ │",
            "│ └─────────┬──────────────────────────┬──────────────────────────┬─────────┘ │",
            "│           │                          │                          │           │",
            "└───┤vethabcdefghij1├──────────┤vethabcdefghij2├──────────┤vethabcdefghij3├───┘",
            "            │                          │                          │",
            "┌─ pod-1 ┤eth0├─────────┐  ┌─ pod-2 ┤eth0├─────────┐  ┌─ pod-3 ┤eth0├─────────┐",
            "│     10.203.0.2/16     │  │     10.203.0.3/16     │  │     10.203.0.4/16     │",
            "│ fd63:6e69:6b69::2/64  │  │ fd63:6e69:6b69::3/64  │  │ fd63:6e69:6b69::4/64  │",
            "└───────────────────────┘  └───────────────────────┘  └───────────────────────┘",
        ];
        let picture = picture(3, 80, Charset::Boxes);
        assert_eq!(picture.lines().collect::<Vec<_>>(), expected, "\n{picture}\n");
    }

    #[test]
    fn ascii_will_do() {
        let expected = [
            "    +- outside -------------+",
            "    |     192.0.2.1/24      |",
            "    |    2001:db8::1/64     |",
            "    +--------[eth0]---------+",
            "                |",
            "+- node ----[uplink]------------+",
            "|         192.0.2.2/24          |",
            "|        2001:db8::2/64         |",
            "|               | masqueraded   |",
            "| +- cnikit0 ---+-------------+ |",
            "| |        10.203.0.1         | |",
            "| |     fd63:6e69:6b69::1     | |",
            "| +-------------+-------------+ |",
            "|               |               |",
            "+-------[vethabcdefghij1]-------+",
            "                |",
            "    +- pod-1 [eth0]---------+",
            "    |     10.203.0.2/16     |",
            "    | fd63:6e69:6b69::2/64  |",
            "    +-----------------------+",
        ];
        let picture = picture(1, 80, Charset::Ascii);
        assert_eq!(picture.lines().collect::<Vec<_>>(), expected, "\n{picture}\n");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let picture = picture(7, 60, Charset::Boxes);
        assert!(picture.contains("pod-2") && !picture.contains("pod-3"), "{picture}");
        assert!(picture.ends_with("and 5 more, wired alike"), "{picture}");
    }

    #[test]
    fn no_width_is_too_small_and_no_line_wider_than_it_has_to_be() {
        for pods in [1, 2, 3, 50] {
            for width in 0..200 {
                let picture = picture(pods, width, Charset::Boxes);
                let widest = picture.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(widest <= width.max(33), "{pods} pods, {width} columns:\n{picture}");
            }
        }
    }
}
