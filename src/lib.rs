//! Container-aware `/proc` and `/sys` views, served through FUSE.
//!
//! `docs/ARCHITECTURE.md` is the map. Imports run downwards only:
//! `commands -> doctor -> daemon -> {cli, config} -> nri -> {attach, remount} -> places -> session -> ops -> fs -> reader -> view -> container -> {cgroup, host} -> {freshness, parse}`,
//! with [`sys`], the thin layer of system calls, below all of them.

pub mod attach;
pub mod cgroup;
pub mod cli;
pub mod commands;
pub mod config;
pub mod container;
pub mod daemon;
pub mod doctor;
pub mod freshness;
pub mod fs;
pub mod host;
pub mod nri;
pub mod ops;
pub mod parse;
pub mod places;
pub mod reader;
pub mod remount;
pub mod session;
pub mod sys;
pub mod view;
