//! What this node has in etcd, and how it gets there: what is wanted is compared with what is known, and the difference
//! written.
//!
//! One run of an agent writes for a node at a time: each of its transactions holds only while the node's key below `alive`
//! has this run's value. So two agents with one id, of which one has a copy of the other's disk, do not write in turns.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use overlay::report::{Problem, Severity};
use overlay::{Local, Node, Pool, Range, Role, Subnet, SubnetState};

use super::super::saved::held_and_lost;
use super::api::{Compare, Number, Octets, Operation, Put, Txn, TxnAnswer};
use super::client::{Client, Failure};
use super::free::{free_subnet, odd_claims};
use super::known::{Known, instance};
use super::layout::{Family, Instance, Layout, Owner, pod_key};

/// How long a node is taken for alive without a word from it.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// Operations in a transaction: etcd takes 128 (`--max-txn-ops`).
const OPERATIONS: usize = 100;
/// How often another subnet is tried at once when somebody was faster.
const ATTEMPTS: usize = 100;

/// What this node has in etcd.
pub(super) struct Own {
    layout: Layout,
    pool: Pool,
    /// What this run calls itself.
    pub(super) instance: String,
    /// What the run before called itself.
    predecessor: Option<String>,
    /// The value of the key below `alive`.
    alive: Vec<u8>,
    lease: Option<i64>,
    /// The subnets that the node has had.
    previous: Vec<Subnet>,
    /// Why it has no subnet of a family.
    waiting: BTreeMap<Family, String>,
    /// Another run that writes for this node.
    twin: Option<Problem>,
}

impl Own {
    pub(super) fn new(
        layout: Layout,
        pool: Pool,
        local: &Local,
        before: &super::Saved,
    ) -> Result<Self, String> {
        let instance = format!("{:016x}", random()?);
        let said = Instance { instance: instance.clone(), addresses: local.addresses.clone() };
        Ok(Self {
            layout,
            pool,
            instance,
            predecessor: before.instance.clone(),
            alive: json(&said)?,
            lease: None,
            previous: before.subnets.clone(),
            waiting: BTreeMap::new(),
            twin: None,
        })
    }

    /// Writes what is missing or different. Where something has changed that is not known yet, it does nothing: an event
    /// will tell.
    pub(super) async fn write(
        &mut self,
        client: &mut Client,
        known: &mut Known,
        local: &Local,
    ) -> Result<(), Failure> {
        if !self.is_the_writer(client, known, local).await? {
            return Ok(());
        }
        self.write_node(client, known, local).await?;
        self.write_pods(client, known, local).await?;
        if local.role == Role::Worker {
            for range in self.pool.ranges().to_vec() {
                self.claim(client, known, local, &range).await?;
            }
        }
        Ok(())
    }

    /// Says that the node is alive. Without effect if it has not said so yet.
    pub(super) async fn keep_alive(&mut self, client: &mut Client) -> Result<(), Failure> {
        if let Some(lease) = self.lease
            && !client.keep_alive(lease).await?
        {
            self.lease = None;
        }
        Ok(())
    }

    async fn is_the_writer(
        &mut self,
        client: &mut Client,
        known: &mut Known,
        local: &Local,
    ) -> Result<bool, Failure> {
        if known.alive(&local.id) == Some(&self.alive) {
            self.twin = None;
            return Ok(true);
        }
        self.keep_alive(client).await?;
        let lease = match self.lease {
            Some(lease) => lease,
            None => client.grant(LEASE).await?,
        };
        self.lease = Some(lease);
        let key = self.layout.alive(&local.id);
        let put = Put { key: key.as_str().into(), value: Octets(self.alive.clone()), lease: Number(lease) };
        let mut holds = Compare::absent(&key);
        // Once if nobody is there, and again to take over from the run before.
        for _ in 0..2 {
            let success = vec![Operation::Put(put.clone())];
            let txn = Txn { compare: vec![holds], success, failure: vec![Operation::get(&key)] };
            let answer = client.txn(&txn).await?;
            if answer.succeeded {
                known.wrote(&key, Some(&self.alive), answer.header.revision.0);
                self.predecessor = None;
                self.twin = None;
                return Ok(true);
            }
            let found = answer.found().map(|kv| kv.value.0.clone()).unwrap_or_default();
            if found == self.alive {
                // An answer had been lost.
                known.wrote(&key, Some(&found), answer.header.revision.0);
                self.twin = None;
                return Ok(true);
            }
            let other = instance(&found);
            if other.is_none() || other.as_ref().map(|other| &other.instance) != self.predecessor.as_ref() {
                self.twin = Some(twin(local, other.as_ref()));
                return Ok(false);
            }
            holds = Compare::value(&key, &found);
        }
        Ok(false)
    }

    async fn write_node(&self, client: &mut Client, known: &mut Known, local: &Local) -> Result<(), Failure> {
        let wanted = Node { pods: Vec::new(), ..local.with_subnets(Vec::new()) };
        if known.said(&local.id) == Some(&wanted) {
            return Ok(());
        }
        let (key, value) = (self.layout.node(&local.id), json(&wanted).map_err(Failure::Refused)?);
        self.write_all(client, known, local, vec![(key, Some(value))]).await
    }

    async fn write_pods(&self, client: &mut Client, known: &mut Known, local: &Local) -> Result<(), Failure> {
        let wanted: BTreeMap<String, _> = local.pods.iter().map(|pod| (pod_key(pod), pod)).collect();
        let there: BTreeMap<_, _> = known.pods(&local.id).collect();
        let prefix = self.layout.pods(&local.id);
        let mut changes = Vec::new();
        for (name, pod) in &wanted {
            if there.get(name) != Some(pod) {
                changes.push((format!("{prefix}{name}"), Some(json(pod).map_err(Failure::Refused)?)));
            }
        }
        let gone = there.keys().filter(|name| !wanted.contains_key(**name));
        changes.extend(gone.map(|name| (format!("{prefix}{name}"), None)));
        self.write_all(client, known, local, changes).await
    }

    /// Keys and their new values, `None` for none.
    async fn write_all(
        &self,
        client: &mut Client,
        known: &mut Known,
        local: &Local,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), Failure> {
        for part in changes.chunks(OPERATIONS) {
            let operation = |(key, value): &(String, Option<Vec<u8>>)| match value {
                Some(value) => Operation::put(key, value.clone()),
                None => Operation::delete(key),
            };
            let success = part.iter().map(operation).collect();
            let txn = Txn { compare: vec![self.is_alive(local)], success, failure: Vec::new() };
            let answer = client.txn(&txn).await?;
            if !answer.succeeded {
                return Ok(());
            }
            for (key, value) in part {
                known.wrote(key, value.as_deref(), answer.header.revision.0);
            }
        }
        Ok(())
    }

    fn is_alive(&self, local: &Local) -> Compare {
        Compare::value(&self.layout.alive(&local.id), &self.alive)
    }

    /// Makes a subnet of a range the node's own, if it has none.
    async fn claim(
        &mut self,
        client: &mut Client,
        known: &mut Known,
        local: &Local,
        range: &Range,
    ) -> Result<(), Failure> {
        let family = Family::of(&range.cluster);
        self.waiting.remove(&family);
        if known.subnets(&local.id).any(|prefix| range.is_subnet(&prefix)) {
            return Ok(());
        }
        let Some(agreed) = self.agreed(client, known, local, range).await? else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let Some(prefix) = self.candidate(known, range)? else {
                self.waiting.insert(family, exhausted(range));
                return Ok(());
            };
            let key = self.layout.subnet(&prefix);
            let owner = json(&Owner { node: local.id }).map_err(Failure::Refused)?;
            let cut = Compare::value(&self.layout.range(family), &agreed);
            let txn = Txn {
                compare: vec![Compare::absent(&key), cut, self.is_alive(local)],
                success: vec![Operation::put(&key, owner.clone())],
                failure: vec![Operation::get(&key)],
            };
            match outcome(&client.txn(&txn).await?) {
                Claimed::Done(revision) => {
                    known.wrote(&key, Some(&owner), revision);
                    return Ok(());
                }
                Claimed::Taken(kv) => known.put(&kv),
                Claimed::NotAllowed => return Ok(()),
            }
        }
        self.waiting.insert(family, format!("others were faster {ATTEMPTS} times: it is tried again"));
        Ok(())
    }

    /// What all nodes have agreed on for a range, if it is what this one was told as well.
    async fn agreed(
        &mut self,
        client: &mut Client,
        known: &mut Known,
        local: &Local,
        range: &Range,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let family = Family::of(&range.cluster);
        let key = self.layout.range(family);
        if known.range(family).is_none() {
            let ours = json(range).map_err(Failure::Refused)?;
            let compare = vec![Compare::absent(&key), self.is_alive(local)];
            let success = vec![Operation::put(&key, ours.clone())];
            let answer = client.txn(&Txn { compare, success, failure: vec![Operation::get(&key)] }).await?;
            match outcome(&answer) {
                Claimed::Done(revision) => known.wrote(&key, Some(&ours), revision),
                Claimed::Taken(kv) => known.put(&kv),
                Claimed::NotAllowed => return Ok(None),
            }
        }
        let agreed = known.range(family).unwrap_or_default().to_vec();
        let told_to_others = match serde_json::from_slice::<Range>(&agreed) {
            Ok(other) if other == *range => return Ok(Some(agreed)),
            Ok(other) => cut(&other),
            Err(error) => format!("something that makes no sense ({error})"),
        };
        let why = format!(
            "this agent is told to take a part of {}, but the nodes in etcd have agreed on {told_to_others}: give all agents \
             one range, or delete {key} if it is theirs that is old",
            cut(range)
        );
        self.waiting.insert(family, why);
        Ok(None)
    }

    /// A subnet that the node once had, if it is free; else any.
    fn candidate(&self, known: &Known, range: &Range) -> Result<Option<IpNet>, Failure> {
        let claims = known.claims();
        let had = self.previous.iter().map(|subnet| subnet.prefix);
        let odd = || odd_claims(range, claims).next().is_some();
        if let Some(prefix) =
            had.filter(|prefix| range.is_subnet(prefix)).find(|prefix| !claims.contains_key(prefix))
            && !odd()
        {
            return Ok(Some(prefix));
        }
        Ok(free_subnet(range, claims, random().map_err(Failure::Refused)?))
    }

    /// The node's subnets: those that are its own, and those that were, as long as a pod has an address there. None is its
    /// own while another run with its id may give addresses of them to pods.
    pub(super) fn subnets(&self, known: &Known, local: &Local) -> Vec<Subnet> {
        let own: Vec<IpNet> = match self.twin {
            None => known.subnets(&local.id).collect(),
            Some(_) => Vec::new(),
        };
        held_and_lost(own, &self.previous, local)
    }

    /// From now on these are the subnets that the node has had: the first to be claimed if they are lost.
    pub(super) fn remember(&mut self, subnets: &[Subnet]) {
        if subnets.iter().any(|subnet| subnet.state == SubnetState::Held) {
            self.previous = subnets.to_vec();
        }
    }

    /// The subnets that the node had when it last knew.
    pub(super) fn previous(&self) -> &[Subnet] {
        &self.previous
    }

    /// Why there is no subnet of one family or the other.
    pub(super) fn waiting(&self) -> Option<String> {
        if let Some(twin) = &self.twin {
            return Some(twin.what.clone());
        }
        let reasons: Vec<_> = self.waiting.values().cloned().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// What a person should know.
    pub(super) fn problems(&self, known: &Known) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.twin.iter().cloned().collect();
        for range in self.pool.ranges() {
            if let Some(odd) = odd_claims(range, known.claims()).next() {
                let owner = known.claims().get(odd).map(|claim| claim.owner.to_string()).unwrap_or_default();
                problems.push(Problem {
                    severity: Severity::Warning,
                    what: format!(
                        "node {owner} has {odd} in etcd, which is no subnet of {} cut to /{}",
                        range.cluster, range.subnet_length
                    ),
                    advice: "give all agents the same range and subnet length; forget nodes that are gone"
                        .to_owned(),
                });
            }
        }
        problems
    }
}

enum Claimed {
    Done(i64),
    Taken(super::api::KeyValue),
    /// Another comparison failed: this run is not the writer any more, or the ranges are others.
    NotAllowed,
}

fn outcome(answer: &TxnAnswer) -> Claimed {
    match answer.found() {
        _ if answer.succeeded => Claimed::Done(answer.header.revision.0),
        Some(kv) => Claimed::Taken(kv.clone()),
        None => Claimed::NotAllowed,
    }
}

fn twin(local: &Local, other: Option<&Instance>) -> Problem {
    let addresses =
        other.map(|other| other.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let place = addresses.filter(|text| !text.is_empty()).unwrap_or_else(|| "an unknown address".to_owned());
    Problem {
        severity: Severity::Error,
        what: format!("another agent runs with this node's id {}, at {place}", local.id),
        advice: format!(
            "if that was this node before it was restored, wait {} s; if it is a copy of this node's disk, stop one of the \
             two and remove its state directory: it becomes a node of its own",
            LEASE.as_secs()
        ),
    }
}

fn cut(range: &Range) -> String {
    format!("{} in subnets of /{}", range.cluster, range.subnet_length)
}

fn exhausted(range: &Range) -> String {
    format!(
        "all {} subnets of {} are taken: forget nodes that are gone (cnikit node forget), or give the network a larger range",
        range.len(),
        range.cluster
    )
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(value).map_err(|error| error.to_string())
}

pub(super) fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("no random numbers: {error}"))
}
