# What the scripts of this directory share: becoming root, and building as the owner of the checkout. They source it
# and work in the checkout.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

fail() {
    echo "scripts/$(basename "$0"): $*" >&2
    exit 1
}

# become_root ARGS...: starts the script again as root with these arguments, unless it is root. What tells cargo where
# things are goes along.
become_root() {
    ((EUID)) || return 0
    command -v sudo >/dev/null || fail "this takes root, and sudo is not installed: run it as root"
    local name kept=("BUILD_PATH=$PATH")
    for name in $(compgen -e); do
        case $name in
            CARGO_* | RUSTUP_* | RUST* | LXCFS_* | CI) kept+=("$name=${!name}") ;;
        esac
    done
    exec sudo -- env "${kept[@]}" "scripts/$(basename "$0")" "$@"
}

# Sets the array as_builder, which runs a command as the owner of the checkout: what is built belongs to that user.
find_builder() {
    local owner=$EUID group home=$HOME path=${BUILD_PATH:-$PATH} entry sudo_home
    ((EUID)) || owner=$(stat -c %u .)
    as_builder=(env)
    if ((owner != EUID)); then
        if entry=$(getent passwd "$owner"); then
            IFS=: read -r _ _ _ group _ home _ <<<"$entry"
            as_builder=(setpriv --reuid "$owner" --regid "$group" --init-groups env -u XDG_CACHE_HOME)
        else
            # As in a container with a directory of the host.
            home=$PWD/target/home
            as_builder=(setpriv --reuid "$owner" --regid "$(stat -c %g .)" --clear-groups env)
        fi
    elif ((EUID == 0)) && [ "${SUDO_USER:-}" ] && sudo_home=$(getent passwd "$SUDO_USER" | cut -d: -f6); then
        # The checkout is root's, Rust may be that of the user.
        home=$(getent passwd 0 | cut -d: -f6)
        path+=:$sudo_home/.cargo/bin
        [ -d "$home/.rustup" ] || [ ! -d "$sudo_home/.rustup" ] ||
            as_builder+=("RUSTUP_HOME=${RUSTUP_HOME:-$sudo_home/.rustup}")
    fi
    as_builder+=("HOME=$home" "PATH=$home/.cargo/bin:$path")
}

# become_owner ARGS...: starts the script again as the owner of the checkout, if it is root in somebody else's.
become_owner() {
    find_builder
    [ "${as_builder[0]}" = env ] || exec "${as_builder[@]}" "scripts/$(basename "$0")" "$@"
}

# is_version FOUND LEAST
is_version() {
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# apt_command PACKAGE...: the command that installs them, for the user who called.
apt_command() {
    local sudo='sudo '
    ((EUID)) || [ "${SUDO_USER:-}" ] || sudo=
    echo "${sudo}apt-get update && ${sudo}apt-get install -y $*"
}

# The command that installs a Rust that is new enough.
rust_command() {
    local release='' first='' curl=''
    if "${as_builder[@]}" sh -c 'command -v rustup' >/dev/null; then
        echo "rustup default stable && rustup update stable"
        return
    fi
    # shellcheck source=/dev/null
    release=$(. /etc/os-release 2>/dev/null && echo "$ID ${VERSION_ID:-testing}") || true
    # The first releases with Rust 1.85.
    case $release in
        debian*) first=13 ;;
        ubuntu*) first=25.10 ;;
    esac
    if [ "$first" ] && is_version "${release#* }" "$first"; then
        apt_command cargo
        return
    fi
    if command -v apt-get >/dev/null && { ! command -v curl >/dev/null || ! command -v cc >/dev/null; }; then
        curl="$(apt_command curl gcc) && "
    fi
    echo "${curl}curl --proto =https -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
}

# Sets as_builder, and says how to get Rust where it is missing.
need_rust() {
    local least found
    find_builder
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$("${as_builder[@]}" rustc --version 2>/dev/null | cut -d' ' -f2) || true
    if [ -z "$found" ] || ! "${as_builder[@]}" cargo --version >/dev/null 2>&1; then
        fail "Rust $least or newer is missing; this installs it:
    $(rust_command)"
    elif ! is_version "$found" "$least"; then
        fail "Rust $found is too old, it takes $least; this installs a newer one:
    $(rust_command)"
    fi
    command -v cc >/dev/null || fail "a C compiler is missing, which Rust needs to link; this installs it:
    $(apt_command gcc)"
}

# Cargo as the owner of the checkout.
cargo() {
    "${as_builder[@]}" cargo "$@"
}

# Where cargo puts what it builds.
target_dir() {
    cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}
