//! A node and its pods, as namespaces.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use crate::call::{Call, Implementation};

/// A machine of a test's own: a network namespace, and a mount namespace in which `/run` and `/var/lib` are its own.
/// It is gone when it is dropped.
#[derive(Debug)]
pub struct Node {
    mounts: File,
    network: File,
}

/// A container's network namespace on a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    name: String,
}

impl Node {
    /// A node on which one implementation's plugins are installed, all of them.
    pub fn new(plugins: &Implementation) -> Self {
        let node = Self::bare();
        node.install(plugins);
        node
    }

    /// A node without plugins.
    pub fn bare() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces for a node");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .unwrap();
            for own in ["/run", "/var/lib"] {
                mount(Some("cnikit-tests"), own, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
            }
            fs::create_dir_all("/run/netns").unwrap();
            let open = |kind| File::open(format!("/proc/thread-self/ns/{kind}")).unwrap();
            Self { mounts: open("mnt"), network: open("net") }
        });
        made.join().unwrap()
    }

    /// Installs all plugins of an implementation, in its directory.
    pub fn install(&self, plugins: &Implementation) {
        for name in plugins.names() {
            self.install_as(plugins, &name, plugins.directory(), &name);
        }
    }

    /// Installs one plugin of an implementation in some directory under some name. Ours must have its own.
    pub fn install_as(&self, plugins: &Implementation, plugin: &str, directory: &str, name: &str) {
        self.inside(|| {
            fs::create_dir_all(directory).unwrap();
            symlink(plugins.executable(plugin), Path::new(directory).join(name)).unwrap();
        });
    }

    /// Makes a container.
    pub fn pod(&self, name: &str) -> Pod {
        let pod = Pod { name: name.to_owned() };
        self.inside(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::create(pod.path()).unwrap();
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &pod.path(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        });
        pod
    }

    /// Ends a container: its path is gone, and so are its interfaces, some time later.
    pub fn end(&self, pod: &Pod) {
        self.inside(|| {
            umount2(&pod.path(), MntFlags::MNT_DETACH).unwrap();
            fs::remove_file(pod.path()).unwrap();
        });
    }

    /// Does something in the node's namespaces.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let entered = || {
            // A thread that shares its root and working directory with others cannot enter a mount namespace.
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&self.mounts, CloneFlags::CLONE_NEWNS).unwrap();
            setns(&self.network, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Does something in a container's network namespace.
    pub fn inside_pod<R: Send>(&self, pod: &Pod, work: impl FnOnce() -> R + Send) -> R {
        self.inside(|| {
            setns(File::open(pod.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Runs a shell script on the node; it must succeed. Returns what it printed.
    pub fn shell(&self, script: &str) -> String {
        self.inside(|| run(script))
    }

    /// Runs a shell script in a container; it must succeed. Returns what it printed.
    pub fn pod_shell(&self, pod: &Pod, script: &str) -> String {
        self.inside_pod(pod, || run(script))
    }

    /// A call of an implementation's plugin, about the interface `eth0` of the container `c1`.
    pub fn call<'a>(
        &'a self,
        plugins: &Implementation,
        command: &str,
        plugin: &str,
        config: &Value,
    ) -> Call<'a> {
        Call::new(self, plugins.directory(), plugin, command, config.to_string())
    }

    /// Its network namespace.
    pub(crate) fn network(&self) -> &File {
        &self.network
    }

    /// The paths of all containers that there are.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.inside(|| {
            let entries = fs::read_dir("/run/netns").unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            let pods = names.into_iter().map(|name| Pod { name });
            // Tests put other things there too.
            pods.filter(|pod| is_namespace(&pod.path())).collect()
        })
    }
}

impl Pod {
    /// Where its namespace is.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_namespace(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(path) == device(Path::new("/proc/thread-self/ns/net"))
}

fn run(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
