//! `lxcfs doctor`: what is right on this host, and what mends the rest.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::worker::{self, Said};
use crate::cli::DoctorArgs;
use crate::doctor::{self, Line, Section, Verdict};

/// Examines the host and prints what was found; exit code 1 if something is to be mended.
///
/// # Errors
/// One sentence if nothing can be found out.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    worker::run("doctor", || {
        let sections = doctor::examine(&args.views)?;
        let mut lines = sections.iter().flat_map(|section| &section.lines);
        let to_mend = lines.any(|line| line.verdict == Verdict::Mend);
        Ok(Said {
            text: printed(&sections),
            exit_code: u8::from(to_mend),
        })
    })
}

fn printed(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", section.title);
        for line in &section.lines {
            write_line(&mut text, line);
        }
    }
    text
}

fn write_line(text: &mut String, line: &Line) {
    let verdict = match line.verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Mend => "mend",
    };
    // A path or a name is not ours, and may be up to no good with a terminal.
    let shown = |text: &str| -> String {
        let safe = |letter: char| if letter.is_control() { '?' } else { letter };
        text.chars().map(safe).collect()
    };
    let _ = writeln!(text, "  {verdict:4}  {}", shown(&line.text));
    if let Some(command) = &line.command {
        let _ = writeln!(text, "        $ {}", shown(command));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_under_what_they_mend() {
        let line = |verdict, text: &str, command: Option<&str>| Line {
            verdict,
            text: text.to_owned(),
            command: command.map(str::to_owned),
        };
        let section = Section {
            title: "lxcfs",
            lines: vec![
                line(Verdict::Ok, "all is well", None),
                line(Verdict::Mend, "a\u{1b}[2J is bad", Some("reboot")),
            ],
        };
        let expected = "lxcfs\n  ok    all is well\n  mend  a?[2J is bad\n        $ reboot\n";
        assert_eq!(printed(&[section]), expected);
    }
}
