//! Work that a stopped server could keep from ever coming to its end.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::sys::aside::{Aside, let_go};
use crate::sys::process;

/// How long a container's start is held up at most.
const LIMIT: Duration = Duration::from_secs(3);

/// How often it is looked whether the process has ended, and how long apart.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);

const DONE: u8 = b'0';
const FAILED: u8 = b'E';

/// Does `work`, which asks the lxcfs at `views`, in a process of its own, for which nobody
/// waits too long.
///
/// # Errors
/// What `work` fails with, or one sentence if it takes too long.
pub fn within(views: &Path, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut aside = Aside::start(
        || match let_go().map_err(Into::into).and_then(|()| work()) {
            Ok(()) => vec![DONE],
            Err(error) => [&[FAILED], format!("{error:#}").as_bytes()].concat(),
        },
    )
    .context("cannot start a process")?;
    let answer = aside.answer(Some(LIMIT));
    end(aside);
    match answer?.unwrap_or_default().split_first() {
        Some((&DONE, _)) => Ok(()),
        Some((_, sentence)) => bail!("{}", String::from_utf8_lossy(sentence)),
        None => bail!("the lxcfs at {} does not answer", views.display()),
    }
}

/// Ends the process. One that cannot be killed is left behind; any other must not be, since
/// the next program of this process might wonder at a child that it has not started.
fn end(aside: Aside) {
    let child = aside.abandon();
    for _ in 0..TRIES {
        if !matches!(process::reap(Some(child)), Ok(None)) {
            return;
        }
        thread::sleep(PAUSE);
    }
}
