//! Entries to what reads bytes from outside, for cnikit-fuzz.

use std::time::Duration;

use cni_spec::CniArgs;
use netops::MacAddr;
use plugin_kit::ipam::dhcp::protocol::Call;

use crate::client::{Dialect, Identity, Reply};
use crate::connection;
use crate::store;
use crate::time::Time;
use crate::v4::{Settings, V4};
use crate::v6::V6;
use crate::wishes::Wishes;

/// Reads bytes as an answer of a server: a frame of version 4, and a datagram of version 6. The client is the one that the
/// answer is for, so that it is read to its end.
pub fn read_as_answer(data: &[u8]) {
    let now = Time::since_boot(Duration::from_secs(1000));
    let mac: [u8; 6] = data.get(42 + 28..42 + 34).and_then(|mac| mac.try_into().ok()).unwrap_or_default();
    let transaction = data.get(42 + 4..42 + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let identity = Identity { name: "c1/lan/eth0".to_owned(), mac: MacAddr::new(mac) };
    let settings = Settings { broadcast: false, resend_max: Duration::from_secs(62) };
    let v4 = V4::new(identity, Wishes::default(), settings);
    examine(v4.read(data, u32::from_be_bytes(transaction), now), now);

    let (v6, transaction) = V6::addressee_of(data);
    examine(v6.read(data, transaction, now), now);
}

/// What a client may rely on.
fn examine(reply: Result<Option<Reply>, String>, now: Time) {
    let Ok(Some(Reply::Granted(lease))) = reply else { return };
    let address = lease.address.addr();
    assert!(!address.is_unspecified() && !address.is_multicast() && !address.is_loopback());
    assert!(now < lease.renew_at && lease.renew_at <= lease.rebind_at && lease.rebind_at <= lease.expires_at);
    let dns = &lease.facts.dns;
    for name in dns.search.iter().chain(&dns.domain) {
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
    // What is held is written down, and read again.
    let text = serde_json::to_string(&lease).unwrap_or_default();
    assert_eq!(serde_json::from_str(&text).ok(), Some(lease));
}

/// Reads bytes as a plugin's call, ours and the reference's, and as a record.
pub fn read_as_document(data: &[u8]) {
    connection::read_as_reference(data);
    if let Ok(call) = serde_json::from_slice::<Call>(data) {
        if let Call::Add(subject) | Call::Check(subject) | Call::Del(subject) = &call
            && let Ok(config) = subject.config()
        {
            let _ = Wishes::of(&config, &CniArgs::parse(&subject.args));
        }
        let text = serde_json::to_vec(&call).unwrap_or_default();
        assert!(!text.contains(&b'\n'), "a call is a line");
        assert_eq!(serde_json::from_slice(&text).ok(), Some(call));
    }
    store::read_as_record(data);
}
