//! What happened, for people: five chapters that are read from top to bottom.

use std::time::Duration;

use super::super::prose::{Prose, count, milliseconds};
use super::super::seclusion::Rights;
use super::drawing;
use super::report::{Attached, Call, Done, OUTSIDE, Remains, Report, Setting, Talk};
use crate::failure::Failure;
use crate::output::{Cell, Column, Table, Tone};

/// Rows of a table that show all there is to learn.
const ENOUGH: usize = 12;

/// Tells the story as it happens.
pub(super) struct Teller<'a>(pub(super) Prose<'a>);

impl Teller<'_> {
    /// Chapter 1.
    pub(super) fn scene(&mut self, world: &Setting, pods: usize) -> Result<(), Failure> {
        let whose = match world.rights {
            Rights::Root => "",
            Rights::UserNamespace => {
                " You are not root: it happens in a user namespace, in which this process is."
            }
        };
        self.0.heading(&format!("cnikit demo: {} on one node", count(pods, "pod")), None)?;
        self.0.words(&format!(
            "Everything below happens in namespaces of this one process. Nothing else on this machine is touched, and \
             nothing is left when it ends.{whose}"
        ))?;
        self.0.heading(&format!("1. A node and {}", count(pods, "pod")), Some(world.took))?;
        self.0.words(
            "A pod begins as an empty network namespace: all that is in it is a loopback interface, and that is down. \
             This process is the node. The node's uplink leads to a namespace that stands for everything outside; it \
             knows the way to the node, and no way to the pods.",
        )
    }

    /// Chapter 2.
    pub(super) fn attached(
        &mut self,
        world: &Setting,
        pods: &[Attached],
        calls: &[Call],
    ) -> Result<(), Failure> {
        self.0.heading("2. ADD: interfaces and addresses", Some(pods.iter().map(|pod| pod.took).sum()))?;
        let plugins = calls_of_first(calls);
        self.0.words(&format!(
            "A network is a name and a list of plugins: here {}. For every pod the container runtime executes them \
             in this order (cnikit calls its own as functions). What is to be done with whom stands in the \
             environment, the network's configuration comes on standard input:",
            plugins.join(", then ")
        ))?;
        if let Some(call) = calls.first() {
            self.0.line("")?;
            let call = command_line(call);
            self.0.line(format_args!("    {call}"))?;
            self.0.line("")?;
        }
        self.0.words("The answer, on standard output, is JSON that names what was made:")?;
        self.0.line("")?;
        let mut table = Table::new([
            Column::whole("POD"),
            Column::whole("ADDRESSES"),
            Column::whole("CABLE'S OTHER END"),
            Column::whole("PLUGIN"),
            Column::number("TOOK"),
            Column::number("ADD"),
        ]);
        for pod in pods.iter().take(ENOUGH) {
            table.row([
                Cell::new(Tone::Heading, &pod.pod),
                Cell::lines(Tone::Plain, pod.addresses.iter().map(ToString::to_string)),
                Cell::from(&pod.host_interface),
                Cell::lines(Tone::Plain, pod.plugins.iter().map(|done| &done.what)),
                Cell::lines(Tone::Plain, pod.plugins.iter().map(|done| milliseconds(done.took))),
                Cell::from(milliseconds(pod.took)),
            ]);
        }
        self.0.table(&table)?;
        self.0.more(pods.len().saturating_sub(ENOUGH), "pod")?;
        self.0.line("")?;
        if !self.0.quiet {
            let width = self.0.width();
            let picture = drawing::draw(world, pods, width, self.0.charset, self.0.output.style());
            self.0.output.line(picture)?;
        }
        Ok(())
    }

    /// Chapter 3.
    pub(super) fn talks(&mut self, world: &Setting, talks: &[Talk], took: Duration) -> Result<(), Failure> {
        self.0.heading("3. Do they talk?", Some(took))?;
        self.0.words(
            "Each asks its neighbour, the gateway and the outside for an echo (ICMP), a few times. The first answer \
             takes longer: before it, nobody knows the other's hardware address (ARP, neighbour discovery).",
        )?;
        self.0.line("")?;
        let mut table = Table::new([
            Column::whole("FROM"),
            Column::whole("TO"),
            Column::whole("ADDRESS"),
            Column::number("FIRST"),
            Column::number("THEN"),
            Column::whole("SEEN THERE AS"),
        ]);
        let pairs: Vec<&[Talk]> = talks.chunk_by(|a, b| a.from == b.from && a.to == b.to).collect();
        // All that went wrong, and enough of what did not.
        let is_bad = |pair: &[Talk]| !pair.iter().all(|talk| talk.is_good(world));
        let shown = pairs.iter().enumerate().filter(|(nth, pair)| *nth < ENOUGH || is_bad(pair));
        let mut rows = 0;
        for (_, pair) in shown {
            rows += 1;
            let tone = if is_bad(pair) { Tone::Bad } else { Tone::Good };
            let (from, to) = pair.first().map_or(("", ""), |talk| (&talk.from, &talk.to));
            let seen =
                pair.iter().map(|talk| talk.seen_as.map(|address| address.to_string()).unwrap_or_default());
            table.row([
                Cell::new(Tone::Heading, from),
                Cell::from(to),
                Cell::lines(Tone::Plain, pair.iter().map(|talk| talk.address.to_string())),
                Cell::lines(tone, pair.iter().map(|talk| self.answer(talk, talk.first))),
                Cell::lines(tone, pair.iter().map(|talk| self.answer(talk, talk.then))),
                Cell::lines(tone, seen),
            ]);
        }
        self.0.table(&table)?;
        self.0.more(pairs.len() - rows, "pair")?;
        for error in talks.iter().filter_map(|talk| talk.error.as_ref()) {
            self.0.words(error)?;
        }
        self.0.line("")?;
        let outside = || talks.iter().filter(|talk| talk.to == OUTSIDE);
        if outside().all(|talk| talk.is_good(world)) {
            self.0.words(
                "The outside saw the node's addresses and no pod's: that is masquerading. It has no route to the \
                 pods, so without it no answer would have come back.",
            )
        } else {
            self.0.words("Masquerading does not work: the outside has not seen the node's address alone.")
        }
    }

    /// Chapter 4.
    pub(super) fn checked(&mut self, checked: &[Done]) -> Result<(), Failure> {
        self.0.heading("4. CHECK: is all as ADD left it?", Some(total(checked)))?;
        self.0.words(&format!(
            "Every plugin compares its part with the kernel, and would name each difference. There is none: {}.",
            listed(checked)
        ))
    }

    /// Between the chapters, for those who want to look around.
    pub(super) fn kept(&mut self, world: &Setting, pods: &[Attached]) -> Result<(), Failure> {
        self.0.heading("All of this is yours until you press Enter", None)?;
        self.0.words("To look around, in another terminal:")?;
        self.0.line("")?;
        let pid = world.pid;
        let enter = match world.rights {
            Rights::Root => "sudo nsenter".to_owned(),
            Rights::UserNamespace => format!("nsenter --target {pid} --user --preserve-credentials"),
        };
        self.0.line(format_args!("    {enter} --net=/proc/{pid}/ns/net    # node"))?;
        for pod in pods {
            self.0.line(format_args!("    {enter} --net={}    # {}", pod.netns, pod.pod))?;
        }
        self.0.line(format_args!("    {enter} --net={}    # {OUTSIDE}", world.outside_netns))?;
        self.0.output.flush()
    }

    /// Chapter 5.
    pub(super) fn deleted(&mut self, deleted: &[Done], left: &Remains, bridge: &str) -> Result<(), Failure> {
        self.0.heading("5. DEL: nothing is left", Some(total(deleted)))?;
        self.0.words(&format!(
            "The plugins again, in reverse, and each takes away what it made: {}. Then a look at everything:",
            listed(deleted)
        ))?;
        self.0.line("")?;
        let mut table = Table::new([Column::whole("LOOKED FOR"), Column::whole("FOUND")]);
        for (what, found) in [
            ("interfaces in the pods", &left.pod_interfaces),
            ("cables on the node", &left.node_interfaces),
            ("entries (nf_tables)", &left.entries),
            ("leases of addresses", &left.leases),
            ("results in the cache", &left.cached_results),
        ] {
            let answer =
                if found.is_empty() { Cell::new(Tone::Good, "none") } else { Cell::lines(Tone::Bad, found) };
            table.row([Cell::from(what), answer]);
        }
        self.0.table(&table)?;
        self.0.line("")?;
        self.0.words(&format!("The bridge {bridge} stays, and waits for the next pod."))
    }

    /// The end.
    pub(super) fn verdict(&mut self, report: &Report) -> Result<(), Failure> {
        self.0.line("")?;
        if self.0.quiet {
            return Ok(());
        }
        let took = milliseconds(report.took);
        let style = self.0.output.style();
        if report.is_good() {
            self.0.output.line(style.paint(Tone::Good, &format!("Everything worked, in {took}.")))?;
            self.0.words(
                "Next: `cnikit explain default` shows the commands that an ADD stands for; `cnikit demo --keep` lets \
                 you look around in here; `cnikit demo --json` has every word between runtime and plugins.",
            )
        } else {
            self.0.output.line(style.paint(Tone::Bad, &format!("Not everything worked ({took}): see above.")))
        }
    }

    fn answer(&self, talk: &Talk, time: Option<Duration>) -> String {
        match time {
            // u64 holds half a million years of them.
            Some(time) => self.0.charset.time(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            None if talk.error.is_some() => "not sent".to_owned(),
            None => "no answer".to_owned(),
        }
    }
}

/// The plugins that the first attachment was made by.
fn calls_of_first(calls: &[Call]) -> Vec<&str> {
    let pod = |call: &Call| call.env.get("CNI_CONTAINERID").cloned();
    let first = calls.first().and_then(pod);
    calls.iter().take_while(|call| pod(call) == first).map(|call| call.plugin.as_str()).collect()
}

/// A call as a shell would have it.
fn command_line(call: &Call) -> String {
    let variable = |name: &&str| call.env.get(*name).map(|value| format!("{name}={value}"));
    let variables = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    let mut words: Vec<_> = variables.iter().filter_map(variable).collect();
    words.push(call.plugin.clone());
    words.join(" ")
}

fn total(done: &[Done]) -> Duration {
    done.iter().map(|done| done.took).sum()
}

/// `pod-1 2.0 ms, pod-2 1.9 ms`, and how many more.
fn listed(done: &[Done]) -> String {
    let text = |done: &Done| format!("{} {}", done.what, milliseconds(done.took));
    let mut texts: Vec<_> = done.iter().take(ENOUGH).map(text).collect();
    if let more @ 1.. = done.len().saturating_sub(ENOUGH) {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_say_how_long_they_are() {
        let done = |n| Done { what: format!("pod-{n}"), took: Duration::from_micros(1250) };
        assert_eq!(listed(&[done(1), done(2)]), "pod-1 1.2 ms, pod-2 1.2 ms");
        let many: Vec<_> = (1..=20).map(done).collect();
        assert!(listed(&many).ends_with("pod-12 1.2 ms, and 8 more"));
    }
}
