//! A node: its name and addresses, its bridge, its pods.

use overlay::{Liveness, Role};

use super::super::scene::SceneNode;
use super::layout::Card;
use super::text::{cut, escape};

/// A node that only counts its pods.
pub(super) const COMPACT: (f64, f64) = (150.0, 62.0);

/// So many pods have a line each.
const FEW: usize = 6;
const PAD: f64 = 12.0;
const HEAD: f64 = 52.0;
const BRIDGE: f64 = 26.0;
const POD: f64 = 22.0;
const POD_GAP: f64 = 5.0;
/// How far pods stand in from the bridge's left edge, for their cables.
const INDENT: f64 = 22.0;
/// What characters take: bold, usual, of equal width.
const MONO: f64 = 7.3;
const SANS: f64 = 7.8;
/// Longest names.
const NAME: usize = 26;

/// Width and height of a node with its pods.
pub(super) fn full_size(node: &SceneNode, bridge: &str) -> (f64, f64) {
    let chars = |text: &str, most: usize| text.chars().count().min(most) as f64;
    let bridge_width = if node.role == Role::Router {
        0.0
    } else {
        chars(bridge, NAME) * SANS + subnets(node).chars().count() as f64 * MONO + 3.0 * PAD
    };
    let pods = node
        .pods
        .iter()
        .take(FEW)
        .map(|(name, address)| INDENT + chars(name, NAME) * SANS + chars(address, 40) * MONO + 3.0 * PAD);
    let head = chars(&node.name, NAME) * 8.0 + 2.0 * PAD + 16.0;
    let addresses = chars(&addresses(node), 60) * MONO + PAD;
    let width = pods.chain([bridge_width, head, addresses, 170.0]).fold(0.0, f64::max) + 2.0 * PAD;
    let rows = node.pods.len().min(FEW) + usize::from(node.pods.len() > FEW);
    let below = match node.role {
        Role::Router => 0.0,
        Role::Worker => BRIDGE + rows as f64 * (POD + POD_GAP) + if rows > 0 { POD_GAP } else { 0.0 } + PAD,
    };
    (width, HEAD + below)
}

/// Draws it.
pub(super) fn draw(svg: &mut String, node: &SceneNode, bridge: &str, card: Card) {
    let (left, top) = (card.left(), card.top());
    rect(svg, class(node), left, top, card.width, card.height, 10.0);
    svg.push_str(&format!(
        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"{}\"/>\n",
        left + PAD + 4.0,
        top + 18.0,
        colour(node.liveness)
    ));
    let role = if node.role == Role::Router && node.name != "router" { " (router)" } else { "" };
    let most = if card.is_full { NAME } else { 14 };
    text(svg, "name", left + PAD + 14.0, top + 23.0, &format!("{}{role}", cut(&node.name, most)));
    if card.is_full {
        text(svg, "mono faint", left + PAD, top + 42.0, &addresses(node));
        if node.role == Role::Worker {
            inside(svg, node, bridge, card);
        }
    } else {
        text(
            svg,
            "mono faint",
            left + PAD,
            top + 39.0,
            &cut(node.subnets.first().map_or("-", String::as_str), 18),
        );
        text(svg, "faint", left + PAD, top + 54.0, &format!("{} pods", node.pods.len()));
    }
}

/// The bridge, and the pods that are plugged into it.
fn inside(svg: &mut String, node: &SceneNode, bridge: &str, card: Card) {
    let (left, width) = (card.left() + PAD, card.width - 2.0 * PAD);
    let top = card.top() + HEAD;
    rect(svg, "bridge", left, top, width, BRIDGE, 6.0);
    text(svg, "", left + PAD, top + 17.0, &cut(bridge, NAME));
    text_at_end(svg, "mono", left + width - PAD, top + 17.0, &subnets(node));
    let mut y = top + BRIDGE + 2.0 * POD_GAP;
    let cable = left + INDENT / 2.0;
    let mut last = top + BRIDGE;
    for (name, address) in node.pods.iter().take(FEW) {
        let middle = y + POD / 2.0;
        svg.push_str(&format!(
            "<path class=\"wire\" d=\"M{cable:.1} {last:.1}V{middle:.1}H{:.1}\"/>\n",
            left + INDENT
        ));
        last = middle;
        rect(svg, "pod", left + INDENT, y, width - INDENT, POD, 5.0);
        text(svg, "", left + INDENT + PAD, y + 15.0, &cut(name, NAME));
        text_at_end(svg, "mono faint", left + width - PAD, y + 15.0, &cut(address, 40));
        y += POD + POD_GAP;
    }
    if let hidden @ 1.. = node.pods.len().saturating_sub(FEW) {
        text(svg, "faint", left + INDENT + PAD, y + 15.0, &format!("and {hidden} more pods"));
    }
}

fn rect(svg: &mut String, class: &str, x: f64, y: f64, width: f64, height: f64, round: f64) {
    svg.push_str(&format!(
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round}\"/>\n"
    ));
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    svg.push_str(&format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(text)));
}

fn text_at_end(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    svg.push_str(&format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>\n",
        escape(text)
    ));
}

fn addresses(node: &SceneNode) -> String {
    let few: Vec<_> = node.addresses.iter().take(2).map(String::as_str).collect();
    few.join("  ")
}

fn subnets(node: &SceneNode) -> String {
    let few: Vec<_> = node.subnets.iter().take(2).map(String::as_str).collect();
    if few.is_empty() { "no subnet".to_owned() } else { few.join("  ") }
}

const fn class(node: &SceneNode) -> &'static str {
    match node.liveness {
        Liveness::Down => "card down",
        Liveness::Suspect => "card suspect",
        Liveness::Alive | Liveness::Unknown if node.is_here => "card here",
        Liveness::Alive | Liveness::Unknown => "card",
    }
}

const fn colour(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "#2e7d4f",
        Liveness::Suspect => "#d69e2e",
        Liveness::Down => "#b3261e",
        Liveness::Unknown => "#9aa5b5",
    }
}
