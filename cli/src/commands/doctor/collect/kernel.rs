//! What the kernel can do: tried in a network namespace that is thrown away.

use netops::{
    DontFragment, IpVersion, Link, LinkKind, LinkName, LinuxKernel, MacvlanMode, Mark, Masquerade, Namespace,
    NextHop, Parent, Place, Plan, Resource, VethPeer, Via, Vxlan,
};

use super::Root;
use crate::commands::doctor::facts::{Feature, Kernel, Tried};

pub(super) fn kernel(root: &Root) -> Kernel {
    let release = root.line("/proc/sys/kernel/osrelease");
    // Another node's kernel cannot be asked; nor may everybody make namespaces.
    let laboratory = if root.is_here() { Namespace::create().ok() } else { None };
    let features = Feature::ALL.map(|feature| {
        let tried = laboratory.as_ref().and_then(|laboratory| tried(laboratory, feature));
        (feature, tried.unwrap_or_else(|| presumed(root, release.as_deref(), feature)))
    });
    Kernel { features: features.into(), release }
}

/// What came of trying a feature; `None` if it cannot be tried.
fn tried(laboratory: &Namespace, feature: Feature) -> Option<Tried> {
    let plan = experiment(feature)?;
    let outcome = laboratory.enter(|| plan.apply(&mut LinuxKernel::new(None)));
    Some(match outcome {
        Ok(Ok(_)) => Tried::Works,
        Ok(Err(error)) => Tried::Refused(error.cause.to_string()),
        Err(error) => Tried::Refused(error.to_string()),
    })
}

/// `RTPROT_STATIC` (linux/rtnetlink.h): made by an administrator.
const STATIC: u8 = 4;

/// Something that takes a feature. Each in the same namespace, where the cable is there for those after it.
fn experiment(feature: Feature) -> Option<Plan> {
    let name = |text: &str| LinkName::new(text).ok();
    let resource = match feature {
        Feature::Bridge => {
            Resource::Link(Link::new(name("bridge0")?, LinkKind::Bridge { vlan_filtering: false }))
        }
        Feature::Veth => Resource::Link(Link::new(name("cable0")?, cable(name("cable1")?))),
        Feature::NfTables => Resource::from(Masquerade {
            source: [192, 0, 2, 1].into(),
            within: "192.0.2.0/24".parse().ok()?,
            mark: Mark::new("cnikit doctor doctor eth0").ok()?,
        }),
        Feature::Macvlan => {
            let parent = Parent { place: Place::Host, name: name("cable1")? };
            let kind = LinkKind::Macvlan { parent, mode: MacvlanMode::Bridge, broadcast_queue: None };
            Resource::Link(Link::new(name("self0")?, kind))
        }
        Feature::Vxlan => {
            let tunnel = Vxlan { vni: 1, port: 4789, local: None, dont_fragment: DontFragment::Unset };
            Resource::Link(Link::new(name("tunnel0")?, LinkKind::Vxlan(tunnel)))
        }
        Feature::NextHops => {
            let nowhere = Via::Blackhole { version: IpVersion::V4 };
            Resource::NextHop(NextHop { id: 1, via: nowhere, protocol: STATIC })
        }
    };
    let mut plan = Plan::new();
    // What leads nowhere leads to the loopback interface, which must be up for that.
    plan.share(Place::Host, Resource::LinkUp(LinkName::loopback()));
    plan.own(Place::Host, resource);
    Some(plan)
}

fn cable(other_end: LinkName) -> LinkKind {
    LinkKind::Veth { peer: VethPeer { place: Place::Host, name: other_end, mtu: None, mac: None } }
}

/// What files say of a feature.
fn presumed(root: &Root, release: Option<&str>, feature: Feature) -> Tried {
    let module = feature.module();
    if module.is_empty() {
        // Next hop objects are part of every kernel from 5.3 on.
        let version = release.and_then(version);
        return if version.is_some_and(|version| version >= (5, 3)) { Tried::Likely } else { Tried::Unknown };
    }
    let directory = format!("/lib/modules/{}", release.unwrap_or_default());
    let file = format!("/{module}.ko");
    let is_named =
        |list: &str| root.text(format!("{directory}/{list}")).is_some_and(|text| text.contains(&file));
    match root.exists(format!("/sys/module/{module}"))
        || is_named("modules.builtin")
        || is_named("modules.dep")
    {
        true => Tried::Likely,
        false => Tried::Unknown,
    }
}

/// `6.1.0-13-amd64` is (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    fn of(kernel: &Kernel, feature: Feature) -> &Tried {
        &kernel.features.iter().find(|(known, _)| *known == feature).unwrap().1
    }

    #[test]
    fn another_nodes_kernel_is_judged_by_its_files() {
        let tree = Tree::new(&[
            ("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
            ("sys/module/bridge/refcnt", "1"),
            ("lib/modules/6.1.0-13-amd64/modules.builtin", "kernel/drivers/net/veth.ko\n"),
            (
                "lib/modules/6.1.0-13-amd64/modules.dep",
                "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/udp_tunnel.ko.xz\n",
            ),
        ]);
        let kernel = kernel(&tree.root());
        for feature in [Feature::Bridge, Feature::Veth, Feature::Vxlan, Feature::NextHops] {
            assert_eq!(of(&kernel, feature), &Tried::Likely, "{feature:?}");
        }
        assert_eq!(of(&kernel, Feature::Macvlan), &Tried::Unknown);
        let old = Tree::new(&[("proc/sys/kernel/osrelease", "4.19.0\n")]);
        assert_eq!(of(&super::kernel(&old.root()), Feature::NextHops), &Tried::Unknown);
    }

    #[test]
    fn this_nodes_kernel_is_tried_and_nothing_is_left_of_it() {
        let interfaces = || Root::new("/").names("/sys/class/net");
        let before = interfaces();
        let kernel = kernel(&Root::new("/"));
        assert_eq!(interfaces(), before);
        for feature in Feature::ALL {
            assert!(
                !matches!(of(&kernel, feature), Tried::Refused(_)),
                "{feature:?}: {:?}",
                of(&kernel, feature)
            );
        }
    }
}
