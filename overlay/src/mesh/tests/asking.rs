use super::*;

#[test]
fn a_new_node_has_a_subnet_as_soon_as_all_have_consented() {
    let mut net = Net::new();
    (0..10).for_each(|_| _ = net.start(24));
    net.run(SECOND * 20);
    let late = net.start(24);
    net.run(Duration::from_millis(50));
    assert_eq!(net.held(late).len(), 1, "{:?}", net.view(late).waiting);
}

#[test]
fn that_a_prefix_is_held_is_told_each_node_until_it_has_heard() {
    let mut net = Net::new();
    (0..10).for_each(|_| _ = net.start(24));
    net.run(SECOND * 20);
    let late = net.start(24);
    let knows = |net: &Net, n: usize| {
        let known = net.nodes[n].nodes.get(&net.nodes[late].id());
        known.is_some_and(|node| node.held().next().is_some())
    };
    // The others say nothing of one another, and it gets by chance to some of them only.
    net.cut = (0..10).flat_map(|from| (0..10).map(move |to| (from, to))).collect();
    net.run(Duration::from_millis(300));
    assert_eq!((0..10).filter(|n| knows(&net, *n)).count(), 10);
    assert!(!net.nodes[late].asks, "all have heard");
}

#[test]
fn where_one_is_silent_a_claim_waits_for_objections() {
    let mut net = Net::new();
    (0..10).for_each(|_| _ = net.start(24));
    net.run(SECOND * 20);
    let late = net.start(24);
    // Nothing that it says to one other arrives.
    net.cut = vec![(late, 5)];
    net.run(SECOND);
    assert_eq!(net.held(late), []);
    net.run(SECOND * 3);
    assert_eq!(net.held(late).len(), 1);
}

#[test]
fn who_has_just_come_back_does_not_vouch_for_who_else_is_there() {
    let mut net = Net::new();
    (0..3).for_each(|_| _ = net.start(24));
    net.run(SECOND * 20);
    // The first one holds its prefix for good, and consents; but all is exchanged with one of those that come back.
    (1..3).for_each(|n| net.restart(n, 24));
    net.no_streams = vec![0];
    let late = net.start(24);
    net.run(SECOND);
    assert_eq!(net.held(late), []);
    net.no_streams.clear();
    net.run(SECOND / 2);
    assert_eq!(net.held(late).len(), 1);
}

#[test]
fn what_was_consented_to_is_what_was_claimed_then() {
    let mut net = Net::new();
    (0..3).for_each(|_| _ = net.start(24));
    net.run(SECOND * 20);
    net.no_streams = vec![0, 1, 2];
    let late = net.start(24);
    net.run(SECOND / 2);
    assert!(net.nodes[late].gossip.has_consent() && net.held(late).is_empty());
    // One that comes first objects. What is claimed next nobody has heard of.
    let wanted: Vec<_> = net.nodes[late].claims.stakes().collect();
    net.nodes[late].taken.set(NodeId::from_bytes([0; 16]), wanted.clone());
    net.nodes[late].look_around = true;
    net.cut = (0..3).map(|n| (late, n)).collect();
    net.nodes[late].advance(net.now);
    assert!(!net.nodes[late].claims.stakes().eq(wanted));
    net.exchange(late, 0);
    net.run(SECOND / 2);
    assert_eq!(net.held(late), []);
    net.cut.clear();
    net.run(SECOND / 2);
    assert_eq!(net.held(late).len(), 1);
}

#[test]
fn while_nobody_holds_anything_for_good_nobodys_consent_counts() {
    let mut net = Net::new();
    (0..3).for_each(|_| _ = net.start(24));
    // The first one may be the cluster's first, and waits, as it has met others.
    net.run(SECOND * 10);
    let before: Vec<_> = (0..3).map(|n| net.held(n)).collect();
    assert!(before.iter().all(|held| held.len() == 1));
    // All are started again at once: for a while all that is held is hearsay.
    (0..3).for_each(|n| net.restart(n, 24));
    let late = net.start(24);
    net.run(SECOND * 2);
    assert_eq!(net.held(late), []);
    net.run(SECOND * 8);
    assert_eq!(net.held(late).len(), 1);
    assert!((0..3).all(|n| net.held(n) == before[n]));
}

#[test]
fn of_two_that_have_not_heard_of_one_another_and_ask_the_same_members_one_is_refused() {
    let mut net = Net::new();
    // Of four prefixes three are taken.
    (0..3).for_each(|_| _ = net.start(18));
    net.run(SECOND * 20);
    assert!((0..3).all(|n| net.held(n).len() == 1));
    let (one, other) = (net.start(18), net.start(18));
    let now = net.now;
    net.nodes[other].join(now, &[at(1)]);
    // Each is heard by one member only, exchanges all with that, and claims what is left.
    net.talk(one, &[0], usize::MAX);
    net.talk(other, &[1], usize::MAX);
    let wanted = |net: &mut Net, n: usize| net.view(n).subnets.first().map(|subnet| subnet.prefix);
    assert!(wanted(&mut net, one).is_some() && wanted(&mut net, one) == wanted(&mut net, other));
    // They know all members now, and ask them. All that members say besides yes or no is lost.
    for n in [one, other, one, other] {
        net.now += Duration::from_millis(160);
        let now = net.now;
        net.nodes[n].advance(now);
        net.talk(n, &[0, 1, 2], 60);
        let holders = [one, other].into_iter().filter(|n| net.held(*n).len() == 1).count();
        assert!(holders < 2, "both hold {:?}", wanted(&mut net, one));
    }
    net.run(SECOND * 10);
    assert_eq!((net.held(one).len() + net.held(other).len()), 1);
}
