//! The picture as SVG: lines first, cards of nodes on top of them, a legend below.

mod card;
mod layout;
mod text;

use self::layout::{Card, Layout};
use self::text::escape;
use super::scene::{Kind, Link, Scene};

/// Around everything.
const MARGIN: f64 = 32.0;
/// What the title takes above, and the legend below.
const TITLE: f64 = 56.0;
const LEGEND: f64 = 48.0;
/// More lines than these have no words on them.
const FEW_LINKS: usize = 15;

const STYLE: &str = "\
text{font-family:ui-sans-serif,system-ui,'Segoe UI',Roboto,sans-serif;font-size:13px;fill:#1f2937}\
.mono{font-family:ui-monospace,'SF Mono',Menlo,Consolas,monospace;font-size:12px}\
.title{font-size:20px;font-weight:600}.name{font-weight:600;font-size:14px}.faint{fill:#6b7280}\
.card{fill:#fff;stroke:#c4ccd8;stroke-width:1.2}.here{stroke:#2463a8;stroke-width:2}\
.down{stroke:#b3261e;stroke-width:1.6}.suspect{stroke:#b7791f;stroke-width:1.6}\
.bridge{fill:#e8f0fb;stroke:#9db7d8}.pod{fill:#f6f7f9;stroke:#d5dae2}.wire{stroke:#9aa5b5;fill:none}\
.link{fill:none;stroke-width:2.2;stroke-linecap:round}\
.tunnel{stroke:#2463a8;stroke-dasharray:9 7}.route{stroke:#2e7d4f}.router{stroke:#8a5a00;stroke-width:3}\
.none{stroke:#b3261e;stroke-dasharray:2 7}.word{font-size:11px;font-weight:600}\
.pill{fill:#fff;stroke:#dde2ea}";

/// Draws a scene.
pub(super) fn draw(scene: &Scene) -> String {
    let layout = Layout::of(scene);
    let (left, top, width, height) = frame(&layout);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{left:.0} {top:.0} {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n\
         <defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#6b7280\"/></marker></defs>\n\
         <rect x=\"{left:.0}\" y=\"{top:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#fbfcfe\"/>\n",
        escape(&format!("network {}", scene.network))
    );
    title(&mut svg, scene, left + MARGIN, top + MARGIN + 14.0);
    let shown = |link: &&Link| layout.card(link.from).is_some() && layout.card(link.to).is_some();
    let links: Vec<&Link> = scene.links.iter().filter(shown).collect();
    for link in &links {
        line(&mut svg, link, &layout);
    }
    for (place, card) in layout.cards() {
        if let Some(node) = scene.nodes.get(place) {
            card::draw(&mut svg, node, &scene.bridge, card);
        }
    }
    if links.len() <= FEW_LINKS {
        for link in &links {
            word(&mut svg, link, &layout);
        }
    }
    legend(&mut svg, scene, &layout, left + MARGIN, top + height - MARGIN);
    svg.push_str("</svg>\n");
    svg
}

/// Left, top, width and height of the whole.
fn frame(layout: &Layout) -> (f64, f64, f64, f64) {
    let edges = layout.cards().fold([0.0_f64; 4], |[left, top, right, bottom], (_, card)| {
        [
            left.min(card.left()),
            top.min(card.top()),
            right.max(card.left() + card.width),
            bottom.max(card.top() + card.height),
        ]
    });
    let [left, top, right, bottom] = edges;
    // The legend's words need some room.
    let width = (right - left).max(520.0);
    let left = (left + right - width) / 2.0;
    (left - MARGIN, top - MARGIN - TITLE, width + 2.0 * MARGIN, bottom - top + 2.0 * MARGIN + TITLE + LEGEND)
}

fn title(svg: &mut String, scene: &Scene, x: f64, y: f64) {
    let pods: usize = scene.nodes.iter().map(|node| node.pods.len()).sum();
    let conflicts = match scene.conflicts {
        0 => String::new(),
        number => format!(", {number} conflicts"),
    };
    svg.push_str(&format!(
        "<text class=\"title\" x=\"{x:.0}\" y=\"{y:.0}\">{}</text>\n\
         <text class=\"faint\" x=\"{x:.0}\" y=\"{:.0}\">{} nodes, {pods} pods{conflicts}</text>\n",
        escape(&format!("network {}", scene.network)),
        y + 20.0,
        scene.nodes.len()
    ));
}

/// A line between the middles of two cards, which lie on top of it. A way that is another one back is bent, so that both
/// can be seen.
fn line(svg: &mut String, link: &Link, layout: &Layout) {
    let (Some(from), Some(to)) = (layout.card(link.from), layout.card(link.to)) else { return };
    let class = class(link.kind);
    let (x, y) = bend(from, to, link);
    let marker = if link.mutual { "" } else { " marker-mid=\"url(#end)\"" };
    svg.push_str(&format!(
        "<path class=\"link {class}\"{marker} d=\"M{:.1} {:.1}L{x:.1} {y:.1}L{:.1} {:.1}\"/>\n",
        from.x, from.y, to.x, to.y
    ));
}

/// The middle of a line; beside it, if there is another in the other direction.
fn bend(from: Card, to: Card, link: &Link) -> (f64, f64) {
    let (dx, dy) = (to.x - from.x, to.y - from.y);
    let aside = if link.mutual { 0.0 } else { 22.0 / dx.hypot(dy).max(1.0) };
    ((from.x + to.x) / 2.0 - dy * aside, (from.y + to.y) / 2.0 + dx * aside)
}

/// What a line is, on its middle as far as one sees it.
fn word(svg: &mut String, link: &Link, layout: &Layout) {
    let (Some(from), Some(to)) = (layout.card(link.from), layout.card(link.to)) else { return };
    let (x, y) = layout::visible_middle(from, to, bend(from, to, link));
    let text = match link.kind {
        Kind::Tunnel => "vxlan",
        Kind::Route => "route",
        Kind::Router => "router",
        Kind::None => "no way",
    };
    let half = text.len() as f64 * 3.4 + 7.0;
    svg.push_str(&format!(
        "<rect class=\"pill\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\" rx=\"9\"/>\
         <text class=\"word\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>\n",
        x - half,
        y - 9.0,
        2.0 * half,
        y + 4.0
    ));
}

fn legend(svg: &mut String, scene: &Scene, layout: &Layout, x: f64, y: f64) {
    let kinds = [
        (Kind::Tunnel, "tunnel (vxlan)"),
        (Kind::Route, "route"),
        (Kind::Router, "to the router"),
        (Kind::None, "no way"),
    ];
    let mut x = x;
    for (kind, text) in kinds {
        if !scene.links.iter().any(|link| link.kind == kind) {
            continue;
        }
        svg.push_str(&format!(
            "<path class=\"link {}\" d=\"M{x:.0} {y:.0}h36\"/><text class=\"faint\" x=\"{:.0}\" y=\"{:.0}\">{text}</text>\n",
            class(kind),
            x + 44.0,
            y + 4.0
        ));
        x += 44.0 + text.len() as f64 * 7.0 + 24.0;
    }
    let hidden: Vec<_> = (0..scene.nodes.len()).filter(|place| layout.card(*place).is_none()).collect();
    if !hidden.is_empty() {
        let pods: usize =
            hidden.iter().filter_map(|place| scene.nodes.get(*place)).map(|node| node.pods.len()).sum();
        svg.push_str(&format!(
            "<text class=\"faint\" x=\"{x:.0}\" y=\"{:.0}\">and {} more nodes with {pods} pods</text>\n",
            y + 4.0,
            hidden.len()
        ));
    }
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Tunnel => "tunnel",
        Kind::Route => "route",
        Kind::Router => "router",
        Kind::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use overlay::report::{Map, MapNode};

    use super::*;
    use crate::commands::fixtures;

    fn map_of(nodes: u8, pods: usize) -> Map {
        let names = vec!["some-pod-with-a-long-name"; pods];
        let node = |number: u8| MapNode {
            node: fixtures::node(number, &format!("192.168.1.{number}"), &names),
            liveness: overlay::Liveness::Alive,
            incarnation: None,
            path: (number != 1).then(|| fixtures::tunnel(&format!("192.168.1.{number}"))),
        };
        Map { nodes: (1..=nodes).map(node).collect(), ..fixtures::map() }
    }

    /// Every element that is opened is closed, in order.
    fn assert_is_xml(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('&') || text.contains(';'), "{text}");
            let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{piece}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_picture_has_every_node_pod_and_line() {
        let svg = draw(&Scene::of(&[fixtures::map()]));
        assert_is_xml(&svg);
        for word in ["n1", "192.168.1.12", "10.244.3.0/24", "default/web-2", "cni-podnet", "10.244.1.3"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(svg.matches("class=\"link tunnel\"").count(), 2, "one, and one in the legend");
        assert_eq!(svg.matches("class=\"link route\"").count(), 2);
    }

    #[test]
    fn names_from_outside_are_text_and_nothing_else() {
        let mut map = fixtures::map();
        map.network = "<script>\"&'".to_owned();
        let pod = &mut map.nodes[0].node.pods[0];
        *pod = pod.clone().named(Some("default"), Some("</text><a>\u{1}"));
        let svg = draw(&Scene::of(&[map]));
        assert_is_xml(&svg);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && !svg.contains("<a>"), "{svg}");
        assert!(!svg.contains('\u{1}'));
    }

    #[test]
    fn fifty_nodes_with_a_hundred_pods_each_are_a_picture_of_bounded_size() {
        let svg = draw(&Scene::of(&[map_of(50, 100)]));
        assert_is_xml(&svg);
        assert!(svg.len() < 100_000, "{} bytes", svg.len());
        assert_eq!(svg.matches("100 pods").count(), 50);
        assert!(!svg.contains("more nodes"));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let svg = draw(&Scene::of(&[map_of(200, 10)]));
        assert_is_xml(&svg);
        assert!(svg.contains("and 140 more nodes with 1400 pods"), "{svg}");
    }

    #[test]
    fn a_network_of_nobody_is_a_picture_too() {
        assert_is_xml(&draw(&Scene::of(&[])));
        assert_is_xml(&draw(&Scene::of(&[map_of(1, 0)])));
    }
}
