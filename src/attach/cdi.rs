//! The specification of devices for CDI
//! (<https://github.com/cncf-tags/container-device-interface>).
//!
//! A device of it is no device but what a container gets that asks for it: mounts, and a
//! hook for what cannot be one.

use std::path::Path;

use serde_json::{Value, json};

use super::wanted::{Hook, Stage, Wanted};
use super::{Binding, Part, VIEW};

/// The lowest that has all that is used here: engines refuse higher ones than they know.
const VERSION: &str = "0.5.0";

/// The one that packages bring as an example. It is for all hosts: what a kernel can be built
/// without is left to the hook, since a mount whose source is missing keeps a container from
/// starting.
pub const PACKAGED: &str = include_str!("../../share/cdi/lxcfs.json");

/// Engines start containers with and without user namespaces alike.
const STAGE: Stage = Stage::CreateRuntime;

/// The devices, and what each has; nothing stands for everything.
const DEVICES: [(&str, &[Part]); 5] = [
    ("all", &[]),
    ("mem", &[Part::Mem]),
    ("cpu", &[Part::Cpu]),
    ("psi", &[Part::Psi]),
    ("disk", &[Part::Disk]),
];

/// The specification for `bindings`, which lxcfs has at `views`. Hooks call `program`.
///
/// # Errors
/// One sentence if a path is no text.
pub fn specification(
    bindings: &[Binding],
    views: &Path,
    strict: bool,
    program: &Path,
) -> anyhow::Result<Value> {
    let device = |(name, parts): (&str, &[Part])| {
        let wanted = Wanted {
            views: views.to_owned(),
            only: parts.to_vec(),
            strict,
        };
        let hook = call(&wanted.hook(program, STAGE)?);
        let is_of_device = |part| parts.is_empty() || parts.contains(&part);
        let own = bindings.iter().filter(|binding| is_of_device(binding.part));
        let mounts: Vec<_> = own
            .filter(|binding| binding.is_for_mounts)
            .map(|binding| mount(binding, views))
            .collect();
        anyhow::Ok(json!({
            "name": name,
            "containerEdits": {"mounts": mounts, "hooks": [hook]},
        }))
    };
    let devices = DEVICES.into_iter().map(device);
    let devices = devices.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(json!({"cdiVersion": VERSION, "kind": VIEW, "devices": devices}))
}

fn mount(binding: &Binding, views: &Path) -> Value {
    json!({
        "hostPath": binding.source(views).to_string_lossy(),
        "containerPath": binding.target().to_string_lossy(),
        "options": binding.mount_options(),
    })
}

fn call(hook: &Hook) -> Value {
    json!({"hookName": STAGE.name(), "path": hook.path, "args": hook.args})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::{USUAL, bindings};

    /// What a kernel can be built without.
    const NOT_EVERYWHERE: [&str; 3] = ["proc/diskstats", "proc/slabinfo", "proc/swaps"];

    #[test]
    fn the_file_for_all_hosts_is_what_the_program_prints_less_what_a_host_may_lack() {
        let mut everywhere = bindings(&[]);
        everywhere.retain(|binding| {
            !NOT_EVERYWHERE
                .iter()
                .any(|path| binding.path == Path::new(path))
        });
        let usual = (Path::new(USUAL), Path::new("/usr/bin/lxcfs"));
        let expected = specification(&everywhere, usual.0, false, usual.1).unwrap();
        assert_eq!(PACKAGED, format!("{expected:#}\n"));
    }

    #[test]
    fn a_device_has_what_belongs_to_it_and_no_mounts_that_runc_refuses() {
        let found = specification(&bindings(&[]), Path::new("/v"), true, Path::new("/l")).unwrap();
        let device = |number: usize| &found["devices"][number]["containerEdits"];
        let psi = device(3);
        assert_eq!(psi["mounts"], json!([]));
        assert_eq!(
            psi["hooks"][0]["args"],
            json!([
                "lxcfs",
                "hook",
                "create-runtime",
                "--views",
                "/v",
                "--only",
                "psi",
                "--strict"
            ])
        );
        let all = device(0).to_string();
        assert!(all.contains("/v/proc/meminfo") && all.contains("/v/sys/devices/system/cpu"));
        assert!(
            !all.contains("pressure") && !all.contains("vmstat"),
            "{all}"
        );
        let memory = device(1).to_string();
        assert!(memory.contains("/proc/meminfo") && !memory.contains("/proc/stat"));
    }
}
