//! Why two nodes may not have known of one another: the only reason for them to hold one prefix.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::check::RESOLVED;
use crate::network::Network;

/// So many of a thousand datagrams are lost that two nodes may not hear of one another in time.
const MUCH: u32 = 200;
/// So long they may be under way that claims do not wait for them.
const SLOW: Duration = Duration::from_millis(250);

/// What the network was like lately, and what has happened to nodes that others could not know.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// From when on the network was what it was, in that order; the last is what it is.
    past: VecDeque<(Duration, Past)>,
    /// When the network was last not what claims count on.
    apart: Option<Duration>,
    /// Until when each has a reason of its own, and which. Who is dead has it until a while after it is started again.
    excused: HashMap<usize, (Duration, &'static str)>,
    /// Which cluster each belongs to.
    clusters: HashMap<usize, u64>,
    /// How many clusters there have been.
    founded: u64,
    /// Those of which there are two.
    copied: BTreeSet<usize>,
    running: BTreeSet<usize>,
    /// When each was killed.
    died: HashMap<usize, Duration>,
    /// How often somebody was killed or started.
    turns: u64,
}

#[derive(Debug)]
struct Past {
    changes: (u64, u64),
    /// Why nobody can count on anything.
    bad: Option<&'static str>,
    /// What it is like, and who runs, if somebody cannot reach somebody.
    split: Option<(Network, Vec<bool>)>,
}

impl History {
    /// Something has happened to a node that others could not know.
    pub(crate) fn excuse(&mut self, n: usize, now: Duration, why: &'static str) {
        let until = if self.running.contains(&n) { now + RESOLVED } else { Duration::MAX };
        self.excused.insert(n, (until, why));
    }

    /// Nobody has heard of a node, nor it of anybody: it is a cluster of its own.
    pub(crate) fn founds(&mut self, n: usize) {
        self.founded += 1;
        self.clusters.insert(n, self.founded);
    }

    pub(crate) fn cluster(&self, n: usize) -> Option<u64> {
        self.clusters.get(&n).copied()
    }

    /// Two nodes, and all of their clusters, have heard of one another. Where nobody of one cluster holds anything, it is new
    /// nodes that join.
    pub(crate) fn meet(&mut self, one: usize, other: usize, holds: impl Fn(&usize) -> bool, now: Duration) {
        let members = |cluster: Option<u64>| -> Vec<usize> {
            let all = self.clusters.iter();
            all.filter(|(_, of)| Some(**of) == cluster).map(|(n, _)| *n).collect()
        };
        let (mut fewer, mut more) = (members(self.cluster(one)), members(self.cluster(other)));
        if fewer.len() > more.len() {
            std::mem::swap(&mut fewer, &mut more);
        }
        let two = fewer.iter().any(&holds) && more.iter().any(&holds);
        let Some(cluster) = more.first().and_then(|n| self.cluster(*n)) else { return };
        // Whoever was dead at that time has it before it still.
        let missed = more.iter().filter(|n| two && !self.running.contains(n)).copied().collect::<Vec<_>>();
        for n in missed {
            self.excuse(n, now, "two clusters became one while it was dead");
        }
        for n in fewer {
            self.clusters.insert(n, cluster);
            if two {
                self.excuse(n, now, "two clusters became one");
            }
        }
    }

    /// There are two of it from now on, or not any more.
    pub(crate) fn copied(&mut self, n: usize, now: Duration, is_copied: bool) {
        if is_copied {
            self.copied.insert(n);
        } else if self.copied.remove(&n) {
            self.excuse(n, now, "there were two of it");
        }
    }

    pub(crate) fn is_copied(&self, n: usize) -> bool {
        self.copied.contains(&n)
    }

    pub(crate) fn dies(&mut self, n: usize, now: Duration) {
        if !self.running.remove(&n) {
            return;
        }
        self.turns += 1;
        self.died.insert(n, now);
        if let Some((until, _)) = self.excused.get_mut(&n).filter(|(until, _)| *until > now) {
            *until = Duration::MAX;
        }
    }

    /// Whoever is started again has missed what happened since it died.
    pub(crate) fn starts(&mut self, n: usize, now: Duration) {
        self.turns += 1;
        self.running.insert(n);
        if let Some((until, _)) = self.excused.get_mut(&n).filter(|(until, _)| *until > now) {
            *until = now + RESOLVED;
        }
        let Some(died) = self.died.remove(&n) else { return };
        if self.apart.is_some_and(|apart| apart + RESOLVED > died) {
            self.excuse(n, now, "it was dead while the network was not whole");
        }
    }

    /// What the network is like now, with so many nodes.
    pub(crate) fn network(&mut self, network: &Network, nodes: usize, now: Duration) {
        let bad = if network.loss >= MUCH {
            Some("the network lost much")
        } else if network.delay + network.jitter > SLOW {
            Some("the network was slow")
        } else {
            None
        };
        let is_whole = network.is_whole();
        if bad.is_some() || !is_whole {
            self.apart = Some(now);
        }
        // Who runs counts only where what one says has to go by way of others.
        let changes = (network.changes(), if is_whole { 0 } else { self.turns });
        if self.past.back().is_some_and(|(_, last)| last.changes == changes && last.bad == bad) {
            return;
        }
        let running = || (0..nodes).map(|n| self.running.contains(&n)).collect();
        let split = (!is_whole).then(|| (network.clone(), running()));
        self.past.push_back((now, Past { changes, bad, split }));
        while self.past.get(1).is_some_and(|(since, _)| *since + RESOLVED < now) {
            self.past.pop_front();
        }
    }

    /// Why two nodes may not know of one another, if there is a reason or was one a moment ago.
    pub(crate) fn why(&self, one: usize, other: usize, now: Duration) -> Option<&'static str> {
        if self.copied.contains(&one) || self.copied.contains(&other) {
            return Some("there are two of it");
        }
        if self.clusters.get(&one) != self.clusters.get(&other) {
            return Some("they are two clusters");
        }
        let own = |n: usize| self.excused.get(&n).filter(|(until, _)| now <= *until).map(|(_, why)| *why);
        own(one).or_else(|| own(other)).or_else(|| self.apart(one, other, now))
    }

    fn apart(&self, one: usize, other: usize, now: Duration) -> Option<&'static str> {
        let ends = self.past.iter().skip(1).map(|(since, _)| *since).chain([now]);
        let recent = self.past.iter().zip(ends).filter(|(_, end)| *end + RESOLVED >= now);
        recent.map(|((_, past), _)| past).find_map(|past| {
            let is_apart = |(network, running): &&(Network, Vec<bool>)| {
                !network.leads(one, other, running) || !network.leads(other, one, running)
            };
            past.bad.or_else(|| past.split.as_ref().filter(is_apart).map(|_| "they were apart"))
        })
    }
}
