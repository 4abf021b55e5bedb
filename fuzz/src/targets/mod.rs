//! The targets, by what their bytes are.

pub(crate) mod addresses;
pub(crate) mod calls;
pub(crate) mod chained;
pub(crate) mod documents;
pub(crate) mod files;
pub(crate) mod gossips;
pub(crate) mod overlays;
pub(crate) mod words;

/// Answers of the kernel: rtnetlink and nf_tables.
pub(crate) fn netlink(data: &[u8]) {
    netops::read_as_answers(data);
}

/// What D-Bus says to `firewall`.
pub(crate) fn bus(data: &[u8]) {
    plugin_chain::read_as_bus(data);
}

/// Answers of DHCP servers, of both versions.
pub(crate) fn dhcp_answer(data: &[u8]) {
    dhcp::read_as_answer(data);
}

/// What the DHCP daemon is asked for, and what it has on disk.
pub(crate) fn dhcp_document(data: &[u8]) {
    dhcp::read_as_document(data);
}

/// The text in bytes; nothing is lost where they are UTF-8.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}
