//! What can happen to many nodes, one thing at a time.

use std::time::Duration;

use simulation::{World, WorldSettings};

const SECOND: Duration = Duration::from_secs(1);

/// A world in which nodes have settled.
fn settled(count: usize, settings: WorldSettings) -> World {
    let mut world = World::new(settings);
    world.start_many(count);
    assert_settles(&mut world, 40);
    world
}

fn world(count: usize) -> World {
    settled(count, WorldSettings::default())
}

fn assert_settles(world: &mut World, seconds: u32) {
    let took = world.run_until(SECOND * seconds, SECOND / 5, World::is_settled);
    eprintln!("settled after {took:?} at {:?}", world.now);
    assert!(took.is_some(), "not settled after {seconds} s: {:?}", world.check.disputed());
}

fn add_pods(world: &mut World, each: usize) {
    for nth in 1..=each {
        for n in 0..world.machines.len() {
            assert!(
                world.machines[n].mesh.is_none() || world.add_pod(n, nth).is_some(),
                "n{n} has no subnet"
            );
        }
    }
}

#[test]
fn fifty_nodes_are_started_at_once_on_an_empty_cluster() {
    for seed in 1..4 {
        let mut world =
            World::new(WorldSettings { seed, cluster: "10.0.0.0/16".parse().unwrap(), ..Default::default() });
        world.start_many(50);
        assert_settles(&mut world, 15);
    }
}

#[test]
fn pods_come_and_go_and_everybody_knows() {
    let mut world = world(60);
    add_pods(&mut world, 20);
    assert_settles(&mut world, 30);
    for n in 0..60 {
        for _ in 0..7 {
            world.remove_pod(n);
        }
    }
    assert_settles(&mut world, 30);
    for n in 0..60 {
        world.check_pair(n, (n + 7) % 60);
    }
}

#[test]
fn a_quarter_of_all_datagrams_may_be_lost_others_doubled_and_overtaken() {
    let mut world = World::new(WorldSettings::default());
    world.network.loss = 250;
    world.network.doubled = 100;
    world.network.jitter = SECOND / 5;
    world.start_many(40);
    assert_settles(&mut world, 120);
    add_pods(&mut world, 5);
    assert_settles(&mut world, 60);
}

#[test]
fn a_one_way_link_takes_nobody_down() {
    let mut world = world(20);
    world.network.cut(3, 4);
    world.network.cut(8, 9);
    world.run(SECOND * 60);
    for machine in &world.machines {
        let down = machine.mesh.as_ref().unwrap().topology().members();
        let down = down.filter(|member| member.liveness == overlay::Liveness::Down).count();
        assert_eq!(down, 0);
    }
    add_pods(&mut world, 2);
    assert_settles(&mut world, 10);
}

#[test]
fn halves_grow_apart_and_together_again() {
    // So few prefixes that the halves cannot but take the same.
    let mut world =
        settled(20, WorldSettings { cluster: "10.0.0.0/19".parse().unwrap(), ..Default::default() });
    for n in 0..10 {
        world.network.part(n, 1);
    }
    for n in 20..26 {
        let seed = if n % 2 == 0 { 0 } else { 10 };
        world.add(&[seed]);
        if n % 2 == 0 {
            world.network.part(n, 1);
        }
        world.start(n);
    }
    world.run(SECOND * 40);
    assert!(world.everybody_has_a_subnet());
    add_pods(&mut world, 3);
    world.run(SECOND * 5);
    world.network.heal();
    assert_settles(&mut world, 90);
    // Whoever had a pod still has it, and everybody knows where.
    let nodes: Vec<_> = world.machines.iter().map(|machine| machine.local.clone()).collect();
    for (n, machine) in world.machines.iter_mut().enumerate() {
        let view = machine.mesh.as_mut().unwrap().view();
        for node in &nodes {
            for pod in &node.pods {
                let duplicates = nodes
                    .iter()
                    .flat_map(|node| &node.pods)
                    .filter(|p| p.addresses() == pod.addresses())
                    .count();
                let (member, _) = view.topology.locate(pod.addresses()[0]).expect("it is somewhere");
                assert!(duplicates > 1 || member.node.id == node.id, "n{n}: {pod:?}");
            }
        }
    }
}

#[test]
fn two_clusters_become_one() {
    let settings = WorldSettings { cluster: "10.0.0.0/20".parse().unwrap(), ..Default::default() };
    let mut world = World::new(settings);
    for n in 0..12 {
        world.add(&[if n < 6 { 0 } else { 6 }]);
        world.network.part(n, if n < 6 { 0 } else { 1 });
    }
    for n in 0..12 {
        world.start(n);
    }
    world.run(SECOND * 15);
    add_pods(&mut world, 2);
    world.network.heal();
    world.join(11, &[0]);
    assert_settles(&mut world, 90);
}

#[test]
fn nodes_crash_and_come_back_also_with_an_older_disk() {
    let mut world = world(30);
    add_pods(&mut world, 3);
    world.run(SECOND * 3);
    let before: Vec<_> =
        world.machines.iter().map(|machine| machine.mesh.as_ref().unwrap().subnets()).collect();
    for n in 0..10 {
        world.crash(n, false);
    }
    world.run(SECOND * 20);
    for n in 0..10 {
        world.start(n);
    }
    assert_settles(&mut world, 40);
    for (n, machine) in world.machines.iter().enumerate() {
        assert_eq!(machine.mesh.as_ref().unwrap().subnets(), before[n], "n{n}");
    }
    for n in 10..20 {
        world.crash(n, true);
        world.start(n);
    }
    assert_settles(&mut world, 60);
}

#[test]
fn everybody_is_killed_and_started_again() {
    let mut world = world(40);
    let before: Vec<_> =
        world.machines.iter().map(|machine| machine.mesh.as_ref().unwrap().subnets()).collect();
    for n in 0..40 {
        world.crash(n, false);
    }
    world.run(SECOND * 10);
    for n in 0..40 {
        world.start(n);
    }
    assert_settles(&mut world, 40);
    for (n, machine) in world.machines.iter().enumerate() {
        assert_eq!(machine.mesh.as_ref().unwrap().subnets(), before[n], "n{n}");
    }
}

#[test]
fn a_machine_that_was_suspended_for_days_is_one_of_them_again() {
    let mut world = world(25);
    world.jump(7, Duration::from_secs(3 * 24 * 3600));
    world.jump(8, Duration::from_secs(3600));
    add_pods(&mut world, 2);
    assert_settles(&mut world, 60);
}

#[test]
fn a_replaced_node_is_another_one_and_the_old_one_is_forgotten() {
    let mut world = world(15);
    let old = world.machines[4].local.id;
    world.replace(4);
    assert_settles(&mut world, 60);
    let known = |world: &World| {
        let meshes = world.machines.iter().filter_map(|machine| machine.mesh.as_ref());
        meshes.filter(|mesh| mesh.topology().get(&old).is_some()).count()
    };
    assert!(known(&world) > 0, "what is gone stays until somebody says so");
    world.run(SECOND * 60);
    // By its id: its name is the new one's.
    let now = world.now;
    let machine = &mut world.machines[0];
    machine.mesh.as_mut().unwrap().forget(now, &old.to_string()).unwrap();
    world.tell(0);
    world.run(SECOND * 10);
    assert_eq!(known(&world), 0);
}

#[test]
fn at_rest_a_node_costs_the_same_however_many_there_are() {
    let rate = |count: usize| {
        let mut world = world(count);
        world.run(SECOND * 20);
        let (messages, bytes) = world.traffic();
        world.run(SECOND * 20);
        let (messages, bytes) = (world.traffic().0 - messages, world.traffic().1 - bytes);
        (messages as f64 / count as f64 / 20.0, bytes as f64 / count as f64 / 20.0)
    };
    let (few, many) = (rate(10), rate(200));
    assert!(many.0 < few.0 * 1.5 + 1.0, "messages per second: {few:?}, {many:?}");
    assert!(many.1 < few.1 * 2.0 + 200.0, "bytes per second: {few:?}, {many:?}");
}

#[test]
fn a_new_node_that_meets_only_a_seed_that_is_just_back_takes_nothing_of_those_that_both_have_not_met() {
    for seed in 1..5 {
        // Of eight prefixes seven are taken.
        let mut world =
            settled(7, WorldSettings { seed, cluster: "10.0.0.0/21".parse().unwrap(), ..Default::default() });
        world.crash(0, false);
        world.run(SECOND * 30);
        let late = world.add(&[0]);
        world.start(late);
        world.run(SECOND * 5);
        let subnets = world.machines[late].mesh.as_ref().unwrap().subnets();
        assert!(subnets.iter().all(|subnet| subnet.state != overlay::SubnetState::Held));
        world.start(0);
        assert_settles(&mut world, 30);
    }
}

#[test]
fn a_new_node_has_a_subnet_within_a_fraction_of_a_second() {
    let mut world = world(50);
    world.run(SECOND * 10);
    for seed in [0, 17] {
        let late = world.add(&[seed]);
        world.start(late);
        let took = world.run_until(SECOND, SECOND / 100, |world| world.holds(late));
        assert!(took.is_some_and(|took| took < SECOND / 4), "{took:?}");
    }
}

#[test]
fn of_many_that_claim_hardly_any_prefixes_at_once_no_two_hold_one() {
    let mut soonest = Duration::MAX;
    for seed in 0..100 {
        // Of sixteen prefixes ten are taken, and six come for the others, by different seeds.
        let mut world = settled(
            10,
            WorldSettings { seed, cluster: "10.0.0.0/20".parse().unwrap(), ..Default::default() },
        );
        world.run(SECOND * 8);
        match seed % 4 {
            0 => {}
            1 => world.network.jitter = SECOND / 20,
            2 => world.network.jitter = SECOND / 5,
            _ => {
                world.network.loss = 150;
                world.network.doubled = 150;
                world.network.jitter = SECOND / 5;
            }
        }
        let began = world.now;
        for n in 10..16 {
            world.add(&[n % 10]);
        }
        for n in 10..16 {
            world.start(n);
            world.run(Duration::from_micros(seed / 4 * 40));
        }
        // That no two hold one is looked at after each step.
        let has_one = |world: &mut World| (10..16).any(|n| world.holds(n));
        assert!(world.run_until(SECOND * 30, SECOND / 50, has_one).is_some(), "seed {seed}");
        soonest = soonest.min(world.now - began);
        assert_settles(&mut world, 90);
        assert_eq!(world.check.disputed(), []);
    }
    assert!(soonest < SECOND / 4, "consent has not been used: {soonest:?}");
}
