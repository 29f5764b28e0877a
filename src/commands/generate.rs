//! `lxcfs generate`: manual pages and completions, from the command line as it is defined.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::print::print;
use crate::cli::{Cli, GenerateCommand, VERSION};

/// The sections of lxcfs(1) before its options, and those after its commands.
const HEAD: &str = include_str!("../../packaging/man/head.1");
const TAIL: &str = include_str!("../../packaging/man/tail.1");
/// The end of the page of each command.
const COMMANDS_TAIL: &str = ".SH \"SEE ALSO\"\n\\fBlxcfs\\fR(1)\n";

/// Writes the pages to a directory, or completions to standard output.
///
/// # Errors
/// What cannot be written.
pub fn run(command: &GenerateCommand) -> anyhow::Result<ExitCode> {
    match command {
        GenerateCommand::Man { directory } => {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            let mut lxcfs = visible(&Cli::command());
            lxcfs.build();
            write_pages(&lxcfs, directory)?;
        }
        GenerateCommand::Completions { shell } => {
            print(completions(*shell)).context("cannot print the completions")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut visible(&Cli::command()), "lxcfs", &mut text);
    text
}

/// The command without what is hidden from users.
fn visible(command: &clap::Command) -> clap::Command {
    let arguments = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let commands = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set());
    let mut shown = clap::Command::new(command.get_name().to_owned())
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .subcommand_required(command.is_subcommand_required_set())
        .args(arguments.cloned())
        .subcommands(commands.map(visible));
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    shown
}

/// The page of a command, and those of its own commands.
fn write_pages(command: &clap::Command, directory: &Path) -> anyhow::Result<()> {
    let page = page(command).context("cannot make a manual page")?;
    let name = Man::new(command.clone()).get_filename();
    let path = directory.join(name);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    for inner in command.get_subcommands() {
        write_pages(inner, directory)?;
    }
    Ok(())
}

/// The heading of a page. The library leaves out an empty date, which shifts what comes after it.
fn title(name: &str) -> String {
    let quotes = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
    format!("{quotes}.TH {name} 1 \"\" \"lxcfs-rs {VERSION}\" \"User Commands\"\n")
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let is_lxcfs = command.get_name() == "lxcfs";
    let man = Man::new(command.clone());
    let mut page = title(man.get_filename().trim_end_matches(".1")).into_bytes();
    if is_lxcfs {
        page.write_all(HEAD.as_bytes())?;
    } else {
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let tail = if is_lxcfs { TAIL } else { COMMANDS_TAIL };
    page.write_all(tail.as_bytes())?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of all commands, hidden ones too: the words as they are typed.
    fn commands(hidden: bool) -> Vec<String> {
        let lxcfs = Cli::command();
        let commands = lxcfs.get_subcommands();
        commands
            .filter(|command| command.is_hide_set() == hidden)
            .map(|command| command.get_name().to_owned())
            .collect()
    }

    #[test]
    fn every_visible_command_has_a_page_and_no_hidden_one() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().to_owned();
        run(&GenerateCommand::Man { directory }).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name));
        let main = read("lxcfs.1").unwrap();
        for name in commands(false) {
            let page = read(&format!("lxcfs-{name}.1")).unwrap();
            assert!(page.contains("SEE ALSO"), "{name}: {page}");
            assert!(main.contains(&format!("lxcfs\\-{name}(1)")), "{name}");
        }
        for name in commands(true) {
            assert!(read(&format!("lxcfs-{name}.1")).is_err(), "{name}");
        }
    }

    #[test]
    fn lxcfs_1_has_all_options_and_its_sections_in_the_usual_order() {
        let mut lxcfs = visible(&Cli::command());
        lxcfs.build();
        let page = String::from_utf8(page(&lxcfs).unwrap()).unwrap();
        let sections: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix(".SH "))
            .map(|name| name.trim_matches('"'))
            .collect();
        assert_eq!(
            sections,
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "SUBCOMMANDS",
                "CONFIGURATION",
                "SIGNALS",
                "ENVIRONMENT",
                "FILES",
                "EXIT STATUS",
                "EXAMPLES",
                "NOTES",
                "SEE ALSO"
            ]
        );
        for option in ["enable\\-cfs", "cpu\\-view", "runtime\\-dir", "pidfile"] {
            assert!(page.contains(option), "{option}: {page}");
        }
        assert!(!page.contains("no\\-resend"), "{page}");
        assert!(page.contains(VERSION), "{page}");
    }

    #[test]
    fn completions_know_every_visible_command_and_no_hidden_one() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let text = String::from_utf8(completions(shell)).unwrap();
            for name in commands(false) {
                assert!(text.contains(&name), "{shell}: {name}");
            }
            for name in ["adopts", "no-resend", "generate"] {
                assert!(!text.contains(name), "{shell}: {name}");
            }
        }
    }
}
