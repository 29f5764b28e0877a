//! The questions and answers on the control socket: one JSON object a line.

use serde::{Deserialize, Serialize};

/// The version of the protocol. It grows when an old client would misunderstand an answer; new
/// fields alone do not change it.
pub const VERSION: u32 = 1;

/// A question with the version of the protocol that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What a process reads.
    Show(ShowRequest),
    /// How the daemon is.
    Status(StatusRequest),
}

/// Has no fields yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRequest {}

/// How a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its number, that in the pid file, in its own pid namespace.
    pub pid: i32,
    /// Whether the kernel may send a request again that was interrupted.
    pub resends_interrupted: bool,
    /// The rules of its configuration that are about no process that runs now. Missing where
    /// that takes too long to find out.
    #[serde(default)]
    pub unmatched_rules: Option<Vec<UnmatchedRule>>,
}

/// A rule of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedRule {
    /// Which of the `[[container]]` it is, counted from 1.
    pub number: usize,
    /// Its pattern.
    pub cgroup: String,
}

/// Which files of which process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowRequest {
    /// The process, as the daemon's pid namespace numbers it.
    pub pid: i32,
    /// A file such as `meminfo` or `/proc/meminfo`; all files if it is missing.
    #[serde(default)]
    pub file: Option<String>,
    /// Where the figures come from, instead of the content.
    #[serde(default)]
    pub explain: bool,
}

/// An answer: exactly one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// [`VERSION`] of the daemon.
    pub version: u32,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<T>,
    /// Why there is no answer, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a process reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Whether containers are shown the views; `false` after SIGUSR2.
    pub views_on: bool,
    /// The files, in the order of their names.
    pub files: Vec<ShownFile>,
}

/// A file as one process reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownFile {
    /// The path below `/proc`, such as `pressure/cpu`.
    pub path: String,
    /// The content, or with `explain` where it comes from.
    pub text: String,
}
