use std::fs;

use rstest::rstest;

use super::*;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// What version 1 writes where there is no limit.
const UNLIMITED: &str = "9223372036854771712";

const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");

/// A machine of 16 GiB with these files besides.
fn machine_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (name, text) in [MEMINFO].iter().chain(files) {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    root
}

fn found(files: &[(&str, &str)]) -> (u64, String) {
    let root = machine_with(files);
    let limit = memory_limit_in(root.path(), 2).expect("a limit");
    (limit.bytes, limit.source.to_string())
}

const MACHINE: (u64, &str) = (16 * GIB, "the machine's memory");
const V2: (&str, &str) =
    ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
const V1: (&str, &str) = (
    "proc/self/mountinfo",
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
     35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
     36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
);

#[test]
fn without_control_groups_it_is_the_machines() {
    assert_eq!(found(&[]), (MACHINE.0, MACHINE.1.to_owned()));
    let nothing = tempfile::tempdir().expect("a folder");
    assert_eq!(memory_limit_in(nothing.path(), 2), None);
}

#[rstest]
#[case::own(&[("a/b/memory.max", "1073741824")], GIB, "/sys/fs/cgroup/a/b/memory.max")]
#[case::around(&[("a/b/memory.max", "max"), ("a/memory.max", "2147483648")], 2 * GIB, "/sys/fs/cgroup/a/memory.max")]
#[case::the_least_of_two(&[("a/b/memory.max", "3221225472"), ("a/memory.max", "1073741824")], GIB, "/sys/fs/cgroup/a/memory.max")]
#[case::of_a_container(&[("memory.max", "1073741824")], GIB, "/sys/fs/cgroup/memory.max")]
#[case::high(&[("a/b/memory.max", "max"), ("a/b/memory.high", "536870912\n")], GIB / 2, "/sys/fs/cgroup/a/b/memory.high")]
fn version_two(#[case] files: &[(&str, &str)], #[case] bytes: u64, #[case] file: &str) {
    let names: Vec<String> = files.iter().map(|(name, _)| format!("sys/fs/cgroup/{name}")).collect();
    let groups = names.iter().zip(files).map(|(name, (_, text))| (name.as_str(), *text));
    let files: Vec<(&str, &str)> = [V2, ("proc/self/cgroup", "0::/a/b\n")].into_iter().chain(groups).collect();
    assert_eq!(found(&files), (bytes, format!("the limit in {file}")));
}

#[rstest]
#[case::max(&[V2, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "max\n")])]
#[case::more_than_there_is(&[V2, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "99999999999999")])]
#[case::no_files(&[V2, ("proc/self/cgroup", "0::/a\n")])]
#[case::no_groups(&[V2])]
#[case::nonsense(&[V2, ("proc/self/cgroup", "a:b\n\n0::\n"), ("sys/fs/cgroup/memory.max", "-1 x")])]
#[case::of_another_group(&[V2, ("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/b/memory.max", "1073741824")])]
#[case::version_one(&[V1, ("proc/self/cgroup", "4:memory:/\n"), ("sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED)])]
#[case::mounts_that_are_none(&[("proc/self/mountinfo", "x\n1 2 3\n1 2 3 / - cgroup\n"), ("proc/self/cgroup", "0::/\n")])]
fn no_limit(#[case] files: &[(&str, &str)]) {
    assert_eq!(found(files), (MACHINE.0, MACHINE.1.to_owned()));
}

#[test]
fn version_one_with_the_groups_around() {
    let stat = format!("cache 0\nhierarchical_memory_limit {}\n", 700 * MIB);
    let files = [
        V1,
        ("proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/a/b\n0::/\n"),
        ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", UNLIMITED),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED),
        // The group of the other controller.
        ("sys/fs/cgroup/memory/other/memory.limit_in_bytes", "4096"),
    ];
    let limit = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
    assert_eq!(found(&files), (GIB, format!("the limit in {limit}")));
    // The kernel's own figure counts groups that are not mounted here.
    let with = [&files[..], &[("sys/fs/cgroup/memory/a/b/memory.stat", stat.as_str())]].concat();
    assert_eq!(found(&with), (700 * MIB, "the limit in /sys/fs/cgroup/memory/a/b/memory.stat".to_owned()));
}

#[rstest]
// What is mounted is the container's group, under which the process's name is counted from outside.
#[case::from_outside("/docker/7f", "4:memory:/docker/7f", "")]
#[case::deeper("/docker/7f", "4:memory:/docker/7f/job", "job/")]
// A namespace shows names from its own root.
#[case::from_inside("/docker/7f", "4:memory:/", "")]
#[case::above_the_namespace("/", "4:memory:/../..", "")]
fn what_a_container_sees(#[case] mounted: &str, #[case] group: &str, #[case] folder: &str) {
    let mounts = format!("36 31 0:33 {mounted} /sys/fs/cgroup/my\\040memory ro - cgroup cgroup rw,memory\n");
    let file = format!("sys/fs/cgroup/my memory/{folder}memory.limit_in_bytes");
    let files =
        [("proc/self/mountinfo", mounts.as_str()), ("proc/self/cgroup", group), (file.as_str(), "1073741824\n")];
    assert_eq!(found(&files), (GIB, format!("the limit in /{file}")));
}

#[test]
fn both_versions_at_once() {
    let mounts = format!("{}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", V1.1);
    let files = [
        ("proc/self/mountinfo", mounts.as_str()),
        ("proc/self/cgroup", "4:memory:/a\n0::/a\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2147483648"),
        ("sys/fs/cgroup/unified/a/memory.max", "1073741824"),
    ];
    assert_eq!(found(&files), (GIB, "the limit in /sys/fs/cgroup/unified/a/memory.max".to_owned()));
}

#[test]
fn ulimit() {
    let limits = |data: &str, addresses: &str| {
        format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max data size             {data}            unlimited            bytes     \n\
             Max resident set          4096            unlimited            bytes     \n\
             Max address space         {addresses}            unlimited            bytes     \n"
        )
    };
    let found = |data: &str, addresses: &str| found(&[("proc/self/limits", &limits(data, addresses))]);
    assert_eq!(found("unlimited", "unlimited"), (MACHINE.0, MACHINE.1.to_owned()));
    assert_eq!(found("1073741824", "unlimited"), (GIB, "ulimit -d".to_owned()));
    // Two threads reserve 64 MiB each, and so does the rest.
    assert_eq!(found("unlimited", "1073741824"), (GIB - 192 * MIB, "ulimit -v, less what threads reserve".to_owned()));
    assert_eq!(found("unlimited", "4096").0, 0);
}

#[test]
fn this_process_has_a_limit_and_cores() {
    assert!(cores() >= 1);
    if cfg!(target_os = "linux") {
        assert!(memory_limit().is_some_and(|limit| limit.bytes > MIB));
    }
}
