//! Who reaches whom, and how fast: a table with pods, or where they are too many nodes, on both sides.

use super::report::{Attached, Ping};
use crate::output::{Cell, Charset, Column, Table, Tone};

/// So many columns fit a terminal.
const FEW: usize = 8;

/// The table.
pub(super) fn table(pods: &[Attached], pings: &[Ping], charset: Charset) -> Table {
    let by_node = pods.len() > FEW;
    // What a pod is shown as.
    let group = |name: &str| {
        let pod = pods.iter().find(|pod| pod.pod == name);
        pod.map_or_else(|| name.to_owned(), |pod| if by_node { pod.node.clone() } else { pod.pod.clone() })
    };
    let mut groups: Vec<String> = pods.iter().map(|pod| group(&pod.pod)).collect();
    groups.dedup();
    let shown: Vec<&String> = groups.iter().take(FEW).collect();
    let corner = if by_node { "SLOWEST OF" } else { "FROM" };
    let columns = [Column::whole(corner)].into_iter();
    let mut table = Table::new(columns.chain(shown.iter().map(|name| Column::number((*name).clone()))));
    for from in &groups {
        let cells = shown.iter().map(|to| {
            let between = |ping: &&Ping| group(&ping.from) == *from && group(&ping.to) == **to;
            cell(&pings.iter().filter(between).collect::<Vec<_>>(), charset)
        });
        table.row([Cell::new(Tone::Heading, from)].into_iter().chain(cells));
    }
    table
}

/// The slowest of some pings, or what is wrong with one.
fn cell(pings: &[&Ping], charset: Charset) -> Cell {
    if pings.is_empty() {
        return Cell::new(Tone::Faint, "-");
    }
    if pings.iter().any(|ping| ping.then.is_none()) {
        return Cell::new(Tone::Bad, "no answer");
    }
    let slowest = pings.iter().filter_map(|ping| ping.then).max().unwrap_or_default();
    // u64 holds half a million years of microseconds.
    let time = charset.time(u64::try_from(slowest.as_micros()).unwrap_or(u64::MAX));
    if !pings.iter().all(|ping| ping.is_good()) {
        return Cell::new(Tone::Bad, format!("{time} NAT"));
    }
    let tone = if pings.iter().any(|ping| ping.between_nodes) { Tone::Good } else { Tone::Plain };
    Cell::new(tone, time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples;
    use super::*;
    use crate::output::Style;

    fn ping(from: &Attached, to: &Attached, microseconds: u64) -> Ping {
        Ping {
            from: from.pod.clone(),
            to: to.pod.clone(),
            source: from.address().unwrap(),
            address: to.address().unwrap(),
            between_nodes: from.node != to.node,
            first: Some(Duration::from_millis(1)),
            then: Some(Duration::from_micros(microseconds)),
            error: None,
            seen_as: from.address(),
        }
    }

    #[test]
    fn few_pods_are_each_a_row_and_a_column() {
        let pods = &samples::attached()[1..3];
        let mut pings = vec![ping(&pods[0], &pods[1], 40), ping(&pods[1], &pods[0], 50)];
        let expected = "\
FROM    pod-1b  pod-2a
pod-1b       -   40 us
pod-2a   50 us       -
";
        assert_eq!(table(pods, &pings, Charset::Ascii).render(80, Style::Plain), expected);
        pings[0].then = None;
        pings[1].seen_as = Some([192, 168, 1, 12].into());
        let text = table(pods, &pings, Charset::Ascii).render(80, Style::Plain);
        assert!(text.contains("no answer") && text.contains("50 us NAT"), "{text}");
    }

    #[test]
    fn many_pods_are_shown_by_node_and_the_slowest_counts() {
        let mut pods = samples::attached();
        pods.extend(samples::attached());
        let pings =
            [ping(&pods[0], &pods[2], 40), ping(&pods[1], &pods[3], 70), ping(&pods[0], &pods[1], 20)];
        let text = table(&pods, &pings, Charset::Ascii).render(80, Style::Plain);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..5], ["n1", "20", "us", "70", "us"]);
    }
}
