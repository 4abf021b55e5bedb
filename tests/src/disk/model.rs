//! What was written, and what of it may be there after a cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::trace::{Done, STRACE, successes};
use super::tree::{Object, Tree};
use crate::call::{Call, Outcome};
use crate::node::Node;

/// A number of a file or directory.
type Inode = usize;

const ROOT: Inode = 0;

/// Where a node has the trace of a call.
const TRACE: &str = "/run/writes";

/// What calls wrote below a directory, in order.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    before: Inodes,
    now: Inodes,
    steps: Vec<Step>,
}

type Inodes = Vec<Content>;

#[derive(Debug, Clone)]
enum Content {
    File(Vec<u8>),
    Directory(BTreeMap<OsString, Inode>),
}

/// What happens to a disk.
#[derive(Debug, Clone)]
enum Step {
    /// Some names of a directory stand for something else from now on, or for nothing, all at once.
    Names(Inode, Vec<(OsString, Option<Inode>)>),
    /// Bytes of a file.
    Bytes(Inode, usize, Vec<u8>),
    /// A length of a file.
    Length(Inode, usize),
    /// What was done to a file or a directory so far is there for good.
    Sync(Inode),
    /// A call has answered.
    Answer,
}

/// What becomes of a step that nothing has synced.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Of the bytes that were written, these are there, and the file reaches as far as the first so many of them would have it.
    /// What it has no bytes for is zero, or what was there before.
    Torn(Range<usize>, usize),
}

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// A disk after the power was cut.
#[derive(Debug, Clone)]
pub struct Cut {
    /// How many of the calls had answered.
    pub answered: usize,
    /// What is there.
    pub tree: Tree,
    story: String,
}

impl Disk {
    /// What is below a directory is there for good.
    pub fn of(root: &Path) -> Self {
        let before = inodes(&Tree::read(root));
        Self { root: root.to_owned(), now: before.clone(), before, steps: Vec::new() }
    }

    /// Makes a call, and remembers what it writes. Its answer is given when it prints it, or else when it ends.
    pub fn call(&mut self, node: &Node, call: &Call<'_>) -> Outcome {
        let outcome = call.run_through(&[&STRACE[..], &[TRACE]].concat());
        let answered = !outcome.stdout.is_empty();
        self.watch(node, answered);
        outcome
    }

    /// Runs a shell's simple command, and remembers what it writes. It answers when it ends.
    pub fn shell(&mut self, node: &Node, command: &str) {
        node.shell(&format!("{} {TRACE} {command}", STRACE.join(" ")));
        self.watch(node, false);
    }

    /// Has a daemon asked something while it runs, and remembers what it writes. Each JSON object that it sends is an answer.
    /// Whoever does so is given what to start it through, and must see it end.
    pub fn daemon(&mut self, node: &Node, run: impl FnOnce(&[&str])) {
        run(&[&STRACE[..], &[TRACE]].concat());
        for done in successes(&node.shell(&format!("cat {TRACE}"))) {
            self.see(&done);
            if done.says_something() {
                self.steps.push(Step::Answer);
            }
        }
        self.compare();
    }

    fn watch(&mut self, node: &Node, prints: bool) {
        let done = successes(&node.shell(&format!("cat {TRACE}")));
        let first = done.first().map(|done| done.thread.clone());
        let printed = |done: &Done| {
            done.name == "write" && done.argument_is(0, "1<") && Some(&done.thread) == first.as_ref()
        };
        let answer = if prints { done.iter().rposition(printed) } else { None };
        for (number, done) in done.iter().enumerate() {
            self.see(done);
            if Some(number) == answer {
                self.steps.push(Step::Answer);
            }
        }
        if answer.is_none() {
            self.steps.push(Step::Answer);
        }
        self.compare();
    }

    fn compare(&self) {
        assert_eq!(tree(&self.now), Tree::read(&self.root), "the model is not what the calls made");
    }

    fn see(&mut self, done: &Done) {
        match done.name.as_str() {
            "open" => self.opened(&done.path(0), done, 1),
            "openat" => self.opened(&done.path_at(0), done, 2),
            "creat" => panic!("not modelled: {done:?}"),
            "mkdir" => self.made(&done.path(0), Content::Directory(BTreeMap::new())),
            "mkdirat" => self.made(&done.path_at(0), Content::Directory(BTreeMap::new())),
            "link" => self.linked(&done.path(0), &done.path(1)),
            "linkat" => self.linked(&done.path_at(0), &done.path_at(2)),
            "rename" => self.renamed(&done.path(0), &done.path(1)),
            "renameat" | "renameat2" => self.renamed(&done.path_at(0), &done.path_at(2)),
            "unlink" | "rmdir" => self.name(&done.path(0), None),
            "unlinkat" => self.name(&done.path_at(0), None),
            "write" | "pwrite64" => {
                if let Some(file) = self.find(&done.descriptor(0)) {
                    let Content::File(content) = &self.now[file] else { return };
                    // Who writes without saying where has written everything before that.
                    let at = if done.name == "write" { content.len() } else { done.number(3) };
                    let mut bytes = done.bytes(1);
                    bytes.truncate(done.result);
                    self.step(Step::Bytes(file, at, bytes));
                }
            }
            "ftruncate" => {
                if let Some(file) = self.find(&done.descriptor(0)) {
                    self.step(Step::Length(file, done.number(1)));
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(synced) = self.find(&done.descriptor(0)) {
                    self.step(Step::Sync(synced));
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, path: &Path, done: &Done, flags: usize) {
        match self.find(path) {
            None if done.says(flags, "O_CREAT") => self.made(path, Content::File(Vec::new())),
            Some(file) if done.says(flags, "O_TRUNC") => self.step(Step::Length(file, 0)),
            _ => {}
        }
    }

    fn made(&mut self, path: &Path, content: Content) {
        if path.starts_with(&self.root) {
            self.before.push(content.clone());
            self.now.push(content);
            self.name(path, Some(self.now.len() - 1));
        }
    }

    fn linked(&mut self, from: &Path, to: &Path) {
        if let Some(file) = self.find(from) {
            self.name(to, Some(file));
        }
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        let Some(moved) = self.find(from) else { return };
        assert_eq!(from.parent(), to.parent(), "not modelled: a rename to another directory");
        let names = vec![(last(from), None), (last(to), Some(moved))];
        let directory = self.parent(from).unwrap();
        self.step(Step::Names(directory, names));
    }

    fn name(&mut self, path: &Path, what: Option<Inode>) {
        if let Some(directory) = self.parent(path) {
            self.step(Step::Names(directory, vec![(last(path), what)]));
        }
    }

    fn step(&mut self, step: Step) {
        apply(&mut self.now, &step, &Fate::Kept);
        self.steps.push(step);
    }

    fn parent(&self, path: &Path) -> Option<Inode> {
        self.find(path.parent()?)
    }

    /// What a path below the root stands for now.
    fn find(&self, path: &Path) -> Option<Inode> {
        let below = path.strip_prefix(&self.root).ok()?;
        below.iter().try_fold(ROOT, |inode, name| match &self.now[inode] {
            Content::Directory(names) => names.get(name).copied(),
            Content::File(_) => None,
        })
    }

    /// What is there if the power stays.
    pub fn tree(&self) -> Tree {
        tree(&self.now)
    }

    /// What can be there after a cut, each once. At each instant: everything that was not synced is kept, lost, or kept
    /// without the bytes of files; each part of it alone is lost, or torn in the middle and between any two sectors; and some
    /// random choices, torn anywhere.
    pub fn cuts(&self, samples: usize, random: &mut TestRunner) -> Vec<Cut> {
        let mut seen = BTreeSet::new();
        let mut cuts = Vec::new();
        for length in 0..=self.steps.len() {
            let steps = &self.steps[..length];
            let answered = steps.iter().filter(|step| matches!(step, Step::Answer)).count();
            let pending = pending(steps);
            let written: Vec<_> = pending.iter().map(|number| written(&steps[*number])).collect();
            for fates in choices(&written, samples, random) {
                let fates: BTreeMap<usize, Fate> = pending.iter().copied().zip(fates).collect();
                let tree = self.after(steps, &fates);
                if seen.insert((answered, tree.clone())) {
                    let story = self.story(steps, &fates);
                    cuts.push(Cut { answered, tree, story });
                }
            }
        }
        cuts
    }

    fn after(&self, steps: &[Step], fates: &BTreeMap<usize, Fate>) -> Tree {
        let mut inodes = self.before.clone();
        for (number, step) in steps.iter().enumerate() {
            apply(&mut inodes, step, fates.get(&number).unwrap_or(&Fate::Kept));
        }
        tree(&inodes)
    }

    fn story(&self, steps: &[Step], fates: &BTreeMap<usize, Fate>) -> String {
        let line = |(number, step): (usize, &Step)| {
            let fate = match fates.get(&number) {
                None => "for good".to_owned(),
                Some(Fate::Kept) => "kept".to_owned(),
                Some(Fate::Lost) => "LOST".to_owned(),
                Some(Fate::Torn(there, length)) => format!("TORN ({there:?} of {length})"),
            };
            match step {
                Step::Bytes(file, at, bytes) => {
                    format!("  {fate:8} Bytes({file}, {at}, {:?})\n", String::from_utf8_lossy(bytes))
                }
                step => format!("  {fate:8} {step:?}\n"),
            }
        };
        steps.iter().enumerate().map(line).collect()
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, tree, story } = self;
        write!(f, "after {answered} answers, these steps:\n{story}which makes:\n{tree}")
    }
}

impl Done {
    fn argument_is(&self, at: usize, beginning: &str) -> bool {
        self.arguments.get(at).is_some_and(|argument| argument.starts_with(beginning))
    }
}

/// The steps that nothing after them has synced.
fn pending(steps: &[Step]) -> Vec<usize> {
    let changed = |step: &Step| match step {
        Step::Names(inode, _) | Step::Bytes(inode, ..) | Step::Length(inode, _) => Some(*inode),
        Step::Sync(_) | Step::Answer => None,
    };
    let is_pending = |number: &usize| {
        let Some(inode) = changed(&steps[*number]) else { return false };
        !steps[number + 1..].iter().any(|step| matches!(step, Step::Sync(synced) if *synced == inode))
    };
    (0..steps.len()).filter(is_pending).collect()
}

/// How many bytes of a file a step writes.
fn written(step: &Step) -> usize {
    if let Step::Bytes(_, _, bytes) = step { bytes.len() } else { 0 }
}

/// What a write of so many bytes may come to that is neither lost nor kept. Some of it is there from its beginning on, and the file is
/// as long as that, or as long as it was to be; or its beginning is missing, for pages are written in any order. It is torn between
/// sectors, or where it is said: some file systems have small files, and the ends of others, beside other things.
fn tears(written: usize, anywhere: usize) -> Vec<Fate> {
    let sectors = (SECTOR..written).step_by(SECTOR);
    let places: BTreeSet<_> = sectors.chain([anywhere]).filter(|at| (1..written).contains(at)).collect();
    let torn = |at: usize| {
        [Fate::Torn(0..at, at), Fate::Torn(0..at, written), Fate::Torn(at..written, written)].into_iter()
    };
    places.into_iter().flat_map(torn).collect()
}

/// Fates for steps that write so many bytes.
fn choices(written: &[usize], samples: usize, random: &mut TestRunner) -> Vec<Vec<Fate>> {
    let all = |fate: fn(usize) -> Fate| written.iter().copied().map(fate).collect::<Vec<_>>();
    let kept = all(|_| Fate::Kept);
    let mut choices = vec![all(|_| Fate::Lost), kept.clone(), all(|written| Fate::Torn(0..0, written))];
    for (number, written) in written.iter().enumerate() {
        for fate in [Fate::Lost].into_iter().chain(tears(*written, written / 2)) {
            let mut choice = kept.clone();
            choice[number] = fate;
            choices.push(choice);
        }
    }
    let any: Vec<_> = written.iter().map(|written| fate(*written)).collect();
    choices.extend((0..samples).map(|_| any.new_tree(random).unwrap().current()));
    choices
}

/// Any fate of a step that writes so many bytes.
fn fate(written: usize) -> impl Strategy<Value = Fate> {
    (0..4, 0..=written).prop_flat_map(move |(kind, anywhere)| {
        let mut fates = match kind {
            0 => vec![Fate::Kept],
            1 => vec![Fate::Lost],
            2 => vec![Fate::Torn(0..0, written)],
            _ => tears(written, anywhere),
        };
        if fates.is_empty() {
            fates.push(Fate::Kept);
        }
        proptest::sample::select(fates)
    })
}

fn apply(inodes: &mut Inodes, step: &Step, fate: &Fate) {
    match (step, fate) {
        (_, Fate::Lost) | (Step::Sync(_) | Step::Answer, _) => {}
        (Step::Names(directory, names), _) => {
            let Content::Directory(entries) = &mut inodes[*directory] else { panic!("{step:?}") };
            for (name, what) in names {
                match what {
                    Some(inode) => drop(entries.insert(name.clone(), *inode)),
                    None => drop(entries.remove(name)),
                }
            }
        }
        (Step::Bytes(file, at, bytes), fate) => {
            let content = file_content(inodes, *file);
            let (there, length) = match fate {
                Fate::Torn(there, length) => (there.clone(), *length),
                Fate::Kept | Fate::Lost => (0..bytes.len(), bytes.len()),
            };
            content.resize(content.len().max(at + length), 0);
            content[at + there.start..at + there.end].copy_from_slice(&bytes[there]);
        }
        (Step::Length(file, length), _) => file_content(inodes, *file).resize(*length, 0),
    }
}

fn file_content(inodes: &mut Inodes, file: Inode) -> &mut Vec<u8> {
    match &mut inodes[file] {
        Content::File(content) => content,
        Content::Directory(_) => panic!("a directory"),
    }
}

fn last(path: &Path) -> OsString {
    path.file_name().unwrap().to_owned()
}

fn inodes(tree: &Tree) -> Inodes {
    let mut inodes = vec![Content::Directory(BTreeMap::new())];
    let mut numbers = BTreeMap::from([(PathBuf::new(), ROOT)]);
    for (path, object) in &tree.0 {
        let content = match object {
            Object::Directory => Some(Content::Directory(BTreeMap::new())),
            Object::File(content) => Some(Content::File(content.clone())),
            Object::Link(_) => None,
        };
        let number = match (content, object) {
            (None, Object::Link(first)) => numbers[first],
            (content, _) => {
                inodes.extend(content);
                inodes.len() - 1
            }
        };
        numbers.insert(path.clone(), number);
        let Content::Directory(entries) = &mut inodes[numbers[path.parent().unwrap()]] else {
            panic!("{} is in a file", path.display())
        };
        entries.insert(last(path), number);
    }
    inodes
}

fn tree(inodes: &Inodes) -> Tree {
    fn below(inodes: &Inodes, at: Inode, path: &Path, seen: &mut BTreeMap<Inode, PathBuf>, tree: &mut Tree) {
        let Content::Directory(entries) = &inodes[at] else { return };
        for (name, inode) in entries {
            let path = path.join(name);
            let object = match (&inodes[*inode], seen.get(inode)) {
                (Content::Directory(_), _) => Object::Directory,
                (Content::File(_), Some(first)) => Object::Link(first.clone()),
                (Content::File(content), None) => Object::File(content.clone()),
            };
            seen.entry(*inode).or_insert_with(|| path.clone());
            tree.0.insert(path.clone(), object);
            below(inodes, *inode, &path, seen, tree);
        }
    }
    let mut found = Tree::default();
    below(inodes, ROOT, Path::new(""), &mut BTreeMap::new(), &mut found);
    found
}
