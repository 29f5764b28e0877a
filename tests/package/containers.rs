//! Containers of Docker, podman and LXC with the views at their usual place, and a reader in each.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::docker::{Container, Docker, Image, options};
use crate::common::{Ran, has, images, patience, run_within, unique};
use crate::reader::{ARGUMENTS, DIR, FILES, PROGRAM, Record};

/// The usual place.
pub const POINT: &str = "/var/lib/lxcfs";
/// What each container may use, in kB.
pub const MEMORY_KB: u64 = 200 << 10;

/// One container.
pub struct Place {
    pub engine: &'static str,
    pub record: Record,
    container: Kind,
}

enum Kind {
    Docker(Container),
    Podman(Podman),
    Lxc(Lxc),
}

struct Podman {
    dir: tempfile::TempDir,
    name: String,
}

struct Lxc {
    dir: tempfile::TempDir,
    name: String,
    execute: Child,
}

/// A container of each engine, with its reader at work.
pub fn start_all() -> Result<Vec<Place>, String> {
    let docker = Docker::get()?;
    for program in ["podman", "crun", "lxc-execute"] {
        if !has(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    let places = vec![in_docker(docker), in_podman(), in_lxc()];
    for place in &places {
        place.record.reads();
    }
    Ok(places)
}

/// The options of Docker and podman that give a container the views, the reader and its libraries.
fn engine_options(record: &Record) -> Vec<String> {
    let program = std::env::current_exe().expect("this program");
    let mut line = options("-m 200m --cpus 1");
    let mut bind = |from: &str, to: &str, how: &str| {
        line.extend(["-v".to_owned(), format!("{from}:{to}{how}")]);
    };
    for file in FILES {
        bind(
            &format!("{POINT}/proc/{file}"),
            &format!("/proc/{file}"),
            ":ro",
        );
    }
    for libraries in ["/lib", "/lib64"] {
        bind(&format!("/usr{libraries}"), libraries, ":ro");
    }
    bind(program.to_str().expect("ASCII"), PROGRAM, ":ro");
    bind(record.dir().to_str().expect("ASCII"), DIR, "");
    line
}

fn reader() -> Vec<&'static str> {
    [PROGRAM].into_iter().chain(ARGUMENTS.split(' ')).collect()
}

fn in_docker(docker: &'static Docker) -> Place {
    let record = Record::new();
    let container = docker.container_running(Image::Busybox, &engine_options(&record), &reader());
    Place {
        engine: "Docker",
        record,
        container: Kind::Docker(container),
    }
}

fn in_podman() -> Place {
    let record = Record::new();
    let podman = Podman {
        dir: tempfile::tempdir().expect("a directory"),
        name: unique("podman"),
    };
    let root = podman.dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root).expect("a root file system");
    let mut start = podman.command(&[
        "--runtime",
        "crun",
        "run",
        "--network=none",
        "--detach",
        "--name",
        &podman.name,
    ]);
    start.args(engine_options(&record));
    start.arg("--rootfs").arg(&root).args(reader());
    run_within(&mut start, patience(60)).ok();
    Place {
        engine: "podman",
        record,
        container: Kind::Podman(podman),
    }
}

impl Podman {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.dir.path().join("graph"));
        command.arg("--runroot").arg(self.dir.path().join("run"));
        command.args(["--storage-driver", "vfs"]).args(args);
        command
    }
}

fn in_lxc() -> Place {
    let record = Record::new();
    let dir = tempfile::tempdir().expect("a directory");
    let config = lxc_config(dir.path(), &record);
    let name = unique("lxc");
    let execute = lxc_execute(dir.path(), &name, &config)
        .args(reader())
        .spawn()
        .expect("starting a container");
    Place {
        engine: "LXC",
        record,
        container: Kind::Lxc(Lxc { dir, name, execute }),
    }
}

/// A configuration as users write it: that the container gets the views is the packages' doing.
fn lxc_config(dir: &Path, record: &Record) -> std::path::PathBuf {
    let root = dir.join("root");
    fs::create_dir(&root).expect("a directory");
    images::make_busybox(&root).expect("a root file system");
    let program = std::env::current_exe().expect("this program");
    let text = format!(
        "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\nlxc.net.0.type = none\n\
         lxc.apparmor.profile = unconfined\nlxc.uts.name = test\nlxc.cgroup2.memory.max = 200M\n\
         lxc.mount.entry = /usr/lib lib none bind,ro,create=dir 0 0\n\
         lxc.mount.entry = /usr/lib64 lib64 none bind,ro,create=dir 0 0\n\
         lxc.mount.entry = {} {} none bind,create=dir 0 0\n\
         lxc.mount.entry = {} {} none bind,ro,create=file 0 0\n",
        root.display(),
        record.dir().display(),
        DIR.trim_start_matches('/'),
        program.display(),
        PROGRAM.trim_start_matches('/')
    );
    let config = dir.join("config");
    fs::write(&config, text).expect("a configuration");
    config
}

fn lxc_execute(dir: &Path, name: &str, config: &Path) -> Command {
    let mut command = Command::new("lxc-execute");
    command
        .arg("-P")
        .arg(dir)
        .args(["-n", name])
        .arg("-f")
        .arg(config)
        .arg("--");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Place {
    /// Runs a command in the container.
    #[track_caller]
    pub fn exec(&self, argv: &[&str]) -> Ran {
        let mut command = match &self.container {
            Kind::Docker(container) => return container.exec(argv),
            Kind::Podman(podman) => podman.command(&["exec", &podman.name]),
            Kind::Lxc(lxc) => lxc.command("lxc-attach", &["--"]),
        };
        run_within(command.args(argv), patience(30))
    }
}

impl Lxc {
    fn command(&self, tool: &str, args: &[&str]) -> Command {
        let mut command = Command::new(tool);
        command
            .arg("-P")
            .arg(self.dir.path())
            .args(["-n", &self.name])
            .args(args);
        command
    }
}

/// What a fresh container of LXC prints.
#[track_caller]
pub fn run_in_lxc(argv: &[&str]) -> String {
    let (dir, record) = (tempfile::tempdir().expect("a directory"), Record::new());
    let config = lxc_config(dir.path(), &record);
    let mut command = lxc_execute(dir.path(), &unique("lxc"), &config);
    run_within(command.args(argv), patience(30)).ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.record.stop();
        match &mut self.container {
            Kind::Docker(_) => {}
            Kind::Podman(podman) => {
                run_within(
                    &mut podman.command(&["rm", "--force", "--time", "0", &podman.name]),
                    patience(60),
                );
            }
            Kind::Lxc(lxc) => {
                run_within(&mut lxc.command("lxc-stop", &["-k"]), patience(30));
                let _ = lxc.execute.wait();
            }
        }
    }
}
