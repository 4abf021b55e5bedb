//! What can happen to nodes.

use std::time::Duration;

use crate::World;
use crate::machine::{Machine, address};

impl World {
    /// A node's agent is dead. What was on disk before the last write is there again, if the disk has lied.
    pub fn crash(&mut self, n: usize, disk_has_lied: bool) {
        let machine = &mut self.machines[n];
        machine.mesh = None;
        machine.wakes = Duration::MAX;
        self.check.subnets(n, &[], self.now);
        self.check.history.dies(n, self.now);
        if disk_has_lied {
            machine.disk = machine.disk_before.clone();
            self.check.history.excuse(n, self.now, "its disk has lied");
        }
    }

    /// A node's disk, and what runs on it, are put into another's place: the same node exists twice from now on.
    pub fn copy(&mut self, from: usize, to: usize) {
        self.crash(to, false);
        let (original, copy) = (&self.machines[from], &self.machines[to]);
        let lives = copy.lives;
        let mut local = original.local.clone();
        local.addresses.clone_from(&copy.local.addresses);
        let (disk, disk_before) = (original.disk.clone(), original.disk_before.clone());
        let settings = original.settings.clone();
        let machine = Machine::new(to, 0, settings, original.seeds.clone());
        self.machines[to] = Machine { local, disk, disk_before, lives, ..machine };
        // It does not hear the original, nor who takes it for that.
        self.check.history.founds(to);
        self.check.history.copied(from, self.now, true);
        self.check.history.copied(to, self.now, true);
        self.start(to);
    }

    /// A node is gone, with its disk: what has its place is another node.
    pub fn replace(&mut self, n: usize) {
        self.crash(n, false);
        let id = self.random.number();
        let old = &self.machines[n];
        let (settings, seeds, lives) = (old.settings.clone(), old.seeds.clone(), old.lives);
        self.machines[n] = Machine::new(n, id, settings, seeds);
        self.machines[n].lives = lives;
        self.start(n);
        for machine in 0..self.machines.len() {
            let id = self.machines[machine].local.id;
            if self.machines.iter().filter(|other| other.local.id == id).count() == 1 {
                self.check.history.copied(machine, self.now, false);
            }
        }
    }

    /// A node's clock jumps ahead: it was suspended.
    pub fn jump(&mut self, n: usize, by: Duration) {
        self.machines[n].ahead += by;
        self.wake(n);
    }

    /// A node has another forget a third.
    ///
    /// # Errors
    /// Why not.
    pub fn forget(&mut self, n: usize, whom: usize) -> Result<(), String> {
        let id = self.machines[whom].local.id.to_string();
        let now = self.now + self.machines[n].ahead;
        let forgotten = self.machines[n].mesh.as_mut().ok_or("it is dead")?.forget(now, &id).map(drop);
        if forgotten.is_ok() {
            self.check.history.excuse(whom, self.now, "it was forgotten");
        }
        self.after(n);
        forgotten
    }

    /// A node hears of other seeds.
    pub fn join(&mut self, n: usize, seeds: &[usize]) {
        self.machines[n].seeds = seeds.to_vec();
        let now = self.now + self.machines[n].ahead;
        let seeds: Vec<_> = seeds.iter().map(|seed| address(*seed)).collect();
        if let Some(mesh) = &mut self.machines[n].mesh {
            mesh.join(now, &seeds);
        }
        self.strangers = true;
        self.after(n);
    }

    /// Which cluster a node belongs to: those that have heard of one another.
    pub(crate) fn cluster(&self, n: usize) -> Option<u64> {
        self.check.history.cluster(n)
    }

    /// Whether one that runs has heard of another.
    pub(crate) fn knows(&self, one: usize, other: usize) -> bool {
        let id = &self.machines[other].local.id;
        self.machines[one].mesh.as_ref().is_some_and(|mesh| mesh.topology().get(id).is_some())
    }

    /// It may be a cluster's first node, nothing tells it that it is not, and no seed does.
    pub(crate) fn is_first_again(&self, n: usize) -> bool {
        let machine = &self.machines[n];
        let mut others = machine.seeds.iter().filter(|seed| **seed != n);
        machine.settings.bootstrap
            && machine.disk.subnets.is_empty()
            && !others.any(|seed| self.machines[*seed].mesh.is_some())
    }

    /// Clusters become one as soon as somebody in one and somebody in the other have heard of one another: by a seed, or because
    /// one is where another was.
    pub(crate) fn acquaint(&mut self) {
        self.met = self.now;
        self.strangers = false;
        for n in 0..self.machines.len() {
            let machine = &self.machines[n];
            let others =
                if machine.lives > 1 { (0..self.machines.len()).collect() } else { machine.seeds.clone() };
            for other in others.into_iter().filter(|other| *other != n) {
                if self.cluster(n) != self.cluster(other) {
                    self.strangers = true;
                    let is_copied = |n| self.check.history.is_copied(n);
                    // Who knows one that exists twice knows one of them: which, its id does not say.
                    let is_clear = !is_copied(n) && !is_copied(other);
                    if is_clear && self.knows(n, other) && self.knows(other, n) {
                        self.check.meet(n, other, self.now);
                    }
                }
            }
        }
    }
}
