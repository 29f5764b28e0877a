//! Commands that an operator can type.

use std::env;
use std::fs;
use std::path::Path;

use crate::attach::USUAL;
use crate::places::tool;

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

    /// Starts lxcfs, in place of what serves there.
    pub fn start(&self) -> String {
        if self.has_unit {
            return "systemctl restart lxcfs".to_owned();
        }
        let Self { program, views, .. } = self;
        let pid_file = self.pid_file();
        format!("setsid -f {program}{pid_file} {views} < /dev/null > /dev/null 2>&1")
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
        assert_eq!(usual.start(), "systemctl restart lxcfs");
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
            other.start(),
            "setsid -f lxcfs --pidfile '/run/lxcfs-srv-a b.pid' '/srv/a b' < /dev/null > /dev/null 2>&1"
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
