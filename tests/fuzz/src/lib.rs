//! The decoders of `tests/decoders`, for libFuzzer to call by name.
#![forbid(unsafe_code)]
#![allow(
    dead_code,
    unused_imports,
    reason = "some of it is for the other driver"
)]

#[path = "../../decoders/targets/mod.rs"]
mod targets;

/// Gives `data` to the decoder of this name; it panics where a property does not hold.
pub fn run(name: &str, data: &[u8]) {
    let target = targets::ALL.iter().find(|t| t.name == name);
    let target = target.expect("every fuzz target has the name of a decoder");
    (target.run)(data);
}
