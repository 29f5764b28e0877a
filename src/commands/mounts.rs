//! `lxcfs mounts`: the mounts for an engine's command line or configuration.

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::print::print;
use crate::attach::bindings;
use crate::attach::formats::Mounts;
use crate::cli::{Format, MountsArgs};

/// Prints what this host has of the parts that are asked for.
///
/// # Errors
/// One sentence when nothing can be mounted, or the directory of the views cannot be
/// written in the format.
pub fn run(args: &MountsArgs) -> anyhow::Result<ExitCode> {
    let mut bindings = bindings(&args.views.only);
    if starts_an_oci_runtime(args.format) && !args.all {
        bindings.retain(|binding| binding.is_for_mounts);
        if bindings.is_empty() {
            bail!(
                "runc refuses to mount any of this; --all prints it for a runtime that does not, such as crun"
            );
        }
    }
    if bindings.is_empty() {
        bail!("this host has none of this");
    }
    let views = std::path::absolute(&args.views.views).context("cannot use this directory")?;
    let text = write(args.format, &Mounts::new(bindings, &views)?)?;
    print(text).context("cannot print the mounts")?;
    Ok(ExitCode::SUCCESS)
}

fn write(format: Format, mounts: &Mounts) -> anyhow::Result<String> {
    Ok(match format {
        Format::Docker | Format::Podman => mounts.engine_arguments(),
        Format::Lxc => mounts.lxc(),
        Format::Nspawn => mounts.nspawn(),
        Format::Systemd => mounts.systemd(),
        Format::Kubernetes => mounts.kubernetes(),
        Format::Oci => serde_json::to_string_pretty(&mounts.oci())? + "\n",
    })
}

/// Whether an OCI runtime mounts it, which may be runc.
fn starts_an_oci_runtime(format: Format) -> bool {
    match format {
        Format::Docker | Format::Podman | Format::Kubernetes | Format::Oci => true,
        Format::Lxc | Format::Nspawn | Format::Systemd => false,
    }
}
