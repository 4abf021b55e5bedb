//! Who this node is.

use super::Root;
use crate::commands::doctor::facts::Identity;

pub(super) fn identity(root: &Root) -> Identity {
    Identity {
        host_name: root.line("/proc/sys/kernel/hostname").or_else(|| root.line("/etc/hostname")),
        machine_id: root.line("/etc/machine-id"),
        product_uuid: root.line("/sys/class/dmi/id/product_uuid"),
    }
}
