//! What the packages hold, manual pages and completions.

use std::path::Path;
use std::process::Command;

use crate::common::cell::sleeper_named;
use crate::common::daemon::binary;
use crate::common::{has, patience, run, run_within, skip};
use crate::debian::package;

/// Where LXC, Incus, Proxmox VE and people look, with the mode.
const EXPECTED: [(&str, &str); 11] = [
    ("-rwxr-xr-x", "/usr/bin/lxcfs"),
    ("-rw-r--r--", "/usr/lib/systemd/system/lxcfs.service"),
    ("-rw-r--r--", "/usr/lib/systemd/system/lxcfs-nri.service"),
    (
        "-rw-r--r--",
        "/usr/share/lxc/config/common.conf.d/00-lxcfs.conf",
    ),
    ("-rwxr-xr-x", "/usr/share/lxcfs/lxc.mount.hook"),
    ("-rwxr-xr-x", "/usr/share/lxcfs/lxc.reboot.hook"),
    ("-rw-r--r--", "/usr/share/man/man1/lxcfs.1"),
    ("-rw-r--r--", "/usr/share/man/man1/lxcfs-run.1"),
    ("-rw-r--r--", "/usr/share/bash-completion/completions/lxcfs"),
    (
        "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/lxcfs.fish",
    ),
    ("-rw-r--r--", "/usr/share/doc/lxcfs-rs/README.md"),
];

/// Sees that a list in the form of `ls -l` has everything that is expected.
#[track_caller]
fn assert_complete(list: &str, zsh: &str) {
    let completion = [("-rw-r--r--", zsh)];
    for (mode, path) in EXPECTED.into_iter().chain(completion) {
        let is_it = |line: &&str| {
            let name = line.split_whitespace().last().unwrap_or_default();
            // dpkg takes `./usr` and `usr` alike.
            let name = name.trim_start_matches(['.', '/']);
            name.trim_end_matches(".gz") == &path[1..]
        };
        let line = list.lines().find(is_it);
        let line = line.unwrap_or_else(|| panic!("{path} is missing: {list}"));
        assert!(line.starts_with(mode), "{line}");
    }
}

#[test]
fn the_deb_has_what_engines_look_for_and_says_that_it_replaces_lxcfs() {
    let Some(deb) = package("LXCFS_DEB", "lxcfs.deb") else {
        skip!("LXCFS_DEB does not name a package; scripts/package makes it");
    };
    if !has("dpkg-deb") {
        skip!("dpkg is not installed");
    }
    let contents = run(Command::new("dpkg-deb").arg("-c").arg(&deb)).ok();
    assert_complete(&contents, "/usr/share/zsh/vendor-completions/_lxcfs");
    let control = run(Command::new("dpkg-deb").arg("-f").arg(&deb)).ok();
    for line in [
        "Package: lxcfs-rs",
        "Provides: lxcfs (= 7.0.0)",
        "Conflicts: lxcfs",
        "Replaces: lxcfs",
    ] {
        assert!(control.lines().any(|found| found == line), "{control}");
    }
}

#[test]
fn the_rpm_has_the_same_and_upgrades_without_a_restart() {
    let Some(rpm) = package("LXCFS_RPM", "lxcfs.rpm") else {
        skip!("LXCFS_RPM does not name a package; scripts/package makes it");
    };
    if !has("rpm") {
        skip!("rpm is not installed");
    }
    let query = |what: &str| {
        let mut command = Command::new("rpm");
        run(command.args(["--query", "--package", what]).arg(&rpm)).ok()
    };
    let format = "--queryformat=[%{FILEMODES:perms} %{FILENAMES}\\n]";
    assert_complete(&query(format), "/usr/share/zsh/site-functions/_lxcfs");
    assert!(query("--provides").contains("lxcfs = 7.0.0"));
    assert!(
        query("--conflicts")
            .lines()
            .any(|line| line.trim() == "lxcfs")
    );
    assert!(query("--obsoletes").contains("lxcfs < 8"));
    let scripts = query("--scripts");
    let program = |heading: &str| {
        let from = scripts.find(heading).unwrap_or_else(|| panic!("{scripts}"));
        let body = &scripts[from..];
        let lines = body.lines().skip(1);
        let own: Vec<_> = lines
            .take_while(|line| !(line.contains(" scriptlet") && line.ends_with(':')))
            .collect();
        own.join("\n")
    };
    let dir = tempfile::tempdir().expect("a directory");
    let mut daemon = Command::new(sleeper_named(dir.path(), "lxcfs"))
        .arg("1000")
        .spawn()
        .expect("a process named lxcfs");
    let pid = daemon.id();
    // As rpm calls them at an upgrade, with programs that say what they are asked for.
    for heading in ["postinstall", "preuninstall", "postuninstall"] {
        let script = format!(
            "systemctl() {{ echo systemctl \"$@\"; }}\nkill() {{ echo kill \"$@\"; }}\ncat() {{ echo {pid}; }}\n\
             rm() {{ echo rm \"$@\"; }}\n{}",
            program(heading)
                .replace("/usr/bin/lxcfs", "true")
                .replace("/run/systemd/system", "/")
        );
        let number = if heading == "postinstall" { "2" } else { "1" };
        let said = run(Command::new("sh").args(["-c", &script, heading, number])).ok();
        for word in ["restart", "stop", "disable", "start", "rm"] {
            assert!(!said.contains(word), "{heading}: {said}");
        }
        assert_eq!(
            heading == "postinstall",
            said.contains(&format!("kill -USR1 {pid}\n")),
            "{heading}: {said}"
        );
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    // As rpm calls it at the end: containers are left twice, before the service ends and after it.
    let script = format!(
        "lxcfs() {{ echo lxcfs \"$@\" >&2; }}\nsystemctl() {{ echo systemctl \"$@\" >&2; }}\n{}",
        program("preuninstall")
            .replace("/usr/bin/lxcfs", "lxcfs")
            .replace("/run/systemd/system", "/")
    );
    let said = run(Command::new("sh").args(["-c", &script, "preuninstall", "0"]));
    let detach = "lxcfs detach --all";
    let nri = "systemctl disable --now lxcfs-nri.service";
    let daemon = "systemctl --no-reload disable --now lxcfs.service";
    let lines: Vec<_> = said.err.lines().collect();
    assert_eq!(lines, [nri, detach, daemon, detach], "{said:?}");
}

/// With places of its own for what it writes.
#[test]
fn the_init_script_starts_stops_and_never_restarts() {
    if !has("start-stop-daemon") || !Path::new("/usr/bin/lxcfs").exists() {
        skip!("start-stop-daemon, or a lxcfs to be covered at /usr/bin, is not installed");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("lxcfs");
    std::fs::write(&script, include_str!("../../share/init.d/lxcfs")).expect("a script");
    let steps = "
        mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/log; mount -t tmpfs tmpfs /var/lib; mount --bind \"$1\" /usr/bin/lxcfs
        service() { sh \"$script\" \"$1\" >/dev/null 2>&1 </dev/null; }
        holder() { cat /run/lxcfs.pid; }
        server() { cat /proc/$(holder)/task/$(holder)/children; }
        not() { if \"$@\"; then exit 1; fi; }
        script=$2
        not service status
        service start; service status; first=$(holder)
        test \"$(stat -f -c %T /var/lib/lxcfs/proc/meminfo)\" = fuseblk
        service start; test \"$(holder)\" = $first
        grep -q 'serving /var/lib/lxcfs' /var/log/lxcfs.log
        old=$(server); service restart; test \"$(holder)\" = $first
        while test \"$(server)\" = \"$old\" -o -z \"$(server)\"; do sleep 0.1; done
        cat /var/lib/lxcfs/proc/meminfo >/dev/null
        service stop; not service status; not mountpoint -q /var/lib/lxcfs; not test -e /proc/$first
        cat /var/lib/lxcfs/proc/meminfo >/dev/null
        service stop; service restart; service status; service stop; not service bogus";
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euxc",
        steps,
        "sh",
    ]);
    run_within(command.arg(binary()).arg(script), patience(60)).ok();
}

#[test]
fn shells_understand_their_completions() {
    let dir = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        let text = run(Command::new(binary()).args(["generate", "completions", shell])).ok();
        let file = dir.path().join(shell);
        std::fs::write(&file, text).expect("a file");
        if has(shell) {
            let checked = run(Command::new(shell).arg("-n").arg(&file));
            assert!(checked.succeeded() && checked.err.is_empty(), "{checked:?}");
        }
    }
    let script = format!(
        "source '{}'; COMP_WORDS=(lxcfs rem); COMP_CWORD=1; _lxcfs lxcfs rem lxcfs; echo \"${{COMPREPLY[@]}}\"",
        dir.path().join("bash").display()
    );
    let completed = run(Command::new("bash").args(["-c", &script])).ok();
    assert_eq!(completed.trim(), "remount");
}

#[test]
fn manual_pages_are_formatted_without_a_warning() {
    if !has("man") {
        skip!("man is not installed");
    }
    let dir = tempfile::tempdir().expect("a directory");
    run(Command::new(binary())
        .args(["generate", "man"])
        .arg(dir.path()))
    .ok();
    let pages = std::fs::read_dir(dir.path()).expect("the pages");
    for page in pages {
        let page = page.expect("a page").path();
        let mut man = Command::new("man");
        man.env("MANPAGER", "cat").env("LC_ALL", "C.UTF-8");
        let shown = run(man.args(["--warnings", "--local-file"]).arg(&page));
        assert!(shown.succeeded() && shown.err.is_empty(), "{shown:?}");
        assert!(
            shown.out.contains("SEE ALSO"),
            "{}",
            Path::new(&page).display()
        );
    }
}
