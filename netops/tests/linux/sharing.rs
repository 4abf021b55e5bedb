//! Announcing that shared resources are relied upon.

use netops::*;

use crate::in_lab;

#[test]
fn many_may_share_and_one_alone_may_exclude() {
    in_lab!(|lab| {
        let (mut a, mut b) = (lab.fresh_kernel(), lab.fresh_kernel());
        a.share().unwrap();
        b.share().unwrap();
        assert!(!a.exclude(), "b relies on what is shared");
        assert!(b.exclude(), "a gave up its lock by asking");
        drop(b);
        assert!(a.exclude());
    });
}

#[test]
fn namespaces_do_not_share_a_lock() {
    in_lab!(|lab| {
        let mut here = lab.fresh_kernel();
        here.share().unwrap();
        let there = lab.container.enter(|| {
            let mut kernel = LinuxKernel::new(None);
            kernel.share().unwrap();
            kernel.exclude()
        });
        assert_eq!(there, Ok(true));
    });
}

#[test]
fn whoever_excludes_for_ever_stops_nobody_for_ever() {
    in_lab!(|lab| {
        let (mut a, mut b) = (lab.fresh_kernel(), lab.fresh_kernel());
        assert!(a.exclude());
        assert_eq!(b.share(), Ok(()));
    });
}
