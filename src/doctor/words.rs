//! Commands that an operator can type.

use std::env;
use std::fs;
use std::path::Path;

use crate::attach::USUAL;
use crate::places::tool;

/// What packages install for hosts where LXCFS is a service of systemd.
const REPLACE: &str = "/usr/share/lxcfs/replace-lxcfs";
/// Where LXCFS is mounted until it has been replaced.
const OLD: &str = "/run/lxcfs-old";

/// Where what no service manager has started logs to.
const LOG: &str = "/var/log/lxcfs.log";

/// What the commands are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// This program.
    pub program: String,
    /// Where lxcfs is mounted.
    pub plain_views: String,
    /// The same for a shell.
    pub views: String,
    /// Whether that is left out.
    pub is_usual: bool,
    /// Whether the unit `lxcfs.service` mounts it.
    pub has_unit: bool,
}

impl Words {
    /// For lxcfs at `views`.
    pub fn new(views: &Path, has_unit: bool) -> Self {
        Self {
            program: program(),
            plain_views: views.to_string_lossy().into_owned(),
            views: quoted(&views.to_string_lossy()),
            is_usual: views == Path::new(USUAL),
            has_unit,
        }
    }

    /// Starts lxcfs, in place of what serves there if a unit does so. What containers find
    /// until then is made before that if `prepare`, which a dead mount does not let it be.
    pub fn start(&self, prepare: bool) -> String {
        if self.has_unit {
            return "systemctl restart lxcfs".to_owned();
        }
        let Self { program, views, .. } = self;
        let pid_file = self.pid_file();
        let start = Self::in_background(&format!("{program}{pid_file} {views}"));
        if prepare {
            format!("{program} prepare {views} && {start}")
        } else {
            start
        }
    }

    /// Starts what goes on after the shell has ended, and can be asked what happened.
    pub fn in_background(command: &str) -> String {
        format!("setsid -f {command} < /dev/null >> {LOG} 2>&1")
    }

    /// Starts lxcfs where something else is mounted.
    pub fn start_instead(&self) -> String {
        let start = self.start(true);
        if self.has_unit {
            start
        } else {
            format!("umount --lazy {} && {start}", self.views)
        }
    }

    /// Starts lxcfs where LXCFS serves, as process `pid`. That serves on, out of sight, until
    /// all containers have new files; who has opened an old one reads it to its end.
    pub fn replace(&self, pid: i32) -> String {
        if self.has_unit {
            return if Path::new(REPLACE).exists() {
                REPLACE.to_owned()
            } else {
                self.start(false)
            };
        }
        let Self { program, views, .. } = self;
        let start = self.start(true);
        format!(
            "mkdir -p {OLD} && mount --bind {views} {OLD} && umount --lazy {views} && {start} \
             && {program} remount --from {OLD} {views} && sleep 2 && kill -KILL {pid} \
             && umount --lazy {OLD}"
        )
    }

    /// The option that keeps out of the way of the lxcfs at the usual place.
    fn pid_file(&self) -> String {
        if self.is_usual {
            return String::new();
        }
        let path = format!("/run/lxcfs{}.pid", self.plain_views.replace('/', "-"));
        format!(" --pidfile {}", quoted(&path))
    }

    /// Gives a container the views.
    pub fn attach(&self, container: &str) -> String {
        let container = quoted(container);
        format!("{} attach {container}{}", self.program, self.option())
    }

    /// Repairs all containers.
    pub fn remount(&self) -> String {
        let place = if self.is_usual {
            String::new()
        } else {
            format!(" {}", self.views)
        };
        format!("{} remount{place}", self.program)
    }

    /// Another subcommand that has the option `--views`.
    pub fn with_views(&self, arguments: &str) -> String {
        format!("{} {arguments}{}", self.program, self.option())
    }

    fn option(&self) -> String {
        if self.is_usual {
            String::new()
        } else {
            format!(" --views {}", self.views)
        }
    }
}

/// The name of this program if a shell finds it by that, else its path.
fn program() -> String {
    let Ok(own) = env::current_exe() else {
        return "lxcfs".to_owned();
    };
    let found = tool::installed("lxcfs").and_then(|path| fs::canonicalize(path).ok());
    if found.as_ref() == Some(&own) {
        "lxcfs".to_owned()
    } else {
        quoted(&own.to_string_lossy())
    }
}

/// For a shell.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@,=".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// For lxcfs at the usual place, started by a unit or by hand.
    pub fn words(has_unit: bool) -> Words {
        Words {
            program: "lxcfs".to_owned(),
            ..Words::new(Path::new(USUAL), has_unit)
        }
    }

    #[test]
    fn the_usual_place_needs_no_mention() {
        let usual = words(true);
        assert_eq!(usual.start(true), "systemctl restart lxcfs");
        assert_eq!(usual.attach("web"), "lxcfs attach web");
        assert_eq!(usual.remount(), "lxcfs remount");
        let other = Words {
            plain_views: "/srv/a b".to_owned(),
            views: quoted("/srv/a b"),
            is_usual: false,
            has_unit: false,
            ..usual
        };
        assert_eq!(
            other.start(false),
            "setsid -f lxcfs --pidfile '/run/lxcfs-srv-a b.pid' '/srv/a b' < /dev/null >> /var/log/lxcfs.log 2>&1"
        );
        assert_eq!(other.attach("web"), "lxcfs attach web --views '/srv/a b'");
        assert_eq!(other.remount(), "lxcfs remount '/srv/a b'");
    }

    #[test]
    fn a_shell_takes_any_word_as_it_is() {
        assert_eq!(quoted("web-1.example"), "web-1.example");
        assert_eq!(quoted("a'; reboot"), r"'a'\''; reboot'");
        assert_eq!(quoted(""), "''");
    }
}
