//! A private containerd, spoken to as a kubelet does.

mod setup;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use lxcfs::nri::wire::{Fields, Message};
use parking_lot::Mutex;
use tempfile::TempDir;

use self::setup::IMAGE;
use crate::common::{children, has, patience, sh, unique, wait_for};

const CLIENT: &str = include_str!("client.py");
/// The interpreter that Debian's modules are for.
const PYTHON: &str = "/usr/bin/python3";

/// The kernel's values of the CRI's enumerations.
const OF_CONTAINER: u64 = 1;
const OF_NODE: u64 = 2;

/// A running containerd with NRI, a CRI client, and an image of busybox whose command sleeps.
#[derive(Debug)]
pub struct Containerd {
    dir: TempDir,
    daemon: Option<Child>,
    /// The process in whose mount namespace it is.
    node: Option<u32>,
    client: Mutex<Client>,
}

#[derive(Debug)]
struct Client {
    process: Child,
    requests: ChildStdin,
    responses: BufReader<ChildStdout>,
}

impl Containerd {
    /// Starts one, or says why this machine cannot.
    pub fn start() -> Result<Self, String> {
        Self::start_in(None)
    }

    /// Starts one in the mount namespace of a process.
    pub fn start_in(node: Option<u32>) -> Result<Self, String> {
        for program in ["containerd", "ctr", "runc"] {
            if !has(program) {
                return Err(format!("{program} is not installed"));
            }
        }
        let version = sh("containerd --version").ok();
        let number = version.split_whitespace().nth(2).unwrap_or_default();
        let mut numbers = number
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        if (numbers.next(), numbers.next()) < (Some(1), Some(7)) {
            return Err(format!("containerd {number} has no NRI with mounts"));
        }
        if !sh(&format!("{PYTHON} -c 'import grpc'")).succeeded() {
            return Err("python3-grpcio is not installed".to_owned());
        }
        let dir = tempfile::Builder::new()
            .prefix("lxcfs-test-")
            .tempdir()
            .expect("a directory");
        setup::prepare(dir.path());
        let client = Mutex::new(Client::start(&dir.path().join("containerd.sock")));
        let mut containerd = Self {
            dir,
            daemon: None,
            node,
            client,
        };
        containerd.launch();
        setup::import_image(containerd.dir())?;
        Ok(containerd)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where external plugins register.
    pub fn nri_socket(&self) -> PathBuf {
        self.dir.path().join("nri.sock")
    }

    fn launch(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"));
        let mut command = Command::new("containerd");
        if let Some(pid) = self.node {
            command = Command::new("nsenter");
            command.args(["-m", "-t", &pid.to_string(), "containerd"]);
        }
        let daemon = command
            .arg("--config")
            .arg(self.dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn()
            .expect("starting containerd");
        self.daemon = Some(daemon);
        let answers = wait_for(patience(30), || {
            self.call("RuntimeService/Version", Message::default()).ok()
        });
        assert!(
            answers.is_some(),
            "containerd does not answer: {}",
            self.log()
        );
    }

    /// Ends containerd, while containers go on.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("ending containerd");
            daemon.wait().expect("the end of containerd");
        }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// The plugins that it has started.
    pub fn plugins(&self) -> Vec<i32> {
        let daemon = self.daemon.as_ref().expect("a running containerd");
        let started = children(i32::try_from(daemon.id()).expect("a pid")).into_iter();
        let is_plugin = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.contains("/plugins/"))
        };
        started.filter(is_plugin).collect()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// One call of the CRI.
    pub fn call(&self, method: &str, request: Message) -> Result<Vec<u8>, String> {
        self.client.lock().call(method, &request.into_bytes())
    }

    #[track_caller]
    fn must(&self, method: &str, request: Message) -> Vec<u8> {
        self.call(method, request)
            .unwrap_or_else(|error| panic!("{method}: {error}\n{}", self.log()))
    }

    /// Starts a pod in the network of the host.
    #[track_caller]
    pub fn pod(&self, spec: &PodSpec<'_>) -> Pod<'_> {
        let name = unique("pod");
        let config = spec.message(&name);
        let request = Message::default().bytes(1, &config);
        let id = text(&self.must("RuntimeService/RunPodSandbox", request), 1);
        Pod {
            containerd: self,
            name,
            config,
            id,
            namespaces: spec.namespaces(),
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.stop();
        let _ = self.client.lock().process.kill();
        let _ = self.client.lock().process.wait();
        // What a failed test has left running, and what is mounted for it.
        let dir = self.dir.path().display();
        sh(&format!(
            "for pid in $(pgrep -f 'containerd-shim.* -address {dir}/'); do pkill -9 -P $pid; kill -9 $pid; done; sleep 0.1; \
             grep -o ' {dir}/[^ ]*' /proc/self/mounts | sort -r | while read -r m; do umount -l \"$m\"; done"
        ));
    }
}

impl Client {
    fn start(socket: &Path) -> Self {
        let mut process = Command::new(PYTHON)
            .args(["-c", CLIENT])
            .arg(socket)
            .arg(patience(30).as_secs().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting python3");
        Self {
            requests: process.stdin.take().expect("a pipe"),
            responses: BufReader::new(process.stdout.take().expect("a pipe")),
            process,
        }
    }

    fn call(&mut self, method: &str, request: &[u8]) -> Result<Vec<u8>, String> {
        let hex: String = request.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.requests, "{method} {hex}").expect("writing to the client");
        let mut line = String::new();
        self.responses
            .read_line(&mut line)
            .expect("reading from the client");
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+", hex)) => Ok((0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
                .collect()),
            Some(("-", error)) => Err(error.to_owned()),
            _ => panic!("the client has ended"),
        }
    }
}

/// What a pod is made of.
#[derive(Debug, Default, Clone)]
pub struct PodSpec<'a> {
    pub namespace: &'a str,
    pub annotations: &'a [(&'a str, &'a str)],
    pub labels: &'a [(&'a str, &'a str)],
    /// `hostPID: true`, and the containers privileged.
    pub host: bool,
    /// `hostUsers: false`: ids of its containers begin at this one.
    pub first_user: Option<u64>,
}

impl PodSpec<'_> {
    fn namespaces(&self) -> Message {
        let processes = if self.host { OF_NODE } else { OF_CONTAINER };
        let options = Message::default().number(2, processes);
        let Some(first) = self.first_user else {
            return options.number(1, OF_NODE);
        };
        // The network cannot be the host's then.
        let map = || Message::default().number(1, first).number(3, 65_536);
        options.message(5, Message::default().message(2, map()).message(3, map()))
    }

    fn message(&self, name: &str) -> Vec<u8> {
        let metadata = Message::default()
            .text(1, name)
            .text(2, name)
            .text(3, self.namespace);
        let security = Message::default()
            .message(1, self.namespaces())
            .number(6, u64::from(self.host));
        let mut config = Message::default().message(1, metadata);
        for (number, entries) in [(6, self.labels), (7, self.annotations)] {
            for (key, value) in entries {
                config = config.message(number, Message::default().text(1, key).text(2, value));
            }
        }
        config
            .message(
                8,
                Message::default()
                    .text(1, &format!("/{name}"))
                    .message(2, security),
            )
            .into_bytes()
    }
}

/// A running pod, removed when dropped.
#[derive(Debug)]
pub struct Pod<'a> {
    containerd: &'a Containerd,
    /// Of its cgroup too, which a kubelet makes and removes.
    name: String,
    config: Vec<u8>,
    id: String,
    namespaces: Message,
}

/// What a container is made of.
#[derive(Debug, Default, Clone)]
pub struct ContainerSpec<'a> {
    pub name: &'a str,
    /// A command in place of the image's, which sleeps.
    pub command: &'a [&'a str],
    /// Paths of the host, in the container, and whether mounts get out of there.
    pub mounts: &'a [(&'a str, &'a str, bool)],
    pub memory_bytes: u64,
    /// In thousandths of a CPU.
    pub milli_cpus: u64,
    pub is_privileged: bool,
}

impl Pod<'_> {
    /// Starts a container in the pod.
    #[track_caller]
    pub fn container(&self, spec: &ContainerSpec<'_>) -> Container<'_> {
        self.try_container(spec)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.containerd.log()))
    }

    /// The same, unless it cannot be started.
    pub fn try_container(&self, spec: &ContainerSpec<'_>) -> Result<Container<'_>, String> {
        let resources = Message::default()
            .number(1, 100_000)
            .number(2, spec.milli_cpus * 100)
            .number(4, spec.memory_bytes);
        let security = Message::default()
            .number(2, u64::from(spec.is_privileged))
            .bytes(3, &self.namespaces.clone().into_bytes());
        let mut config = Message::default()
            .message(1, Message::default().text(1, spec.name))
            .message(2, Message::default().text(1, IMAGE))
            .texts(3, spec.command.iter().copied());
        for (source, destination, is_shared) in spec.mounts {
            let mount = Message::default()
                .text(1, destination)
                .text(2, source)
                .number(5, if *is_shared { 2 } else { 0 });
            config = config.message(7, mount);
        }
        config = config.message(
            15,
            Message::default()
                .message(1, resources)
                .message(2, security),
        );
        let request = Message::default()
            .text(1, &self.id)
            .message(2, config)
            .bytes(3, &self.config);
        let id = text(
            &self
                .containerd
                .call("RuntimeService/CreateContainer", request)?,
            1,
        );
        let request = Message::default().text(1, &id);
        self.containerd
            .call("RuntimeService/StartContainer", request)?;
        Ok(Container {
            containerd: self.containerd,
            id,
        })
    }

    /// Ends its containers and removes it.
    pub fn remove(&self) -> Result<(), String> {
        let request = || Message::default().text(1, &self.id);
        self.containerd
            .call("RuntimeService/StopPodSandbox", request())?;
        self.containerd
            .call("RuntimeService/RemovePodSandbox", request())?;
        Ok(())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.remove();
        for pattern in ["/sys/fs/cgroup", "/sys/fs/cgroup/*"] {
            let found = glob::glob(&format!("{pattern}/{}", self.name)).expect("a pattern");
            found.flatten().for_each(|cgroup| {
                let _ = fs::remove_dir(cgroup);
            });
        }
    }
}

/// A running container.
#[derive(Debug)]
pub struct Container<'a> {
    containerd: &'a Containerd,
    id: String,
}

impl Container<'_> {
    /// What a shell script in it prints; it has to succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let request = Message::default()
            .text(1, &self.id)
            .texts(2, ["sh", "-c", script])
            .number(3, patience(20).as_secs());
        let response = self.containerd.must("RuntimeService/ExecSync", request);
        let code = number(&response, 3);
        assert_eq!(
            code,
            0,
            "{script}: {}{}",
            text(&response, 1),
            text(&response, 2)
        );
        text(&response, 1)
    }
}

/// The last text with this number in a message.
fn text(message: &[u8], number: u64) -> String {
    let fields = Fields::of(message).map(|field| field.expect("a message"));
    let found = fields.filter(|(field, _)| *field == number).last();
    found
        .map(|(_, value)| value.text().into_owned())
        .unwrap_or_default()
}

fn number(message: &[u8], number: u64) -> u64 {
    let fields = Fields::of(message).map(|field| field.expect("a message"));
    let found = fields.filter(|(field, _)| *field == number).last();
    found.map_or(0, |(_, value)| value.number())
}
