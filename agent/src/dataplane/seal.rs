//! Probes are sealed with the cluster's key, as gossip is: what is inside tells the two apart.

use std::sync::Arc;
use std::time::Instant;

use gossip::seal::{Keyring, NONCE, Opener, Sealer};
use overlay::path::Seal;
use tokio::sync::watch;

/// Seals probes, with whatever keys there are.
#[derive(Debug)]
pub(crate) struct ProbeSeal {
    keys: watch::Receiver<Arc<Keyring>>,
    sealer: Sealer,
    opener: Opener,
    begun: Instant,
}

impl ProbeSeal {
    /// With keys that may be others later on.
    pub(crate) fn new(mut keys: watch::Receiver<Arc<Keyring>>) -> Self {
        let keyring = Arc::clone(&keys.borrow_and_update());
        // A sender that nobody has heard of yet may begin to count anywhere: so nothing has to be kept on disk. Who it is
        // says the message.
        let mut sender = [0; 16];
        fill(&mut sender);
        Self {
            keys,
            sealer: Sealer::new(Arc::clone(&keyring), sender, 1),
            opener: Opener::new(keyring),
            begun: Instant::now(),
        }
    }

    fn renew(&mut self) {
        if self.keys.has_changed().unwrap_or(false) {
            let keyring = Arc::clone(&self.keys.borrow_and_update());
            self.sealer.set_keyring(Arc::clone(&keyring));
            self.opener.set_keyring(keyring);
        }
    }
}

impl Seal for ProbeSeal {
    fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        self.renew();
        let mut nonce = [0; NONCE];
        // A nonce that was there before would give the key away.
        if !fill(&mut nonce) {
            return Vec::new();
        }
        self.sealer.seal(nonce, message)
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.renew();
        self.opener.open(self.begun.elapsed(), sealed).ok().map(|opened| opened.payload)
    }
}

/// Random bytes. The kernel always has some; if it had none, nothing would be sealed.
fn fill(bytes: &mut [u8]) -> bool {
    getrandom::fill(bytes).is_ok()
}
