use proptest::prelude::*;

use super::*;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn pool(cluster: &str, subnet_length: u8) -> Pool {
    Pool::new(vec![Range { cluster: cluster.parse().unwrap(), subnet_length }]).unwrap()
}

const SOON: Time = Time::from_secs(10);

/// A node alone with what others say.
struct Lone {
    claims: Claims,
    taken: Taken,
    admitted: bool,
    in_use: bool,
    exchanges: u64,
    exchanged: u64,
    vouched: Option<u64>,
    consented: bool,
}

impl Lone {
    fn new(n: u8, cluster: &str, saved: &[Subnet]) -> Self {
        let claims =
            Claims::new(id(n), &pool(cluster, 24), Settings::default(), saved, u64::from(n), Time::ZERO);
        Self {
            claims,
            taken: Taken::new(),
            admitted: true,
            in_use: true,
            exchanges: 0,
            exchanged: 1,
            vouched: None,
            consented: false,
        }
    }

    fn step(&mut self, now: Time) -> Vec<Stake> {
        let in_use = self.in_use;
        let around = Around { taken: &self.taken, standing: self.standing(), in_use: &|_| in_use };
        self.claims.step(now, &around);
        self.claims.stakes().collect()
    }

    fn waiting(&self) -> Option<String> {
        self.claims.waiting(&self.standing())
    }

    fn standing(&self) -> Standing {
        let Self { admitted, exchanges, exchanged, vouched, consented, .. } = *self;
        Standing {
            admitted,
            others: 9,
            exchanges,
            exchanged: Some(exchanged),
            vouched,
            consented,
            wanted: true,
        }
    }
}

fn held(prefix: &str) -> Subnet {
    Subnet { prefix: prefix.parse().unwrap(), state: SubnetState::Held }
}

fn stake(prefix: &str, kind: StakeKind) -> Stake {
    Stake { prefix: prefix.parse().unwrap(), kind }
}

#[test]
fn a_prefix_nobody_objects_to_is_held_after_a_while() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    let [Stake { prefix, kind: StakeKind::Tentative }] = node.step(Time::ZERO)[..] else { panic!() };
    assert!(node.waiting().unwrap().contains(&prefix.to_string()));
    assert_eq!(node.step(node.claims.timeout()), [Stake { prefix, kind: StakeKind::Held }]);
    assert_eq!(node.waiting(), None);
}

#[test]
fn who_is_cut_off_takes_nothing() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    node.admitted = false;
    assert_eq!(node.step(SOON), []);
    assert!(node.waiting().unwrap().contains("seed"));
    // Nor does it hold what it wanted when it was cut off.
    node.admitted = true;
    node.step(SOON);
    node.admitted = false;
    let wanted = node.step(SOON * 2);
    assert_eq!(wanted[0].kind, StakeKind::Tentative);
}

#[test]
fn a_claim_waits_until_all_was_exchanged_after_it_or_for_longer() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    (node.exchanges, node.exchanged) = (3, 3);
    let until = |node: &Lone| node.claims.timeout();
    assert_eq!(node.step(Time::ZERO)[0].kind, StakeKind::Tentative);
    let due = until(&node);
    // The last exchange was before the claim.
    assert_eq!(node.step(due)[0].kind, StakeKind::Tentative);
    assert!(until(&node) > due && node.claims.wants_exchange(3) && !node.claims.wants_exchange(4));
    node.exchanged = 4;
    assert_eq!(node.step(due + Time::from_millis(1))[0].kind, StakeKind::Held);

    let mut without = Lone::new(5, "10.0.0.0/16", &[]);
    without.exchanged = 0;
    let (mut now, mut waited) = (Time::ZERO, 0);
    while without.step(now)[0].kind == StakeKind::Tentative {
        now = until(&without);
        waited += 1;
    }
    assert!(waited > 1 && now >= due * WITHOUT_EXCHANGE && now < due * (WITHOUT_EXCHANGE + 1), "{now:?}");
}

#[test]
fn a_claim_to_which_all_consent_is_held_at_once() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    (node.exchanges, node.exchanged) = (3, 3);
    let wanted = node.step(Time::ZERO);
    let now = Time::from_millis(5);
    // Whom all was exchanged with before the claim does not vouch for who is there now.
    for (vouched, consented, kind) in [
        (None, true, StakeKind::Tentative),
        (Some(3), true, StakeKind::Tentative),
        (Some(4), false, StakeKind::Tentative),
        (Some(4), true, StakeKind::Held),
    ] {
        (node.vouched, node.consented) = (vouched, consented);
        assert_eq!(node.step(now), [Stake { kind, ..wanted[0] }], "{vouched:?}, {consented}");
    }
}

#[test]
fn consent_does_not_help_who_is_cut_off_or_hears_of_another_who_wants_the_same() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    let wanted = node.step(Time::ZERO);
    (node.vouched, node.consented, node.admitted) = (Some(1), true, false);
    assert_eq!(node.step(Time::from_millis(5)), wanted);
    // That one will yield, and has not yet.
    node.admitted = true;
    node.taken.set(id(6), wanted.clone());
    assert_eq!(node.step(Time::from_millis(10)), wanted);
    node.taken.set(id(6), vec![]);
    assert_eq!(node.step(Time::from_millis(15))[0].kind, StakeKind::Held);
}

#[test]
fn consent_to_one_prefix_is_none_to_the_next() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    let wanted = node.step(Time::ZERO);
    // All have consented, but one that comes first has objected in the same moment.
    (node.exchanges, node.vouched, node.consented) = (1, Some(1), true);
    node.taken.set(id(4), wanted.clone());
    let after = node.step(Time::from_millis(5));
    assert!(after != wanted && after[0].kind == StakeKind::Tentative, "{after:?}");
}

#[test]
fn who_is_asked_names_all_who_say_anything_of_the_prefix() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[held("10.0.1.0/24")]);
    node.in_use = true;
    let asked = |node: &Lone| {
        let objectors = node.claims.objectors(&id(9), &node.taken);
        objectors.map(|Objectors { any, nodes }| (any, nodes))
    };
    assert_eq!(asked(&node), None);
    node.taken.set(id(9), vec![stake("10.0.2.0/24", StakeKind::Held)]);
    assert_eq!(asked(&node), None, "it claims nothing");
    node.taken.set(id(9), vec![stake("10.0.2.0/24", StakeKind::Tentative)]);
    assert_eq!(asked(&node), Some((false, vec![])));
    for kind in
        [StakeKind::Tentative, StakeKind::Returning, StakeKind::Held, StakeKind::Lost, StakeKind::Freed]
    {
        node.taken.set(id(7), vec![stake("10.0.2.128/25", kind)]);
        assert_eq!(asked(&node), Some((true, vec![id(7)])), "{kind:?}");
    }
    node.taken.set(id(9), vec![stake("10.0.0.0/22", StakeKind::Tentative)]);
    assert_eq!(asked(&node), Some((true, vec![id(5), id(7)])));
    // What a node held that was forgotten has to rest.
    node.taken.set(id(9), vec![stake("10.0.3.0/24", StakeKind::Tentative)]);
    node.taken.set(id(7), vec![stake("10.0.3.0/24", StakeKind::Held)]);
    node.taken.forget(&id(7), SOON);
    assert_eq!(asked(&node), Some((true, vec![])));
    node.taken.advance(SOON);
    assert_eq!(asked(&node), Some((false, vec![])));
}

#[test]
fn those_who_have_just_come_back_cannot_say_that_nobody_objects() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    node.exchanged = 9;
    node.taken.set(id(1), vec![stake("10.0.1.0/24", StakeKind::Returning)]);
    node.step(Time::ZERO);
    let due = node.claims.timeout();
    assert_eq!(node.step(due)[0].kind, StakeKind::Tentative);
    // It may have gone again.
    let back = Settings::default().settle * COMING_BACK;
    assert_eq!(node.step(due + back - Time::from_millis(1))[0].kind, StakeKind::Tentative);
    assert_eq!(node.step(due + back)[0].kind, StakeKind::Held);
}

#[test]
fn time_in_which_a_node_was_suspended_does_not_count() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[]);
    node.step(Time::ZERO);
    let due = node.claims.timeout();
    let late = Time::from_secs(3600);
    assert_eq!(node.step(late)[0].kind, StakeKind::Tentative);
    assert_eq!(node.claims.timeout(), late + due);
    assert_eq!(node.step(late + due)[0].kind, StakeKind::Held);
}

#[test]
fn of_two_that_want_a_prefix_the_lower_id_gets_it() {
    for (n, yields) in [(5, true), (3, false)] {
        let mut node = Lone::new(n, "10.0.0.0/16", &[]);
        let wanted = node.step(Time::ZERO);
        node.taken.set(id(4), wanted.clone());
        let after = node.step(Time::from_millis(500));
        assert_eq!(after != wanted, yields, "{n}: {wanted:?}, {after:?}");
        assert_eq!(after[0].kind, StakeKind::Tentative);
    }
}

#[test]
fn of_two_that_hold_a_prefix_the_higher_id_yields_and_keeps_what_its_pods_have() {
    let mut node = Lone::new(5, "10.0.0.0/16", &[held("10.0.1.0/24")]);
    node.step(SOON);
    assert_eq!(node.claims.stakes().collect::<Vec<_>>(), [stake("10.0.1.0/24", StakeKind::Held)]);
    node.taken.set(id(4), vec![stake("10.0.1.0/24", StakeKind::Held)]);
    let after = node.step(SOON);
    assert_eq!(after[1], stake("10.0.1.0/24", StakeKind::Lost), "{after:?}");
    assert_eq!(after[0].kind, StakeKind::Tentative);
    // With its last pod there, what it lost is nobody's matter any more.
    node.in_use = false;
    assert_eq!(node.step(SOON).len(), 1);

    let mut lower = Lone::new(3, "10.0.0.0/16", &[held("10.0.1.0/24")]);
    lower.step(SOON);
    lower.taken.set(id(4), vec![stake("10.0.1.0/24", StakeKind::Held)]);
    assert_eq!(lower.step(SOON), [stake("10.0.1.0/24", StakeKind::Held)]);
}

#[test]
fn who_was_away_yields_to_whom_its_prefix_was_given() {
    let mut node = Lone::new(3, "10.0.0.0/16", &[held("10.0.1.0/24")]);
    assert_eq!(node.step(Time::ZERO), [stake("10.0.1.0/24", StakeKind::Returning)]);
    node.taken.set(id(4), vec![stake("10.0.1.0/24", StakeKind::Held)]);
    assert_eq!(node.step(Time::from_secs(1))[1].kind, StakeKind::Lost);
}

#[test]
fn who_others_were_told_to_forget_yields_also_with_the_lower_id() {
    let mut node = Lone::new(3, "10.0.0.0/16", &[held("10.0.1.0/24")]);
    node.step(SOON);
    assert_eq!(node.step(SOON), [stake("10.0.1.0/24", StakeKind::Held)]);
    node.claims.was_away(SOON);
    node.taken.set(id(4), vec![stake("10.0.1.0/24", StakeKind::Held)]);
    assert_eq!(node.step(SOON)[1].kind, StakeKind::Lost);
}

#[test]
fn an_exhausted_pool_is_named_and_looked_at_again() {
    let mut node = Lone::new(5, "10.0.0.0/23", &[]);
    node.taken.set(id(1), vec![stake("10.0.0.0/24", StakeKind::Held), stake("10.0.1.0/24", StakeKind::Lost)]);
    assert_eq!(node.step(Time::ZERO), []);
    let waiting = node.waiting().unwrap();
    assert!(waiting.contains("10.0.0.0/23") && waiting.contains("cnikit node forget"), "{waiting}");
    node.taken.set(id(1), vec![stake("10.0.0.0/24", StakeKind::Held)]);
    assert_eq!(node.step(node.claims.timeout()), [stake("10.0.1.0/24", StakeKind::Tentative)]);
}

#[test]
fn a_subnet_of_another_length_is_not_kept() {
    let node = Lone::new(5, "10.0.0.0/16", &[held("10.0.1.0/25"), held("10.0.2.0/24")]);
    let stakes: Vec<_> = node.claims.stakes().collect();
    assert_eq!(stakes, [stake("10.0.2.0/24", StakeKind::Returning), stake("10.0.1.0/25", StakeKind::Lost)]);
}

proptest! {
    /// Whoever hears what, in whatever order: when all have heard all, no prefix is held twice, and all have one.
    #[test]
    fn nodes_that_have_heard_one_another_differ(
        seed in any::<u64>(),
        heard in proptest::collection::vec((0..12_u8, 0..12_u8), 0..200),
    ) {
        let count = 12_u8;
        let mut nodes: Vec<Lone> = (0..count).map(|n| Lone::new(n, "10.0.0.0/20", &[])).collect();
        for (n, node) in nodes.iter_mut().enumerate() {
            node.claims.random = Random::new(seed.wrapping_add(n as u64));
        }
        let mut now = Time::ZERO;
        // Some hear some, and time goes on: some will hold what others hold.
        for (from, to) in heard {
            now += Time::from_millis(100);
            let said = nodes[usize::from(from)].step(now);
            if from != to {
                nodes[usize::from(to)].taken.set(id(from), said);
            }
            nodes[usize::from(to)].step(now);
        }
        for _ in 0..40 {
            now += Time::from_secs(2);
            for n in 0..count {
                let said = nodes[usize::from(n)].step(now);
                for other in (0..count).filter(|other| *other != n) {
                    nodes[usize::from(other)].taken.set(id(n), said.clone());
                }
            }
        }
        let mut all = Vec::new();
        for node in &nodes {
            let own: Vec<IpNet> =
                node.claims.stakes().filter(|stake| stake.kind == StakeKind::Held).map(|s| s.prefix).collect();
            prop_assert_eq!(own.len(), 1);
            all.extend(own);
        }
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), usize::from(count));
    }
}
