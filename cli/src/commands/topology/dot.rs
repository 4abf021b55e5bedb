//! The whole network as a graph for graphviz.

use overlay::{Liveness, Role};

use super::scene::{Kind, Scene, SceneNode};

/// So many pods of a node are drawn; the others are counted.
const FEW: usize = 12;

/// Draws it.
pub(super) fn draw(scene: &Scene) -> String {
    let mut text = format!(
        "graph {} {{\n  label={};\n  layout=fdp;\n  overlap=false;\n  node [shape=plaintext, fontname=\"sans-serif\"];\n",
        quoted(&scene.network),
        quoted(&format!("network {}", scene.network))
    );
    for (place, node) in scene.nodes.iter().enumerate() {
        text.push_str(&format!(
            "  n{place} [shape=box, style=\"rounded,filled\", fillcolor={}, label={}];\n",
            colour(node),
            quoted(&label(node, &scene.bridge))
        ));
    }
    for link in &scene.links {
        let style = match link.kind {
            Kind::Tunnel => "style=dashed, color=\"#2463a8\", label=\"vxlan\"",
            Kind::Route => "style=solid, color=\"#2e7d4f\"",
            Kind::Router => "style=solid, color=\"#8a5a00\", penwidth=2",
            Kind::None => "style=dotted, color=\"#b3261e\", label=\"no way\"",
        };
        let direction = if link.mutual { "" } else { ", dir=forward" };
        text.push_str(&format!("  n{} -- n{} [{style}{direction}];\n", link.from, link.to));
    }
    text.push_str("}\n");
    text
}

fn label(node: &SceneNode, bridge: &str) -> String {
    let mut lines = vec![node.name.clone(), node.addresses.join(" ")];
    match node.role {
        Role::Router => lines.push("router".to_owned()),
        Role::Worker => lines.push(format!("{bridge}: {}", node.subnets.join(" "))),
    }
    lines.extend(node.pods.iter().take(FEW).map(|(name, address)| format!("{name} {address}")));
    if let hidden @ 1.. = node.pods.len().saturating_sub(FEW) {
        lines.push(format!("and {hidden} more"));
    }
    lines.join("\n")
}

const fn colour(node: &SceneNode) -> &'static str {
    match node.liveness {
        _ if node.is_here => "\"#e3edf9\"",
        Liveness::Down => "\"#fbe9e7\"",
        Liveness::Suspect => "\"#fff4d6\"",
        Liveness::Alive | Liveness::Unknown => "white",
    }
}

/// A string of the language: what would end it, or mean something in it, is escaped.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        c if c.is_control() => "?".to_owned(),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;

    #[test]
    fn tunnels_are_dashed_and_routes_are_not() {
        let text = draw(&Scene::of(&[fixtures::map()]));
        assert!(text.contains("n0 -- n1 [style=solid"), "{text}");
        assert!(text.contains("n0 -- n2 [style=dashed"), "{text}");
        assert!(text.contains(r"cni-podnet: 10.244.1.0/24\ndefault/web-1 10.244.1.2\n"), "{text}");
    }

    #[test]
    fn names_from_outside_stay_within_their_quotes() {
        let mut map = fixtures::map();
        let pod = &mut map.nodes[0].node.pods[0];
        *pod = pod.clone().named(Some("default"), Some("\"]; evil\\\u{7}\n"));
        let text = draw(&Scene::of(&[map]));
        assert!(text.contains(r#"default/\"]; evil\\?\n 10.244.1.2"#), "{text}");
    }
}
