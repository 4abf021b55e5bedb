//! Data planes in real kernels.

mod lab;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use overlay::report::Way;
use overlay::{Mode, Role, SubnetState};

use lab::Lab;

fn is_tunnel(way: Way) -> bool {
    matches!(way, Way::Vxlan { .. })
}

fn is_route(way: Way) -> bool {
    matches!(way, Way::Route { .. })
}

#[test]
fn pods_reach_one_another_through_tunnels() {
    let lab = Lab::new(3, Mode::Vxlan);
    lab.wait_for_ways("tunnels that are known to work", |path| is_tunnel(path.way) && path.mtu_confirmed);
    lab.assert_all_reach_all(1450);
    let routes = lab.machines[0].place.ip("route");
    assert!(routes.contains("10.244.2.0/24 nhid") && routes.contains("mtu 1450"), "{routes}");
    assert!(routes.contains("blackhole 10.244.0.0/16 proto 87"), "{routes}");
}
