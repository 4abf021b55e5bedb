//! Plans that fail at every single operation, in memory: nothing is left, and nothing else is touched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod plans;

use netops::*;
use plans::{Recipe, address, link, net, recipes};
use proptest::prelude::*;

const EIO: Errno = Errno::new(5);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_plan_that_fails_anywhere_leaves_what_was_before(
        start in start(), recipe in recipes(1), seed in any::<u64>(),
    ) {
        let plan = recipe.plan();
        for n in 0..operations(&start, &recipe) {
            let mut kernel = start.kernel(&recipe).batching(Batching::Random(seed));
            let before = kernel.snapshot();
            kernel.fail_at(n, EIO);
            let error = plan.apply(&mut kernel).unwrap_err();
            prop_assert_eq!(error.cause.errno(), Some(EIO), "{}", error);
            prop_assert_eq!(&error.left, &Vec::new());
            before.assert_same(&kernel.snapshot());
        }
    }

    #[test]
    fn what_was_done_without_an_answer_is_undone_too(
        start in start(), recipe in recipes(1), seed in any::<u64>(),
    ) {
        // Whether loopback was up before is lost with the answer.
        let start = Start { loopback_up: false, ..start };
        let plan = recipe.plan();
        for n in 0..operations(&start, &recipe) {
            let mut kernel = start.kernel(&recipe).batching(Batching::Random(seed));
            let before = kernel.snapshot();
            kernel.lose_reply_at(n);
            let error = plan.apply(&mut kernel).unwrap_err();
            prop_assert_eq!(&error.left, &Vec::new());
            before.assert_same(&kernel.snapshot());
        }
    }

    #[test]
    fn what_cannot_be_undone_is_named(recipe in recipes(1), seed in any::<u64>()) {
        let plan = recipe.plan();
        for n in 0..operations(&Start::default(), &recipe) {
            let mut kernel = MemoryKernel::new().batching(Batching::Random(seed));
            let before = kernel.snapshot();
            kernel.fail_from(n, EIO);
            let error = plan.apply(&mut kernel).unwrap_err();
            let shared = plan.steps().iter().any(|step| step.ownership == Ownership::Shared);
            // What is shared stays where it cannot be told whether somebody relies on it.
            if kernel.snapshot() != before && !shared {
                prop_assert!(!error.left.is_empty(), "{}", before.difference(&kernel.snapshot()));
                prop_assert!(error.to_string().contains("could not be undone"));
            }
        }
    }

    #[test]
    fn a_plan_that_is_there_already_is_refused_and_left_alone(
        recipe in recipes(1).prop_filter("a cable", |recipe| !recipe.cables.is_empty()),
    ) {
        let plan = recipe.plan();
        let mut kernel = MemoryKernel::new();
        plan.apply(&mut kernel).unwrap();
        let before = kernel.snapshot();
        let error = plan.apply(&mut kernel).unwrap_err();
        prop_assert_eq!(error.cause.errno(), Some(Errno::EEXIST));
        before.assert_same(&kernel.snapshot());
    }

    #[test]
    fn removing_a_plan_leaves_what_is_shared_and_nothing_else(start in start(), recipe in recipes(1)) {
        let plan = recipe.plan();
        let mut kernel = start.kernel(&recipe);
        // What is shared, and nothing else.
        let mut shared = Plan::new();
        for step in plan.steps().iter().filter(|step| step.ownership == Ownership::Shared) {
            shared.share(step.place, step.resource.clone());
        }
        shared.apply(&mut kernel).unwrap();
        let before = kernel.snapshot();

        let loopback_was_up = start.loopback_up;
        plan.apply(&mut kernel).unwrap();
        prop_assert_eq!(plan.remove(&mut kernel), Vec::new());
        if loopback_was_up {
            raise(&mut kernel, Place::Container, "lo");
        }
        before.assert_same(&kernel.snapshot());
        prop_assert_eq!(plan.remove(&mut kernel), Vec::new(), "removing twice");
    }

    #[test]
    fn undoing_an_applied_plan_leaves_what_was_before(start in start(), recipe in recipes(1)) {
        let plan = recipe.plan();
        let mut kernel = start.kernel(&recipe);
        let before = kernel.snapshot();
        let applied = plan.apply(&mut kernel).unwrap();
        prop_assert_eq!(applied.undo(&mut kernel), Vec::new());
        before.assert_same(&kernel.snapshot());
    }

    #[test]
    fn removing_goes_on_after_a_failure(recipe in recipes(1), n in 0_usize..12) {
        let plan = recipe.plan();
        let mut kernel = MemoryKernel::new();
        plan.apply(&mut kernel).unwrap();
        kernel.fail_at(n, EIO);
        let failures = plan.remove(&mut kernel);
        prop_assert!(failures.len() <= 1);
        kernel.clear_faults();
        prop_assert_eq!(plan.remove(&mut kernel), Vec::new());
        let alone = Recipe { cables: Vec::new(), ..recipe }.plan();
        let mut expected = MemoryKernel::new();
        alone.apply(&mut expected).unwrap();
        alone.remove(&mut expected);
        expected.snapshot().assert_same(&kernel.snapshot());
    }
}

/// What may be there before a plan is applied.
#[derive(Debug, Clone, Default)]
struct Start {
    /// The cables of another container of the same network, if there is one.
    other: Option<Vec<u32>>,
    loopback_up: bool,
    forwarding: bool,
}

fn start() -> impl Strategy<Value = Start> {
    (prop::option::of(recipes(2)), any::<bool>(), any::<bool>()).prop_map(
        |(other, loopback_up, forwarding)| Start {
            other: other.map(|recipe| recipe.cables),
            loopback_up,
            forwarding,
        },
    )
}

impl Start {
    fn kernel(&self, recipe: &Recipe) -> MemoryKernel {
        let mut kernel = MemoryKernel::new();
        if let Some(cables) = self.other.clone() {
            let other = Recipe { pod: 2, cables, ..*recipe };
            other.plan().apply(&mut kernel.another_container()).unwrap();
        }
        if self.loopback_up {
            raise(&mut kernel, Place::Container, "lo");
        }
        if self.forwarding {
            let forwarding = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1));
            assert!(kernel.create(Place::Host, &[&forwarding]).iter().all(Result::is_ok));
        }
        kernel.another()
    }
}

/// How many single operations applying a plan takes.
fn operations(start: &Start, recipe: &Recipe) -> usize {
    let mut kernel = start.kernel(recipe);
    recipe.plan().apply(&mut kernel).unwrap();
    kernel.operations()
}

fn raise(kernel: &mut MemoryKernel, place: Place, name: &str) {
    assert!(kernel.create(place, &[&Resource::LinkUp(link(name))]).iter().all(Result::is_ok));
}

/// A host with a bridge that holds these addresses.
fn bridge_with(addresses: &[&str]) -> MemoryKernel {
    let mut kernel = MemoryKernel::new();
    let mut plan = Plan::new();
    let mut bridge = Link::new(link("br0"), LinkKind::Bridge { vlan_filtering: false });
    bridge.mac = Some(MacAddr::new([2, 0, 0, 0, 0, 1]));
    bridge.up = true;
    plan.own(Place::Host, Resource::Link(bridge));
    for text in addresses {
        plan.own(Place::Host, Resource::Address(address(&link("br0"), text)));
    }
    plan.apply(&mut kernel).unwrap();
    kernel.another()
}

fn gateway(others: OtherAddresses) -> Plan {
    let mut plan = Plan::new();
    let address = Address { others, ..address(&link("br0"), "10.9.0.1/24") };
    plan.share(Place::Host, Resource::Address(address));
    plan
}

const OTHERS: &[&str] = &["10.1.0.1/24", "10.1.0.2/24", "10.2.0.1/24", "10.1.0.3/24", "fd00::1/64"];

#[test]
fn another_address_is_refused_where_it_is_not_welcome() {
    let mut kernel = bridge_with(&["10.1.0.1/24"]);
    let before = kernel.snapshot();
    let error = gateway(OtherAddresses::Refused).apply(&mut kernel).unwrap_err();
    assert_eq!(
        error.to_string(),
        "create address 10.9.0.1/24 on \"br0\" in the host's namespace: 10.1.0.1/24, another address, is there already"
    );
    before.assert_same(&kernel.snapshot());

    let mut kernel = bridge_with(&["10.9.0.1/24", "fd00::1/64"]);
    gateway(OtherAddresses::Refused).apply(&mut kernel).unwrap();
}

#[test]
fn replaced_addresses_are_gone() {
    let mut kernel = bridge_with(OTHERS);
    gateway(OtherAddresses::Replaced).apply(&mut kernel).unwrap();
    let Answer::Addresses(addresses) =
        kernel.read(Place::Host, &[Query::Addresses(link("br0"))]).unwrap().remove(0)
    else {
        panic!("not addresses")
    };
    let nets: Vec<_> = addresses.iter().map(|address| address.net).collect();
    assert_eq!(nets[..2], [net("10.9.0.1/24"), net("fd00::1/64")]);
    assert_eq!(nets.len(), 3, "and the link-local one");
}

#[test]
fn replaced_addresses_come_back_with_their_subnets_others() {
    let mut plan = gateway(OtherAddresses::Replaced);
    plan.own(Place::Host, Resource::Promiscuous(link("br0")));
    let count = {
        let mut kernel = bridge_with(OTHERS);
        plan.apply(&mut kernel).unwrap();
        kernel.operations()
    };
    for n in 0..count {
        for lost in [false, true] {
            let mut kernel = bridge_with(OTHERS);
            let before = kernel.snapshot();
            if lost {
                kernel.lose_reply_at(n);
            } else {
                kernel.fail_at(n, EIO);
            }
            let error = plan.apply(&mut kernel).unwrap_err();
            assert_eq!(error.left, Vec::new());
            before.assert_same(&kernel.snapshot());
        }
    }
}

#[test]
fn a_route_that_exists_is_kept_if_it_is_the_wanted_one() {
    let mut kernel = bridge_with(&["10.1.0.1/24"]);
    let mut plan = Plan::new();
    let route = Route::new(net("10.7.0.0/16"), Some("10.1.0.9".parse().unwrap()), link("br0"));
    plan.own(Place::Host, Resource::Route(route));
    plan.apply(&mut kernel).unwrap();
    let before = kernel.snapshot();
    plan.apply(&mut kernel).unwrap().undo(&mut kernel);
    before.assert_same(&kernel.snapshot());
}

#[test]
fn a_kernel_that_does_nothing_is_reported() {
    struct Nothing;
    impl Kernel for Nothing {
        fn read(&mut self, _: Place, _: &[Query]) -> Result<Vec<Answer>, Error> {
            Ok(Vec::new())
        }
        fn create(&mut self, _: Place, _: &[&Resource]) -> Vec<Result<Created, Error>> {
            Vec::new()
        }
        fn remove(&mut self, _: Place, _: &[&Resource]) -> Vec<Result<Removed, Error>> {
            Vec::new()
        }
    }
    let mut plan = Plan::new();
    plan.own(Place::Host, Resource::LinkUp(link("lo")));
    let error = plan.apply(&mut Nothing).unwrap_err();
    assert!(matches!(error.cause, Error::Garbled { .. }));
}

#[test]
fn no_container_is_an_error_that_says_so_and_undoes_the_hosts_part() {
    let kernel = MemoryKernel::new();
    let before = kernel.snapshot();
    let recipe = Recipe { pod: 1, node: u32::MAX, cables: vec![u32::MAX] };
    let error = recipe.plan().apply(&mut kernel.host_only()).unwrap_err();
    assert_eq!(error.cause, Error::NoContainer);
    assert_eq!(error.left, Vec::new());
    before.assert_same(&kernel.snapshot());
}

/// What is waited for stands between an address that fails and a rule: a seed that found it in one datagram with both.
#[test]
fn a_failure_before_something_that_is_waited_for_is_undone() {
    let start = Start { other: None, loopback_up: false, forwarding: false };
    let recipe = plans::Recipe { pod: 1, node: 1_734_625_463, cables: vec![255_393_920, 3_788_495_904] };
    for n in 0..operations(&start, &recipe) {
        let mut kernel = start.kernel(&recipe).batching(Batching::Random(5_618_497_351_778_848_373));
        let before = kernel.snapshot();
        kernel.fail_at(n, EIO);
        recipe.plan().apply(&mut kernel).unwrap_err();
        before.assert_same(&kernel.snapshot());
    }
}
