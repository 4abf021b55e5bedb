//! Bridge ports.

use netops::*;

use crate::in_lab;
use crate::links::{bridge, veth};
use crate::support::{Lab, name};

fn port(hairpin: bool, isolated: bool) -> Port {
    Port { link: name("veth1"), hairpin, isolated, vlans: Vec::new(), drop_default_vlan: false }
}

fn make_port(lab: &mut Lab, port: Port) {
    let mut veth = veth();
    veth.master = Some(name("cni0"));
    let resources = [Resource::Link(bridge()), Resource::Link(veth), Resource::Port(port)];
    let results = lab.kernel.create(Place::Host, &resources.iter().collect::<Vec<_>>());
    assert_eq!(results, vec![Ok(Created::New); 3]);
}

fn read(lab: &Lab, link: &str) -> Answer {
    lab.fresh_kernel().read(Place::Host, &[Query::Port(name(link))]).unwrap().remove(0)
}

#[test]
fn a_port_is_made_with_its_link() {
    in_lab!(|mut lab| {
        make_port(&mut lab, port(true, true));
        let shown = &lab.ip(Place::Host, "link show veth1")[0]["linkinfo"]["info_slave_data"];
        assert_eq!(shown["hairpin"], true);
        assert_eq!(shown["isolated"], true);
        assert_eq!(read(&lab, "veth1"), Answer::Port(Some(port(true, true))));
    });
}

#[test]
fn what_is_no_port_has_no_settings() {
    in_lab!(|mut lab| {
        make_port(&mut lab, port(false, false));
        assert_eq!(read(&lab, "veth1"), Answer::Port(Some(port(false, false))));
        assert_eq!(read(&lab, "cni0"), Answer::Port(None));
        assert_eq!(read(&lab, "lo"), Answer::Port(None));
        assert_eq!(read(&lab, "eth9"), Answer::Port(None));
    });
}

#[test]
fn a_port_of_before_is_changed_and_says_how_it_was() {
    in_lab!(|mut lab| {
        make_port(&mut lab, port(true, false));
        let create =
            |wanted: Port| lab.fresh_kernel().create(Place::Host, &[&Resource::Port(wanted)]).remove(0);
        let changed = Ok(Created::Changed(Resource::Port(port(true, false))));
        assert_eq!(create(port(false, true)), changed);
        assert_eq!(create(port(false, true)), Ok(Created::Kept));
        assert_eq!(read(&lab, "veth1"), Answer::Port(Some(port(false, true))));
    });
}

#[test]
fn a_port_is_changed_twice_by_whoever_made_it() {
    in_lab!(|mut lab| {
        make_port(&mut lab, port(true, true));
        let changed = Ok(Created::Changed(Resource::Port(port(true, true))));
        assert_eq!(lab.create(Place::Host, &Resource::Port(port(false, false))), changed);
        assert_eq!(read(&lab, "veth1"), Answer::Port(Some(port(false, false))));
    });
}

#[test]
fn settings_of_what_is_no_port_are_refused() {
    in_lab!(|mut lab| {
        lab.create(Place::Host, &Resource::Link(veth())).unwrap();
        let error = lab.create(Place::Host, &Resource::Port(port(true, false))).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}");
    });
}

#[test]
fn vlans_are_set_or_refused() {
    in_lab!(|mut lab| {
        make_port(&mut lab, port(false, false));
        let access = PortVlan { first: 100, last: 100, access: true };
        let trunk = PortVlan { first: 200, last: 210, access: false };
        let wanted = Port { vlans: vec![access, trunk], drop_default_vlan: true, ..port(false, false) };
        match lab.create(Place::Host, &Resource::Port(wanted)) {
            Ok(_) => {
                let Answer::Port(Some(port)) = read(&lab, "veth1") else { panic!("no port") };
                assert_eq!(port.vlans, [access, trunk]);
            }
            Err(error) => assert_eq!(error.errno(), Some(Errno::EOPNOTSUPP), "{error}"),
        }
    });
}
