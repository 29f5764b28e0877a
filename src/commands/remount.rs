//! `lxcfs remount`: repair the mounts that a dead lxcfs left in containers.

use std::process::ExitCode;

use super::table::{shown, table};
use super::worker::{self, Said};
use crate::cli::RemountArgs;
use crate::remount::{self, Outcome, Row};

/// Repairs and prints what was done.
///
/// # Errors
/// One sentence if nothing can be repaired at all.
pub fn run(args: &RemountArgs) -> anyhow::Result<ExitCode> {
    worker::run("remount", || {
        let _turn = worker::take_turn()?;
        let rows = remount::run(&args.mountpoint, args.dry_run)?;
        let failed = |row: &Row| matches!(row.outcome, Outcome::Failed(_));
        Ok(Said {
            text: printed(&rows),
            exit_code: u8::from(rows.iter().any(failed)),
        })
    })
}

fn printed(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing to repair\n".to_owned();
    }
    let cells: Vec<_> = rows.iter().map(cells).collect();
    table(["CONTAINER", "PID", "PATH", "RESULT"], &cells)
}

fn cells(row: &Row) -> [String; 4] {
    let unknown = || "-".to_owned();
    let path = row.path.as_deref().map(shown);
    [
        row.container.clone().unwrap_or_else(unknown),
        row.pid.to_string(),
        path.unwrap_or_else(unknown),
        row.outcome.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(printed(&[]), "nothing to repair\n");
        let row = Row {
            container: None,
            pid: 7,
            path: None,
            outcome: Outcome::Failed("why".to_owned()),
        };
        let expected = "CONTAINER  PID  PATH  RESULT\n\
                        -            7  -     not repaired: why\n";
        assert_eq!(printed(&[row]), expected);
    }
}
