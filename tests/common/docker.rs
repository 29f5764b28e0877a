//! Docker: the machine's own daemon if it answers, else a private one without network.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;

use super::{
    Cgroup, Daemon, Inside, Ran, has, images, patience, run_within, sh, thrown_away, unique,
    wait_for,
};

/// The six files that PouchContainer binds.
pub const SIX_FILES: [&str; 6] = ["uptime", "swaps", "stat", "diskstats", "meminfo", "cpuinfo"];

/// A root file system to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    Busybox,
    Debian,
    /// Debian with every tool of the acceptance battery.
    Tools,
    /// An older release of Debian with its procps, by its name.
    Old(&'static str),
}

impl Image {
    fn stem(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Debian => "debian",
            Self::Tools => "tools",
            Self::Old(suite) => suite,
        }
    }
}

/// A Docker daemon, shared by the tests of one binary.
#[derive(Debug)]
pub struct Docker {
    /// `-H` argument of a private daemon.
    host: Option<String>,
    images: Mutex<Vec<(Image, String)>>,
    /// Tells the process that cleans up what to do; it acts when this end is closed, however the tests end.
    cleaner: Mutex<ChildStdin>,
}

/// Starts a shell that reads commands until this process is gone, and then runs them.
#[allow(clippy::zombie_processes, reason = "the shell outlives this process")]
fn start_cleaner() -> ChildStdin {
    let mut shell = Command::new("sh")
        .args(["-c", "script=$(cat); eval \"$script\""])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("starting sh");
    shell.stdin.take().expect("a pipe")
}

impl Docker {
    /// The daemon to use, or why there is none.
    pub fn get() -> Result<&'static Self, String> {
        static DOCKER: LazyLock<Result<Docker, String>> = LazyLock::new(Docker::start);
        DOCKER.as_ref().map_err(Clone::clone)
    }

    fn start() -> Result<Self, String> {
        if !has("docker") {
            return Err("docker is not installed".to_owned());
        }
        let cleaner = Mutex::new(start_cleaner());
        if sh("docker version").succeeded() {
            return Ok(Self {
                host: None,
                images: Mutex::default(),
                cleaner,
            });
        }
        if !has("dockerd") {
            return Err("no Docker daemon answers and dockerd is not installed".to_owned());
        }
        Self::start_private(cleaner, "{}")
    }

    /// A daemon of its own, with this `daemon.json`.
    pub fn with_config(config: &str) -> Result<Self, String> {
        if !has("docker") || !has("dockerd") {
            return Err("docker and dockerd are not installed".to_owned());
        }
        Self::start_private(Mutex::new(start_cleaner()), config)
    }

    fn start_private(cleaner: Mutex<ChildStdin>, config: &str) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(unique("docker"));
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        fs::write(dir.join("daemon.json"), config).map_err(|error| error.to_string())?;
        let log = fs::File::create(dir.join("log")).map_err(|error| error.to_string())?;
        let host = format!("unix://{}/docker.sock", dir.display());
        // The machine's own containerd is there sooner than one that dockerd starts.
        if Path::new("/run/systemd/system").exists() {
            sh("systemctl start containerd");
        }
        let mut daemon = Command::new("dockerd")
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--host",
                &host,
            ])
            .args([
                format!("--data-root={}/root", dir.display()),
                format!("--exec-root={}/exec", dir.display()),
                format!("--config-file={}/daemon.json", dir.display()),
                // Where containerd runs already, it has containers of others.
                format!("--containerd-namespace={}", unique("docker")),
            ])
            .arg(format!("--pidfile={}/pid", dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start dockerd: {error}"))?;
        let docker = Self {
            host: Some(host),
            images: Mutex::default(),
            cleaner,
        };
        let dir_text = dir.display();
        docker.at_end(&format!(
            "kill {pid}; while readlink /proc/{pid}/exe; do sleep 0.1; done\n\
             grep -o ' {dir_text}/[^ ]* ' /proc/self/mounts | while read -r m; do umount -l \"$m\"; done\n\
             rm -rf '{dir_text}'\n",
            pid = daemon.id()
        ));
        let answers = wait_for(patience(60), || {
            let answers = docker.run(&["version"]).succeeded();
            let ended = daemon.try_wait().is_ok_and(|status| status.is_some());
            (answers || ended).then_some(answers)
        });
        match answers {
            Some(true) => Ok(docker),
            _ => Err(format!(
                "dockerd does not answer: {}",
                tail(&dir.join("log"))
            )),
        }
    }

    /// Has a command run after the last test.
    pub fn at_end(&self, script: &str) {
        self.cleaner
            .lock()
            .write_all(script.as_bytes())
            .expect("writing to the cleaner");
    }

    /// The variable by which programs find the daemon.
    pub fn variable(&self) -> (&str, &str) {
        ("DOCKER_HOST", self.host.as_deref().unwrap_or_default())
    }

    /// The command line client.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.args(["-H", host]);
        }
        command.args(args);
        command
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        run_within(&mut self.command(args), patience(60))
    }

    /// Makes an image, or says why it cannot be made here.
    pub fn prepare(&self, image: Image) -> Result<(), String> {
        self.image(image).map(drop)
    }

    /// The name of an image, imported at the first use.
    pub fn image(&self, image: Image) -> Result<String, String> {
        let mut images = self.images.lock();
        if let Some((_, name)) = images.iter().find(|(made, _)| *made == image) {
            return Ok(name.clone());
        }
        // The next test program takes what this one has made.
        let stays = thrown_away();
        let name = if stays {
            format!("lxcfs-test-{}", image.stem())
        } else {
            unique(image.stem())
        };
        if stays && self.run(&["image", "inspect", &name]).succeeded() {
            images.push((image, name.clone()));
            return Ok(name);
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let tar = match image {
            Image::Debian => images::debian_tar()?,
            Image::Tools => images::tools_tar()?,
            Image::Old(suite) => images::old_tar(suite)?,
            Image::Busybox => {
                let (root, tar) = (dir.path().join("root"), dir.path().join("tar"));
                fs::create_dir(&root).map_err(|error| error.to_string())?;
                images::make_busybox(&root)?;
                sh(&format!(
                    "tar -C '{}' -cf '{}' .",
                    root.display(),
                    tar.display()
                ))
                .ok();
                tar
            }
        };
        let limit = Duration::from_secs(600);
        let imported = run_within(self.command(&["import"]).arg(tar).arg(&name), limit);
        if !imported.succeeded() {
            return Err(format!("docker import failed: {}", imported.err));
        }
        if self.host.is_none() && !stays {
            self.at_end(&format!("docker rmi -f {name}\n"));
        }
        images.push((image, name.clone()));
        Ok(name)
    }

    /// Starts a container that runs until it is dropped.
    #[track_caller]
    pub fn container(&'static self, image: Image, options: &[String]) -> Container {
        self.container_running(image, options, &["sleep", "100000"])
    }

    #[track_caller]
    pub fn container_running(
        &'static self,
        image: Image,
        options: &[String],
        argv: &[&str],
    ) -> Container {
        let image = self.image(image).unwrap_or_else(|error| panic!("{error}"));
        let name = unique("c");
        let mut command = self.command(&["run", "--detach", "--network", "none", "--name", &name]);
        let container = Container {
            docker: self,
            name: name.clone(),
        };
        run_within(command.args(options).arg(image).args(argv), patience(60)).ok();
        container
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().rev().take(3).collect::<Vec<_>>().join("; ")
}

/// A running container, removed when dropped.
#[derive(Debug)]
pub struct Container {
    docker: &'static Docker,
    pub name: String,
}

impl Container {
    /// Runs a command with `docker exec`.
    #[track_caller]
    pub fn exec(&self, argv: &[&str]) -> Ran {
        run_within(
            self.docker.command(&["exec", &self.name]).args(argv),
            patience(30),
        )
    }

    /// Runs a shell script with `docker exec`.
    #[track_caller]
    pub fn exec_sh(&self, script: &str) -> Ran {
        self.exec(&["sh", "-c", script])
    }

    /// Changes the limits while the container runs.
    #[track_caller]
    pub fn update(&self, options: &[&str]) {
        run_within(
            self.docker
                .command(&["update"])
                .args(options)
                .arg(&self.name),
            patience(30),
        )
        .ok();
    }

    /// The container from the host's side.
    #[track_caller]
    pub fn inside(&self) -> Inside {
        let init = self
            .docker
            .run(&["inspect", "--format", "{{.State.Pid}}", &self.name])
            .ok();
        let init = init.trim().parse().expect("a pid");
        Inside {
            init,
            cgroup: Cgroup::of(init),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.docker.run(&["logs", &self.name]);
            eprintln!("the container's output:\n{}{}", logs.out, logs.err);
        }
        self.docker.run(&["rm", "--force", &self.name]);
    }
}

/// The `-v` options that bind these files of `/proc`.
pub fn proc_volumes(daemon: &Daemon, files: &[&str]) -> Vec<String> {
    let volume = |file: &&str| {
        [
            "-v".to_owned(),
            format!("{}:/proc/{file}:ro", daemon.arg(&format!("proc/{file}"))),
        ]
    };
    files.iter().flat_map(volume).collect()
}

/// The `-v` option that binds the tree of CPUs.
pub fn cpu_volume(daemon: &Daemon) -> Vec<String> {
    let tree = "sys/devices/system/cpu";
    vec!["-v".to_owned(), format!("{}:/{tree}:ro", daemon.arg(tree))]
}

/// The `-v` option that puts busybox beside other tools, as `/busybox`.
pub fn busybox_volume() -> Vec<String> {
    let binary = images::busybox_binary().unwrap_or_else(|| PathBuf::from("/bin/busybox"));
    vec!["-v".to_owned(), format!("{}:/busybox:ro", binary.display())]
}

/// Words of a command line as options.
pub fn options(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
