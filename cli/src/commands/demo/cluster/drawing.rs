//! Pictures: the nodes on their segment with what is in them, and a packet as it was on the wire.

use super::super::canvas::{Canvas, Room};
use super::frame::Layer;
use super::report::{Attached, Capture, Joined};
use crate::output::{Charset, Style, Tone};

/// Columns between two rooms.
const GAP: usize = 2;
/// A wall and a space on either side.
const WALLS: usize = 4;
/// So many pods of a node are drawn.
const FEW: usize = 6;
/// From the segment to a node.
const CABLE: usize = 2;
/// Nodes are drawn in so many rows.
const ROWS: usize = 2;

/// Draws nodes in rows of as many as fit into `width` columns, at least one.
pub(super) fn network(
    nodes: &[Joined],
    pods: &[Attached],
    width: usize,
    charset: Charset,
    style: Style,
) -> String {
    let contents: Vec<Content> = nodes.iter().map(|node| Content::of(node, pods)).collect();
    let widest = contents.iter().map(Content::width).max().unwrap_or(0);
    // Odd, so that it has a middle.
    let room = (widest + WALLS) | 1;
    let in_row = ((width + GAP) / (room + GAP)).clamp(1, nodes.len().max(1));
    let mut canvas = Canvas::new(charset);
    canvas.text(0, 0, "segment 192.168.1.0/24", Tone::Heading);
    let mut top = 1;
    for row in contents.chunks(in_row).take(ROWS) {
        top = draw_row(&mut canvas, row, top, room);
    }
    let mut picture = canvas.render(style);
    if let hidden @ 1.. = nodes.len().saturating_sub(in_row * ROWS) {
        picture.push_str(&format!("\nand {hidden} more, wired alike"));
    }
    picture
}

/// The segment, and nodes that hang on it. Returns the row below.
fn draw_row(canvas: &mut Canvas, nodes: &[Content], top: usize, room: usize) -> usize {
    let height = nodes.iter().map(Content::height).max().unwrap_or(0) + 2;
    canvas.text(0, top, &"─".repeat(nodes.len() * (room + GAP) - GAP), Tone::Plain);
    for (number, content) in nodes.iter().enumerate() {
        let home = Room { x: number * (room + GAP), y: top + CABLE, width: room, height };
        canvas.text(home.centre(), top, "┬", Tone::Plain);
        canvas.cable(home.centre(), top + 1..=home.y.saturating_sub(1));
        canvas.room(home, &content.name);
        canvas.door(home.centre(), home.y, "eth0");
        content.draw(canvas, home);
    }
    top + CABLE + height
}

/// What is written into a node's room.
struct Content {
    name: String,
    address: String,
    /// The bridge's name, and what it says.
    bridge: Option<(String, Vec<String>)>,
    pods: Vec<String>,
}

impl Content {
    fn of(node: &Joined, pods: &[Attached]) -> Self {
        let own: Vec<&Attached> = pods.iter().filter(|pod| pod.node == node.node).collect();
        let line = |pod: &&Attached| {
            format!("{} {}", pod.pod, pod.address().map(|address| address.to_string()).unwrap_or_default())
        };
        let mut lines: Vec<String> = own.iter().take(FEW).map(line).collect();
        if let hidden @ 1.. = own.len().saturating_sub(FEW) {
            lines.push(format!("and {hidden} more"));
        }
        let subnets = node.subnets.iter().map(ToString::to_string).collect();
        Self {
            name: node.node.clone(),
            address: node.address.to_string(),
            bridge: (!node.is_router).then(|| (node.bridge.clone(), subnets)),
            pods: lines,
        }
    }

    fn width(&self) -> usize {
        let bridge = self.bridge.iter().flat_map(|(name, subnets)| {
            subnets.iter().map(String::len).chain([name.len() + 2]).map(|width| width + WALLS)
        });
        let lines = self.pods.iter().map(String::len).chain([self.address.len()]);
        // The door stands beside the name.
        bridge.chain(lines).chain([2 * self.name.len() + 8]).max().unwrap_or(0)
    }

    fn height(&self) -> usize {
        1 + self.bridge.as_ref().map_or(0, |(_, subnets)| subnets.len() + 2) + self.pods.len()
    }

    fn draw(&self, canvas: &mut Canvas, home: Room) {
        canvas.centred(home.centre(), home.y + 1, &self.address, Tone::Plain);
        let mut y = home.y + 2;
        if let Some((name, subnets)) = &self.bridge {
            let room =
                Room { x: home.x + 2, y, width: home.width.saturating_sub(WALLS), height: subnets.len() + 2 };
            canvas.room(room, name);
            for (row, subnet) in subnets.iter().enumerate() {
                canvas.centred(room.centre(), y + 1 + row, subnet, Tone::Plain);
            }
            y += room.height;
            if !self.pods.is_empty() {
                canvas.text(home.centre(), room.bottom(), "┬", Tone::Plain);
            }
        }
        for pod in &self.pods {
            canvas.centred(home.centre(), y, pod, Tone::Good);
            y += 1;
        }
    }
}

/// Draws a packet: what is between nodes, and in it what is between pods, or as if it were.
pub(super) fn packet(capture: &Capture, within: &str, charset: Charset, style: Style) -> String {
    let inner =
        capture.layers.iter().position(|layer| matches!(layer, Layer::Vxlan { .. })).map_or(1, |at| at + 1);
    let (outer, inner) = capture.layers.split_at_checked(inner).unwrap_or((&capture.layers, &[]));
    let lines = |layers: &[Layer]| layers.iter().map(|layer| line(layer, charset)).collect::<Vec<_>>();
    let (outer, inner) = (lines(outer), lines(inner));
    let widest = outer
        .iter()
        .map(|line| line.width().saturating_sub(WALLS))
        .chain(inner.iter().map(Line::width))
        .max();
    let width = widest.unwrap_or(0) + WALLS;
    let mut canvas = Canvas::new(charset);
    let room = Room { x: 0, y: 0, width: width + WALLS, height: outer.len() + inner.len() + 4 };
    canvas.room(room, "from node to node");
    for (row, line) in outer.iter().enumerate() {
        line.draw(&mut canvas, 2, 1 + row, width);
    }
    let room = Room { x: 2, y: 1 + outer.len(), width, height: inner.len() + 2 };
    canvas.room(room, within);
    for (row, line) in inner.iter().enumerate() {
        line.draw(&mut canvas, 4, room.y + 1 + row, width.saturating_sub(WALLS));
    }
    canvas.render(style)
}

/// A header, what it says, and how long it is.
struct Line {
    name: &'static str,
    text: String,
    bytes: String,
}

impl Line {
    /// Columns that it takes at least.
    fn width(&self) -> usize {
        10 + self.text.chars().count() + 2 + self.bytes.len()
    }

    fn draw(&self, canvas: &mut Canvas, x: usize, y: usize, width: usize) {
        canvas.text(x, y, self.name, Tone::Heading);
        canvas.text(x + 10, y, &self.text, Tone::Plain);
        canvas.text((x + width).saturating_sub(self.bytes.len()), y, &self.bytes, Tone::Faint);
    }
}

fn line(layer: &Layer, charset: Charset) -> Line {
    let to = if charset == Charset::Boxes { "→" } else { "->" };
    let (name, text) = match layer {
        Layer::Ethernet { from, to: whom } => ("Ethernet", format!("{from} {to} {whom}")),
        Layer::Ip { from, to: whom, .. } => ("IP", format!("{from} {to} {whom}")),
        Layer::Udp { from, to: whom } => ("UDP", format!("port {from} {to} {whom}")),
        Layer::Vxlan { network } => ("VXLAN", format!("network {network}")),
        Layer::EchoRequest { .. } => ("ICMP", "echo request".to_owned()),
    };
    Line { name, text, bytes: format!("{} bytes", layer.bytes()) }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn three_nodes_fit_a_terminal_of_80_columns() {
        let picture = network(&samples::joined(), &samples::attached(), 80, Charset::Boxes, Style::Plain);
        let expected = [
            "segment 192.168.1.0/24",
            "────────────┬──────────────────────────┬──────────────────────────┬────────────",
            "            │                          │                          │",
            "┌─ n1 ───┤eth0├─────────┐  ┌─ n2 ───┤eth0├─────────┐  ┌─ n3 ───┤eth0├─────────┐",
            "│     192.168.1.11      │  │     192.168.1.12      │  │     192.168.1.13      │",
            "│ ┌─ cnikit-pods ─────┐ │  │ ┌─ cnikit-pods ─────┐ │  │ ┌─ cnikit-pods ─────┐ │",
            "│ │  10.244.117.0/24  │ │  │ │  10.244.118.0/24  │ │  │ │  10.244.119.0/24  │ │",
            "│ └─────────┬─────────┘ │  │ └─────────┬─────────┘ │  │ └─────────┬─────────┘ │",
            "│ pod-1a 10.244.117.102 │  │ pod-2a 10.244.118.102 │  │ pod-3a 10.244.119.102 │",
            "│ pod-1b 10.244.117.103 │  │ pod-2b 10.244.118.103 │  │ pod-3b 10.244.119.103 │",
            "└───────────────────────┘  └───────────────────────┘  └───────────────────────┘",
        ];
        assert_eq!(picture.lines().collect::<Vec<_>>(), expected, "\n{picture}\n");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let picture = network(&samples::joined(), &samples::attached(), 30, Charset::Ascii, Style::Plain);
        assert!(picture.contains("+- n1 ---[eth0]-") && picture.contains("+- n2 ---[eth0]-"), "{picture}");
        assert!(picture.is_ascii() && picture.ends_with("and 1 more, wired alike"), "{picture}");
    }

    #[test]
    fn what_is_wrapped_is_inside_of_what_wraps_it() {
        let picture = packet(&samples::capture(), "from pod to pod", Charset::Boxes, Style::Plain);
        let expected = [
            "┌─ from node to node ───────────────────────────────────────────┐",
            "│ Ethernet  02:00:00:00:00:01 → 02:00:00:00:00:02      14 bytes │",
            "│ IP        192.168.1.11 → 192.168.1.12                20 bytes │",
            "│ UDP       port 40000 → 4789                           8 bytes │",
            "│ VXLAN     network 4096                                8 bytes │",
            "│ ┌─ from pod to pod ─────────────────────────────────────────┐ │",
            "│ │ Ethernet  02:00:00:00:00:03 → 02:00:00:00:00:04  14 bytes │ │",
            "│ │ IP        10.244.117.102 → 10.244.118.102        20 bytes │ │",
            "│ │ ICMP      echo request                            8 bytes │ │",
            "│ └───────────────────────────────────────────────────────────┘ │",
            "└───────────────────────────────────────────────────────────────┘",
        ];
        assert_eq!(picture.lines().collect::<Vec<_>>(), expected, "\n{picture}\n");
    }
}
