//! Limits of control groups, of both versions, nested, and seen from inside of a container or from outside.

use std::path::{Component, Path, PathBuf};

use crate::{LimitSource, MemoryLimit, read};

/// A hierarchy of control groups that limits memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// The group that is mounted; in a container often that of the container.
    mounted: PathBuf,
    /// Where it is mounted.
    at: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The files of a group that limit its memory. Beyond `memory.high` a group is slowed down until it stands still.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::One => &["memory.limit_in_bytes"],
            Self::Two => &["memory.max", "memory.high"],
        }
    }
}

/// The least limit of the groups that this process is in.
pub(crate) fn limit(root: &Path) -> Option<MemoryLimit> {
    let mounts = read(root, Path::new("/proc/self/mountinfo"))?;
    let groups = read(root, Path::new("/proc/self/cgroup"))?;
    let limits = mounts.lines().filter_map(hierarchy).flat_map(|hierarchy| {
        let group = groups.lines().find_map(|line| group_in(line, hierarchy.version));
        group.map(|group| hierarchy.limits(root, &group)).unwrap_or_default()
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// The hierarchy that a line of `mountinfo` mounts, if it is one that limits memory.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    // 36 35 98:0 /mounted /at rw,noatime shared:1 - cgroup cgroup rw,memory
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (mounted, at) = (unescaped(mount.next()?), unescaped(mount.next()?));
    let mut system = system.split(' ');
    let version = match (system.next()?, system.nth(1)) {
        ("cgroup2", _) => Version::Two,
        ("cgroup", Some(options)) if options.split(',').any(|option| option == "memory") => Version::One,
        _ => return None,
    };
    Some(Hierarchy { version, mounted, at })
}

/// The group of this process in the hierarchy of a version, if a line of `/proc/self/cgroup` says so.
fn group_in(line: &str, version: Version) -> Option<PathBuf> {
    // 4:memory:/group, and 0::/group for version 2
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    let fits = match version {
        Version::One => controllers.split(',').any(|controller| controller == "memory"),
        Version::Two => controllers.is_empty(),
    };
    fits.then(|| PathBuf::from(group))
}

impl Hierarchy {
    /// The limits of a group and of those that it is in, as far as they are mounted.
    fn limits(&self, root: &Path, group: &Path) -> Vec<MemoryLimit> {
        // From inside of a container a group may have a name that is only right outside; then what is mounted is its own.
        let below = group.strip_prefix(&self.mounted).unwrap_or(Path::new(""));
        let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let folder = self.at.join(if is_plain { below } else { Path::new("") });
        let folders = folder.ancestors().take_while(|folder| folder.starts_with(&self.at));
        let own = folders.flat_map(|folder| self.version.files().iter().map(|file| folder.join(file)));
        let own = own.filter_map(|file| {
            let bytes = read(root, &file)?.trim().parse::<u64>().ok()?;
            Some(MemoryLimit { bytes, source: LimitSource::ControlGroup(file) })
        });
        own.chain(self.hierarchical(root, &folder)).collect()
    }

    /// What version 1 says of all groups around one, also of those that are not mounted here.
    fn hierarchical(&self, root: &Path, folder: &Path) -> Option<MemoryLimit> {
        let file = folder.join("memory.stat");
        let text = read(root, &file).filter(|_| self.version == Version::One)?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit "))?;
        Some(MemoryLimit { bytes: bytes.trim().parse().ok()?, source: LimitSource::ControlGroup(file) })
    }
}

/// A path of `mountinfo`, where a blank is `\040`.
fn unescaped(path: &str) -> PathBuf {
    let mut text = path.to_owned();
    for (code, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(code, plain);
    }
    PathBuf::from(text)
}
