//! The cluster's keys: a file that its owner alone may read, read again when somebody asks for it.

use std::path::Path;
use std::sync::Arc;

use cni_spec::NetworkName;
use gossip::seal::Keyring;
use tokio::sync::watch;

use crate::files::{Secrecy, read_own};
use crate::log;

/// More than the largest number of keys takes.
const LARGEST: u64 = 16 << 10;

/// The keys of a file. Those of one network are of no use to another.
pub(crate) fn read(path: &Path, network: &NetworkName) -> Result<Keyring, String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let content = read_own(path, Secrecy::Secret, LARGEST).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => {
                ": every node needs the same, made once by `openssl rand -hex 32`; or `--gossip-insecure` does without"
            }
            _ => "",
        };
        named(format!("{error}{advice}"))
    })?;
    let text = String::from_utf8(content).map_err(|_| named("it is no text".to_owned()))?;
    let keyring = Keyring::parse(&text).map_err(|error| named(error.to_string()))?;
    Ok(keyring.for_cluster(network.as_str()))
}

/// Reads the file again, and has everybody go on with what it says now. What cannot be used changes nothing.
pub(crate) fn read_again(path: &Path, network: &NetworkName, keys: &watch::Sender<Arc<Keyring>>) {
    match read(path, network) {
        Ok(keyring) => {
            log::info(format_args!("the keys are those of {} as it is now", path.display()));
            keys.send_replace(Arc::new(keyring));
        }
        Err(error) => log::error(format_args!("{error}; the former keys go on")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_none() {
        let network: NetworkName = "cnikit".parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let refused = || read(&path, &network).unwrap_err();
        assert!(refused().contains("openssl rand -hex 32"), "{}", refused());
        fs::write(&path, Keyring::generate(&[7; 32])).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused().contains("chmod 0600"), "{}", refused());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&path, &network).unwrap().is_secure());
        fs::write(&path, "secret\n").unwrap();
        assert!(refused().contains("line 1") && !refused().contains("secret"), "{}", refused());
    }

    #[test]
    fn a_file_that_is_no_use_changes_nothing() {
        let network: NetworkName = "cnikit".parse().unwrap();
        let (keys, receiver) = watch::channel(Arc::new(Keyring::insecure()));
        read_again(Path::new("/nonexistent/key"), &network, &keys);
        assert!(!receiver.has_changed().unwrap());
    }
}
