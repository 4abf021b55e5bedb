//! Which node this is: an id, made once and kept on the disk.
//!
//! A disk may be copied, with the id on it, to become another machine's. So a hash of the machine's own id
//! (machine-id(5)) is next to the node's: where it is another's, the node is a new one. Where the machine's id was copied,
//! too, it is the others who notice: each node says what its machine is.

use std::io;
use std::path::Path;

use overlay::{Fingerprint, Machine, NodeId};
use plugin_kit::files::{self, Durability};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{Secrecy, read_own};
use crate::log;

/// The file's name in the directory of what outlives a reboot.
pub(crate) const FILE: &str = "node.json";

/// Where systemd, or whoever does it in its place, has put the machine's id.
const MACHINE_ID: &str = "/etc/machine-id";
/// The kernel's, of this boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    id: NodeId,
    /// Of which machine; `None` where it had no id itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
}

/// The node's id: that on the disk, or a new one.
///
/// # Errors
/// If it cannot be read or kept, with what to do about it.
pub(crate) fn load_or_make(state_dir: &Path) -> Result<NodeId, String> {
    load_or_make_on(state_dir, std::fs::read_to_string(MACHINE_ID).ok().as_deref())
}

fn load_or_make_on(state_dir: &Path, machine_id: Option<&str>) -> Result<NodeId, String> {
    let path = state_dir.join(FILE);
    let machine = machine_id.and_then(machine_text).map(|text| NodeId::from_bytes(hash(&text)).to_string());
    match read_own(&path, Secrecy::Public, 4096) {
        Ok(content) => {
            let record: Record = serde_json::from_slice(&content).map_err(|error| {
                format!(
                    "read {}: {error}: put the right one back; or remove it, and this is a new node with another subnet",
                    path.display()
                )
            })?;
            match (&record.machine, &machine) {
                (Some(then), Some(now)) if then != now => log::warning(format_args!(
                    "{} was made on another machine: it is a copy; this is another node, and begins anew",
                    path.display()
                )),
                _ => return Ok(record.id),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("read {}: {error}", path.display())),
    }
    make(&path, machine)
}

fn make(path: &Path, machine: Option<String>) -> Result<NodeId, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("get random bytes: {error}"))?;
    let record = Record { id: NodeId::from_bytes(bytes), machine };
    let content = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
    files::replace(path, &content, 0o600, Durability::Disk)
        .map_err(|error| format!("write {}: {error}", path.display()))?;
    log::info(format_args!("this is node {}, from now on: {}", record.id, path.display()));
    Ok(record.id)
}

/// What is told of this machine, but its MAC address. A container has no machine id, or one of its own.
pub(crate) fn machine() -> Machine {
    let read = |path| std::fs::read_to_string(path).ok();
    machine_of(read(MACHINE_ID).as_deref(), read(BOOT_ID).as_deref())
}

/// The same, from what the ids are.
pub(crate) fn machine_of(machine_id: Option<&str>, boot_id: Option<&str>) -> Machine {
    let boot = boot_id.map(str::trim).filter(|id| !id.is_empty());
    Machine {
        id: machine_id.and_then(machine_text).map(|text| Fingerprint::from_bytes(hash(&text))),
        boot: boot.map(|id| Fingerprint::from_bytes(hash(&format!("cnikit boot {id}")))),
        mac: None,
    }
}

/// machine-id(5) asks that the id itself is not told: it is hashed with a word of ours.
fn machine_text(machine_id: &str) -> Option<String> {
    // systemd writes "uninitialized" on a first boot.
    let machine_id = machine_id.trim();
    let is_one = machine_id.len() == 32 && machine_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| format!("cnikit machine {machine_id}"))
}

/// The id of a node that was given none: where a list says all that is known of nodes, it follows from their names.
pub(crate) fn of_name(name: &str) -> NodeId {
    NodeId::from_bytes(hash(&format!("cnikit node {name}")))
}

/// As much of it as is wanted.
fn hash<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(byte, from)| *byte = from);
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    const ONE: Option<&str> = Some("0123456789abcdef0123456789abcdef\n");
    const OTHER: Option<&str> = Some("fedcba9876543210fedcba9876543210\n");

    #[test]
    fn an_id_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let id = load_or_make_on(directory.path(), ONE).unwrap();
        assert_eq!(load_or_make_on(directory.path(), ONE), Ok(id));
        let file = directory.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let content = fs::read_to_string(file).unwrap();
        assert!(!content.contains("0123456789abcdef0123456789abcdef"), "{content}");
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(load_or_make_on(elsewhere.path(), ONE), Ok(id));
    }

    #[test]
    fn a_copy_on_another_machine_is_another_node() {
        let directory = tempfile::tempdir().unwrap();
        let id = load_or_make_on(directory.path(), ONE).unwrap();
        let of_copy = load_or_make_on(directory.path(), OTHER).unwrap();
        assert_ne!(of_copy, id);
        assert_eq!(load_or_make_on(directory.path(), OTHER), Ok(of_copy));
    }

    #[test]
    fn a_machine_that_does_not_say_which_it_is_keeps_the_id() {
        let directory = tempfile::tempdir().unwrap();
        let id = load_or_make_on(directory.path(), ONE).unwrap();
        for nobody in [None, Some(""), Some("uninitialized\n")] {
            assert_eq!(load_or_make_on(directory.path(), nobody), Ok(id));
        }
    }

    #[test]
    fn what_is_told_of_a_machine_is_the_same_for_ever_and_does_not_tell_its_ids() {
        let boot = Some("7a0bd2a5-0f0c-4c7e-a2ad-3a4d9f6b5c11\n");
        let machine = machine_of(ONE, boot);
        let text = |id: Option<Fingerprint>| id.map(|id| id.to_string());
        // printf 'cnikit machine 0123456789abcdef0123456789abcdef' | sha256sum | head -c 16
        assert_eq!(text(machine.id).as_deref(), Some("ac84905f91d5803c"));
        // printf 'cnikit boot 7a0bd2a5-0f0c-4c7e-a2ad-3a4d9f6b5c11' | sha256sum | head -c 16
        assert_eq!(text(machine.boot).as_deref(), Some("8f9e11198981c384"));
        assert_eq!(machine_of(Some("uninitialized\n"), Some("")), Machine::default());
    }

    #[test]
    fn a_file_that_is_none_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        for content in ["", "{}", r#"{"id":"x"}"#] {
            fs::write(&path, content).unwrap();
            let refused = load_or_make_on(directory.path(), ONE).unwrap_err();
            assert!(refused.contains("node.json") && refused.contains("remove it"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(load_or_make_on(directory.path(), ONE).unwrap_err().contains("symbolic link"));
    }

    #[test]
    fn an_id_that_follows_from_a_name_is_the_same_for_ever() {
        // printf 'cnikit node n1' | sha256sum | head -c 32
        assert_eq!(of_name("n1").to_string(), "b9514484b00277a5c5a77ac77e62395e");
    }
}
