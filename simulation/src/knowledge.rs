//! Whether nodes know what they should.

use overlay::{Liveness, SubnetState};

use crate::World;

impl World {
    /// Everybody that runs knows everybody that runs, as they are; no prefix is disputed; everybody has a subnet.
    pub fn is_settled(&mut self) -> bool {
        self.check.disputed().is_empty() && self.everybody_has_a_subnet() && self.everybody_knows_everybody()
    }

    /// Everybody that runs has a subnet.
    pub fn everybody_has_a_subnet(&self) -> bool {
        let mut running = (0..self.machines.len()).filter(|n| self.machines[*n].mesh.is_some());
        running.all(|n| self.holds(n))
    }

    /// A node runs and has a subnet.
    pub fn holds(&self, n: usize) -> bool {
        let mesh = self.machines[n].mesh.as_ref();
        mesh.is_some_and(|mesh| mesh.subnets().iter().any(|subnet| subnet.state == SubnetState::Held))
    }

    /// Everybody that runs knows everybody that runs, as they are.
    pub fn everybody_knows_everybody(&self) -> bool {
        let alive: Vec<_> = self
            .machines
            .iter()
            .filter_map(|machine| Some((machine.mesh.as_ref()?, &machine.local)))
            .collect();
        let truths: Vec<_> = alive.iter().map(|(mesh, local)| local.with_subnets(mesh.subnets())).collect();
        alive.iter().all(|(mesh, own)| {
            truths.iter().filter(|node| node.id != own.id).all(|node| {
                mesh.topology().get(&node.id).is_some_and(|member| {
                    let known = &member.node;
                    known.subnets == node.subnets
                        && known.name == node.name
                        && known.pods.len() == node.pods.len()
                        && node.pods.iter().all(|pod| known.pods.contains(pod))
                })
            })
        })
    }

    /// What nodes disagree on, for people.
    pub fn disagreement(&mut self) -> String {
        let mut found: Vec<String> = self
            .check
            .disputed()
            .iter()
            .map(|(one, other)| format!("n{one} and n{other} hold overlapping prefixes"))
            .collect();
        let numbers: Vec<_> = self.machines.iter().map(|machine| machine.local.id).collect();
        let truths: Vec<_> = self
            .machines
            .iter()
            .map(|machine| machine.mesh.as_ref().map(|mesh| machine.local.with_subnets(mesh.subnets())))
            .collect();
        for (n, machine) in self.machines.iter_mut().enumerate() {
            let Some(mesh) = &mut machine.mesh else { continue };
            let view = mesh.view();
            found.extend(view.waiting.map(|why| format!("n{n} has no subnet: {why}")));
            found.extend(view.cut_off.map(|why| format!("n{n} is cut off: {why}")));
            for (other, id) in numbers.iter().enumerate().filter(|(other, _)| *other != n) {
                let Some(truth) = &truths[other] else { continue };
                match view.topology.get(id) {
                    None => found.push(format!("n{n} does not know n{other}")),
                    Some(known) => {
                        if known.liveness != Liveness::Alive {
                            found.push(format!("n{n} takes n{other} for {}", known.liveness));
                        }
                        if known.node.subnets != truth.subnets || known.node.pods.len() != truth.pods.len() {
                            found.push(format!("n{n} has not heard what n{other} says now"));
                        }
                    }
                }
            }
        }
        found.join("; ")
    }

    /// How many nodes know a pod of another one.
    pub fn who_know(&self, owner: usize, container: &str) -> usize {
        let id = self.machines[owner].local.id;
        let meshes = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        let knows = |mesh: &&overlay::Mesh| {
            let node = mesh.topology().get(&id).map(|member| &member.node);
            node.is_some_and(|node| node.pods.iter().any(|pod| pod.container() == container))
        };
        meshes.filter(knows).count()
    }

    /// Everybody that runs counts everybody that runs as alive.
    pub fn everybody_is_alive(&self) -> bool {
        let alive = self.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        let ids: Vec<_> = alive.clone().map(overlay::Mesh::id).collect();
        alive.into_iter().all(|mesh| {
            let is_alive =
                |id| mesh.topology().get(id).is_some_and(|known| known.liveness == Liveness::Alive);
            ids.iter().filter(|id| **id != mesh.id()).all(is_alive)
        })
    }

    /// Who is known to others says what it has said itself: looked at for one pair of nodes.
    pub fn check_pair(&self, observer: usize, subject: usize) {
        let (Some(mesh), subject) = (&self.machines[observer].mesh, &self.machines[subject]) else { return };
        let Some(member) = mesh.topology().get(&subject.local.id) else { return };
        assert_eq!(member.node.name, subject.local.name);
        let own = format!("{:032x}", subject.local.id.spread());
        assert!(member.node.pods.iter().all(|pod| pod.container().starts_with(&own)), "{:?}", member.node);
    }
}
