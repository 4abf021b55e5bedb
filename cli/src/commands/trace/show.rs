//! The way of a packet for people: a table of hops, what is wrong, and a line that says how it ends.

use super::facts::Facts;
use super::walk::{Finding, Trace};
use crate::failure::Failure;
use crate::output::{Cell, Charset, Column, Output, Style, Table, Tone, harmless};

/// Prints it.
pub(super) fn show(
    facts: &Facts,
    trace: &Trace,
    charset: Charset,
    output: &mut Output,
) -> Result<(), Failure> {
    let style = output.style();
    output.line(style.paint(Tone::Heading, &title(facts, charset)))?;
    output.line("")?;
    output.table(&table(trace))?;
    for finding in &trace.findings {
        output.line("")?;
        output.line(told(finding, style))?;
    }
    output.line("")?;
    let tone = match (trace.lost_at, trace.findings.is_empty()) {
        (Some(_), _) => Tone::Bad,
        (None, false) => Tone::Odd,
        (None, true) => Tone::Good,
    };
    output.line(style.paint(tone, &verdict(trace)))
}

/// `default/web-1 (10.244.1.2) → default/db-1 (10.244.2.3)`
fn title(facts: &Facts, charset: Charset) -> String {
    let arrow = if charset == Charset::Boxes { "→" } else { "->" };
    let source = facts.source.pod.as_ref().unwrap_or(&facts.source.node);
    let from = facts.source.address.map(|address| format!(" ({address})")).unwrap_or_default();
    let to = match &facts.destination.pod {
        Some(pod) => format!("{} ({})", harmless(pod), facts.destination.address),
        None => facts.destination.address.to_string(),
    };
    format!("{}{from} {arrow} {to}", harmless(source))
}

fn table(trace: &Trace) -> Table {
    let mut table = Table::new([
        Column::number("HOP"),
        Column::whole("ON"),
        Column::whole("WHAT"),
        Column::wrapped("HOW"),
    ]);
    for (place, hop) in trace.hops.iter().enumerate() {
        let tone = if trace.lost_at == Some(place) {
            Tone::Bad
        } else if trace.findings.iter().any(|finding| finding.hop == place) {
            Tone::Odd
        } else {
            Tone::Plain
        };
        table.row([
            Cell::from((place + 1).to_string()),
            Cell::new(Tone::Heading, &hop.on),
            Cell::new(tone, &hop.what),
            Cell::lines(Tone::Plain, &hop.how),
        ]);
    }
    table
}

fn told(finding: &Finding, style: Style) -> String {
    let word = if finding.lost { style.paint(Tone::Bad, "lost") } else { style.paint(Tone::Odd, "doubtful") };
    let hint = style.paint(Tone::Heading, "hint");
    let (what, advice) = (harmless(&finding.what), harmless(&finding.advice));
    format!("{word} at hop {}: {what}\n{hint}: {advice}", finding.hop + 1)
}

/// How it ends, in a line.
pub(super) fn verdict(trace: &Trace) -> String {
    let lost = trace.findings.iter().find(|finding| finding.lost);
    let size = trace.mtu.map(|mtu| format!(", in packets of up to {mtu} bytes")).unwrap_or_default();
    match (lost, trace.findings.len()) {
        (Some(finding), _) => {
            let on = trace.hops.get(finding.hop).map_or("", |hop| &hop.on);
            format!("it is lost on {}: {}", harmless(on), harmless(&finding.what))
        }
        (None, 0) => format!("it gets there, as far as this node can tell{size}"),
        (None, 1) => format!("it should get there{size}, with a doubt"),
        (None, _) => format!("it should get there{size}, with doubts"),
    }
}
