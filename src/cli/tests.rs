use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_ascii_whitespace())
}

fn run(line: &str) -> RunArgs {
    match parse(line).unwrap().command {
        Some(Command::Run(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

fn refusal(line: &str) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{line}");
    let arguments: Vec<_> = line.split_ascii_whitespace().map(OsString::from).collect();
    usage_error(&error, &arguments)
}

#[test]
fn definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn command_lines_of_lxcfs_work_unchanged() {
    let cli = parse("lxcfs /var/lib/lxcfs").unwrap();
    assert!(cli.command.is_none());
    assert_eq!(cli.daemon.mountpoint, Some("/var/lib/lxcfs".into()));
    assert_eq!(cli.daemon.runtime_dir, PathBuf::from("/run"));

    let line = "lxcfs -s -f -d -l -u -z -o allow_other,nonempty -o ro -p /run/x.pid --runtime-dir /run/x \
                --enable-cfs --enable-pidfd --enable-psi-poll --enable-cgroup /var/lib/lxcfs";
    let daemon = parse(line).unwrap().daemon;
    assert!(daemon.enable_loadavg && daemon.disable_swap && daemon.disable_zswap);
    assert_eq!(daemon.options, ["allow_other", "nonempty", "ro"]);
    assert_eq!(daemon.pid_file, Some("/run/x.pid".into()));

    let daemon = parse(
        "lxcfs --enable-loadavg --disable-swap --pidfile=/p --cpu-view=cpuset --uptime=host /m",
    );
    let daemon = daemon.unwrap().daemon;
    assert_eq!(daemon.cpu_view, Some(CpuChoice::Cpuset));
    assert_eq!(daemon.uptime, Some(UptimeOrigin::Host));
}

#[test]
fn run_takes_limits_and_leaves_the_commands_own_flags_alone() {
    let args =
        run("lxcfs run -m 50m --swap 0 --cpus 0.5 --cpuset 0-1 --rootfs /r -- free -m --cpus x");
    assert_eq!(args.memory, Some(50 << 20));
    assert_eq!(args.swap, Some(0));
    assert_eq!(args.cpus, Some(0.5));
    assert_eq!(args.cpuset.unwrap().to_string(), "0-1");
    assert_eq!(args.command, ["free", "-m", "--cpus", "x"]);
    assert_eq!(run("lxcfs run free -m 1").command, ["free", "-m", "1"]);
}

#[test]
fn show_takes_a_process_and_a_file() {
    match parse("lxcfs show 12 meminfo --explain").unwrap().command {
        Some(Command::Show(args)) => {
            assert_eq!((args.process.as_str(), args.explain), ("12", true));
            assert_eq!(args.file.as_deref(), Some("meminfo"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn remount_takes_the_usual_mountpoint_or_another() {
    for (line, dry_run, mountpoint) in [
        ("lxcfs remount", false, "/var/lib/lxcfs"),
        ("lxcfs remount --dry-run /m", true, "/m"),
    ] {
        match parse(line).unwrap().command {
            Some(Command::Remount(args)) => {
                assert_eq!(
                    (args.dry_run, args.mountpoint),
                    (dry_run, mountpoint.into())
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bad_arguments_are_refused_in_one_sentence() {
    for (line, word) in [
        ("lxcfs", "MOUNTPOINT"),
        ("lxcfs --frobnicate /m", "--frobnicate"),
        ("lxcfs /a /b", "/b"),
        ("lxcfs --cpu-view=all /m", "--cpu-view"),
        ("lxcfs run", "CMD"),
        ("lxcfs run -m 50m --", "CMD"),
        ("lxcfs run --bogus ls", "--bogus"),
        ("lxcfs run -m 0 ls", "at least 1m"),
        ("lxcfs run -m -1 ls", "number of bytes"),
        ("lxcfs run -m abc ls", "number of bytes"),
        ("lxcfs run --swap 1m ls", "--memory"),
        ("lxcfs run --cpus 0 ls", "number of CPUs"),
        ("lxcfs run --cpus -1 ls", "number of CPUs"),
        ("lxcfs run --cpus nan ls", "number of CPUs"),
        ("lxcfs run --cpus inf ls", "number of CPUs"),
        ("lxcfs run --cpuset x ls", "list of CPUs"),
        ("lxcfs run --cpuset 3-1 ls", "list of CPUs"),
        ("lxcfs -f run ls", "--foreground"),
        ("lxcfs show", "PROCESS"),
        ("lxcfs remount --bogus", "--bogus"),
        ("lxcfs remount /a /b", "/b"),
        ("lxcfs nri --index 1", "two digits"),
        ("lxcfs nri --default maybe", "--default"),
    ] {
        let sentence = refusal(line);
        assert!(sentence.contains(word), "{line}: {sentence}");
        assert!(!sentence.contains('\n'), "{line}: {sentence}");
    }
}

#[test]
fn a_misspelled_command_is_no_mountpoint() {
    for (line, words) in [
        ("lxcfs runn", "did you mean run?"),
        ("lxcfs shwo 1", "did you mean show?"),
        ("lxcfs status", "no such command or directory"),
        ("lxcfs -d doctr", "did you mean doctor?"),
        ("lxcfs hook", "create-runtime"),
        (
            "lxcfs mounts --format docker --views lxcfs",
            "absolute path",
        ),
        ("lxcfs cdi --views ./lxcfs", "absolute path"),
        ("lxcfs help runn", "runn"),
    ] {
        let sentence = refusal(line);
        assert!(sentence.contains(words), "{line}: {sentence}");
        assert!(!sentence.contains('\n'), "{line}: {sentence}");
    }
    // LXCFS takes a directory beside it, and so do we.
    let daemon = parse("lxcfs src").unwrap().daemon;
    assert_eq!(daemon.mountpoint, Some("src".into()));
}

#[test]
fn help_and_version_are_no_errors() {
    for (line, kind) in [
        ("lxcfs -h", ErrorKind::DisplayHelp),
        ("lxcfs run --help", ErrorKind::DisplayHelp),
        ("lxcfs help", ErrorKind::DisplayHelp),
        ("lxcfs help run", ErrorKind::DisplayHelp),
        ("lxcfs -v", ErrorKind::DisplayVersion),
        ("lxcfs --version", ErrorKind::DisplayVersion),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (kind, 0), "{line}");
    }
}
