//! The way back: what had a plugin's name before cnikit has it again.

use std::fs;
use std::path::Path;

use super::{Action, BACKUP, Error, Found, Mode, Place, Step, at, look};

/// Gives names back to what had them last before cnikit. Plugins of ours that nobody had before stay, for pods may be
/// attached by them; what is another's already is left alone.
pub(crate) fn restore(dir: &Path, names: &[&str], mode: Mode) -> Result<Vec<Step>, Error> {
    let place = Place { dir, mode };
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let _alone = place.prepare()?;
    let mut steps = Vec::new();
    for name in names {
        let action = match (look(&dir.join(name))?, last_backup(dir, name)) {
            (Found::Nothing, None) => continue,
            (Found::Stranger, _) => Action::Unchanged,
            (Found::Ours, None) => Action::Kept,
            (Found::Ours | Found::Nothing, Some(from)) => {
                let path = dir.join(name);
                if mode == Mode::Real {
                    // At every instant there is a plugin of that name.
                    fs::rename(dir.join(&from), &path).map_err(at("restore", &path))?;
                }
                Action::Restored { from }
            }
        };
        steps.push(Step { name: (*name).to_owned(), action });
    }
    place.flush()?;
    Ok(steps)
}

/// The backup of a name that was made last: they are numbered from 2 on.
fn last_backup(dir: &Path, name: &str) -> Option<String> {
    let numbered = (2..).map(|n| format!("{name}.{BACKUP}.{n}"));
    let names = std::iter::once(format!("{name}.{BACKUP}")).chain(numbered);
    names.take_while(|name| fs::symlink_metadata(dir.join(name)).is_ok()).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Strangers;
    use crate::signature::SIGNATURE;

    fn built(dir: &Path) -> std::path::PathBuf {
        let file = dir.join("built");
        fs::write(&file, [b"\x7fELF".as_slice(), &SIGNATURE].concat()).unwrap();
        file
    }

    #[test]
    fn what_was_there_last_is_there_again_and_what_nobody_had_stays() {
        let (root, names) = (tempfile::tempdir().unwrap(), ["bridge", "dummy", "ptp", "tap"]);
        let dir = root.path().join("bin");
        fs::create_dir(&dir).unwrap();
        let from = built(root.path());
        for content in ["first", "second"] {
            for name in ["bridge", "ptp"] {
                let _ = fs::remove_file(dir.join(name));
                fs::write(dir.join(name), content).unwrap();
            }
            let names = &names[..3];
            crate::install::install(&from, &dir, names, Strangers::Replace, Mode::Real).unwrap();
        }
        // Somebody else has put his own there meanwhile.
        fs::remove_file(dir.join("ptp")).unwrap();
        fs::write(dir.join("ptp"), "third").unwrap();

        let backup = "bridge.before-cnikit.2".to_owned();
        let expected = [
            ("bridge", Action::Restored { from: backup }),
            ("dummy", Action::Kept),
            ("ptp", Action::Unchanged),
        ]
        .map(|(name, action)| Step { name: name.to_owned(), action });
        assert_eq!(restore(&dir, &names, Mode::Dry).unwrap(), expected);
        assert_ne!(fs::read(dir.join("bridge")).unwrap(), b"second");
        assert_eq!(restore(&dir, &names, Mode::Real).unwrap(), expected);
        assert_eq!(fs::read(dir.join("bridge")).unwrap(), b"second");
        assert_eq!(fs::read(dir.join("ptp")).unwrap(), b"third");
        assert!(matches!(look(&dir.join("dummy")).unwrap(), Found::Ours));
        // Again: it is another's.
        assert_eq!(restore(&dir, &names, Mode::Real).unwrap()[0].action, Action::Unchanged);
        assert_eq!(restore(&root.path().join("none"), &names, Mode::Real).unwrap(), []);
    }
}
