//! `tc`.

use crate::resource::{Discipline, Qdisc, Redirect};

use super::Step;
use super::link::words;

/// The filter that a redirection is, as far as it tells it from others.
const FILTER: [&str; 7] = ["parent", "ffff:", "protocol", "all", "prio", "1", "u32"];

impl Step<'_> {
    pub(super) fn add_qdisc(&mut self, qdisc: &Qdisc) {
        let mut add = words(["qdisc", "add", "dev", qdisc.link.as_str()]);
        match qdisc.discipline {
            Discipline::TokenBucket(bucket) => {
                add.extend(words(["root", "handle", "1:", "tbf"]));
                // What people call bps are bits; tc, bytes.
                add.extend(words(["rate", &format!("{}bps", bucket.rate)]));
                add.extend(words(["burst", &bucket.burst.to_string()]));
                add.extend(words(["limit", &bucket.limit.to_string()]));
            }
            Discipline::Ingress => add.extend(words(["handle", "ffff:", "ingress"])),
        }
        self.in_namespace("tc", add);
    }

    pub(super) fn remove_qdisc(&mut self, qdisc: &Qdisc) {
        let place = match qdisc.discipline {
            Discipline::TokenBucket(_) => "root",
            Discipline::Ingress => "ingress",
        };
        self.in_namespace("tc", ["qdisc", "delete", "dev", qdisc.link.as_str(), place]);
    }

    pub(super) fn add_redirect(&mut self, redirect: &Redirect) {
        let mut add = words(["filter", "add", "dev", redirect.from.as_str()]);
        add.extend(words(FILTER));
        add.extend(words(["match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev"]));
        add.push(redirect.to.to_string());
        self.in_namespace("tc", add);
    }

    pub(super) fn remove_redirect(&mut self, redirect: &Redirect) {
        let delete = words(["filter", "delete", "dev", redirect.from.as_str()]);
        self.in_namespace("tc", delete.into_iter().chain(words(FILTER)));
    }
}
